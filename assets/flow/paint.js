// Edges, dots, labels and marks of the graph, on any context that knows what SvgContext knows.

const STRENGTHS = 12; // of opacity and width: edges of one strength and colour are drawn in one go
const BATCH = 50; // lines a path; longer ones are slower to fill in
const CROWD = 3000; // from so many edges on, all but the strong ones are thin
const ROUND = 0.5523; // how far the handles of four Bezier curves reach that make a circle
const DOT_STEP = 6; // narrower columns have squares for dots, and no places without mass

/** Opacity and width of an edge, by its share of the heaviest one and how many are drawn with it. */
function strength(share, count) {
  const width = 0.7 + 3.6 * share;
  if (count <= CROWD) return { alpha: 0.2 + 0.65 * share, width };
  const alpha = (0.08 + 0.77 * share) * Math.sqrt(CROWD / count);
  return { alpha: Math.max(0.04, alpha), width: share > 0.6 ? width : 1 };
}

/**
 * The edges `chosen`, the light ones at the bottom. `part` in (0, 1] is how much of each is drawn, from its upper end.
 * `count` is that of the whole picture, so that an edge looks the same whichever others are drawn with it.
 */
function paintEdges(ctx, { place, edges, chosen, count, colours, bright, part = 1 }) {
  const groups = new Map(); // strength * colours + colour -> edges
  for (const i of chosen) {
    const level = Math.max(1, Math.ceil(STRENGTHS * Math.sqrt(edges.mass[i] / edges.high)));
    const group = level * colours.length + edges.colour[i];
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(i);
  }
  for (const [group, own] of [...groups].sort(([a], [b]) => a - b)) {
    const { alpha, width } = strength(Math.floor(group / colours.length) / STRENGTHS, count);
    ctx.globalAlpha = bright ? Math.min(1, alpha + 0.35) : alpha;
    ctx.lineWidth = bright ? width + 0.8 : width;
    ctx.strokeStyle = colours[group % colours.length];
    for (let first = 0; first < own.length; first += BATCH) {
      ctx.beginPath();
      for (const i of own.slice(first, first + BATCH)) traceEdge(ctx, place, edges, i, part);
      ctx.stroke();
    }
  }
  ctx.globalAlpha = 1;
}

function traceEdge(ctx, place, edges, i, part = 1) {
  const [x1, y1, x2, y2] = ends(place, edges, i);
  ctx.moveTo(x2, y2);
  const [x, y] = [x2 + part * (x1 - x2), y2 + part * (y1 - y2)];
  if (!isBowed(edges, i)) return void ctx.lineTo(x, y);
  // The handle of a part of a quadratic curve lies on the line from its start to the whole curve's handle.
  const { bow } = place;
  ctx.quadraticCurveTo(x2 + 2 * part * bow, (y2 + y) / 2, x2 + 4 * part * (1 - part) * bow, y);
  return undefined;
}

function circle(ctx, x, y, r) {
  const h = r * ROUND;
  ctx.moveTo(x + r, y);
  ctx.bezierCurveTo(x + r, y + h, x + h, y + r, x, y + r);
  ctx.bezierCurveTo(x - h, y + r, x - r, y + h, x - r, y);
  ctx.bezierCurveTo(x - r, y - h, x - h, y - r, x, y - r);
  ctx.bezierCurveTo(x + h, y - r, x + r, y - h, x + r, y);
}

/** Half the width of a node's dot, by its mass. */
function radius(place, mass) {
  const most = Math.max(1, Math.min(7, 0.45 * place.step, 0.42 * place.rise || 7));
  return Math.max(Math.min(most, 1.6), most * Math.sqrt(Math.min(1, mass)));
}

/** Dots of the nodes {level, column, mass}: the more mass, the larger and the darker. */
function paintNodes(ctx, { place, nodes, theme }) {
  const groups = Array.from({ length: STRENGTHS + 1 }, () => []);
  for (const node of nodes) groups[Math.ceil(STRENGTHS * Math.sqrt(Math.min(1, node.mass)))].push(node);
  ctx.fillStyle = theme.text;
  groups.forEach((own, s) => {
    if (!own.length) return;
    ctx.globalAlpha = 0.3 + (0.7 * s) / STRENGTHS;
    ctx.beginPath();
    for (const { level, column, mass } of own) {
      const [x, y, r] = [columnX(place, column), levelY(place, level), radius(place, mass)];
      if (place.step < DOT_STEP) ctx.rect(x - r, y - r, 2 * r, 2 * r);
      else circle(ctx, x, y, r);
    }
    ctx.fill();
  });
  ctx.globalAlpha = 1;
}

