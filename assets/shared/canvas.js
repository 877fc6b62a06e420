// Helpers of the components. attnviz/ui/components.py puts this text in front of each component's own script and
// the two become one module, so nothing here is exported.

const SWATCHES = 256;

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

function hexToRgb(hex) {
  const n = parseInt(hex.slice(1), 16);
  return [(n >> 16) & 255, (n >> 8) & 255, n & 255];
}

/** SWATCHES colours between the palette's stops, low to high: [r, g, b] triples in one flat array. */
function swatches(palette) {
  const stops = palette.map(hexToRgb);
  const out = new Uint8Array(SWATCHES * 3);
  for (let i = 0; i < SWATCHES; i++) {
    const at = (i / (SWATCHES - 1)) * (stops.length - 1);
    const from = stops[Math.floor(at)];
    const to = stops[Math.min(Math.floor(at) + 1, stops.length - 1)];
    for (let k = 0; k < 3; k++) out[i * 3 + k] = Math.round(from[k] + (to[k] - from[k]) * (at % 1));
  }
  return out;
}

/** value -> swatch number, clamped at both ends. */
function swatchScale(low, high, squareRoot) {
  const span = high > low ? high - low : 1;
  return (value) => {
    const t = Math.min(1, Math.max(0, (value - low) / span));
    return Math.round((squareRoot ? Math.sqrt(t) : t) * (SWATCHES - 1));
  };
}

/** One pixel a cell, or the largest of the cells that share a pixel: thin lines must survive the shrinking. */
function pooledImage(values, { rows, cols, palette, low, high, scale }, width, height) {
  const strength = low < 0 ? Math.abs : (v) => v;
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const colours = swatches(palette);
  const packed = Uint32Array.from({ length: SWATCHES }, (_, i) => (
    (255 << 24) | (colours[i * 3 + 2] << 16) | (colours[i * 3 + 1] << 8) | colours[i * 3]));
  const swatch = swatchScale(low, high, scale === "sqrt");
  const kept = new Float32Array(width);
  for (let y = 0; y < height; y++) {
    kept.fill(NaN);
    const stop = Math.floor(((y + 1) * rows) / height);
    for (let row = Math.floor((y * rows) / height); row < stop; row++) {
      for (let x = 0, col = 0; x < width; x++) {
        for (const end = Math.floor(((x + 1) * cols) / width); col < end; col++) {
          const value = values[row * cols + col];
          if (Number.isNaN(kept[x]) || strength(value) > strength(kept[x])) kept[x] = value;
        }
      }
    }
    for (let x = 0; x < width; x++) {
      // What has no value stays transparent, and the hatching shows.
      if (!Number.isNaN(kept[x])) pixels[y * width + x] = packed[swatch(kept[x])];
    }
  }
  return image;
}

/** [index, strong] of the labels with room: marked ones first, then an even thinning that keeps clear of them. */
function labelsWithRoom(count, size, step, marked) {
  const clear = (i, others) => others.every(([other]) => Math.abs(other - i) * size >= step);
  const strong = [];
  for (const i of marked) if (clear(i, strong)) strong.push([i, true]);
  const every = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((n) => n * size >= step) ?? Math.ceil(step / size);
  const chosen = [...strong];
  for (let i = 0; i < count; i += every) if (clear(i, strong)) chosen.push([i, false]);
  return chosen;
}

const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" });

function shorten(ctx, text, room) {
  if (ctx.measureText(text).width <= room) return text;
  const parts = Array.from(graphemes.segment(text.slice(0, 200)), (part) => part.segment);
  while (parts.length && ctx.measureText(`${parts.join("")}…`).width > room) parts.pop();
  return `${parts.join("")}…`;
}

/** Black or white, whichever reads better on the colour; the better one is never under 4.5:1. */
function inkOn(r, g, b) {
  const linear = (c) => (c <= 10.31475 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const y = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  return y > 0.179 ? "#000" : "#fff";
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

/** A colour bar: low end, gradient, high end. */
function colourBar(palette, low, high, middle) {
  const bar = make("span", "bar");
  const strip = make("span", "gradient");
  strip.style.background = `linear-gradient(to right, ${palette.join(", ")})`;
  const ends = make("span", "ends");
  ends.append(...[low, ...(middle === undefined ? [] : [middle]), high].map((v) => make("span", "", formatEnd(v))));
  bar.append(strip, ends);
  return bar;
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
    instance = { calls: 0, stop: new AbortController(), pick: null, update: null };
    instance.update = create(root, instance);
    instances.set(root, instance);
  }
  const call = ++instance.calls;
  instance.pick = (value) => component.setTriggerValue("pick", value);
  instance.update(withPalette(component.data, root));
  return () => {
    if (instance.calls !== call) return;
    instance.stop.abort();
    instances.delete(root);
    root.replaceChildren();
  };
}
