// What is said of dots and edges: in the readout, to screen readers and in the table.

const LISTED = 5; // edges that the readout of a node names
const TABLE_ROWS = 200;

/** `12 "word"` as parts for fillText, the number counted within the source or within the text. */
const columnWords = (data, column) => (
  indexAndToken(column - (column >= data.n_source ? data.n_source : 0), data.columns[column]));

function edgeWords(data, { edges }, i) {
  const site = data.site_words[edges.site[i]];
  const [query, key] = [edges.end[i], edges.start[i]].map((column) => columnWords(data, column));
  const way = edges.attends[i] ? ["query ", ...query, " ← key ", ...key] : [...query, " kept"];
  return [`L${edges.layer[i]}${site ? `, ${site}` : ""}: `, ...way, `: mass ${formatValue(edges.mass[i])}`];
}

/** `own` are the shown edges of the node, the heaviest first. */
function nodeWords(data, graph, node, own) {
  const { edges } = graph;
  const lower = own.filter((i) => endsAt(edges, i, node));
  const named = lower.length ? lower : own;
  const [far, arrow] = lower.length ? [edges.start, "←"] : [edges.end, "→"];
  const list = named.slice(0, LISTED).flatMap((i) => [
    ...(edges.attends[i] ? [` · ${arrow} `, ...columnWords(data, far[i])] : [` · ${arrow} kept`]),
    ` ${formatValue(edges.mass[i])}`,
  ]);
  if (named.length > LISTED) list.push(` · and ${(named.length - LISTED).toLocaleString("en")} more`);
  const text = data.n_source ? (node.column < data.n_source ? "source " : "text ") : "";
  const mass = `: mass ${formatValue(graph.mass(node.level, node.column))}`;
  const target = graph.targets.length > 1 ? ", one of the targets" : ", the target";
  return [`${data.levels[node.level]}, ${text}`, ...columnWords(data, node.column), mass,
    graph.isTarget(node) ? target : "", ...list];
}

function edgeTable(data, { edges, count }) {
  const n = Math.min(TABLE_ROWS, count);
  const text = (column) => plainText(columnWords(data, column));
  return {
    caption: `The ${n.toLocaleString("en")} edges with the most mass, of ${count.toLocaleString("en")} drawn`,
    words: 3,
    head: ["query", "key", "kind", "layer", "mass"],
    rows: Array.from({ length: n }, (_, i) => [
      text(edges.end[i]), text(edges.start[i]), data.kinds[edges.colour[i]], `L${edges.layer[i]}`,
      formatValue(edges.mass[i]),
    ]),
  };
}
