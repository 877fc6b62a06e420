// Drawing the gallery, on a canvas' context and on svgContext's alike. A scene is
//   data, layout, theme   what the script sent; where it lies; colours and font of the page
//   sheet                 from sheetOf, or null while the thumbnails have not come
//   view                  {x, y, width, height}: the part of the layout that is seen
//   chosen, cursor, hover indices or null; large: the index drawn large beside itself, or null

const LABEL_PX = 11;
const DIMMED = 0.14;
const LARGE_SIDE = 160;
const MARGIN = 16;

const headName = ({ layer, head }) => `L${layer}H${head}`;
const gradeValue = ({ low, high, scale, palette }) => ({ low, high, scale, palette });

/** All thumbnails side by side on one canvas, each at most cw x ch device pixels: the largest of what shares one. */
function sheetOf(data, bytes, cw, ch) {
  const { layers, heads, height, width } = data;
  const [rows, cols] = [layers * height, heads * width];
  const mosaic = new Float32Array(rows * cols);
  for (let row = 0; row < rows; row++) {
    const [layer, y] = [Math.floor(row / height), row % height];
    for (let head = 0; head < heads; head++) {
      const from = ((layer * heads + head) * height + y) * width;
      for (let x = 0; x < width; x++) mosaic[row * cols + head * width + x] = (bytes[from + x] / 255) ** 2;
    }
  }
  const [w, h] = [Math.min(width, Math.max(1, cw)), Math.min(height, Math.max(1, ch))];
  const image = pooledImage(mosaic, { rows, cols, ...gradeValue(data) }, heads * w, layers * h);
  const canvas = make("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d").putImageData(image, 0, 0);
  return { canvas, w, h };
}

function drawThumbnail(ctx, sheet, { layer, head }, x, y, width, height) {
  ctx.drawImage(sheet.canvas, head * sheet.w, layer * sheet.h, sheet.w, sheet.h, x, y, width, height);
}

const inView = ({ view, layout }) => layout.cells.filter(({ x, y }) => (
  x < view.x + view.width && x + layout.cw > view.x && y < view.y + view.height
  && y + layout.ch + CAPTION > view.y));

/** Thumbnails alone, from the view's corner, on a real canvas: an SVG takes them as one image. */
function paintThumbnails(ctx, scene) {
  const { layout: { cw, ch }, view, sheet, theme } = scene;
  ctx.imageSmoothingEnabled = false;
  for (const cell of inView(scene)) {
    const [x, y] = [cell.x - view.x, cell.y - view.y];
    ctx.globalAlpha = cell.kept ? 1 : DIMMED;
    if (sheet) {
      drawThumbnail(ctx, sheet, cell, x, y, cw, ch);
    } else {
      ctx.fillStyle = theme.secondary;
      ctx.fillRect(x, y, cw, ch);
    }
  }
  ctx.globalAlpha = 1;
}

function paintMarks(ctx, scene) {
  const { layout, view, theme } = scene;
  const { cw, ch } = layout;
  const cells = inView(scene);
  ctx.lineWidth = 1;
  ctx.strokeStyle = theme.text;
  for (const { x, y, kept } of cells) {
    ctx.globalAlpha = kept ? 0.25 : DIMMED;
    ctx.strokeRect(x - view.x - 0.5, y - view.y - 0.5, cw + 1, ch + 1);
  }
  ctx.globalAlpha = 1;
  const frame = (index, colour, thickness, margin) => {
    const cell = cells.find((other) => other.index === index);
    if (!cell) return;
    const place = [cell.x - view.x - margin, cell.y - view.y - margin, cw + 2 * margin, ch + 2 * margin];
    for (const [stroke, width] of [[theme.background, thickness + 2], [colour, thickness]]) {
      ctx.strokeStyle = stroke;
      ctx.lineWidth = width;
      ctx.strokeRect(...place);
    }
  };
  frame(scene.hover, theme.text, 1.5, 1);
  frame(scene.chosen, theme.primary, 2.5, 1);
  frame(scene.cursor, theme.text, 1.5, 3);
  if (layout.caption) paintCaptions(ctx, scene, cells);
  else paintAxes(ctx, scene);
  if (scene.large !== null) paintLarge(ctx, scene, cells.find(({ index }) => index === scene.large));
}

