const SCREEN_SHARE = 0.62; // of the window's height, for the columns
const LEAST_ROW = 4; // pixels, unless the whole text is asked for
const LISTED = 6; // lines that the readout names
const TABLE_ROWS = 200;
const SIDES = ["queries", "keys"];
const NAMES = { queries: "query", keys: "key" };

export default function (component) {
  return mount(component, ".attnviz-lines", createLines);
}

function createLines(root, instance) {
  const { signal } = instance.stop;
  const legend = make("div", "legend");
  const columns = make("div", "columns");
  const filler = make("div");
  const { stage, canvas, readout, hint, live } = makeStage("Up and down arrows move along a column, left and right "
    + "change the column, Home and End go to its ends, Page Up and Page Down go ten tokens, Enter picks the token.");
  const note = make("p", "note");
  stage.append(canvas, filler);
  columns.append(make("span", "", "query"), make("span", "", "key"));
  const table = tableUnder(buildTable);
  const saving = make("span", "save");
  const wholeButton = make("button", "tool", "Whole text");
  wholeButton.type = "button";
  wholeButton.title = "Squeeze both columns into view, or let them scroll";
  saving.append(wholeButton, ...saveButtons(picture, signal));
  root.replaceChildren(legend, columns, stage, readout, note, hint, live, table.details);
  root.dataset.testid = "lines";

  const ctx = canvas.getContext("2d");
  const under = document.createElement("canvas"); // all lines, kept while the pointer moves
  const hidden = new Set(); // names of heads: they stay hidden when other edges come
  let data = null;
  let edges = null; // {head, query, key, weight, high}, the heaviest first
  let shown = []; // places in `edges` of heads that are not hidden
  let whole = false; // both columns are squeezed into view
  let hover = null; // {side, index}
  let cursor = { side: "queries", index: 0 };
  let place = null;
  let seen = 0; // height of the part that is scrolled into view
  let underDone = "";
  let frame = 0;

  root.tokenCenter = (side, index) => {
    const box = canvas.getBoundingClientRect();
    const x = side === "queries" ? place.left - 20 : place.right + 20;
    return { x: box.left + x, y: box.top + rowMiddle(place, side, index) - stage.scrollTop };
  };
  root.shownEdges = () => shown.map((i) => [data.heads[edges.head[i]], edges.query[i], edges.key[i], edges.weight[i]]);
  root.redraw = () => { underDone = ""; draw(); };

  function update(next) {
    const before = data;
    data = next;
    root.dataset.key = next.key;
    stage.setAttribute("aria-label", next.label);
    if (before?.edges !== next.edges) {
      const flat = decodeFloats(next.edges);
      const n = flat.length / 4;
      const column = (i) => flat.subarray(i * n, (i + 1) * n);
      edges = { head: column(0), query: column(1), key: column(2), weight: column(3), high: n ? flat[3 * n] : 1 };
    }
    const inside = (at) => at && at.index < next[at.side].length;
    if (!inside(hover)) hover = null;
    if (!inside(cursor)) cursor = { side: "queries", index: next.selected[0] };
    const moved = JSON.stringify(before?.selected) !== JSON.stringify(next.selected);
    if (moved && before === null) cursor = { side: "queries", index: next.selected[0] };
    choose();
    showLegend();
    arrange();
    if (before === null && place) reveal("queries", next.selected[0]);
  }

  function choose() {
    const off = data.heads.map((name) => hidden.has(name));
    shown = [];
    for (let i = 0; i < edges.weight.length; i++) if (!off[edges.head[i]]) shown.push(i);
    underDone = "";
    table.refresh();
  }

  const colourOf = (i) => data.palette[i % data.palette.length];

  function showLegend() {
    const focused = root.getRootNode().activeElement?.dataset?.head;
    const buttons = data.heads.map((name, i) => {
      const button = make("button", "head");
      button.type = "button";
      button.dataset.head = name;
      button.title = `Hide or show ${name}`;
      button.setAttribute("aria-pressed", String(!hidden.has(name)));
      const swatch = make("span", "swatch");
      swatch.style.background = colourOf(i);
      button.append(swatch, name);
      button.addEventListener("click", () => {
        if (!hidden.delete(name)) hidden.add(name);
        choose();
        showLegend();
        draw();
      });
      return button;
    });
    legend.replaceChildren(...buttons, saving);
    buttons.find((button) => button.dataset.head === focused)?.focus();
    note.hidden = data.heads.length <= data.palette.length;
    note.textContent = `Colours repeat after ${data.palette.length} heads.`;
  }

  function arrange() {
    const width = legend.clientWidth;
    if (!data || !width) return; // in a closed tab or expander: the observer calls again once it has a width
    const dpr = window.devicePixelRatio || 1;
    const tall = Math.max(data.max_height, SCREEN_SHARE * window.innerHeight);
    const { font } = readTheme(root);
    const least = whole ? 0 : LEAST_ROW;
    place = layOut(ctx, data, font, width, tall, least);
    wholeButton.hidden = !whole && place.height <= tall + 1;
    wholeButton.setAttribute("aria-pressed", String(whole));
    seen = Math.ceil(Math.min(place.height, tall));
    if (place.height > seen + 1) place = layOut(ctx, data, font, width - 14, tall, least); // the scroll bar
    stage.style.height = `${seen}px`;
    filler.style.height = `${Math.max(0, Math.ceil(place.height) - seen)}px`;
    sizeCanvas(canvas, place.width, seen, dpr);
    [place.dpr, place.fullWidth] = [dpr, width];
    underDone = "";
    draw();
  }

  const keyboardHere = () => stage.matches(":focus-visible");
  const pointed = () => hover ?? (keyboardHere() ? cursor : null);
  const touches = (i, { side, index }) => (side === "queries" ? edges.query : edges.key)[i] === index;
  const ofToken = (at) => shown.filter((i) => touches(i, at));

  function draw() {
    frame = 0;
    if (!place) return;
    const { dpr } = place;
    const offset = stage.scrollTop;
    const sign = `${offset} ${canvas.width} ${canvas.height}`;
    if (underDone !== sign) {
      underDone = sign;
      [under.width, under.height] = [canvas.width, canvas.height];
      const below = under.getContext("2d");
      below.scale(dpr, dpr);
      paintEdges(below, { place, edges, chosen: shown, colours: data.heads.map((_, i) => colourOf(i)), offset, seen });
    }
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
    ctx.clearRect(0, 0, canvas.width, canvas.height);
    const paintUnder = () => ctx.drawImage(under, 0, 0, place.width, seen);
    paint(ctx, offset, paintUnder);
    showReadout();
  }

  /** All that is in view; `all` paints the lines that nothing is said of. */
  function paint(on, offset, all) {
    const theme = readTheme(root);
    const at = pointed();
    const own = at ? ofToken(at) : [];
    on.globalAlpha = at ? 0.16 : 1;
    all();
    on.globalAlpha = 1;
    const common = { place, offset, seen, theme };
    const colours = data.heads.map((_, i) => colourOf(i));
    if (at) paintEdges(on, { place, edges, chosen: own, colours, offset, seen, bright: true });
    SIDES.forEach((side, s) => {
      const partners = at && at.side !== side ? own.map((i) => edges[s === 0 ? "query" : "key"][i]) : [];
      const strong = new Set(at?.side === side ? [at.index] : partners);
      const first = [...strong, data.selected[s]];
      paintLabels(on, { ...common, labels: data[side], side, first, strong });
      paintMark(on, { ...common, side, index: data.selected[s], colour: theme.primary, dashed: s === 1, width: 1.5 });
    });
    if (keyboardHere()) paintMark(on, { ...common, ...cursor, colour: theme.text, dashed: false, width: 2.5 });
  }

  /** What the file shows: what is in view now, under the title, and the heads below it. */
  function picture() {
    const [top, bottom] = [34, 30];
    const width = place.width + 24;
    const height = top + seen + bottom;
    return {
      width, height, name: data.file_name,
      paint(on) {
        const theme = readTheme(root);
        on.fillStyle = theme.background;
        on.fillRect(0, 0, width, height);
        on.fillStyle = theme.text;
        on.font = `600 13px ${theme.font}`;
        on.textBaseline = "middle";
        on.textAlign = "left";
        on.fillText(shorten(on, data.title, width - 24), 12, 16);
        const offset = stage.scrollTop;
        const colours = data.heads.map((_, i) => colourOf(i));
        on.save();
        on.translate(12, top);
        on.beginPath();
        on.rect(-12, 0, width, seen);
        on.clip();
        paint(on, offset, () => paintEdges(on, { place, edges, chosen: shown, colours, offset, seen }));
        on.restore();
        const named = data.heads.map((name, i) => [name, colours[i]]).filter(([name]) => !hidden.has(name));
        paintHeads(on, named, { x: 12, y: height - 14, width: width - 24, theme });
      },
    };
  }

  const label = (side, index) => indexAndToken(index, data[side][index]);

  function describe(at) {
    const own = ofToken(at);
    const other = at.side === "queries" ? "keys" : "queries";
    const far = at.side === "queries" ? edges.key : edges.query;
    const named = own.slice(0, LISTED).flatMap((i) => [
      ` · ${data.heads.length > 1 ? `${data.heads[edges.head[i]]} ` : ""}${at.side === "queries" ? "→" : "←"} `,
      ...label(other, far[i]), ` ${formatValue(edges.weight[i])}`,
    ]);
    const rest = own.length > LISTED ? [` · and ${(own.length - LISTED).toLocaleString("en")} more`] : [];
    return [`${NAMES[at.side]} `, ...label(at.side, at.index), ...(own.length ? named : [" · no line drawn"]), ...rest];
  }

  function showReadout() {
    const at = pointed();
    readout.classList.toggle("idle", !at);
    const idle = "Point at a token to see its lines alone; click to make it the query or the key.";
    fillText(readout, at ? describe(at) : [idle]);
  }

  function buildTable() {
    const n = Math.min(TABLE_ROWS, shown.length);
    const text = (side, index) => plainText(label(side, index));
    return {
      caption: `The ${n.toLocaleString("en")} strongest lines of ${shown.length.toLocaleString("en")}`,
      words: 3,
      head: ["query", "key", "head", "attention"],
      rows: shown.slice(0, n).map((i) => [
        text("queries", edges.query[i]), text("keys", edges.key[i]), data.heads[edges.head[i]], formatValue(edges.weight[i]),
      ]),
    };
  }

  function tokenUnder(event) {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top + stage.scrollTop];
    const side = x <= place.left + 10 ? "queries" : x >= place.right - 10 ? "keys" : null;
    const index = side ? rowAt(place, side, y) : -1;
    return index >= 0 && index < data[side].length ? { side, index } : null;
  }

  function reveal(side, index) {
    const [y, half] = [rowMiddle(place, side, index), place.step[side]];
    if (y - half < stage.scrollTop || y + half > stage.scrollTop + seen) stage.scrollTop = y - seen / 2;
  }

  const redraw = () => { frame ||= requestAnimationFrame(draw); };
  const pick = (at) => instance.pick({ [NAMES[at.side]]: at.index });
  const point = (event) => {
    if (!place) return;
    hover = tokenUnder(event);
    canvas.style.cursor = hover ? "pointer" : "default";
    redraw();
  };
  canvas.addEventListener("pointermove", point, { signal });
  canvas.addEventListener("pointerdown", point, { signal });
  canvas.addEventListener("pointerleave", () => { hover = null; redraw(); }, { signal });
  canvas.addEventListener("click", () => hover && pick(hover), { signal });
  wholeButton.addEventListener("click", () => {
    whole = !whole;
    arrange();
    if (!whole) reveal("queries", data.selected[0]);
  }, { signal });
  stage.addEventListener("scroll", redraw, { signal });
  stage.addEventListener("focus", redraw, { signal });
  stage.addEventListener("blur", redraw, { signal });
  stage.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey || event.ctrlKey || !place) return;
    const { side, index } = cursor;
    const across = (to) => ({ side: to, index: Math.floor((index + 0.5) * place.step[side] / place.step[to]) });
    const to = {
      ArrowUp: { side, index: index - 1 }, ArrowDown: { side, index: index + 1 },
      PageUp: { side, index: index - 10 }, PageDown: { side, index: index + 10 },
      Home: { side, index: 0 }, End: { side, index: data[side].length - 1 },
      ArrowLeft: across("queries"), ArrowRight: across("keys"), Enter: cursor, " ": cursor,
    }[event.key];
    if (!to) return;
    event.preventDefault();
    if (to === cursor) return void pick(cursor);
    cursor = { side: to.side, index: Math.min(data[to.side].length - 1, Math.max(0, to.index)) };
    hover = null;
    reveal(cursor.side, cursor.index);
    live.textContent = plainText(describe(cursor));
    redraw();
  }, { signal });

  keepArranged(legend, signal, () => place, arrange);
  signal.addEventListener("abort", () => cancelAnimationFrame(frame));
  return update;
}
