// Where the columns and levels of the graph are, and what lies under the pointer. All sizes in CSS pixels; x runs from
// the left end of what can be scrolled, y from the top of the canvas.

const LABEL_PX = 12;
const LABEL_ROOM = 96; // the most that a token's label may take, whichever way it runs
const SLANTED_STEP = 20; // least width of a column for labels at 45 degrees; narrower ones have them upright
const LABEL_GAP = 14; // between a label and the dots
const LEAST_STEP = 4; // of a column, unless the whole text is asked for
const MOST_STEP = 96;
const RISES = [14, 64]; // least and most height of a level
const SIDE_PAD = 12;
const SOURCE_GAP = 28; // between the source's columns and the text's
const NARROW = 480;
const NODE_REACH = 9; // how far from a dot the pointer still means it
const EDGE_REACH = 6;
const BOW_PARTS = 6;

function layOut(ctx, { columns, n_source: nSource, levels }, font, { width, tall, whole }) {
  const narrow = width < NARROW;
  ctx.font = `700 ${LABEL_PX}px ${font}`; // the widest that labels will be drawn
  const widest = (texts) => Math.max(8, ...texts.slice(0, 600).map((text) => ctx.measureText(text).width));
  const longest = (texts, most) => Math.min(most, widest(texts));
  const labelRoom = Math.ceil(longest(columns, LABEL_ROOM));
  const gutter = Math.ceil(longest(levels.map((name) => (narrow ? levelNumber(name) : name)), narrow ? 40 : 108)) + 14;
  const gap = nSource && nSource < columns.length ? SOURCE_GAP : 0;
  const fitted = (over) => {
    const free = width - gutter - gap - over - 2 * SIDE_PAD;
    return Math.min(MOST_STEP, Math.max(whole ? 0 : LEAST_STEP, free / columns.length));
  };
  const over = narrow ? 0 : Math.ceil(labelRoom * Math.SQRT1_2); // of the last slanted label
  let [step, turn, beyond] = [fitted(0), Math.PI / 2, 0];
  if (labelRoom + 8 <= step) turn = 0;
  else if (!narrow && fitted(over) >= SLANTED_STEP) [step, turn, beyond] = [fitted(over), Math.PI / 4, over];
  const labels = LABEL_GAP + 4 + (turn === 0 ? LABEL_PX : Math.ceil(labelRoom * Math.sin(turn)) + 4);
  const heading = gap ? 18 : 0;
  const high = tall - 2 * labels - heading;
  const rise = levels.length > 1 ? Math.min(RISES[1], Math.max(RISES[0], high / (levels.length - 1))) : 0;
  const top = labels + heading;
  return {
    width, gutter, step, turn, gap, rise, top, nSource, narrow, labelRoom,
    nColumns: columns.length, nLevels: levels.length, bow: Math.min(16, 0.4 * step),
    content: Math.ceil(2 * SIDE_PAD + step * columns.length + gap + beyond),
    height: Math.ceil(top + rise * (levels.length - 1) + labels),
  };
}

/** The number at the end of a level's name where room is short: "after layer 12" is level 12 to those who look. */
const levelNumber = (name) => /(\d+)$/.exec(name)?.[1] ?? name;

const columnX = ({ step, nSource, gap }, column) => SIDE_PAD + (column + 0.5) * step + (column >= nSource ? gap : 0);
const levelY = ({ top, rise, nLevels }, level) => top + (nLevels - 1 - level) * rise;

/** The column nearest to x, which may be outside of the text. */
function columnAt(place, x) {
  const beyond = x > SIDE_PAD + place.nSource * place.step + place.gap / 2;
  return Math.floor((x - SIDE_PAD - (beyond ? place.gap : 0)) / place.step);
}

/** Ends of an edge, [x, y] of its lower and of its upper node. */
function ends(place, edges, i) {
  return [
    columnX(place, edges.start[i]), levelY(place, edges.startLevel[i]),
    columnX(place, edges.end[i]), levelY(place, edges.endLevel[i]),
  ];
}

/** Attention of a token to itself is bowed, since its residual runs straight between the same two nodes. */
const isBowed = (edges, i) => edges.attends[i] && edges.start[i] === edges.end[i];

/** The node under the pointer: one with mass that is near, else the empty place itself. {level, column} or null. */
function nodeUnder(place, graph, x, y) {
  const level = place.rise ? place.nLevels - 1 - Math.round((y - place.top) / place.rise) : 0;
  const zone = Math.min(NODE_REACH, Math.max(4, 0.3 * place.rise));
  if (level < 0 || level >= place.nLevels || Math.abs(y - levelY(place, level)) > zone) return null;
  const middle = columnAt(place, x);
  const reach = Math.ceil(NODE_REACH / place.step) + 1;
  let [best, nearest] = [null, NODE_REACH];
  for (let column = Math.max(0, middle - reach); column <= Math.min(place.nColumns - 1, middle + reach); column++) {
    if (!graph.seen(level, column)) continue;
    const away = Math.abs(columnX(place, column) - x);
    if (away < nearest) [best, nearest] = [{ level, column }, away];
  }
  if (best) return best;
  const inside = graph.isPlace(level, middle) && Math.abs(columnX(place, middle) - x) <= NODE_REACH;
  return inside ? { level, column: middle } : null;
}

function distanceToLine(x, y, [x1, y1, x2, y2]) {
  const [dx, dy] = [x2 - x1, y2 - y1];
  const along = Math.min(1, Math.max(0, ((x - x1) * dx + (y - y1) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x - x1 - along * dx, y - y1 - along * dy);
}

function distanceToEdge(place, edges, i, x, y) {
  const line = ends(place, edges, i);
  if (!isBowed(edges, i)) return distanceToLine(x, y, line);
  const [x1, y1, , y2] = line;
  const at = (t) => [x1 + 4 * t * (1 - t) * place.bow, y1 + t * (y2 - y1)];
  let nearest = Infinity;
  for (let part = 0; part < BOW_PARTS; part++) {
    const piece = [...at(part / BOW_PARTS), ...at((part + 1) / BOW_PARTS)];
    nearest = Math.min(nearest, distanceToLine(x, y, piece));
  }
  return nearest;
}

/** The nearest of the edges that are shown, or -1; of two at the same place the heavier, since they come first. */
function edgeUnder(place, { edges, count }, isShown, x, y) {
  let [best, nearest] = [-1, EDGE_REACH];
  for (let i = 0; i < count; i++) {
    if (!isShown(i)) continue;
    const low = levelY(place, edges.startLevel[i]) + EDGE_REACH;
    const high = levelY(place, edges.endLevel[i]) - EDGE_REACH;
    if (y > low || y < high) continue;
    const away = distanceToEdge(place, edges, i, x, y);
    if (away < nearest - 0.01) [best, nearest] = [i, away];
  }
  return best;
}
