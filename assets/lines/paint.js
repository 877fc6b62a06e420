// Two columns and the lines between them, on any context that knows what SvgContext knows. All sizes in CSS pixels.

const LABEL_PX = 12;
const LABEL_STEP = 14; // least distance between two labels
const LEVELS = 12; // of opacity and width: lines of one level and head are drawn in one go
const BATCH = 50; // curves a path; longer ones are slower to fill in
const CROWD = 3000; // from so many lines on they are thin and let others shine through; thick ones are also slow
const PAD = 9; // above the first row and below the last, for labels that are higher than a row
const GAP = 8; // between a label and where its lines end

/**
 * Where things are: `left` and `right` are the ends of the lines, `step` the height of a row in each column. Rows are
 * at least `least` high, so that columns may be taller than `tall`.
 */
function layOut(ctx, data, font, width, tall, least) {
  ctx.font = `700 ${LABEL_PX}px ${font}`; // the widest that labels will be drawn
  const most = Math.min(width * 0.28, 180);
  const room = ["queries", "keys"].map((side) => {
    const texts = data[side].length > 400 ? data[side].slice(0, 400) : data[side];
    return Math.ceil(Math.min(most, Math.max(36, ...texts.map((text) => ctx.measureText(text).width))));
  });
  const rows = Math.max(data.queries.length, data.keys.length);
  const size = Math.min(26, Math.max(least, (tall - 2 * PAD) / rows));
  const long = size * rows; // the shorter column is spread over the height of the longer one
  return {
    width, height: long + 2 * PAD, room, left: room[0] + GAP + 4, right: width - room[1] - GAP - 4,
    step: { queries: long / data.queries.length, keys: long / data.keys.length },
  };
}

const rowMiddle = (place, side, index) => PAD + (index + 0.5) * place.step[side];

/** The row at a height, which may be outside of the column. */
const rowAt = (place, side, y) => Math.floor((y - PAD) / place.step[side]);

/** Opacity and width of a line, by its level and how many are drawn with it. */
function strength(level, count) {
  const share = level / LEVELS;
  const alpha = 0.08 + 0.77 * share * share;
  if (count <= CROWD) return { alpha, width: 0.6 + 2 * share };
  return { alpha: Math.max(0.04, alpha * Math.sqrt(CROWD / count)), width: 1 };
}

/** The lines `chosen` (places in `edges`, the heaviest first), the lightest at the bottom; bright ones stand out. */
function paintEdges(ctx, { place, edges, chosen, colours, offset, seen, bright }) {
  const { left, right } = place;
  const bend = (right - left) / 2;
  const groups = new Map(); // level * heads + head -> places
  const [above, below] = [offset - 2, offset + seen + 2];
  let count = 0;
  for (const i of chosen) {
    const [from, to] = [rowMiddle(place, "queries", edges.query[i]), rowMiddle(place, "keys", edges.key[i])];
    if ((from < above && to < above) || (from > below && to > below)) continue;
    const level = Math.max(1, Math.ceil(LEVELS * Math.sqrt(edges.weight[i] / edges.high)));
    const group = level * colours.length + edges.head[i];
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(from - offset, to - offset);
    count += 1;
  }
  for (const [group, ends] of [...groups].sort(([a], [b]) => a - b)) {
    const { alpha, width } = strength(Math.floor(group / colours.length), count);
    ctx.globalAlpha = bright ? Math.min(1, alpha + 0.35) : alpha;
    ctx.lineWidth = bright ? width + 0.6 : width;
    ctx.strokeStyle = colours[group % colours.length];
    for (let first = 0; first < ends.length; first += 2 * BATCH) {
      ctx.beginPath();
      for (let i = first; i < Math.min(first + 2 * BATCH, ends.length); i += 2) {
        ctx.moveTo(left, ends[i]);
        ctx.bezierCurveTo(left + bend, ends[i], right - bend, ends[i + 1], right, ends[i + 1]);
      }
      ctx.stroke();
    }
  }
  ctx.globalAlpha = 1;
}

/**
 * The labels of one column. `first` ones are those to be seen whatever the room, in that order; `strong` is the set of
 * bold ones, the others fade if there are any.
 */
function paintLabels(ctx, { place, labels, side, offset, seen, first, strong, theme }) {
  const step = place.step[side];
  const start = Math.max(0, rowAt(place, side, offset));
  const count = Math.min(labels.length, rowAt(place, side, offset + seen) + 1) - start;
  const isQuery = side === "queries";
  const room = place.room[isQuery ? 0 : 1];
  const x = isQuery ? place.left - GAP : place.right + GAP;
  ctx.textBaseline = "middle";
  ctx.textAlign = isQuery ? "right" : "left";
  ctx.fillStyle = theme.text;
  for (const [index] of labelsWithRoom(count, step, LABEL_STEP, first, start)) {
    const bold = strong.has(index);
    ctx.globalAlpha = strong.size && !bold ? 0.4 : 0.95;
    ctx.font = `${bold ? 700 : 400} ${LABEL_PX}px ${theme.font}`;
    ctx.fillText(shorten(ctx, labels[index], room), x, rowMiddle(place, side, index) - offset);
  }
  ctx.globalAlpha = 1;
}

/** A frame around a token's label, or around its place where rows are thin. */
function paintMark(ctx, { place, side, index, offset, colour, dashed, width }) {
  const isQuery = side === "queries";
  const tall = Math.max(place.step[side] > LABEL_STEP + 4 ? LABEL_STEP + 4 : LABEL_STEP + 2, 4);
  const room = place.room[isQuery ? 0 : 1] + 4;
  const x = isQuery ? place.left - GAP - room + 1 : place.right + GAP - 5;
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  ctx.setLineDash(dashed ? [4, 3] : []);
  ctx.strokeRect(x, rowMiddle(place, side, index) - offset - tall / 2, room + 3, tall);
  ctx.restore();
}

/** The heads' names, each after its colour, as far as there is room. */
function paintHeads(ctx, named, { x, y, width, theme }) {
  ctx.font = `400 11px ${theme.font}`;
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  let at = x;
  for (const [name, colour] of named) {
    const wide = 30 + ctx.measureText(name).width;
    if (at + wide > x + width) return;
    ctx.fillStyle = colour;
    ctx.fillRect(at, y - 2, 14, 4);
    ctx.fillStyle = theme.text;
    ctx.fillText(name, at + 18, y);
    at += wide;
  }
}
