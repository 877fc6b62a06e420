// What the map says in words: the line that reads out a cell, the box, the note, the table.

const FULL_TABLE_CELLS = 3000;
const ROW_TABLE_LENGTH = 200;

const plural = (noun) => (/[^aeiou]y$/.test(noun) ? `${noun.slice(0, -1)}ies` : `${noun}s`);
const extent = ([start, stop]) => (stop - start === 1 ? `${start}` : `${start}–${stop - 1}`);
const several = ([start, stop]) => stop - start > 1;

/** `8–11 "first"…"last"` as parts for fillText; labels that only repeat the numbers are left out. */
function indicesAndTokens(range, labels) {
  const [first, last] = [range[0], range[1] - 1];
  if (!several(range)) return indexAndToken(first, labels[first]);
  if (labels[first] === String(first) && labels[last] === String(last)) return [extent(range)];
  return [`${extent(range)} "`, { token: labels[first] }, '"…"', { token: labels[last] }, '"'];
}

function blockValue(data, block) {
  if (block.absent) return "not loaded yet";
  const name = block.single ? data.value_name
    : data.low < 0 ? `${data.value_name} furthest from zero` : `largest ${data.value_name}`;
  return `${name} ${formatValue(block.value)}`;
}

function describeBlock(data, block, between) {
  const place = (axis, range, labels) => [
    `${several(range) ? plural(axis) : axis} `, ...indicesAndTokens(range, labels)];
  return [
    ...place(data.row_axis, block.rows, data.row_labels), between,
    ...place(data.col_axis, block.cols, data.col_labels), `${between}${blockValue(data, block)}`,
  ];
}

/** `queries 3–7 × keys 0–2: 0.1234 (sum over keys, mean over queries)`. */
function describeBox(data, part, box) {
  const [rows, cols] = [box.slice(0, 2), box.slice(2)];
  const name = (axis, range) => `${several(range) ? plural(axis) : axis} ${extent(range)}`;
  const told = data.box_value !== null && JSON.stringify(box) === JSON.stringify(data.box);
  const value = told ? data.box_value : part.sum(box);
  const ways = [several(cols) && `sum over ${plural(data.col_axis)}`, several(rows) && `mean over ${plural(data.row_axis)}`];
  const how = ways.filter(Boolean).join(", ");
  const unknown = data.zooms ? "zoom in to add it up" : "not known from blocks";
  return `${name(data.row_axis, rows)} × ${name(data.col_axis, cols)}: `
    + `${value === null ? unknown : formatValue(value)}${how && value !== null ? ` (${how})` : ""}`;
}

/** `queries 8–15 of 128, keys 0–7 of 128`, "" for the whole. */
function describeView(data, view) {
  if (!view) return "";
  const axis = (name, range, count) => `${plural(name)} ${extent(range)} of ${count}`;
  return `${axis(data.row_axis, view.slice(0, 2), data.rows)}, ${axis(data.col_axis, view.slice(2), data.cols)}`;
}

/** What a pixel or a block stands for, "" if it is one value; raster is paint.js's. */
function describePixels(data, raster) {
  const [down, across] = raster.step;
  if (down === 1 && across === 1) return "";
  const which = data.low < 0 ? "value furthest from zero" : "largest";
  const what = `the ${which} of ${raster.even ? "" : "up to "}${down} × ${across} values`;
  if (raster.single) return `Each pixel shows ${what}; the line above gives the exact one.`;
  return `Each ${raster.shrunk ? "pixel" : "block"} shows ${what}${data.zooms ? "; zoom in for single ones" : ""}.`;
}

/** The table of the values that are here: all, if they are few, else the row of the cell `at`, largest first. */
function tableOf(data, part, at) {
  const [row0, row1, col0, col1] = part.window;
  const starts = (from, to, step) => Array.from({ length: Math.ceil((to - from) / step) }, (_, i) => from + i * step);
  const [rows, cols] = [starts(row0, row1, part.pool[0]), starts(col0, col1, part.pool[1])];
  const nameOf = (range, labels) => plainText(indicesAndTokens(range, labels));
  const rowName = (row) => nameOf(part.block(row, col0).rows, data.row_labels);
  const colName = (col) => nameOf(part.block(row0, col).cols, data.col_labels);
  const value = (row, col) => part.block(row, col).value;
  const pooled = part.pool[0] > 1 || part.pool[1] > 1;
  const what = pooled ? `${data.low < 0 ? "furthest from zero" : "largest"} ${data.value_name}` : data.value_name;
  if (rows.length * cols.length <= FULL_TABLE_CELLS) {
    return {
      caption: `${what} for each ${data.row_axis} (rows) and ${data.col_axis} (columns)`,
      words: 1,
      head: [`${data.row_axis} \\ ${data.col_axis}`, ...cols.map(colName)],
      rows: rows.map((row) => [rowName(row), ...cols.map((col) => formatValue(value(row, col)))]),
    };
  }
  const row = Math.min(row1 - 1, Math.max(row0, at[0]));
  const order = cols.filter((col) => !Number.isNaN(value(row, col)));
  order.sort((a, b) => value(row, b) - value(row, a) || a - b);
  const shown = order.slice(0, ROW_TABLE_LENGTH);
  const length = shown.length < order.length ? `the ${shown.length} largest of ${order.length}` : `all ${order.length}`;
  return {
    caption: `${data.row_axis} ${rowName(row)}: ${length} values, largest first`,
    words: 1,
    head: [data.col_axis, what],
    rows: shown.map((col) => [colName(col), formatValue(value(row, col))]),
  };
}