/** A speck at each place that could be a target but has no mass. */
function paintPlaces(ctx, { place, graph, theme }) {
  if (place.step < DOT_STEP) return;
  ctx.globalAlpha = 0.22;
  ctx.fillStyle = theme.text;
  ctx.beginPath();
  for (let level = 0; level < place.nLevels; level++) {
    for (let column = 0; column < place.nColumns; column++) {
      if (!graph.isPlace(level, column)) continue;
      ctx.rect(columnX(place, column) - 0.75, levelY(place, level) - 0.75, 1.5, 1.5);
    }
  }
  ctx.fill();
  ctx.globalAlpha = 1;
}

function paintRing(ctx, { place, level, column, mass, colour, width, away }) {
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  ctx.beginPath();
  circle(ctx, columnX(place, column), levelY(place, level), radius(place, mass) + away);
  ctx.stroke();
}

/** One edge in a colour of its own, over all others. */
function paintMarked(ctx, { place, edges, i, colour, width }) {
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  ctx.beginPath();
  traceEdge(ctx, place, edges, i);
  ctx.stroke();
}

/** The tokens, above and below; x is where the canvas' left end is in what can be scrolled. `strong` ones are bold. */
function paintColumns(ctx, { place, labels, scroll, first, strong, theme }) {
  const { step, turn, gutter, nSource, gap } = place;
  const room = turn === 0 ? place.labelRoom + 4 : turn < 1 ? SLANTED_STEP : LABEL_PX + 2;
  ctx.textBaseline = "middle";
  ctx.fillStyle = theme.text;
  for (const [column] of labelsWithRoom(labels.length, step, room, first)) {
    const x = columnX(place, column) - scroll;
    if (x < 0 || x > place.width - gutter) continue;
    const bold = strong.has(column);
    ctx.globalAlpha = strong.size && !bold ? 0.45 : 0.95;
    ctx.font = `${bold ? 700 : 400} ${LABEL_PX}px ${theme.font}`;
    const text = shorten(ctx, labels[column], place.labelRoom);
    for (const [level, sign] of [[0, 1], [place.nLevels - 1, -1]]) {
      ctx.save();
      ctx.translate(gutter + x, levelY(place, level) + sign * LABEL_GAP);
      ctx.textAlign = turn === 0 ? "center" : sign > 0 ? "right" : "left";
      if (turn !== 0) ctx.rotate(-turn);
      ctx.fillText(text, 0, turn === 0 ? (sign * LABEL_PX) / 2 : 0);
      ctx.restore();
    }
  }
  ctx.globalAlpha = 0.8;
  if (gap) {
    ctx.font = `600 ${LABEL_PX}px ${theme.font}`;
    for (const [words, from, to] of [["source", 0, nSource - 1], ["text", nSource, labels.length - 1]]) {
      const middle = (columnX(place, from) + columnX(place, to)) / 2 - scroll;
      ctx.textAlign = "center";
      if (middle > 0) ctx.fillText(words, gutter + middle, 9);
    }
  }
  ctx.globalAlpha = 1;
}

/** Names of the levels, at the left whatever is scrolled. */
function paintLevels(ctx, { place, names, first, theme }) {
  ctx.textBaseline = "middle";
  ctx.textAlign = "right";
  ctx.fillStyle = theme.text;
  const strong = new Set(first);
  for (const [level] of labelsWithRoom(names.length, place.rise || 20, LABEL_PX + 1, first)) {
    ctx.globalAlpha = strong.has(level) ? 0.95 : 0.7;
    ctx.font = `${strong.has(level) ? 700 : 400} ${LABEL_PX - 1}px ${theme.font}`;
    const name = place.narrow ? levelNumber(names[level]) : names[level];
    ctx.fillText(shorten(ctx, name, place.gutter - 10), place.gutter - 8, levelY(place, level));
  }
  ctx.globalAlpha = 1;
}

/** What the colours mean, as far as there is room. */
function paintKey(ctx, kinds, { x, y, width, theme }) {
  ctx.font = `400 11px ${theme.font}`;
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  let at = x;
  for (const [words, colour] of kinds) {
    const wide = 36 + ctx.measureText(words).width;
    if (at + wide > x + width) return;
    ctx.fillStyle = colour;
    ctx.fillRect(at, y - 2, 16, 4);
    ctx.fillStyle = theme.text;
    ctx.fillText(words, at + 22, y);
    at += wide;
  }
}
