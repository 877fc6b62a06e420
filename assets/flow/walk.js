// The keyboard's way over the graph.

const PAGE_COLUMNS = 10;

/**
 * Where a key leads from the cursor: {cursor, walked}, `walked` being the edge the keyboard is on or -1, or null for a
 * key that means nothing here. `own` are the cursor's edges, the heaviest first.
 */
function walk(graph, place, { cursor, walked, own }, key) {
  const { level, column } = cursor;
  const toNode = (to) => (to ? { cursor: to, walked: -1 } : { cursor, walked: -1 });
  const inLevel = (from, by) => {
    for (let c = from; c >= 0 && c < place.nColumns; c += by) if (graph.isPlace(level, c)) return { level, column: c };
    return null;
  };
  const toLevel = (by) => {
    const follows = walked >= 0 && (by < 0 ? endsAt : startsAt)(graph.edges, walked, cursor);
    if (follows) {
      const [side, height] = by < 0 ? ["start", "startLevel"] : ["end", "endLevel"];
      return { level: graph.edges[height][walked], column: graph.edges[side][walked] };
    }
    for (let l = level + by; l >= 0 && l < place.nLevels; l += by) {
      for (let away = 0; away < place.nColumns; away++) {
        const near = [column - away, column + away].find((c) => c >= 0 && c < place.nColumns && graph.isPlace(l, c));
        if (near !== undefined) return { level: l, column: near };
      }
    }
    return null;
  };
  const clamp = (c) => Math.min(place.nColumns - 1, Math.max(0, c));
  const onEdge = (by) => {
    if (!own.length) return { cursor, walked: -1 };
    const at = own.indexOf(walked);
    const next = at < 0 ? (by > 0 ? 0 : own.length - 1) : (at + by + own.length) % own.length;
    return { cursor, walked: own[next] };
  };
  switch (key) {
    case "ArrowLeft": return toNode(inLevel(column - 1, -1));
    case "ArrowRight": return toNode(inLevel(column + 1, 1));
    case "PageUp": return toNode(inLevel(clamp(column - PAGE_COLUMNS), 1));
    case "PageDown": return toNode(inLevel(clamp(column + PAGE_COLUMNS), -1));
    case "Home": return toNode(inLevel(0, 1));
    case "End": return toNode(inLevel(place.nColumns - 1, -1));
    case "ArrowUp": return toNode(toLevel(1));
    case "ArrowDown": return toNode(toLevel(-1));
    case "e": return onEdge(1);
    case "E": return onEdge(-1);
    default: return null;
  }
}
