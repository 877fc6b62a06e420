const SCREEN_SHARE = 0.54; // of a tall window's height, where that is more than what was asked for
const LARGEST_SQUARE = 40;
const LARGEST_FREE = [132, 30]; // width, height
const EDGE = 3; // right of and below the cells
const EDGE_ZOOMED = 10; // room for the bars that say where the view lies

export default function (component) {
  return mount(component, ".attnviz-matrix", createMatrix);
}

function createMatrix(root, instance) {
  const { signal } = instance.stop;
  const top = make("div", "top");
  const legend = make("div", "legend");
  const tools = make("div", "tools");
  const { stage, canvas, readout, hint, live } = makeStage();
  const line = make("p", "boxline");
  const note = make("p", "note");
  stage.append(canvas);
  const table = tableUnder(() => tableOf(map.data, map.part, map.data.selected ?? cursor));
  top.append(legend, tools);
  root.replaceChildren(top, stage, readout, line, note, hint, live, table.details);
  root.dataset.testid = "matrix";

  const ctx = canvas.getContext("2d");
  let hover = null;
  let cursor = [0, 0];
  let pointed = null; // what other components say is pointed at, as ranges of cells
  let frame = 0;
  let base = null; // how the whole map lies on the canvas; a zoomed one takes the same room
  let raster = null;
  let pointer = null; // the last place of the pointer, while it is on the canvas
  const sheet = make("canvas");

  const map = {
    data: null, part: null, plot: null, view: null, box: null,
    shown: () => map.view ?? [0, map.data.rows, 0, map.data.cols],
    place, redraw,
    /** Where an event is, in cells and as shares of the view. */
    pointAt(event) {
      const box = canvas.getBoundingClientRect();
      const [view, { left, top: upper, width, height }] = [map.shown(), map.plot];
      const where = [(event.clientY - box.top - upper) / height, (event.clientX - box.left - left) / width];
      return { where, at: [view[0] + where[0] * (view[1] - view[0]), view[2] + where[1] * (view[3] - view[2])] };
    },
    /** The cell under an event; `nearest` if it is in none. */
    cellAt(event, nearest = false) {
      const view = map.shown();
      const cell = map.pointAt(event).at.map(Math.floor);
      const kept = cell.map((i, axis) => Math.min(view[2 * axis + 1] - 1, Math.max(view[2 * axis], i)));
      return nearest || (kept[0] === cell[0] && kept[1] === cell[1]) ? kept : null;
    },
  };
  const zoom = zooming(map, { canvas, instance, live });
  const box = boxing(map, { line, instance });
  const tell = pointing(signal, () => map.data?.link ?? "", (query, key) => {
    const { rows, cols, row_units: rowUnits, col_units: colUnits } = map.data;
    const found = { rows: cellsOf(rowUnits, rows, query), cols: cellsOf(colUnits, cols, key) };
    pointed = found.rows || found.cols ? found : null;
    redraw();
  });
  tools.append(...zoom.buttons, ...saveButtons(picture, signal));

  root.valueAt = (row, col) => map.part.block(row, col).value;
  root.cellCenter = (row, col) => {
    const [view, bounds] = [map.shown(), canvas.getBoundingClientRect()];
    return {
      x: bounds.left + map.plot.left + (col - view[2] + 0.5) * map.plot.cw,
      y: bounds.top + map.plot.top + (row - view[0] + 0.5) * map.plot.ch,
    };
  };

  function update(next) {
    const before = map.data;
    map.data = next;
    const covers = (d) => JSON.stringify([d?.window, d?.pool]);
    if (before?.values !== next.values || covers(before) !== covers(next)) map.part = new Part(next);
    raster = null;
    const inside = (cell) => cell && cell[0] < next.rows && cell[1] < next.cols;
    if (!inside(hover)) hover = null;
    const fresh = Boolean(before) && (before.rows !== next.rows || before.cols !== next.cols);
    if (fresh) pointed = null;
    const picked = JSON.stringify(before?.selected) !== JSON.stringify(next.selected) && next.selected;
    if (picked || !inside(cursor)) cursor = next.selected ? [...next.selected] : [0, 0];
    root.dataset.key = next.key;
    stage.setAttribute("aria-label", next.label);
    for (const button of zoom.buttons) button.hidden = !next.zooms;
    zoom.hear(fresh);
    box.hear(fresh);
    showHint();
    showLegend();
    arrange();
    table.refresh();
  }

  function showHint() {
    hint.textContent = "Arrow keys move between cells, Home and End go to the ends of the row, Page Up and Page Down go "
      + `ten rows, Enter picks the cell.${map.data.zooms ? " Plus, minus and zero zoom, Shift and the arrow keys move the "
      + "view." : ""}${map.data.boxes ? " Escape removes the box." : ""}`;
  }

  function showLegend() {
    const { low, high, scale, value_name: name, palette } = map.data;
    const { value } = colourScale(low, high, scale);
    const start = scale === "log" ? value(0) : low;
    legend.replaceChildren(
      make("span", "name", name),
      colourBar(palette, start, high, value(0.5), scaleMarks(low, high, scale)),
    );
    const words = scaleWords(low, high, scale);
    if (words) legend.append(make("span", "remark", words));
    if (map.part.hasEmpty) {
      const empty = make("span", "empty");
      empty.append(make("span", "swatch-empty"), "no value");
      legend.append(empty);
    }
  }

  const widest = (labels) => labels.reduce((most, text) => Math.max(most, ctx.measureText(text).width), 0);

  function arrange() {
    const width = top.clientWidth; // the stage is only as wide as what is drawn
    const { data } = map;
    if (!data || !width) return; // in a closed tab or expander: the observer calls again once it has a width
    const dpr = window.devicePixelRatio || 1;
    const { rows, cols } = data;
    const edge = data.zooms ? EDGE_ZOOMED : EDGE;
    ctx.font = labelFont(readTheme(root), 700); // the widest that it will be drawn
    const titleWidth = ctx.measureText(`${data.row_axis} ↓`).width;
    const labelMost = Math.max(44, Math.min(width * 0.27, 140));
    const labelRoom = Math.min(Math.max(widest(data.row_labels), titleWidth), labelMost);
    const left = Math.ceil(labelRoom) + 14;
    const room = width - left - edge;
    const colWidest = widest(data.col_labels);
    const sized = (above) => {
      const tall = Math.max(40, Math.max(data.max_height, SCREEN_SHARE * window.innerHeight) - above - edge) / rows;
      const wide = room / cols;
      if (data.cell === "free") return [Math.min(wide, LARGEST_FREE[0]), Math.min(tall, LARGEST_FREE[1])];
      const side = Math.min(tall, wide, LARGEST_SQUARE);
      return [side, side];
    };
    const flat = TITLE_HEIGHT + LABEL_PX + 10;
    const upright = TITLE_HEIGHT + Math.min(Math.ceil(colWidest), 84) + 10;
    const above = colWidest + 8 <= sized(upright)[0] ? flat : upright;
    // Whole device pixels keep the cells alike; under 4 a whole number would cost too much of the size.
    const snap = (size) => (size * dpr >= 4 ? Math.floor(size * dpr) / dpr : size);
    const [cw, ch] = sized(above).map(snap);
    const titleEnd = left + ctx.measureText(`${data.col_axis} →`).width;
    const drawn = Math.min(width, Math.ceil(Math.max(left + cw * cols + edge + 1, titleEnd)));
    base = {
      left, top: above, width: cw * cols, height: ch * rows, labelRoom, dpr, fullWidth: width, colWidest,
      drawn: { width: drawn, height: Math.ceil(above + ch * rows + edge) },
    };
    sizeCanvas(canvas, base.drawn.width, base.drawn.height, dpr);
    place();
    draw();
  }

  /** The view is new: its cells fill the room of the whole map. */
  function place() {
    if (!base) return;
    const view = map.shown();
    const [cw, ch] = [base.width / (view[3] - view[2]), base.height / (view[1] - view[0])];
    const lying = base.colWidest + 8 <= cw || base.top === TITLE_HEIGHT + LABEL_PX + 10;
    map.plot = { ...base, cw, ch, lying };
    raster = null;
    hover = pointer && map.cellAt(pointer);
    zoom.refresh();
    redraw();
  }

  const scene = () => ({
    data: map.data, part: map.part, theme: readTheme(root), plot: map.plot, view: map.shown(),
    zoomed: map.view !== null, box: map.box, raster, hover: null, pointed: null, cursor: null,
  });

  function draw() {
    cancelAnimationFrame(frame);
    frame = 0;
    if (!map.plot) return;
    const now = scene();
    if (!raster) {
      raster = rasterOf(sheet, now);
      note.textContent = describePixels(map.data, raster);
      note.hidden = !note.textContent;
    }
    const at = keyboardHere() ? cursor : null;
    ctx.setTransform(map.plot.dpr, 0, 0, map.plot.dpr, 0, 0);
    ctx.clearRect(0, 0, canvas.width, canvas.height);
    paintMap(ctx, {
      ...now, raster, pointed, hover: hover && map.part.block(...hover), cursor: at && map.part.block(...at),
    });
    showReadout(hover ?? at ?? map.data.selected);
  }

  function picture() {
    const boxWords = map.box && describeBox(map.data, map.part, map.box);
    const { low, high, scale } = map.data;
    const remarks = [scaleWords(low, high, scale), describeView(map.data, map.view), boxWords && `Box: ${boxWords}`];
    return mapPicture(scene(), base.drawn, remarks);
  }

  const describe = (cell, between) => describeBlock(map.data, map.part.block(...cell), between);

  function showReadout(cell) {
    readout.classList.toggle("idle", !cell);
    fillText(readout, cell ? describe(cell, " · ") : ["Point at a cell to read its value; click to pick it."]);
  }

  const keyboardHere = () => stage.matches(":focus-visible");
  function redraw() { frame ||= requestAnimationFrame(draw); }

  function pick(cell, into) {
    cursor = [...cell];
    const block = map.part.block(...cell);
    if (!block.single) return void (map.data.zooms && into());
    if (!Number.isNaN(block.value)) instance.pick({ row: cell[0], col: cell[1] });
    redraw();
  }

  function tellCell(cell) {
    const block = cell && map.part.block(...cell);
    if (!block) return tell(null, null);
    return tell(positionsOf(map.data.row_units, block.rows), positionsOf(map.data.col_units, block.cols));
  }

  // A click's own coordinates are whole pixels, which can be another cell than the one the pointer's events gave.
  let under = null;
  let dragged = false;
  const point = (event) => {
    if (!map.plot) return;
    pointer = event;
    under = hover = map.cellAt(event);
    canvas.style.cursor = hover ? "pointer" : "default";
    tellCell(hover);
    redraw();
  };
  canvas.addEventListener("pointermove", (event) => {
    if (!map.plot) return;
    if (!zoom.drag(event)) box.drag(event);
    point(event);
  }, { signal });
  canvas.addEventListener("pointerdown", (event) => {
    dragged = false;
    point(event);
    if (map.plot && (zoom.press(event) || box.press(event))) canvas.setPointerCapture(event.pointerId);
  }, { signal });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => {
      const [panned, drew] = [zoom.release(), box.release()];
      dragged = panned || drew;
      redraw();
    }, { signal });
  }
  canvas.addEventListener("pointerleave", () => {
    hover = pointer = null;
    tell(null, null);
    redraw();
  }, { signal });
  canvas.addEventListener("click", (event) => {
    if (under && !dragged && event.detail < 2) pick(under, () => zoom.into(event));
  }, { signal });
  stage.addEventListener("focus", redraw, { signal });
  stage.addEventListener("blur", () => { tell(null, null); redraw(); }, { signal });
  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && box.escape()) event.preventDefault();
  }, { signal });
  stage.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey) return;
    if (zoom.key(event, cursor)) return void event.preventDefault();
    const { data, part } = map;
    const [[row, col], block] = [cursor, part.block(...cursor)];
    const [lastRow, lastCol] = [data.rows - 1, data.cols - 1];
    const page = 10 * (block.absent ? 1 : part.pool[0]);
    const to = {
      ArrowLeft: [row, block.cols[0] - 1], ArrowRight: [row, block.cols[1]],
      ArrowUp: [block.rows[0] - 1, col], ArrowDown: [block.rows[1], col],
      Home: [event.ctrlKey ? 0 : row, 0], End: [event.ctrlKey ? lastRow : row, lastCol],
      PageUp: [row - page, col], PageDown: [row + page, col], Enter: cursor, " ": cursor,
    }[event.key];
    if (!to) return;
    event.preventDefault();
    if (to === cursor) return void pick(cursor, () => zoom.intoCell(cursor));
    cursor = [Math.min(lastRow, Math.max(0, to[0])), Math.min(lastCol, Math.max(0, to[1]))];
    pointer = null;
    zoom.reveal(cursor);
    hover = null;
    live.textContent = plainText(describe(cursor, ", "));
    tellCell(cursor);
    redraw();
    if (!data.selected) table.refresh();
  }, { signal });

  keepArranged(top, signal, () => map.plot, arrange);
  signal.addEventListener("abort", () => cancelAnimationFrame(frame));
  return update;
}