function paintCaptions(ctx, { data, layout, view, theme, scores, chosen }, cells) {
  const { cw, ch } = layout;
  ctx.textBaseline = "middle";
  ctx.textAlign = "left";
  for (const cell of cells) {
    const [x, y] = [cell.x - view.x, cell.y - view.y + ch + CAPTION / 2 + 2];
    const value = Number.isNaN(scores[cell.index]) ? "" : formatValue(scores[cell.index]).slice(0, 6);
    ctx.fillStyle = cell.index === chosen ? theme.primary : theme.text;
    ctx.font = `700 ${LABEL_PX}px ${theme.font}`;
    const name = headName(cell);
    ctx.fillText(name, x, y);
    const start = ctx.measureText(`${name} `).width;
    ctx.font = `400 ${LABEL_PX}px ${theme.font}`;
    ctx.fillText(shorten(ctx, value, cw - start), x + start, y);
  }
  ctx.fillStyle = theme.text;
}

/** Names of layers and heads at the edges of the view, so that they stay when it is scrolled. */
function paintAxes(ctx, { data, layout, view, theme, chosen, cursor, hover }) {
  const { cw, ch, left, top, cells } = layout;
  ctx.fillStyle = theme.background;
  ctx.fillRect(0, 0, left - 3, view.height);
  ctx.fillRect(0, 0, view.width, top);
  const marked = cells.filter(({ index }) => index === chosen || index === hover || index === cursor);
  const label = (text, x, y, strong) => {
    ctx.fillStyle = theme.text;
    ctx.globalAlpha = strong ? 1 : 0.72;
    ctx.font = `${strong ? 700 : 400} ${LABEL_PX}px ${theme.font}`;
    ctx.fillText(text, x, y);
    ctx.globalAlpha = 1;
  };
  ctx.textBaseline = "middle";
  ctx.textAlign = "right";
  const rows = new Map(cells.map(({ layer, y }) => [layer, y + ch / 2 - view.y]));
  for (const [layer, y] of rows) {
    if (y > top + 4 && y < view.height) label(`L${layer}`, left - 8, y, marked.some((cell) => cell.layer === layer));
  }
  ctx.textAlign = "center";
  const cols = new Map(cells.map(({ head, x }) => [head, x + cw / 2 - view.x]));
  const every = cw >= 24 ? 1 : 2;
  for (const [head, x] of cols) {
    const strong = marked.some((cell) => cell.head === head);
    if (x > left && x < view.width && (strong || head % every === 0)) label(`H${head}`, x, top / 2, strong);
  }
  ctx.textAlign = "left";
  if (data.layers > 1) label("layer", 0, top / 2, false);
}

function paintLarge(ctx, { layout, view, theme, full }, cell) {
  if (!cell || !full) return;
  const [width, height] = [LARGE_SIDE, Math.round((LARGE_SIDE * layout.ch) / layout.cw)];
  const beside = cell.x - view.x + layout.cw + 10;
  const x = beside + width < view.width ? beside : Math.max(4, cell.x - view.x - width - 10);
  const y = Math.max(4, Math.min(view.height - height - 6, cell.y - view.y + (layout.ch - height) / 2));
  ctx.fillStyle = theme.background;
  ctx.fillRect(x - 5, y - 5, width + 10, height + 10);
  ctx.strokeStyle = theme.text;
  ctx.lineWidth = 1;
  ctx.strokeRect(x - 4.5, y - 4.5, width + 9, height + 9);
  ctx.imageSmoothingEnabled = false;
  drawThumbnail(ctx, full, cell, x, y, width, height);
}

/** The whole gallery with title and legend, for saving. */
function galleryPicture(scene, remark) {
  const { data, layout, theme } = scene;
  const view = { x: 0, y: 0, width: Math.max(layout.width, 360), height: layout.height };
  const top = MARGIN + 28;
  const [width, height] = [view.width + 2 * MARGIN, top + view.height + 34 + MARGIN];
  const paint = (ctx, scale) => {
    const fine = Math.min(scale, 16_000 / Math.max(view.width, view.height)); // the most that browsers draw on
    const raster = make("canvas");
    [raster.width, raster.height] = [view.width, view.height].map((size) => Math.ceil(size * fine));
    const whole = { ...scene, view, hover: null, cursor: null, large: null, sheet: scene.full };
    const under = raster.getContext("2d");
    under.scale(fine, fine);
    paintThumbnails(under, whole);
    ctx.fillStyle = theme.background;
    ctx.fillRect(0, 0, width, height);
    ctx.fillStyle = theme.text;
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    ctx.font = `600 14px ${theme.font}`;
    ctx.fillText(shorten(ctx, data.title, view.width), MARGIN, MARGIN + 8);
    ctx.font = `400 12px ${theme.font}`;
    ctx.fillText(shorten(ctx, remark, view.width), MARGIN, height - MARGIN - 8);
    ctx.save();
    ctx.translate(MARGIN, top);
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(raster, 0, 0, raster.width / fine, raster.height / fine);
    paintMarks(ctx, whole);
    ctx.restore();
  };
  return { width, height, name: data.file_name, paint };
}
