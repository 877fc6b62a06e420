// Drawing the map, on a canvas' context and on svgContext's alike. A scene is what is to be seen:
//   data, part, theme   what the script sent; the values; colours and font of the page
//   plot                {left, top, cw, ch, width, height, labelRoom, lying, fullWidth, dpr} in CSS pixels
//   view                the window that is drawn; zoomed: whether that is not the whole
//   raster              from rasterOf
//   hover, pointed, cursor, box   blocks or cells or null: under the pointer, told by others, keyboard, dragged

const LABEL_PX = 11;
const LABEL_STEP = 14; // least distance between two labels
const TITLE_HEIGHT = 18;
const LEGEND_BAR = 168;
const PICTURE_MARGIN = 16;

const labelFont = (theme, weight) => `${weight} ${LABEL_PX}px ${theme.font}`;

/** The part under the view as an image of at most one pixel a device pixel, drawn into `canvas`. */
function rasterOf(canvas, { data, part, plot, view }) {
  const under = part.under(view);
  if (!under) return { canvas: null, step: [1, 1], even: true, single: true, shrunk: false };
  const { blocks, cells } = under;
  const size = (first, last, cell) => {
    const count = blocks[last] - blocks[first];
    return Math.max(1, Math.min(count, Math.round((cells[last] - cells[first]) * cell * plot.dpr)));
  };
  const [height, width] = [size(0, 1, plot.ch), size(2, 3, plot.cw)];
  const [down, across] = [(blocks[1] - blocks[0]) / height, (blocks[3] - blocks[2]) / width];
  [canvas.width, canvas.height] = [width, height];
  const image = pooledImage(part.values, { ...data, rows: part.rows, cols: part.cols }, width, height, blocks);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return {
    canvas,
    cells,
    step: [Math.ceil(down) * part.pool[0], Math.ceil(across) * part.pool[1]],
    even: Number.isInteger(down) && Number.isInteger(across),
    single: part.pool[0] === 1 && part.pool[1] === 1,
    shrunk: down > 1 || across > 1,
  };
}

/** Where the cells of a window lie in the plot: [x, y, width, height], cut off at the view's edges. */
function placeOf({ plot, view }, [row0, row1, col0, col1]) {
  const [top, bottom] = [row0, row1].map((row) => Math.min(view[1], Math.max(view[0], row)) - view[0]);
  const [left, right] = [col0, col1].map((col) => Math.min(view[3], Math.max(view[2], col)) - view[2]);
  return [plot.left + left * plot.cw, plot.top + top * plot.ch, (right - left) * plot.cw, (bottom - top) * plot.ch];
}

const inView = (view, { rows, cols }) => [
  rows && rows[0] < view[1] && rows[1] > view[0], cols && cols[0] < view[3] && cols[1] > view[2]];
const cellBlock = ([row, col]) => ({ rows: [row, row + 1], cols: [col, col + 1] });

function paintMap(ctx, scene) {
  const { data, theme, plot, view, raster, hover, cursor } = scene;
  const { left, top, cw, ch, width, height } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
  paintValues(ctx, scene);
  if (Math.min(cw, ch) >= 9) paintGaps(ctx, scene);
  ctx.restore();
  ctx.lineWidth = 1;
  ctx.globalAlpha = 0.25;
  ctx.strokeStyle = theme.text;
  ctx.strokeRect(left - 0.5, top - 0.5, width + 1, height + 1);
  ctx.globalAlpha = 1;
  const selected = data.selected && cellBlock(data.selected);
  if (selected) paintBands(ctx, scene, { rows: selected.rows }, theme.primary, 1);
  if (scene.pointed) paintBands(ctx, scene, scene.pointed, theme.text, 0.5);
  if (hover) paintBands(ctx, scene, hover, theme.text, 0.75);
  if (hover) paintFrame(ctx, scene, hover, theme.text, 1.5);
  if (cursor) paintFrame(ctx, scene, cursor, theme.text, 2, 3); // wider, so that it goes around the selected cell's own box
  if (selected) paintFrame(ctx, scene, selected, theme.primary, 2.5);
  if (scene.box) paintBox(ctx, scene);
  paintLabels(ctx, scene);
  if (scene.zoomed) paintPosition(ctx, data, theme, plot, view);
}

function paintValues(ctx, scene) {
  const { part, theme, plot, raster } = scene;
  const [x, y, width, height] = placeOf(scene, part.window);
  ctx.fillStyle = theme.secondary; // what is not loaded yet
  if (width < plot.width || height < plot.height) ctx.fillRect(plot.left, plot.top, plot.width, plot.height);
  if (!raster.canvas) return;
  ctx.save();
  ctx.beginPath();
  ctx.rect(x, y, width, height);
  ctx.clip();
  if (width < plot.width || height < plot.height) {
    ctx.fillStyle = theme.background;
    ctx.fillRect(x, y, width, height);
  }
  if (part.hasEmpty) paintHatch(ctx, theme, plot);
  ctx.imageSmoothingEnabled = false;
  const [row0, row1, col0, col1] = raster.cells;
  const [atX, atY] = [plot.left + (col0 - scene.view[2]) * plot.cw, plot.top + (row0 - scene.view[0]) * plot.ch];
  ctx.drawImage(raster.canvas, atX, atY, (col1 - col0) * plot.cw, (row1 - row0) * plot.ch);
  ctx.restore();
}

