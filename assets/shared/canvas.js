// Helpers of the components. attnviz/ui/components/parts.py puts colours.js, this text and save.js in front of each
// component's own scripts and all become one module, so nothing here is exported. What a new component will want:
//   mount(component, selector, create)  one instance a host element; instance.send(name, value) fires a trigger
//   labelsWithRoom, shorten, readTheme, make, fillText, tableUnder  drawing, text and table
//   pointing(signal, link, hear)        what is pointed at, told to and heard from the components with the same link
//   negotiated()                        a value that is set both here and in Python
//   colourScale, swatchScale, pooledImage, colourBar, scaleMarks, scaleWords (colours.js)  "linear", "sqrt" or "log"
//   svgContext, saveCanvas, saveSvg, saveButtons (save.js)  one drawing routine for the screen, a PNG and an SVG
//   makeStage, sizeCanvas, keepArranged (stage.js)  one canvas that takes the keyboard, and its size

function decodeFloats(base64) {
  let bytes;
  if (Uint8Array.fromBase64) {
    bytes = Uint8Array.fromBase64(base64);
  } else {
    const text = atob(base64);
    bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  }
  return new Float32Array(bytes.buffer);
}

/**
 * [index, strong] of the labels with room: marked ones first, then an even thinning that keeps clear of them. Indices
 * count from `first`, the first of `count` that are in view, so that panning thins to the same labels.
 */
function labelsWithRoom(count, size, step, marked, first = 0) {
  const clear = (i, others) => others.every(([other]) => Math.abs(other - i) * size >= step);
  const strong = [];
  for (const i of marked) if (i >= first && i < first + count && clear(i, strong)) strong.push([i, true]);
  const every = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((n) => n * size >= step) ?? Math.ceil(step / size);
  const chosen = [...strong];
  for (let i = Math.ceil(first / every) * every; i < first + count; i += every) {
    if (clear(i, strong)) chosen.push([i, false]);
  }
  return chosen;
}

const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" });

function shorten(ctx, text, room) {
  if (ctx.measureText(text).width <= room) return text;
  const parts = Array.from(graphemes.segment(text.slice(0, 200)), (part) => part.segment);
  while (parts.length && ctx.measureText(`${parts.join("")}…`).width > room) parts.pop();
  return `${parts.join("")}…`;
}

/** 4 decimals, or three digits as Python's %.3g writes them when that would show little. */
function formatValue(value) {
  if (Number.isNaN(value)) return "no value";
  const size = Math.abs(value);
  if (value === 0 || size >= 1e-3) return value.toFixed(4);
  if (size >= 1e-4) return String(Number(value.toPrecision(3)));
  const [digits, exponent] = value.toExponential(2).split("e");
  return `${Number(digits)}e-${exponent.slice(1).padStart(2, "0")}`;
}

/** A number at an end of a colour bar, where room is short. */
function formatEnd(value) {
  return String(Number(value.toPrecision(3)));
}

function readTheme(node) {
  const style = getComputedStyle(node);
  const read = (name, fallback) => style.getPropertyValue(name).trim() || fallback;
  return {
    text: read("--st-text-color", "#31333f"),
    background: read("--st-background-color", "#ffffff"),
    secondary: read("--st-secondary-background-color", "#f0f2f6"),
    primary: read("--st-primary-color", "#ff4b4b"),
    font: style.fontFamily || "sans-serif",
  };
}

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

/** Token texts are anyone's: they go in as text, each in a <bdi> so that one cannot reorder its neighbours. */
function fillText(node, parts) {
  node.replaceChildren(...parts.map((part) => (typeof part === "string" ? part : make("bdi", "token", part.token))));
}

/** `5 "word"` as parts for fillText; a label that only repeats the number is left out. */
function indexAndToken(index, label) {
  return label === String(index) ? [`${index}`] : [`${index} "`, { token: label }, '"'];
}

function plainText(parts) {
  return parts.map((part) => (typeof part === "string" ? part : part.token)).join("");
}

/**
 * <details> with a table that exists only while it is open. build() returns {caption, head, rows, words}, the first
 * `words` columns being texts.
 */
