// What the components with one picture start from. See canvas.js for how these scripts are put together.

/**
 * The parts: a stage that takes the keyboard, for the canvas to stand in; the line that reads out what is pointed at;
 * `words` on which keys there are, which only those hear who hear the page; and `live`, read out on each new text.
 */
function makeStage(words = "") {
  const [stage, canvas, readout] = [make("div", "stage"), make("canvas"), make("p", "readout")];
  const [hint, live] = [make("p", "hidden", words), make("p", "hidden")];
  hint.id = "hint";
  live.setAttribute("aria-live", "polite");
  for (const drawn of [canvas, readout]) drawn.setAttribute("aria-hidden", "true"); // `live` says the same
  stage.tabIndex = 0;
  stage.setAttribute("role", "application");
  stage.setAttribute("aria-describedby", hint.id);
  return { stage, canvas, readout, hint, live };
}

/** Sizes in CSS pixels, as many of the device's as belong to them; what was drawn is gone. */
function sizeCanvas(canvas, width, height, dpr) {
  [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
  [canvas.width, canvas.height] = [width, height].map((size) => Math.round(size * dpr));
}

/**
 * Calls arrange() again when fonts have come, and when `node` is of another width or the screen of another density
 * than laid() says the picture has: {fullWidth, dpr}, or null before there is one. A picture that names no density
 * goes by the window's height too, and any new size of the window counts.
 */
function keepArranged(node, signal, laid, arrange) {
  const observer = new ResizeObserver(() => laid()?.fullWidth !== node.clientWidth && arrange());
  observer.observe(node);
  window.addEventListener("resize", () => laid()?.dpr !== window.devicePixelRatio && arrange(), { signal });
  document.fonts.addEventListener("loadingdone", arrange, { signal });
  signal.addEventListener("abort", () => observer.disconnect());
}