function paintHatch(ctx, theme, { left, top, width, height }) {
  ctx.save();
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

function paintGaps(ctx, { theme, plot: { left, top, cw, ch, width, height } }) {
  ctx.fillStyle = theme.background;
  for (let x = cw; x < width - 0.5; x += cw) ctx.fillRect(left + x - 0.5, top, 1, height);
  for (let y = ch; y < height - 0.5; y += ch) ctx.fillRect(left, top + y - 0.5, width, 1);
}

/** Rails along the rows and the columns of a block, as far as they are in view. */
function paintBands(ctx, scene, block, colour, alpha) {
  const { view, theme } = scene;
  const [rows, cols] = inView(view, block);
  if (rows) band(ctx, placeOf(scene, [...block.rows, view[2], view[3]]), true, theme, colour, alpha);
  if (cols) band(ctx, placeOf(scene, [view[0], view[1], ...block.cols]), false, theme, colour, alpha);
}

/** Thin rails on both sides of a row or a column, on a halo so that they show on any colour. */
function band(ctx, [x, y, w, h], across, theme, colour, alpha) {
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

function paintFrame(ctx, scene, block, colour, thickness, margin = 0) {
  if (!inView(scene.view, block).every(Boolean)) return;
  const [left, top, width, height] = placeOf(scene, [...block.rows, ...block.cols]);
  const [w, h] = [Math.max(width, 7) + 2 * margin, Math.max(height, 7) + 2 * margin];
  const [x, y] = [left + width / 2 - w / 2, top + height / 2 - h / 2];
  ctx.strokeStyle = scene.theme.background;
  ctx.lineWidth = thickness + 2.5;
  ctx.strokeRect(x, y, w, h);
  ctx.strokeStyle = colour;
  ctx.lineWidth = thickness;
  ctx.strokeRect(x, y, w, h);
}

function paintBox(ctx, scene) {
  const { box, theme, view } = scene;
  if (!inView(view, { rows: box.slice(0, 2), cols: box.slice(2) }).every(Boolean)) return;
  const place = placeOf(scene, box);
  ctx.save();
  ctx.strokeStyle = theme.background;
  ctx.lineWidth = 4;
  ctx.strokeRect(...place);
  ctx.strokeStyle = theme.text;
  ctx.lineWidth = 1.75;
  ctx.setLineDash([5, 3]);
  ctx.strokeRect(...place);
  ctx.restore();
}

function paintLabels(ctx, scene) {
  const { data, theme, plot, view, hover, cursor } = scene;
  const { left, top, cw, ch, lying, labelRoom, fullWidth } = plot;
  const upright = top - TITLE_HEIGHT - 10;
  ctx.textBaseline = "middle";
  ctx.fillStyle = theme.text;
  ctx.font = labelFont(theme, 700);
  ctx.textAlign = "right";
  ctx.fillText(shorten(ctx, `${data.row_axis} ↓`, labelRoom), left - 10, top - Math.max(12, 19 - ch / 2));
  ctx.textAlign = "left";
  ctx.fillText(shorten(ctx, `${data.col_axis} →`, fullWidth - left), left, LABEL_PX / 2 + 1);
  const blocks = [hover, cursor, data.selected && cellBlock(data.selected)].filter(Boolean);
  ctx.textAlign = "right";
  const rowMarks = blocks.map(({ rows }) => rows[0]);
  for (const [row, strong] of labelsWithRoom(view[1] - view[0], ch, LABEL_STEP, rowMarks, view[0])) {
    labelPen(ctx, theme, strong);
    ctx.fillText(shorten(ctx, data.row_labels[row], labelRoom), left - 10, top + (row - view[0] + 0.5) * ch);
  }
  ctx.globalAlpha = 1;
  if (data.selected && data.selected[0] >= view[0] && data.selected[0] < view[1]) {
    ctx.fillStyle = theme.primary;
    const [h, y] = [Math.max(ch, 5), top + (data.selected[0] - view[0] + 0.5) * ch];
    ctx.fillRect(left - 6, y - h / 2, 3, h);
  }
  const colStep = lying ? Math.min(cw, LABEL_STEP) : LABEL_STEP;
  const colMarks = blocks.map(({ cols }) => cols[0]);
  ctx.textAlign = lying ? "center" : "left";
  for (const [col, strong] of labelsWithRoom(view[3] - view[2], cw, colStep, colMarks, view[2])) {
    labelPen(ctx, theme, strong);
    ctx.save();
    ctx.translate(left + (col - view[2] + 0.5) * cw, top - (lying ? 12 : 7));
    if (!lying) ctx.rotate(-Math.PI / 2);
    ctx.fillText(shorten(ctx, data.col_labels[col], lying ? cw : upright), 0, 0);
    ctx.restore();
  }
  ctx.globalAlpha = 1;
}

function labelPen(ctx, theme, strong) {
  ctx.fillStyle = theme.text;
  ctx.globalAlpha = strong ? 1 : 0.72;
  ctx.font = labelFont(theme, strong ? 700 : 400);
}

/** Two thin bars at the edges: where in the whole the view lies. */
function paintPosition(ctx, data, theme, { left, top, width, height }, view) {
  const bar = (from, to, alpha) => {
    ctx.globalAlpha = alpha;
    ctx.fillRect(left + from[1] * width, top + height + 5, (to[1] - from[1]) * width, 3);
    ctx.fillRect(left + width + 5, top + from[0] * height, 3, (to[0] - from[0]) * height);
  };
  ctx.fillStyle = theme.text;
  bar([0, 0], [1, 1], 0.15);
  bar([view[0] / data.rows, view[2] / data.cols], [view[1] / data.rows, view[3] / data.cols], 0.7);
  ctx.globalAlpha = 1;
}

/** The map as a picture of its own, title above and legend below: {width, height, name, paint}. */
function mapPicture(scene, drawn, remarks) {
  const { data, theme } = scene;
  const ruler = document.createElement("canvas").getContext("2d");
  const widthOf = (font, text) => {
    ruler.font = font;
    return ruler.measureText(text).width;
  };
  const [titleFont, textFont] = [`600 14px ${theme.font}`, `400 12px ${theme.font}`];
  const lines = remarks.filter(Boolean);
  const wanted = [drawn.width, LEGEND_BAR + 170, Math.min(900, widthOf(titleFont, data.title)),
    ...lines.map((line) => Math.min(900, widthOf(textFont, line)))];
  const inner = Math.ceil(Math.max(...wanted));
  const mapTop = PICTURE_MARGIN + (data.title ? 28 : 0);
  const legendTop = mapTop + drawn.height + 14;
  const paint = (ctx, dpr) => {
    ctx.fillStyle = theme.background;
    ctx.fillRect(0, 0, inner + 2 * PICTURE_MARGIN, legendTop + 44 + lines.length * 18 + PICTURE_MARGIN);
    ctx.fillStyle = theme.text;
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    ctx.font = titleFont;
    if (data.title) ctx.fillText(shorten(ctx, data.title, inner), PICTURE_MARGIN, PICTURE_MARGIN + 8);
    ctx.save();
    ctx.translate(PICTURE_MARGIN, mapTop);
    const fine = { ...scene, plot: { ...scene.plot, dpr } };
    paintMap(ctx, { ...fine, raster: rasterOf(make("canvas"), fine) });
    ctx.restore();
    ctx.save();
    ctx.translate(PICTURE_MARGIN, legendTop);
    paintLegend(ctx, scene, textFont);
    ctx.fillStyle = theme.text;
    ctx.textAlign = "left";
    ctx.font = textFont;
    lines.forEach((line, i) => ctx.fillText(shorten(ctx, line, inner), 0, 48 + i * 18));
    ctx.restore();
  };
  const height = legendTop + 40 + lines.length * 18 + PICTURE_MARGIN;
  return { width: inner + 2 * PICTURE_MARGIN, height, name: data.file_name, paint };
}

function paintLegend(ctx, { data, theme }, font) {
  const colours = swatches(data.palette);
  const strip = make("canvas");
  [strip.width, strip.height] = [SWATCHES, 1];
  const image = new ImageData(SWATCHES, 1);
  for (let i = 0; i < SWATCHES; i++) image.data.set([...colours.subarray(i * 3, i * 3 + 3), 255], i * 4);
  strip.getContext("2d").putImageData(image, 0, 0);
  ctx.fillStyle = ctx.strokeStyle = theme.text;
  ctx.textBaseline = "middle";
  ctx.font = `600 12px ${theme.font}`;
  const start = Math.min(160, Math.ceil(ctx.measureText(data.value_name).width)) + 12;
  ctx.fillText(shorten(ctx, data.value_name, 160), 0, 5);
  ctx.imageSmoothingEnabled = false;
  ctx.drawImage(strip, start, 0, LEGEND_BAR, 9);
  for (const at of scaleMarks(data.low, data.high, data.scale)) ctx.fillRect(start + at * LEGEND_BAR, 7, 1, 5);
  ctx.lineWidth = 1;
  ctx.globalAlpha = 0.4;
  ctx.strokeRect(start - 0.5, -0.5, LEGEND_BAR + 1, 10);
  ctx.globalAlpha = 1;
  ctx.font = font;
  const { value } = colourScale(data.low, data.high, data.scale);
  const ends = [[data.scale === "log" ? value(0) : data.low, "left", 0], [value(0.5), "center", 0.5], [data.high, "right", 1]];
  for (const [end, align, at] of ends) {
    ctx.textAlign = align;
    ctx.fillText(formatEnd(end), start + at * LEGEND_BAR, 22);
  }
}
