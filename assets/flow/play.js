// The controls that show the graph layer by layer, from the target downwards.

const PERIOD_MS = 900; // of a level, at speed 1
const GROWING = 0.65; // share of it in which the edges grow

/**
 * {node, set(last, words), now()}: buttons, a speed and a slider. set() starts over with `last` steps, all of them
 * shown; words(step) says what a step shows. now() is {step, part}: steps shown whole, and how much of the next is.
 * moved() is called when there is something else to draw.
 */
function playControls(signal, moved) {
  const node = make("div", "controls");
  const button = (text, title) => {
    const one = make("button", "tool", text);
    one.type = "button";
    one.title = title;
    one.setAttribute("aria-label", title);
    return one;
  };
  const play = button("Play", "Play layer by layer");
  const up = button("↑", "One level less");
  const down = button("↓", "One level more");
  const speed = make("select", "tool speed");
  speed.setAttribute("aria-label", "Speed");
  speed.append(...[0.5, 1, 2, 4].map((times) => {
    const option = make("option", "", `${times}×`);
    option.value = String(times);
    option.selected = times === 1;
    return option;
  }));
  const range = make("input", "range");
  range.type = "range";
  range.min = "0";
  range.step = "1";
  range.setAttribute("aria-label", "Levels shown, from the target down");
  const words = make("span", "down-to");
  words.setAttribute("aria-hidden", "true"); // the slider's text says the same
  node.append(play, up, down, speed, range, words);

  const still = window.matchMedia("(prefers-reduced-motion: reduce)");
  let [last, step, part, playing] = [0, 0, 0, false];
  let since = 0; // when the growing step began
  let frame = 0;
  let say = String;

  function show() {
    range.value = String(step);
    words.textContent = say(step);
    range.setAttribute("aria-valuetext", say(step));
    up.disabled = step === 0;
    down.disabled = step === last;
    play.disabled = last === 0;
    play.textContent = playing ? "Pause" : "Play";
    play.title = playing ? "Pause" : "Play layer by layer";
    play.setAttribute("aria-label", play.title);
  }

  function go(to) {
    [step, part] = [Math.min(last, Math.max(0, to)), 0];
    show();
    moved();
  }

  function tick(time) {
    const passed = (time - since) / (PERIOD_MS / Number(speed.value));
    if (passed >= 1) {
      since = time;
      go(step + 1);
      if (step === last) return void halt();
    } else {
      const grown = still.matches ? 0 : Math.min(1, Math.max(0, passed) / GROWING);
      if (grown !== part) {
        part = grown;
        moved();
      }
    }
    frame = requestAnimationFrame(tick);
  }

  function start() {
    playing = true;
    since = performance.now();
    go(step === last ? 0 : step);
    frame = requestAnimationFrame(tick);
  }

  /** Stops at a whole level: one that is half grown is shown. */
  function halt() {
    cancelAnimationFrame(frame);
    if (!playing) return;
    playing = false;
    go(part > 0 ? step + 1 : step);
  }

  const byHand = (to) => {
    halt();
    go(to);
  };
  const on = (at, name, listener) => at.addEventListener(name, listener, { signal });
  on(play, "click", () => (playing ? halt() : start()));
  on(up, "click", () => byHand(step - 1));
  on(down, "click", () => byHand(step + 1));
  on(range, "input", () => byHand(Number(range.value)));
  signal.addEventListener("abort", () => cancelAnimationFrame(frame));

  return {
    node,
    now: () => ({ step, part, playing }),
    set(count, describe) {
      playing = false;
      cancelAnimationFrame(frame);
      [last, say] = [count, describe];
      range.max = String(count);
      go(count);
    },
  };
}
