const SCREEN_SHARE = 0.66; // of the window's height, for the graph
const HEADING = 34; // above the picture in a file, for its title
const FOOTING = 30; // below it, for what the colours mean
const MARKED = 3; // in the palette: the target, and the edge that is picked

export default function (component) {
  return mount(component, ".attnviz-flow", createFlow);
}

function createFlow(root, instance) {
  const { signal } = instance.stop;
  const legend = make("div", "legend");
  const stage = make("div", "stage");
  const canvas = make("canvas");
  const filler = make("div", "filler");
  const readout = make("p", "readout");
  const hint = make("p", "hidden", "Arrows move over the dots, Home and End go to the ends of a level, Page Up and "
    + "Page Down go ten tokens, Enter makes the dot the target. E goes through the dot's edges, the strongest first, "
    + "and Shift with E back; arrows up and down then follow the edge, and Shift with Enter opens its heads.");
  const live = make("p", "hidden");
  hint.id = "hint";
  live.setAttribute("aria-live", "polite");
  readout.setAttribute("aria-hidden", "true"); // the live region says the same, for the keyboard only
  canvas.setAttribute("aria-hidden", "true");
  stage.tabIndex = 0;
  stage.setAttribute("role", "application");
  stage.setAttribute("aria-describedby", "hint");
  stage.append(canvas, filler);
  const table = tableUnder(() => edgeTable(data, graph));
  const saving = make("span", "save");
  const wholeButton = make("button", "tool", "Whole text");
  wholeButton.type = "button";
  wholeButton.title = "Squeeze all tokens into view, or let them scroll";
  saving.append(wholeButton, ...saveButtons(picture, signal));
  const player = playControls(signal, redraw);
  root.replaceChildren(legend, player.node, stage, readout, hint, live, table.details);
  root.dataset.testid = "flow-graph";

  const ctx = canvas.getContext("2d");
  const under = make("canvas"); // what is shown, in view and beside it, kept while the pointer moves
  let data = null;
  let graph = null;
  let marked = -1; // the edge that the page has picked
  let whole = false; // all columns are squeezed into view
  let hover = null; // {node} or {edge}
  let cursor = null; // {level, column}
  let walked = -1; // the edge at the cursor that the keyboard is on
  let place = null;
  let underDone = { sign: "", step: -1, left: 0 }; // `left` is where it begins in what can be scrolled
  let frame = 0;

  root.nodeCenter = (level, column) => {
    const box = canvas.getBoundingClientRect();
    const x = place.gutter + columnX(place, column) - stage.scrollLeft;
    return { x: box.left + x, y: box.top + levelY(place, level) };
  };
  root.shown = () => player.now();
  root.redraw = () => { underDone.step = -1; draw(); };

  function update(next) {
    const before = data;
    data = next;
    root.dataset.key = next.key;
    stage.setAttribute("aria-label", next.label);
    const same = ["edges", "columns", "levels", "target"].every(
      (name) => JSON.stringify(before?.[name]) === JSON.stringify(next[name]));
    if (!same) {
      graph = readGraph(next);
      [hover, walked] = [null, -1];
      cursor = graph.focus;
      player.set(graph.last, (step) => (
        step === graph.last ? "all levels" : `down to ${next.levels[next.target[0] - step]}`));
      table.refresh();
    }
    marked = next.marked ?? -1;
    showLegend();
    arrange();
    if (!same && place) reveal(cursor.column);
  }

  const kinds = () => data.kinds.map((words, k) => [words, data.palette[k]]).filter(([words]) => words);

  function showLegend() {
    const named = kinds().map(([words, colour]) => {
      const kind = make("span", "kind");
      const swatch = make("span", "swatch");
      swatch.style.background = colour;
      kind.append(swatch, words);
      return kind;
    });
    legend.replaceChildren(...named, make("span", "", data.held), saving);
  }

  function arrange() {
    const width = legend.clientWidth;
    if (!data || !width) return; // in a closed tab or expander: the observer calls again once it has a width
    const dpr = window.devicePixelRatio || 1;
    const tall = Math.max(data.max_height, SCREEN_SHARE * window.innerHeight);
    place = layOut(ctx, data, readTheme(root).font, { width, tall, whole });
    const inside = place.gutter + place.content;
    wholeButton.hidden = !whole && inside <= width;
    wholeButton.setAttribute("aria-pressed", String(whole));
    filler.style.width = `${Math.max(0, inside - width)}px`;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${place.height}px`;
    [canvas.width, canvas.height] = [width, place.height].map((size) => Math.round(size * dpr));
    Object.assign(place, { dpr, seen: width - place.gutter });
    place.kept = Math.min(place.content, 2 * place.seen);
    [under.width, under.height] = [place.kept, place.height].map((size) => Math.round(size * dpr));
    underDone.step = -1;
    draw();
  }

  const keyboardHere = () => stage.matches(":focus-visible");
  const underKeys = () => (walked >= 0 ? { edge: walked } : { node: cursor });
  const pointed = () => hover ?? (keyboardHere() ? underKeys() : null);
  const isShown = (i) => data.target[0] - graph.edges.endLevel[i] < player.now().step;
  const upTo = (step, from = 0) => graph.bySteps.slice(from + 1, step + 1).flat();
  const ofNode = (node) => {
    const own = [];
    for (let i = 0; i < graph.count; i++) {
      if (isShown(i) && (startsAt(graph.edges, i, node) || endsAt(graph.edges, i, node))) own.push(i);
    }
    return own;
  };
  const common = () => ({ place, graph, edges: graph.edges, count: graph.count, colours: data.palette });

  /** Edges and dots of the steps after `from` up to `step`. */
  function paintSteps(on, from, step, theme) {
    if (from < 0) paintPlaces(on, { ...common(), theme });
    paintEdges(on, { ...common(), chosen: upTo(step, Math.max(0, from)) });
    paintNodes(on, { place, theme, nodes: graph.nodes.filter((node) => node.step > from && node.step <= step) });
  }

  /** Paints what is shown beside the screen, unless it is there already. */
  function refresh(theme) {
    const { step } = player.now();
    const sign = JSON.stringify([theme, data.palette]);
    const scroll = stage.scrollLeft;
    const beside = Math.max(0, Math.min(place.content - place.kept, scroll - (place.kept - place.seen) / 2));
    const inside = scroll >= underDone.left && scroll + place.seen <= underDone.left + place.kept + 1;
    const same = underDone.sign === sign && underDone.step >= 0 && (inside || place.kept >= place.content);
    if (same && underDone.step === step) return;
    const grows = same && step > underDone.step && graph.count > CROWD;
    const left = same ? underDone.left : beside;
    const below = under.getContext("2d");
    below.setTransform(place.dpr, 0, 0, place.dpr, 0, 0);
    if (!grows) below.clearRect(0, 0, place.kept, place.height);
    below.translate(-left, 0);
    paintSteps(below, grows ? underDone.step : -1, step, theme);
    underDone = { sign, step, left };
  }

  function draw() {
    frame = 0;
    if (!place) return;
    const theme = readTheme(root);
    refresh(theme);
    ctx.setTransform(place.dpr, 0, 0, place.dpr, 0, 0);
    ctx.clearRect(0, 0, place.width, place.height);
    paint(ctx, theme, () => ctx.drawImage(under, underDone.left, 0, place.kept, place.height));
    const { step, playing } = player.now();
    [root.dataset.step, root.dataset.playing] = [String(step), String(playing)];
    showReadout();
  }

  /** All that is in view; `all` paints what nothing is said of. */
  function paint(on, theme, all) {
    const scroll = stage.scrollLeft;
    const { step, part } = player.now();
    const at = pointed();
    const own = at?.node ? ofNode(at.node) : at ? [at.edge] : [];
    const nodes = at?.node ? [at.node] : own.flatMap((i) => nodesOf(graph.edges, i));
    const massOf = ({ level, column }) => graph.mass(level, column);
    const ring = (node, colour, width, away) => (
      paintRing(on, { place, ...node, mass: massOf(node), colour, width, away }));
    on.save();
    on.beginPath();
    on.rect(place.gutter, 0, place.seen, place.height);
    on.clip();
    on.translate(place.gutter - scroll, 0);
    on.globalAlpha = at ? 0.25 : 1;
    all();
    on.globalAlpha = 1;
    if (part > 0) paintEdges(on, { ...common(), chosen: graph.bySteps[step + 1] ?? [], part });
    paintEdges(on, { ...common(), chosen: own, bright: true });
    const met = [...nodes, ...own.flatMap((i) => nodesOf(graph.edges, i))];
    paintNodes(on, { place, theme, nodes: met.map((node) => ({ ...node, mass: massOf(node) })) });
    if (marked >= 0 && isShown(marked)) {
      paintMarked(on, { place, edges: graph.edges, i: marked, colour: data.palette[MARKED], width: 3 });
    }
    for (const target of graph.targets) ring(target, data.palette[MARKED], 2.5, 3.5);
    for (const node of nodes) ring(node, theme.text, keyboardHere() && !hover ? 2.5 : 1.5, 3);
    on.restore();
    const strong = new Set(met.map((node) => node.column));
    const first = [...(at?.node ? [at.node.column] : []), ...strong, graph.focus.column];
    paintColumns(on, { place, labels: data.columns, scroll, first, strong, theme });
    paintLevels(on, { place, names: data.levels, first: nodes.map((node) => node.level), theme });
  }

  /** What the file shows: what is in view now, under the title, and what the colours mean below it. */
  function picture() {
    const width = place.width + 24;
    const height = HEADING + place.height + FOOTING;
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
        on.save();
        on.translate(12, HEADING);
        paint(on, theme, () => paintSteps(on, -1, player.now().step, theme));
        on.restore();
        paintKey(on, [...kinds(), [data.held, theme.background]], { x: 12, y: height - 14, width: width - 24, theme });
      },
    };
  }

  const describe = (one) => (
    one.node ? nodeWords(data, graph, one.node, ofNode(one.node)) : edgeWords(data, graph, one.edge));

  function showReadout() {
    const one = pointed();
    readout.classList.toggle("idle", !one);
    const idle = "Point at a dot or a line to read its mass. Click a dot to make it the target, a line of attention to "
      + "open its heads.";
    fillText(readout, one ? describe(one) : [idle]);
  }

  function pointedAt(event) {
    const box = canvas.getBoundingClientRect();
    const left = event.clientX - box.left - place.gutter;
    if (left < 0) return null;
    const [x, y] = [left + stage.scrollLeft, event.clientY - box.top];
    const node = nodeUnder(place, graph, x, y);
    const edge = node ? -1 : edgeUnder(place, graph, isShown, x, y);
    return node ? { node } : edge < 0 ? null : { edge };
  }

  function reveal(column) {
    const [x, { seen }] = [columnX(place, column), place];
    const [left, right] = [x - place.step - SIDE_PAD, x + place.step + SIDE_PAD];
    if (left < stage.scrollLeft || right > stage.scrollLeft + seen) stage.scrollLeft = x - seen / 2;
  }

  function redraw() {
    frame ||= requestAnimationFrame(draw);
  }

  function pick(one) {
    if (one.node) instance.pick({ node: [one.node.level, one.node.column] });
    else if (graph.edges.attends[one.edge]) {
      const { layer, site, start, end } = graph.edges;
      instance.pick({ edge: [layer, site, start, end].map((field) => field[one.edge]) });
    }
  }

  const point = (event) => {
    if (!place) return;
    hover = pointedAt(event);
    const picks = hover && (hover.node || graph.edges.attends[hover.edge]);
    canvas.style.cursor = picks ? "pointer" : "default";
    redraw();
  };
  const on = (at, name, listener) => at.addEventListener(name, listener, { signal });
  on(canvas, "pointermove", point);
  on(canvas, "pointerdown", point);
  on(canvas, "pointerleave", () => { hover = null; redraw(); });
  on(canvas, "click", () => hover && pick(hover));
  on(wholeButton, "click", () => {
    whole = !whole;
    arrange();
    if (!whole) reveal(graph.focus.column);
  });
  for (const name of ["scroll", "focus", "blur"]) on(stage, name, redraw);
  on(stage, "keydown", (event) => {
    if (event.altKey || event.metaKey || event.ctrlKey || !place) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      if (!event.shiftKey) pick({ node: cursor });
      else if (walked >= 0) pick({ edge: walked });
      return;
    }
    const to = walk(graph, place, { cursor, walked, own: ofNode(cursor) }, event.key);
    if (!to) return;
    event.preventDefault();
    ({ cursor, walked } = to);
    hover = null;
    reveal(cursor.column);
    live.textContent = plainText(describe(underKeys()));
    redraw();
  });

  const observer = new ResizeObserver(() => place?.width !== legend.clientWidth && arrange());
  observer.observe(legend);
  signal.addEventListener("abort", () => {
    observer.disconnect();
    cancelAnimationFrame(frame);
  });
  return update;
}
