// Where each thumbnail lies, in CSS pixels from the corner of the whole picture. A layout is
//   cells   in reading order, {layer, head, index, kept, x, y}; index counts [layer, head]
//   cw, ch  the size of a thumbnail; width, height of the whole; left, top: room for the labels of layers and heads
//   caption whether each thumbnail is labelled under it

const SMALLEST = 20; // of a thumbnail's side
const LARGEST = 132;
const RANKED_LEAST = 80; // room for "L29H14 0.1234"
const CAPTION = 17; // height of the line under a ranked thumbnail
const LAYER_ROOM = 34;
const HEAD_ROOM = 20;
const EDGE = 4; // for the frames of the outermost
const ABSENT = 0;
const KEPT = 2; // 1: filtered out

function layoutOf({ layers, heads, height, width, arranged, order }, states, room) {
  const tall = Math.min(2, Math.max(0.5, height / width));
  const cell = (index, x, y) => ({
    index, layer: Math.floor(index / heads), head: index % heads, kept: states[index] === KEPT, x, y,
  });
  const snapped = (size) => Math.max(SMALLEST, Math.min(LARGEST, Math.floor(size)));
  if (arranged === "ranked") {
    const gap = 8;
    const columns = Math.max(1, Math.floor((room - 2 * EDGE + gap) / (RANKED_LEAST + gap)));
    const cw = snapped((room - 2 * EDGE + gap) / columns - gap);
    const ch = Math.round(cw * tall);
    const at = (i) => [EDGE + (i % columns) * (cw + gap), EDGE + Math.floor(i / columns) * (ch + CAPTION + gap)];
    return {
      cells: order.map((index, i) => cell(index, ...at(i))),
      cw, ch, left: 0, top: 0, caption: true,
      width: room, height: 2 * EDGE + Math.ceil(order.length / columns) * (ch + CAPTION + gap),
    };
  }
  const rows = Array.from({ length: layers }, (_, i) => i)
    .filter((layer) => states.subarray(layer * heads, (layer + 1) * heads).some((state) => state !== ABSENT));
  const least = (room - LAYER_ROOM - EDGE) / heads;
  const gap = least > 40 ? 4 : 2;
  const cw = snapped(least - gap);
  const ch = Math.round(cw * tall);
  const cells = rows.flatMap((layer, row) => Array.from({ length: heads }, (_, head) => (
    cell(layer * heads + head, LAYER_ROOM + head * (cw + gap), HEAD_ROOM + EDGE + row * (ch + gap)))));
  return {
    cells: cells.filter(({ index }) => states[index] !== ABSENT),
    cw, ch, left: LAYER_ROOM, top: HEAD_ROOM, caption: false,
    width: LAYER_ROOM + heads * (cw + gap) + EDGE,
    height: HEAD_ROOM + 2 * EDGE + rows.length * (ch + gap) - gap,
  };
}

/** The head that a key leads to from `from`, an index; filtered-out ones are passed over. Null for no such key. */
function headAfter({ cells }, from, key) {
  const kept = cells.filter((cell) => cell.kept);
  if (!kept.length) return null;
  const at = Math.max(0, kept.findIndex((cell) => cell.index === from));
  const here = kept[at];
  const clamp = (i) => kept[Math.min(kept.length - 1, Math.max(0, i))];
  const lines = [...new Set(kept.map((cell) => cell.y))];
  const line = lines.indexOf(here.y);
  const inLine = (step) => {
    const y = lines[Math.min(lines.length - 1, Math.max(0, line + step))];
    if (y === here.y) return here;
    const others = kept.filter((cell) => cell.y === y);
    return others.reduce((best, cell) => (Math.abs(cell.x - here.x) < Math.abs(best.x - here.x) ? cell : best));
  };
  const to = {
    ArrowLeft: () => clamp(at - 1), ArrowRight: () => clamp(at + 1), ArrowUp: () => inLine(-1),
    ArrowDown: () => inLine(1), PageUp: () => inLine(-5), PageDown: () => inLine(5), Home: () => clamp(0),
    End: () => clamp(kept.length - 1),
  }[key];
  return to ? to().index : null;
}
