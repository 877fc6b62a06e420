// The graph as it came, with what drawing asks of it.

const FIELDS = ["startLevel", "start", "endLevel", "end", "layer", "site", "attends", "colour", "mass"];

/**
 * {edges, count, last, bySteps, nodes, targets, focus, mass, seen, isPlace, isTarget}, of the data that flowgraph.py
 * sends. A step is a level counted from the target down: step 1 has the edges that end at the target's level. Edges
 * come heaviest first. A target's column below 0 stands for all states at that level that edges end at.
 */
function readGraph(data) {
  const flat = decodeFloats(data.edges);
  const count = flat.length / FIELDS.length;
  const edges = Object.fromEntries(FIELDS.map((name, f) => [name, flat.subarray(f * count, (f + 1) * count)]));
  edges.high = count ? edges.mass[0] : 1;
  const [targetLevel, targetColumn] = data.target;
  const width = data.columns.length;
  const at = (level, column) => level * width + column;
  const masses = new Float64Array(data.levels.length * width);
  const firstStep = new Int32Array(masses.length).fill(-1); // -1: no edge meets the node
  const bySteps = Array.from({ length: targetLevel + 1 }, () => []);
  for (let i = 0; i < count; i++) {
    const step = targetLevel - edges.endLevel[i] + 1;
    bySteps[step].push(i);
    if (step === 1) masses[at(targetLevel, edges.end[i])] += edges.mass[i];
    const [low, high] = [at(edges.startLevel[i], edges.start[i]), at(edges.endLevel[i], edges.end[i])];
    masses[low] += edges.mass[i];
    if (firstStep[low] < 0 || step < firstStep[low]) firstStep[low] = step;
    if (firstStep[high] < 0) firstStep[high] = step - 1;
  }
  if (targetColumn >= 0) {
    masses[at(targetLevel, targetColumn)] = 1; // the whole, whatever of it is drawn
    firstStep[at(targetLevel, targetColumn)] = 0;
  }
  const nodes = [];
  firstStep.forEach((step, i) => {
    if (step >= 0) nodes.push({ level: Math.floor(i / width), column: i % width, mass: masses[i], step });
  });
  const targets = nodes.filter(({ step }) => step === 0);
  const seen = (level, column) => firstStep[at(level, column)] >= 0;
  return {
    edges, count, bySteps, nodes, targets, seen,
    focus: targets.at(-1) ?? { level: targetLevel, column: 0 },
    last: Math.max(0, bySteps.findLastIndex((own) => own.length)),
    isTarget: (node) => targets.some(({ level, column }) => level === node.level && column === node.column),
    mass: (level, column) => masses[at(level, column)],
    // With a source, columns have no dot at the levels of the other text, and only what is drawn is known to be there.
    isPlace: data.n_source ? seen : () => true,
  };
}

const startsAt = (edges, i, { level, column }) => edges.start[i] === column && edges.startLevel[i] === level;
const endsAt = (edges, i, { level, column }) => edges.end[i] === column && edges.endLevel[i] === level;

/** An edge's upper and lower node. */
const nodesOf = (edges, i) => [
  { level: edges.endLevel[i], column: edges.end[i] }, { level: edges.startLevel[i], column: edges.start[i] },
];
