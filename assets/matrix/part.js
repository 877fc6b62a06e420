// What of a whole matrix the browser has, and windows into the whole: [row0, row1, col0, col1], half-open.

const LEAST_WINDOW = 8; // cells along an axis

/** The values of a window, each standing for a block of pool[0] x pool[1] cells counted from the window's start. */
class Part {
  constructor({ values, window, pool }) {
    const [row0, row1, col0, col1] = window;
    this.values = decodeFloats(values);
    this.window = window;
    this.pool = pool;
    this.rows = Math.ceil((row1 - row0) / pool[0]);
    this.cols = Math.ceil((col1 - col0) / pool[1]);
    this.hasEmpty = this.values.some(Number.isNaN);
  }

  /** The block that holds a cell of the whole: the cells it covers, its value, and whether it is a single cell. */
  block(row, col) {
    const { pool, window: [row0, row1, col0, col1] } = this;
    if (row < row0 || row >= row1 || col < col0 || col >= col1) {
      return { rows: [row, row + 1], cols: [col, col + 1], value: NaN, single: false, absent: true };
    }
    const [down, across] = [Math.floor((row - row0) / pool[0]), Math.floor((col - col0) / pool[1])];
    const rows = [row0 + down * pool[0], Math.min(row1, row0 + (down + 1) * pool[0])];
    const cols = [col0 + across * pool[1], Math.min(col1, col0 + (across + 1) * pool[1])];
    const single = rows[1] - rows[0] === 1 && cols[1] - cols[0] === 1;
    return { rows, cols, value: this.values[down * this.cols + across], single, absent: false };
  }

  /** The blocks that a view meets: their places among the values, and the cells they cover if each is a full one. */
  under(view) {
    const { pool, window } = this;
    const axis = (i, count) => {
      const first = Math.max(0, Math.floor((view[i] - window[i]) / pool[i / 2]));
      const end = Math.min(count, Math.ceil((view[i + 1] - window[i]) / pool[i / 2]));
      return { blocks: [first, end], cells: [window[i] + first * pool[i / 2], window[i] + end * pool[i / 2]] };
    };
    const [down, across] = [axis(0, this.rows), axis(2, this.cols)];
    const none = [down, across].some(({ blocks: [first, end] }) => end <= first);
    return none ? null : { blocks: [...down.blocks, ...across.blocks], cells: [...down.cells, ...across.cells] };
  }

  /** Sum over a box's columns, mean over its rows; null unless all its cells are here one by one. */
  sum([row0, row1, col0, col1]) {
    const { window, pool } = this;
    const inside = row0 >= window[0] && row1 <= window[1] && col0 >= window[2] && col1 <= window[3];
    if (!inside || pool[0] > 1 || pool[1] > 1) return null;
    let total = 0;
    for (let row = row0; row < row1; row++) {
      const start = (row - window[0]) * this.cols - window[2];
      for (let col = col0; col < col1; col++) total += this.values[start + col] || 0; // what is no cell adds nothing
    }
    return total / (row1 - row0);
  }
}

/** How much of a shape a window shows, along the axis that is not kept at the least. */
function shareOf([row0, row1, col0, col1], [rows, cols]) {
  return Math.min((row1 - row0) / rows, (col1 - col0) / cols);
}

/** The window of this share that has the point `at` [row, col] at the place `where` [0 to 1] of it; null: the whole. */
function windowAround(shape, share, at, where) {
  const size = shape.map((count) => Math.min(count, Math.max(LEAST_WINDOW, Math.round(count * share))));
  if (size.every((cells, i) => cells === shape[i])) return null;
  const start = size.map((cells, i) => (
    Math.min(shape[i] - cells, Math.max(0, Math.round(at[i] - where[i] * cells)))));
  return [start[0], start[0] + size[0], start[1], start[1] + size[1]];
}

/** The window moved by whole cells, as far as it stays inside. */
function shifted([row0, row1, col0, col1], [rows, cols], [down, across]) {
  const row = Math.min(rows - (row1 - row0), Math.max(0, row0 + Math.round(down)));
  const col = Math.min(cols - (col1 - col0), Math.max(0, col0 + Math.round(across)));
  return [row, row + row1 - row0, col, col + col1 - col0];
}

/** The smallest window around two blocks. */
function boxAround(a, b) {
  return [
    Math.min(a.rows[0], b.rows[0]), Math.max(a.rows[1], b.rows[1]),
    Math.min(a.cols[0], b.cols[0]), Math.max(a.cols[1], b.cols[1]),
  ];
}

/** The token positions of the cells [start, stop) of an axis; a cell is its own position where no units are given. */
function positionsOf(units, [start, stop]) {
  const found = new Set();
  for (let cell = start; cell < stop; cell++) {
    const [first, end] = units ? units[cell] : [cell, cell + 1];
    for (let position = first; position < end; position++) found.add(position);
  }
  return [...found];
}

/** The cells [start, stop) of an axis of `count` that have any of these token positions; null if none has. */
function cellsOf(units, count, positions) {
  if (!positions) return null;
  const wanted = new Set(positions);
  const has = (cell) => (units
    ? Array.from({ length: units[cell][1] - units[cell][0] }, (_, i) => units[cell][0] + i).some((i) => wanted.has(i))
    : wanted.has(cell));
  const cells = Array.from({ length: count }, (_, cell) => cell).filter(has);
  return cells.length ? [cells[0], cells.at(-1) + 1] : null;
}