function tableUnder(build) {
  const details = make("details");
  details.append(make("summary", "", "Show as a table"));
  const region = make("div", "table");
  region.tabIndex = 0;
  region.setAttribute("role", "region");
  details.append(region);
  let shown = null;
  const refresh = () => {
    if (!details.open) {
      region.replaceChildren();
      shown = null;
      return;
    }
    const { caption, head, rows, words } = build();
    const sign = JSON.stringify([caption, head, rows]);
    if (sign === shown) return;
    shown = sign;
    region.setAttribute("aria-label", caption);
    const table = make("table");
    const cell = (text, column, scope) => {
      const node = make(scope ? "th" : "td");
      node.append(make("bdi", "", text));
      if (column < words) node.className = "word";
      if (scope) node.scope = scope;
      return node;
    };
    const line = (cells) => {
      const row = make("tr");
      row.append(...cells);
      return row;
    };
    const [top, body] = [make("thead"), make("tbody")];
    top.append(line(head.map((text, i) => cell(text, i, "col"))));
    body.append(...rows.map((row) => line(row.map((text, i) => cell(text, i, i === 0 ? "row" : "")))));
    table.append(make("caption", "", caption), top, body);
    region.replaceChildren(table);
  };
  details.addEventListener("toggle", refresh);
  return { details, refresh };
}

/** The palette that goes with the page as it is now: the theme can change without a new run of the script. */
function withPalette(data, root) {
  const probe = make("span");
  probe.style.color = readTheme(root).background;
  root.append(probe);
  const [r, g, b] = getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
  probe.remove();
  return { ...data, palette: data.palettes[inkOn(r, g, b) === "#fff" ? "dark" : "light"] };
}

/**
 * Tells the components of the page with the same link() what is pointed at, as token positions, and lets hear(query,
 * key) know what they tell: each an array, or null for nothing. Never more than this page hears of it.
 */
function pointing(signal, link, hear) {
  const from = Symbol("component"); // each component is a module of its own, so a number would not tell them apart
  let said = "[null,null]";
  window.addEventListener("attnviz:point", ({ detail }) => {
    if (detail.from !== from && detail.link && detail.link === link()) hear(detail.query, detail.key);
  }, { signal });
  const tell = (query, key) => {
    const sign = JSON.stringify([query, key]);
    if (!link() || sign === said) return;
    said = sign;
    window.dispatchEvent(new CustomEvent("attnviz:point", { detail: { link: link(), query, key, from } }));
  };
  signal.addEventListener("abort", () => tell(null, null));
  return tell;
}

/**
 * A value that a person sets here and the script sets there. hear(value) says whether the script's value is to be
 * taken: not if it is the one it gave before, nor if it answers something older than what was sent last.
 */
function negotiated() {
  let told = "";
  let awaited = [];
  return {
    send: (value) => awaited.push(JSON.stringify(value)),
    hear(value) {
      const sign = JSON.stringify(value);
      const fresh = sign !== told;
      const at = awaited.lastIndexOf(sign);
      told = sign;
      if (at >= 0) awaited = awaited.slice(at + 1);
      else if (fresh) awaited = [];
      return fresh && awaited.length === 0;
    },
  };
}

const instances = new WeakMap();

/**
 * One instance for each host element, whatever the number of calls. Streamlit calls again on each change of data or
 * theme and keeps only the newest cleanup, but also runs the cleanup of a call that was overtaken while it was
 * loading: a cleanup therefore counts only if no later call has been made.
 */
function mount(component, selector, create) {
  const root = component.parentElement.querySelector(selector);
  if (!root || !component.data) return undefined;
  let instance = instances.get(root);
  if (!instance) {
    instance = { calls: 0, stop: new AbortController(), pick: null, send: null, update: null };
    instance.update = create(root, instance);
    instances.set(root, instance);
  }
  const call = ++instance.calls;
  instance.send = (name, value) => component.setTriggerValue(name, value);
  instance.pick = (value) => instance.send("pick", value);
  instance.update(withPalette(component.data, root));
  return () => {
    if (instance.calls !== call) return;
    instance.stop.abort();
    instances.delete(root);
    root.replaceChildren();
  };
}
