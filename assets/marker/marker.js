export default function (component) {
  return mount(component, ".attnviz-marker", createMarker);
}

const MOST_UNDONE = 50;
const CUSTOM = "Custom";
const MIDDLE = 0.75; // of a custom brush at first: no other brush's weight

/** Words that are painted with brushes: a click paints one, dragging a span; what has the brush's weight is cleared. */
function createMarker(root, instance) {
  const { signal } = instance.stop;
  const brushes = make("div", "brushes");
  const slider = make("input", "amount");
  const undo = make("button", "tool", "Undo");
  const clear = make("button", "tool", "Clear");
  const flow = make("div", "flow");
  const readout = make("p", "readout");
  const hint = make("p", "hidden");
  const live = make("p", "hidden");
  hint.id = "hint";
  live.setAttribute("aria-live", "polite");
  readout.setAttribute("aria-hidden", "true"); // the live region says the same, for the keyboard only
  brushes.setAttribute("role", "radiogroup");
  brushes.setAttribute("aria-label", "Brush");
  flow.tabIndex = 0;
  flow.setAttribute("role", "listbox");
  flow.setAttribute("aria-multiselectable", "true");
  flow.setAttribute("aria-describedby", hint.id);
  slider.type = "range";
  slider.max = "1";
  slider.setAttribute("aria-label", "Weight of the custom brush");
  for (const button of [undo, clear]) button.type = "button";
  const bar = make("div", "brush-bar");
  bar.append(brushes, slider, undo, clear);
  root.replaceChildren(bar, flow, readout, hint, live);
  root.dataset.testid = "marker";

  const asked = negotiated();
  let data = null;
  let weights = [];
  let chips = [];
  let offered = []; // {name, weight}: the brushes, and the custom one last
  let own = null; // the custom brush's weight, once somebody chose it
  let brush = 0;
  let cursor = 0;
  let stroke = null; // {start, weight, before}: a hand that is painting
  let past = [];

  function update(next) {
    const before = data;
    data = next;
    root.dataset.key = next.key;
    flow.setAttribute("aria-label", next.label);
    hint.textContent = "Arrow keys move between words, Space paints the word with the brush or clears it, Shift and an "
      + "arrow key paints on, the number keys choose a brush.";
    const fresh = JSON.stringify([before?.labels, before?.spaced]) !== JSON.stringify([next.labels, next.spaced]);
    if (fresh) build();
    const inHand = (given) => JSON.stringify([given?.brushes, given?.custom]);
    if (inHand(before) !== inHand(next)) buildBrushes();
    if (asked.hear(next.weights) || fresh) weights = [...next.weights];
    show();
  }

  function build() {
    [cursor, past, stroke] = [0, [], null];
    chips = data.labels.map((label, i) => {
      const chip = make("span", "chip");
      chip.id = `word-${i}`;
      chip.dataset.index = String(i);
      chip.setAttribute("role", "option");
      const text = make("bdi", "", label);
      text.dir = "auto";
      chip.append(text);
      if (data.spaced[i]) chip.classList.add("apart");
      return chip;
    });
    flow.replaceChildren(...chips);
    flow.scrollTop = 0;
  }

  function buildBrushes() {
    offered = data.brushes.map((one) => ({ ...one }));
    if (data.custom) {
      slider.min = slider.step = String(data.custom);
      slider.value = String(own ?? MIDDLE);
      own = Number(slider.value);
      offered.push({ name: CUSTOM, weight: own });
    }
    brush = Math.min(brush, offered.length - 1);
    brushes.replaceChildren(...offered.map(({ name, weight }, i) => {
      const button = make("button", "tool brush");
      button.type = "button";
      button.setAttribute("role", "radio");
      const sample = make("span", "sample");
      paint(sample, weight);
      button.append(sample, make("span", "", i < data.brushes.length ? name : customName()));
      button.addEventListener("click", () => choose(i), { signal });
      return button;
    }));
    choose(brush);
  }

  const customName = () => `${CUSTOM} ${formatEnd(own)}`;

  function choose(index) {
    brush = index;
    slider.hidden = index < data.brushes.length;
    [...brushes.children].forEach((button, i) => {
      button.setAttribute("aria-checked", String(i === index));
      button.tabIndex = i === index ? 0 : -1;
    });
  }

  const named = (weight) => data.brushes.find((one) => one.weight === weight)?.name ?? formatEnd(weight);

  function paint(node, weight) {
    node.classList.toggle("marked", weight > 0);
    node.classList.toggle("against", weight < 0);
    node.style.setProperty("--weight", String(Math.abs(weight)));
  }

  function show() {
    chips.forEach((chip, i) => {
      paint(chip, weights[i]);
      chip.dataset.weight = String(weights[i]);
      chip.setAttribute("aria-selected", String(weights[i] !== 0));
    });
    undo.disabled = past.length === 0;
    clear.disabled = weights.every((weight) => weight === 0);
    moveCursor(cursor);
    say();
  }

  function say() {
    const counts = data.brushes.map(({ name, weight }) => [name, weights.filter((one) => one === weight).length]);
    const known = new Set([0, ...data.brushes.map(({ weight }) => weight)]);
    if (data.custom) counts.push([CUSTOM, weights.filter((one) => !known.has(one)).length]);
    const told = counts.filter(([, n]) => n).map(([name, n]) => `${name}: ${n}`);
    readout.classList.toggle("idle", !told.length);
    readout.textContent = told.length ? `${told.join(" · ")} of ${weights.length} words` : data.idle;
  }

  function send(before) {
    if (JSON.stringify(before) === JSON.stringify(weights)) return;
    past = [...past, before].slice(-MOST_UNDONE);
    tell();
  }

  function tell() {
    asked.send(weights);
    instance.send("mark", { weights });
    show();
  }

  /** The words from the stroke's first one to this one get its weight; the others what they had. */
  function reach(index) {
    const [from, to] = [Math.min(stroke.start, index), Math.max(stroke.start, index)];
    weights = stroke.before.map((weight, i) => (i >= from && i <= to ? stroke.weight : weight));
    show();
  }

  function begin(index) {
    const { weight } = offered[brush];
    stroke = { start: index, weight: weights[index] === weight ? 0 : weight, before: [...weights] };
    reach(index);
  }

  function finish() {
    if (!stroke) return;
    const { before } = stroke;
    stroke = null;
    send(before);
  }

  function moveCursor(index) {
    chips[cursor]?.classList.remove("cursor");
    cursor = Math.min(Math.max(index, 0), chips.length - 1);
    chips[cursor]?.classList.add("cursor");
    if (chips[cursor]) flow.setAttribute("aria-activedescendant", chips[cursor].id);
  }

  const indexOf = (target) => {
    const chip = target?.closest?.(".chip");
    return chip && flow.contains(chip) ? Number(chip.dataset.index) : null;
  };

  flow.addEventListener("pointerdown", (event) => {
    const index = event.button === 0 ? indexOf(event.target) : null;
    if (index === null) return;
    event.target.releasePointerCapture?.(event.pointerId); // a finger would hold on to its first word
    moveCursor(index);
    begin(index);
  }, { signal });
  flow.addEventListener("pointerover", (event) => {
    const index = stroke ? indexOf(event.target) : null;
    if (index !== null) reach(index);
  }, { signal });
  window.addEventListener("pointerup", finish, { signal });
  window.addEventListener("pointercancel", () => {
    if (stroke) weights = stroke.before; // the page was scrolled, not painted
    stroke = null;
    show();
  }, { signal });
  undo.addEventListener("click", () => {
    weights = past.at(-1);
    past = past.slice(0, -1);
    tell();
  }, { signal });
  clear.addEventListener("click", () => {
    const before = weights;
    weights = weights.map(() => 0);
    send(before);
  }, { signal });
  slider.addEventListener("input", () => {
    own = offered.at(-1).weight = Number(slider.value);
    const [sample, text] = brushes.lastElementChild.children;
    paint(sample, own);
    text.textContent = customName();
  }, { signal });
  brushes.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    choose((brush + step + offered.length) % offered.length);
    brushes.children[brush].focus();
  }, { signal });
  flow.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey || event.ctrlKey || !chips.length) return;
    const to = { ArrowLeft: cursor - 1, ArrowRight: cursor + 1, Home: 0, End: chips.length - 1 }[event.key];
    if (to !== undefined) {
      const before = [...weights];
      const { weight } = offered[brush];
      if (event.shiftKey && chips[to]) weights = weights.map((one, i) => (i === cursor || i === to ? weight : one));
      moveCursor(to);
      send(before);
    } else if (event.key === " " || event.key === "Enter") {
      begin(cursor);
      finish();
    } else if (/^[1-9]$/.test(event.key) && offered[Number(event.key) - 1]) {
      choose(Number(event.key) - 1);
    } else {
      return;
    }
    event.preventDefault();
    const weight = weights[cursor];
    live.textContent = `${data.labels[cursor]}, ${weight ? named(weight) : "not marked"}, brush ${offered[brush].name}`;
  }, { signal });
  return update;
}
