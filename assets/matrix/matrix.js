const LABEL_PX = 11;
const LABEL_STEP = 14; // least distance between two labels
const TITLE_HEIGHT = 18;
const SCREEN_SHARE = 0.54; // of a tall window's height, where that is more than what was asked for
const LARGEST_SQUARE = 40;
const LARGEST_FREE = [132, 30]; // width, height
const FULL_TABLE_CELLS = 3000;
const ROW_TABLE_LENGTH = 200;

export default function (component) {
  return mount(component, ".attnviz-matrix", createMatrix);
}

function createMatrix(root, instance) {
  const { signal } = instance.stop;
  const legend = make("div", "legend");
  const stage = make("div", "stage");
  const canvas = make("canvas");
  const readout = make("p", "readout");
  const note = make("p", "note");
  const hint = make("p", "hidden", "Arrow keys move between cells, Home and End go to the ends of the row, Page Up "
    + "and Page Down go ten rows, Enter picks the cell.");
  const live = make("p", "hidden");
  hint.id = "hint";
  live.setAttribute("aria-live", "polite");
  readout.setAttribute("aria-hidden", "true"); // the live region says the same, for the keyboard only
  canvas.setAttribute("aria-hidden", "true");
  stage.tabIndex = 0;
  stage.setAttribute("role", "application");
  stage.setAttribute("aria-describedby", "hint");
  stage.append(canvas);
  const table = tableUnder(buildTable);
  root.replaceChildren(legend, stage, readout, note, hint, live, table.details);
  root.dataset.testid = "matrix";

  const ctx = canvas.getContext("2d");
  const raster = document.createElement("canvas");
  let data = null;
  let values = new Float32Array(0);
  let hasEmpty = false;
  let hover = null;
  let cursor = [0, 0];
  let plot = null; // {left, top, cw, ch, width, height, ...} in CSS pixels
  let rasterDone = ""; // the raster's size, "" when its colours are out of date
  let frame = 0;

  const valueAt = (row, col) => values[row * data.cols + col];
  root.valueAt = valueAt;
  root.cellCenter = (row, col) => {
    const box = canvas.getBoundingClientRect();
    return { x: box.left + plot.left + (col + 0.5) * plot.cw, y: box.top + plot.top + (row + 0.5) * plot.ch };
  };

  function update(next) {
    const before = data;
    data = next;
    if (before?.values !== next.values) {
      values = decodeFloats(next.values);
      hasEmpty = values.some(Number.isNaN);
    }
    const looks = (d) => JSON.stringify([d?.rows, d?.cols, d?.palette, d?.low, d?.high, d?.scale]);
    if (before?.values !== next.values || looks(before) !== looks(next)) rasterDone = "";
    const inside = (cell) => cell && cell[0] < next.rows && cell[1] < next.cols;
    if (!inside(hover)) hover = null;
    const picked = JSON.stringify(before?.selected) !== JSON.stringify(next.selected) && next.selected;
    if (picked || !inside(cursor)) cursor = next.selected ? [...next.selected] : [0, 0];
    root.dataset.key = next.key;
    stage.setAttribute("aria-label", next.label);
    showLegend();
    arrange();
    table.refresh();
  }

  function showLegend() {
    const { low, high } = data;
    const root2 = data.scale === "sqrt";
    const name = make("span", "name", data.value_name);
    const middle = low + (high - low) * (root2 ? 0.25 : 0.5);
    legend.replaceChildren(name, colourBar(data.palette, low, high, middle));
    if (root2) legend.append(make("span", "remark", "square-root colour scale"));
    if (hasEmpty) {
      const empty = make("span", "empty");
      empty.append(make("span", "swatch-empty"), "no value");
      legend.append(empty);
    }
  }

  const labelFont = (theme, weight) => `${weight} ${LABEL_PX}px ${theme.font}`;
  const widest = (labels) => labels.reduce((most, text) => Math.max(most, ctx.measureText(text).width), 0);

  function arrange() {
    const width = legend.clientWidth; // the stage is only as wide as what is drawn
    if (!data || !width) return; // in a closed tab or expander: the observer calls again once it has a width
    const dpr = window.devicePixelRatio || 1;
    const { rows, cols } = data;
    ctx.font = labelFont(readTheme(root), 700); // the widest that it will be drawn
    const titleWidth = ctx.measureText(`${data.row_axis} ↓`).width;
    const labelMost = Math.max(44, Math.min(width * 0.27, 140));
    const labelRoom = Math.min(Math.max(widest(data.row_labels), titleWidth), labelMost);
    const left = Math.ceil(labelRoom) + 14;
    const room = width - left - 3;
    const colWidest = widest(data.col_labels);
    const sized = (top) => {
      const tall = Math.max(40, Math.max(data.max_height, SCREEN_SHARE * window.innerHeight) - top - 3) / rows;
      const wide = room / cols;
      if (data.cell === "free") return [Math.min(wide, LARGEST_FREE[0]), Math.min(tall, LARGEST_FREE[1])];
      const side = Math.min(tall, wide, LARGEST_SQUARE);
      return [side, side];
    };
    const flat = TITLE_HEIGHT + LABEL_PX + 10;
    const upright = TITLE_HEIGHT + Math.min(Math.ceil(colWidest), 84) + 10;
    const lying = colWidest + 8 <= sized(upright)[0];
    const top = lying ? flat : upright;
    // Whole device pixels keep the cells alike; under 4 a whole number would cost too much of the size.
    const snap = (size) => (size * dpr >= 4 ? Math.floor(size * dpr) / dpr : size);
    const [cw, ch] = sized(top).map(snap);
    plot = { left, top, cw, ch, width: cw * cols, height: ch * rows, lying, labelRoom, dpr, fullWidth: width };
    const titleEnd = left + ctx.measureText(`${data.col_axis} →`).width;
    const drawn = Math.min(width, Math.ceil(Math.max(left + plot.width + 4, titleEnd)));
    canvas.style.width = `${drawn}px`;
    canvas.style.height = `${Math.ceil(top + plot.height + 3)}px`;
    canvas.width = Math.round(drawn * dpr);
    canvas.height = Math.round(Math.ceil(top + plot.height + 3) * dpr);
    draw();
  }

  function paintRaster() {
    const { rows, cols } = data;
    const height = Math.max(1, Math.min(rows, Math.round(plot.height * plot.dpr)));
    const width = Math.max(1, Math.min(cols, Math.round(plot.width * plot.dpr)));
    const pooled = height < rows || width < cols;
    const block = `${Math.ceil(rows / height)} × ${Math.ceil(cols / width)}`;
    const exact = rows % height === 0 && cols % width === 0;
    note.hidden = !pooled;
    const which = data.low < 0 ? "value furthest from zero" : "largest";
    note.textContent = `Each pixel shows the ${which} of ${exact ? "" : "up to "}${block} values; `
      + "the line above gives the exact one.";
    if (rasterDone === `${height}x${width}`) return;
    rasterDone = `${height}x${width}`;
    raster.width = width;
    raster.height = height;
    const image = pooledImage(values, data, width, height);
    raster.getContext("2d").putImageData(image, 0, 0);
  }

  function draw() {
    frame = 0;
    if (!plot) return;
    paintRaster();
    const theme = readTheme(root);
    const { left, top, cw, ch, width, height, dpr } = plot;
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
    ctx.clearRect(0, 0, canvas.width, canvas.height);
    if (hasEmpty) hatch(theme);
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(raster, left, top, width, height);
    ctx.lineWidth = 1;
    if (Math.min(cw, ch) >= 9) gaps(theme);
    ctx.globalAlpha = 0.25;
    ctx.strokeStyle = theme.text;
    ctx.strokeRect(left - 0.5, top - 0.5, width + 1, height + 1);
    ctx.globalAlpha = 1;
    const at = keyboardHere() ? cursor : null;
    if (data.selected) {
      band(left, top + data.selected[0] * ch, width, ch, theme, theme.primary, 1);
    }
    if (hover) {
      band(left, top + hover[0] * ch, width, ch, theme, theme.text, 0.75);
      band(left + hover[1] * cw, top, cw, height, theme, theme.text, 0.75);
    }
    if (hover) box(hover, theme, theme.text, 1.5);
    if (at) box(at, theme, theme.text, 2, 3); // wider, so that it goes around the selected cell's own box
    if (data.selected) box(data.selected, theme, theme.primary, 2.5);
    drawLabels(theme, at);
    showReadout(hover ?? at ?? data.selected);
  }

  function hatch(theme) {
    const { left, top, width, height } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, height);
    ctx.clip();
    ctx.strokeStyle = theme.text;
    ctx.globalAlpha = 0.22;
    ctx.lineWidth = 1;
    ctx.beginPath();
    for (let x = -height; x < width; x += 6) {
      ctx.moveTo(left + x, top + height);
      ctx.lineTo(left + x + height, top);
    }
    ctx.stroke();
    ctx.restore();
  }

  function gaps(theme) {
    const { left, top, cw, ch, width, height } = plot;
    ctx.fillStyle = theme.background;
    for (let col = 1; col < data.cols; col++) ctx.fillRect(left + col * cw - 0.5, top, 1, height);
    for (let row = 1; row < data.rows; row++) ctx.fillRect(left, top + row * ch - 0.5, width, 1);
  }

  /** Thin rails on both sides of a row or a column, on a halo so that they show on any colour. */
  function band(x, y, w, h, theme, colour, alpha) {
    const across = w >= h;
    const grow = Math.max(0, (5 - (across ? h : w)) / 2);
    const rails = (margin) => (across
      ? [[x, y - grow - margin, w, 1 + 2 * margin], [x, y + h + grow - 1 - margin, w, 1 + 2 * margin]]
      : [[x - grow - margin, y, 1 + 2 * margin, h], [x + w + grow - 1 - margin, y, 1 + 2 * margin, h]]);
    ctx.globalAlpha = 0.5 * alpha;
    ctx.fillStyle = theme.background;
    for (const halo of rails(1)) ctx.fillRect(...halo);
    ctx.globalAlpha = alpha;
    ctx.fillStyle = colour;
    for (const rail of rails(0)) ctx.fillRect(...rail);
    ctx.globalAlpha = 1;
  }

  function box([row, col], theme, colour, thickness, margin = 0) {
    const { left, top, cw, ch } = plot;
    const [w, h] = [Math.max(cw, 7) + 2 * margin, Math.max(ch, 7) + 2 * margin];
    const x = left + (col + 0.5) * cw - w / 2;
    const y = top + (row + 0.5) * ch - h / 2;
    ctx.strokeStyle = theme.background;
    ctx.lineWidth = thickness + 2.5;
    ctx.strokeRect(x, y, w, h);
    ctx.strokeStyle = colour;
    ctx.lineWidth = thickness;
    ctx.strokeRect(x, y, w, h);
  }

  function drawLabels(theme, at) {
    const { left, top, cw, ch, lying, labelRoom, fullWidth } = plot;
    const upright = top - TITLE_HEIGHT - 10;
    ctx.textBaseline = "middle";
    ctx.fillStyle = theme.text;
    ctx.font = labelFont(theme, 700);
    ctx.textAlign = "right";
    ctx.fillText(shorten(ctx, `${data.row_axis} ↓`, labelRoom), left - 10, top - Math.max(12, 19 - ch / 2));
    ctx.textAlign = "left";
    ctx.fillText(shorten(ctx, `${data.col_axis} →`, fullWidth - left), left, LABEL_PX / 2 + 1);
    const marked = (axis) => [hover, at, data.selected].filter(Boolean).map((cell) => cell[axis]);
    ctx.textAlign = "right";
    for (const [row, strong] of labelsWithRoom(data.rows, ch, LABEL_STEP, marked(0))) {
      pen(theme, strong);
      ctx.fillText(shorten(ctx, data.row_labels[row], labelRoom), left - 10, top + (row + 0.5) * ch);
    }
    if (data.selected) {
      ctx.globalAlpha = 1;
      ctx.fillStyle = theme.primary;
      const [h, y] = [Math.max(ch, 5), top + (data.selected[0] + 0.5) * ch];
      ctx.fillRect(left - 6, y - h / 2, 3, h);
    }
    const colStep = lying ? Math.min(cw, LABEL_STEP) : LABEL_STEP;
    ctx.textAlign = lying ? "center" : "left";
    for (const [col, strong] of labelsWithRoom(data.cols, cw, colStep, marked(1))) {
      pen(theme, strong);
      ctx.save();
      ctx.translate(left + (col + 0.5) * cw, top - (lying ? 12 : 7));
      if (!lying) ctx.rotate(-Math.PI / 2);
      ctx.fillText(shorten(ctx, data.col_labels[col], lying ? cw : upright), 0, 0);
      ctx.restore();
    }
    ctx.globalAlpha = 1;
  }

  function pen(theme, strong) {
    ctx.fillStyle = theme.text;
    ctx.globalAlpha = strong ? 1 : 0.72;
    ctx.font = labelFont(theme, strong ? 700 : 400);
  }

  const describe = ([row, col], between) => [
    `${data.row_axis} `, ...indexAndToken(row, data.row_labels[row]), `${between}${data.col_axis} `,
    ...indexAndToken(col, data.col_labels[col]), `${between}${data.value_name} ${formatValue(valueAt(row, col))}`,
  ];

  function showReadout(cell) {
    readout.classList.toggle("idle", !cell);
    fillText(readout, cell ? describe(cell, " · ") : ["Point at a cell to read its value; click to pick it."]);
  }

  function buildTable() {
    const name = (i, labels) => plainText(indexAndToken(i, labels[i]));
    if (data.rows * data.cols <= FULL_TABLE_CELLS) {
      const row = (i) => Array.from({ length: data.cols }, (_, j) => formatValue(valueAt(i, j)));
      return {
        caption: `${data.value_name} for each ${data.row_axis} (rows) and ${data.col_axis} (columns)`,
        words: 1,
        head: [`${data.row_axis} \\ ${data.col_axis}`, ...data.col_labels.map((_, j) => name(j, data.col_labels))],
        rows: data.row_labels.map((_, i) => [name(i, data.row_labels), ...row(i)]),
      };
    }
    const [row] = data.selected ?? cursor;
    const order = Array.from({ length: data.cols }, (_, j) => j).filter((j) => !Number.isNaN(valueAt(row, j)));
    order.sort((a, b) => valueAt(row, b) - valueAt(row, a) || a - b);
    const shown = order.slice(0, ROW_TABLE_LENGTH);
    const part = shown.length < order.length ? `the ${shown.length} largest of ${order.length}` : `all ${order.length}`;
    return {
      caption: `${data.row_axis} ${name(row, data.row_labels)}: ${part} values, largest first`,
      words: 1,
      head: [data.col_axis, data.value_name],
      rows: shown.map((j) => [name(j, data.col_labels), formatValue(valueAt(row, j))]),
    };
  }

  const keyboardHere = () => stage.matches(":focus-visible");
  const redraw = () => { frame ||= requestAnimationFrame(draw); };
  function cellUnder(event) {
    const box = canvas.getBoundingClientRect();
    const col = Math.floor((event.clientX - box.left - plot.left) / plot.cw);
    const row = Math.floor((event.clientY - box.top - plot.top) / plot.ch);
    return row >= 0 && row < data.rows && col >= 0 && col < data.cols ? [row, col] : null;
  }

  function pick(cell) {
    cursor = [...cell];
    if (!Number.isNaN(valueAt(...cell))) instance.pick({ row: cell[0], col: cell[1] });
    redraw();
  }

  // A click's own coordinates are whole pixels, which can be another cell than the one the pointer's events gave.
  let pointed = null;
  const point = (event) => {
    if (!plot) return;
    pointed = hover = cellUnder(event);
    canvas.style.cursor = hover ? "pointer" : "default";
    redraw();
  };
  canvas.addEventListener("pointermove", point, { signal });
  canvas.addEventListener("pointerdown", point, { signal });
  canvas.addEventListener("pointerleave", () => { hover = null; redraw(); }, { signal });
  canvas.addEventListener("click", () => pointed && pick(pointed), { signal });
  stage.addEventListener("focus", redraw, { signal });
  stage.addEventListener("blur", redraw, { signal });
  stage.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey) return;
    const [row, col] = cursor;
    const [lastRow, lastCol] = [data.rows - 1, data.cols - 1];
    const to = {
      ArrowLeft: [row, col - 1], ArrowRight: [row, col + 1], ArrowUp: [row - 1, col], ArrowDown: [row + 1, col],
      Home: [event.ctrlKey ? 0 : row, 0], End: [event.ctrlKey ? lastRow : row, lastCol],
      PageUp: [row - 10, col], PageDown: [row + 10, col], Enter: cursor, " ": cursor,
    }[event.key];
    if (!to) return;
    event.preventDefault();
    if (to === cursor) return void pick(cursor);
    cursor = [Math.min(lastRow, Math.max(0, to[0])), Math.min(lastCol, Math.max(0, to[1]))];
    hover = null;
    live.textContent = plainText(describe(cursor, ", "));
    redraw();
    if (!data.selected) table.refresh();
  }, { signal });

  const observer = new ResizeObserver(() => {
    if (plot?.fullWidth !== legend.clientWidth) arrange();
  });
  observer.observe(legend);
  window.addEventListener("resize", () => plot?.dpr !== window.devicePixelRatio && arrange(), { signal });
  document.fonts.addEventListener("loadingdone", arrange, { signal });
  signal.addEventListener("abort", () => {
    observer.disconnect();
    cancelAnimationFrame(frame);
  });
  return update;
}
