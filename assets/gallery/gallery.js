// Every head as a thumbnail. The thumbnails' bytes come from the component beside it (thumbnails.js), which Streamlit
// does not send again when only the choice of a head or their order is new.

const SCREEN_SHARE = 0.7; // of the window's height
const PICK_AFTER_MS = 250; // without another key
const LARGE_AFTER_MS = 350; // of the pointer's rest
const LARGE_BELOW = 110; // pixels: larger thumbnails need no larger copy
const TABLE_ROWS = 1000;

export default function (component) {
  return mount(component, ".attnviz-gallery", createGallery);
}

function createGallery(root, instance) {
  const { signal } = instance.stop;
  const top = make("div", "top");
  const legend = make("div", "legend");
  const tools = make("div", "tools");
  const whole = make("div", "whole");
  const { stage, canvas, readout, hint, live } = makeStage("Arrow keys move between heads and pick the one they stay "
    + "on, Home and End go to the first and the last, Page Up and Page Down go five rows, Enter picks at once.");
  whole.append(canvas);
  stage.append(whole);
  top.append(legend, tools);
  const table = tableUnder(buildTable);
  root.replaceChildren(top, stage, readout, hint, live, table.details);
  root.dataset.testid = "gallery";
  tools.append(...saveButtons(() => galleryPicture(scene(), legendWords()), signal));

  const ctx = canvas.getContext("2d");
  const asked = negotiated();
  let data = null;
  let states = new Uint8Array(0);
  let scores = new Float32Array(0);
  let bytes = null;
  let layout = null;
  let sheet = null; // as large as it is drawn
  let full = null; // a pixel a block
  let [chosen, cursor, hover, large] = [null, null, null, null]; // indices of heads
  let [frame, picking, resting] = [0, 0, 0];
  let roomBefore = 0;
  let pointer = null; // its last event, while it is on the canvas
  let shownOrder = "";

  const indexOf = ([layer, head]) => layer * data.heads + head;
  const cellOf = (index) => layout.cells.find((cell) => cell.index === index);

  root.scoreAt = (layer, head) => scores[indexOf([layer, head])];
  root.byteAt = (layer, head, row, col) => bytes[(indexOf([layer, head]) * data.height + row) * data.width + col];
  root.size = () => (bytes ? [data.layers, data.heads, data.height, data.width] : null);
  root.order = () => layout.cells.filter(({ kept }) => kept).map(headName);
  root.cellCenter = (layer, head) => {
    reveal(indexOf([layer, head]));
    const [box, cell] = [canvas.getBoundingClientRect(), cellOf(indexOf([layer, head]))];
    return {
      x: box.left + cell.x - stage.scrollLeft + layout.cw / 2, y: box.top + cell.y - stage.scrollTop + layout.ch / 2,
    };
  };

  function update(next) {
    const before = data;
    data = next;
    states = decodeBytes(next.states);
    scores = decodeFloats(next.scores);
    if (before?.digest !== next.digest) bytes = null;
    if (!bytes) askForThumbnails(next.digest);
    full = sheet = null;
    const other = before?.layers !== next.layers || before?.heads !== next.heads; // indices mean other heads
    if (other) [hover, large] = [null, null];
    const wanted = next.selected && indexOf(next.selected);
    // An answer to what was picked here must not move the cursor back to it.
    const script = (asked.hear(next.selected) && wanted !== chosen) || other;
    if (script) chosen = cursor = wanted;
    root.dataset.key = next.key;
    stage.setAttribute("aria-label", next.label);
    const words = scaleWords(next.low, next.high, next.scale);
    legend.replaceChildren(
      make("span", "name", next.pixel_name),
      colourBar(next.palette, next.low, next.high, undefined, scaleMarks(next.low, next.high, next.scale)),
      make("span", "remark", words),
    );
    const order = JSON.stringify([next.arranged, next.arranged === "ranked" ? next.order : 0, next.layers, next.heads]);
    arrange();
    // A new ranking begins with its best; otherwise the chosen head is to be seen.
    if (order !== shownOrder && next.arranged === "ranked") stage.scrollTop = 0;
    else if ((script || order !== shownOrder) && chosen !== null) centre(chosen);
    shownOrder = order;
    table.refresh();
  }

  const legendWords = () => {
    const words = scaleWords(data.low, data.high, data.scale);
    return `Colour: ${data.pixel_name}, ${formatEnd(data.low)} to ${formatEnd(data.high)}${words && `, ${words}`}.`;
  };

  function askForThumbnails(digest) {
    window.dispatchEvent(new CustomEvent("attnviz:thumbnails-wanted", { detail: { digest } }));
  }
  window.addEventListener("attnviz:thumbnails", ({ detail }) => {
    if (!data || detail.digest !== data.digest || bytes) return;
    bytes = detail.bytes;
    full = sheet = null;
    redraw();
  }, { signal });

  function arrange() {
    const room = stage.clientWidth;
    if (!data || !room) return; // in a closed tab or expander: the observer calls again once it has a width
    roomBefore = room;
    layout = layoutOf(data, states, room);
    const high = Math.min(layout.height, Math.max(240, Math.round(SCREEN_SHARE * window.innerHeight)));
    stage.style.height = `${high}px`;
    whole.style.width = `${Math.max(room, layout.width)}px`;
    whole.style.height = `${layout.height}px`;
    const dpr = window.devicePixelRatio || 1;
    sizeCanvas(canvas, room, high, dpr);
    sheet = null;
    draw();
  }

  function scene() {
    const dpr = window.devicePixelRatio || 1;
    if (bytes && !full) full = sheetOf(data, bytes, data.width, data.height);
    const fits = layout.cw * dpr >= data.width && layout.ch * dpr >= data.height;
    const drawn = [layout.cw, layout.ch].map((size) => Math.floor(size * dpr));
    if (bytes && !sheet) sheet = fits ? full : sheetOf(data, bytes, ...drawn);
    return {
      data, layout, scores, sheet, full, theme: readTheme(root), chosen, hover, large,
      cursor: stage.matches(":focus-visible") ? cursor : null,
      view: { x: stage.scrollLeft, y: stage.scrollTop, width: canvas.clientWidth, height: canvas.clientHeight },
    };
  }

  function draw() {
    cancelAnimationFrame(frame);
    frame = 0;
    if (!layout) return;
    const dpr = window.devicePixelRatio || 1;
    const now = scene();
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
    ctx.clearRect(0, 0, canvas.width, canvas.height);
    paintThumbnails(ctx, now);
    paintMarks(ctx, now);
    const read = hover ?? now.cursor ?? chosen;
    readout.classList.toggle("idle", read === null);
    const idle = "Point at a head to read its score; click to see its map.";
    readout.textContent = read === null ? idle : describe(read, " · ");
  }

  function redraw() { frame ||= requestAnimationFrame(draw); }

  function describe(index, between) {
    const [layer, head] = [Math.floor(index / data.heads), index % data.heads];
    const name = headName({ layer, head });
    const score = scores[index];
    const value = Number.isNaN(score) ? `no ${data.value_name}` : `${data.value_name} ${formatValue(score)}`;
    return `${name}${between}${value}${states[index] === KEPT ? "" : `${between}filtered out`}`;
  }

  function buildTable() {
    const kept = layout ? layout.cells.filter((cell) => cell.kept) : [];
    const part = kept.length > TABLE_ROWS ? `the first ${TABLE_ROWS} of ${kept.length} heads` : `${kept.length} heads`;
    return {
      caption: `${data.value_name} of ${part}, in the order shown`,
      words: 1,
      head: ["head", data.value_name],
      rows: kept.slice(0, TABLE_ROWS).map((cell) => [headName(cell), formatValue(scores[cell.index])]),
    };
  }

  function centre(index) {
    const cell = layout && cellOf(index);
    if (!cell) return;
    stage.scrollTop = cell.y - (stage.clientHeight - layout.ch) / 2;
    reveal(index);
  }

  function reveal(index) {
    const cell = cellOf(index);
    if (!cell) return;
    const { cw, ch, left, top: upper } = layout;
    const [right, below] = [cell.x + cw + EDGE, cell.y + ch + EDGE + (layout.caption ? CAPTION : 0)];
    if (cell.y - EDGE - upper < stage.scrollTop) stage.scrollTop = cell.y - EDGE - upper;
    else if (below > stage.scrollTop + stage.clientHeight) stage.scrollTop = below - stage.clientHeight;
    if (cell.x - EDGE - left < stage.scrollLeft) stage.scrollLeft = cell.x - EDGE - left;
    else if (right > stage.scrollLeft + stage.clientWidth) stage.scrollLeft = right - stage.clientWidth;
    draw();
  }

  function pick(index) {
    clearTimeout(picking);
    cursor = index;
    if (index !== chosen) {
      chosen = index;
      const value = [Math.floor(index / data.heads), index % data.heads];
      asked.send(value);
      instance.pick({ layer: value[0], head: value[1] });
    }
    redraw();
  }

  function indexUnder(event) {
    const box = canvas.getBoundingClientRect();
    const [left, upper] = [event.clientX - box.left, event.clientY - box.top];
    if (left < layout.left || upper < layout.top) return null;
    const [x, y] = [left + stage.scrollLeft, upper + stage.scrollTop];
    const below = layout.ch + (layout.caption ? CAPTION : 0);
    const inside = (cell) => x >= cell.x && x < cell.x + layout.cw && y >= cell.y && y < cell.y + below;
    const under = layout.cells.find(inside);
    return under ? under.index : null;
  }

  const point = (index) => {
    if (index === hover) return;
    hover = index;
    large = null;
    clearTimeout(resting);
    if (index !== null && layout.cw < LARGE_BELOW) {
      resting = setTimeout(() => { large = hover; redraw(); }, LARGE_AFTER_MS);
    }
    canvas.style.cursor = index !== null && states[index] === KEPT ? "pointer" : "default";
    redraw();
  };
  canvas.addEventListener("pointermove", (event) => {
    if (!layout || event.pointerType === "touch") return;
    pointer = event;
    point(indexUnder(event));
  }, { signal });
  canvas.addEventListener("pointerleave", () => {
    pointer = null;
    point(null);
  }, { signal });
  canvas.addEventListener("click", (event) => {
    const index = layout && indexUnder(event);
    if (index !== null && states[index] === KEPT) pick(index);
  }, { signal });
  stage.addEventListener("scroll", () => {
    point(pointer && layout ? indexUnder(pointer) : null); // another head may have come under it
    redraw();
  }, { signal });
  stage.addEventListener("focus", redraw, { signal });
  stage.addEventListener("blur", redraw, { signal });
  stage.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey || event.ctrlKey || !layout) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      if (cursor !== null && states[cursor] === KEPT) pick(cursor);
      return;
    }
    const to = headAfter(layout, cursor, event.key);
    if (to === null) return;
    event.preventDefault();
    cursor = to;
    pointer = null;
    point(null);
    reveal(to);
    live.textContent = describe(to, ", ");
    clearTimeout(picking);
    picking = setTimeout(() => pick(to), PICK_AFTER_MS);
  }, { signal });

  keepArranged(stage, signal, () => ({ fullWidth: roomBefore }), arrange);
  signal.addEventListener("abort", () => {
    cancelAnimationFrame(frame);
    clearTimeout(picking);
    clearTimeout(resting);
  });
  return update;
}
