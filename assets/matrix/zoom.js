// Zooming and panning. `map` is matrix.js's: what is drawn and where; map.view is null for the whole.

const REPORT_MS = 150; // a wheel turns many times a second; the script hears of where it comes to rest
const INTO_BLOCK = 0.25; // how much of the view is left when a block of many cells is clicked

const ICONS = {
  in: "M8 3v10M3 8h10",
  out: "M3 8h10",
  whole: "M3 6V3h3M10 3h3v3M13 10v3h-3M6 13H3v-3",
};

function iconButton(icon, label, press, signal) {
  const button = make("button", "tool icon");
  button.type = "button";
  button.title = label;
  button.setAttribute("aria-label", label);
  const svg = svgNode("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" });
  svg.append(svgNode("path", { d: ICONS[icon] }));
  button.append(svg);
  button.addEventListener("click", press, { signal });
  return button;
}

function zooming(map, { canvas, instance, live }) {
  const { signal } = instance.stop;
  const asked = negotiated();
  let timer = 0;
  let share = 1; // finer than whole cells, so that small turns of a wheel add up
  let pan = null;

  const shape = () => [map.data.rows, map.data.cols];
  const buttons = [
    iconButton("in", "Zoom in", () => by(0.5), signal),
    iconButton("out", "Zoom out", () => by(2), signal),
    iconButton("whole", "Show the whole map", () => show(null), signal),
  ];

  function report() {
    timer = 0;
    asked.send(map.view);
    instance.send("window", { window: map.view });
  }

  function show(view, exactShare) {
    share = exactShare ?? (view ? shareOf(view, shape()) : 1);
    if (JSON.stringify(view) === JSON.stringify(map.view)) return;
    map.view = view;
    map.place();
    clearTimeout(timer);
    timer = setTimeout(report, REPORT_MS);
  }

  /** The middle of what is marked, if it is in view, else of the view. */
  function centre() {
    const view = map.shown();
    const middle = [(view[0] + view[1]) / 2, (view[2] + view[3]) / 2];
    const cell = map.data.selected;
    const seen = cell && cell[0] >= view[0] && cell[0] < view[1] && cell[1] >= view[2] && cell[1] < view[3];
    return { at: seen ? cell.map((i) => i + 0.5) : middle, where: [0.5, 0.5] };
  }

  function by(factor, { at, where } = centre()) {
    const least = Math.min(1, ...shape().map((count) => LEAST_WINDOW / count));
    const wanted = Math.min(1, Math.max(least, share * factor));
    show(windowAround(shape(), wanted, at, where), wanted);
  }

  const panBy = (cells) => map.view && show(shifted(map.view, shape(), cells), share);

  function key(event, cursor) {
    if (!map.data.zooms || event.ctrlKey) return false;
    const at = { at: cursor.map((i) => i + 0.5), where: [0.5, 0.5] };
    if (event.key === "+" || event.key === "=") by(0.5, at);
    else if (event.key === "-") by(2, at);
    else if (event.key === "0") show(null);
    else if (event.shiftKey && map.view && event.key.startsWith("Arrow")) {
      const [row0, row1, col0, col1] = map.view;
      const [down, across] = [(row1 - row0) / 4, (col1 - col0) / 4].map(Math.ceil);
      const to = { ArrowUp: [-down, 0], ArrowDown: [down, 0], ArrowLeft: [0, -across], ArrowRight: [0, across] };
      panBy(to[event.key]);
    } else return false;
    live.textContent = describeView(map.data, map.view) || "the whole map";
    return true;
  }

  /** Pans as little as brings a cell into view. */
  function reveal([row, col]) {
    if (!map.view) return;
    const [row0, row1, col0, col1] = map.view;
    const past = (i, first, end) => Math.min(0, i - first) + Math.max(0, i + 1 - end);
    panBy([past(row, row0, row1), past(col, col0, col1)]);
  }

  canvas.addEventListener("wheel", (event) => {
    if (!map.data?.zooms || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY : event.deltaY * 30;
    by(Math.exp(Math.max(-1, Math.min(1, lines / 300))), map.pointAt(event));
  }, { signal, passive: false });
  canvas.addEventListener("dblclick", (event) => {
    const cell = map.data?.zooms && map.cellAt(event);
    if (cell && map.part.block(...cell).single) by(0.5, map.pointAt(event));
  }, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));

  return {
    buttons, key, reveal,
    into: (event) => by(INTO_BLOCK, map.pointAt(event)),
    intoCell: (cell) => by(INTO_BLOCK, { at: cell.map((i) => i + 0.5), where: [0.5, 0.5] }),
    /** Whether this press begins a drag that pans. */
    press(event) {
      const asks = event.button === 1 || (event.button === 0 && event.shiftKey);
      if (!map.data.zooms || !map.view || !asks || event.pointerType === "touch") return false;
      event.preventDefault(); // a middle button would start the browser's own scrolling
      pan = { x: event.clientX, y: event.clientY, view: map.view };
      return true;
    },
    drag(event) {
      if (!pan) return false;
      const [down, across] = [(pan.y - event.clientY) / map.plot.ch, (pan.x - event.clientX) / map.plot.cw];
      show(shifted(pan.view, shape(), [down, across]), share);
      return true;
    },
    release() {
      const was = pan !== null;
      pan = null;
      return was;
    },
    /** Takes the script's window, unless the person has gone on since. */
    hear(fresh) {
      if (fresh) clearTimeout(timer);
      if (fresh) timer = 0;
      if ((asked.hear(map.data.zoom) && !timer) || fresh) {
        map.view = map.data.zoom;
        share = map.view ? shareOf(map.view, shape()) : 1;
      }
    },
    refresh() {
      const view = map.shown();
      buttons[0].disabled = shape().every((count, i) => view[2 * i + 1] - view[2 * i] <= Math.min(count, LEAST_WINDOW));
      buttons[1].disabled = buttons[2].disabled = !map.view;
    },
  };
}
