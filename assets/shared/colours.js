// Colours of values: palettes, scales, images and the legend's bar. See canvas.js for how these scripts are put together.

const SWATCHES = 256;
const LOG_FROM = 1e-4; // where a logarithmic scale starts unless its low end is above zero

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

/**
 * How far along the colours a value lies, and back: {share(value) in [0, 1], value(share), from}. Scales that reach
 * below zero are signed: the root or the logarithm of the size. What is smaller than `from` has no logarithm to show.
 */
function colourScale(low, high, scale) {
  const signed = low < 0;
  const reach = Math.max(Math.abs(low), Math.abs(high)) || 1;
  const from = low > 0 ? low : reach > LOG_FROM ? LOG_FROM : reach / 1e4;
  const [bend, unbend] = {
    linear: [(v) => v, (u) => u],
    sqrt: signed
      ? [(v) => Math.sign(v) * Math.sqrt(Math.abs(v)), (u) => Math.sign(u) * u * u]
      : [(v) => Math.sqrt(Math.max(0, v - low)), (u) => u * u + low],
    log: signed
      ? [(v) => Math.sign(v) * Math.log(Math.max(1, Math.abs(v) / from)), (u) => Math.sign(u) * from * Math.exp(Math.abs(u))]
      : [(v) => Math.log(Math.max(1, v / from)), (u) => from * Math.exp(u)],
  }[scale];
  const [start, end] = [bend(low), bend(high)];
  const span = end > start ? end - start : 1;
  return {
    from,
    share: (value) => Math.min(1, Math.max(0, (bend(value) - start) / span)),
    value: (share) => unbend(start + share * span),
  };
}

/** value -> swatch number, clamped at both ends. */
function swatchScale(low, high, scale) {
  const { share } = colourScale(low, high, scale);
  return (value) => Math.round(share(value) * (SWATCHES - 1));
}

/** What a legend says of the scale, "" of a linear one. */
function scaleWords(low, high, scale) {
  const from = () => formatEnd(colourScale(low, high, scale).from);
  const start = () => (low < 0 ? `signed, from ±${from()}` : `from ${from()}`);
  return { linear: "", sqrt: "square-root colour scale", log: `logarithmic colour scale, ${start()}` }[scale];
}

/** Shares of a logarithmic bar at which a power of ten lies. */
function scaleMarks(low, high, scale) {
  if (scale !== "log") return [];
  const { from, share } = colourScale(low, high, scale);
  const marks = [];
  for (let power = Math.ceil(Math.log10(from)); power <= Math.log10(Math.max(high, -low)); power++) {
    for (const value of low < 0 ? [-(10 ** power), 10 ** power] : [10 ** power]) marks.push(share(value));
  }
  return marks.filter((at) => at > 0.01 && at < 0.99);
}

/**
 * One pixel a cell, or the largest of the cells that share a pixel: thin lines must survive the shrinking.
 * `part` [row0, row1, col0, col1] is what of `values` [rows, cols] is drawn, all of it by default.
 */
function pooledImage(values, { rows, cols, palette, low, high, scale }, width, height, part = [0, rows, 0, cols]) {
  const strength = low < 0 ? Math.abs : (v) => v;
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const colours = swatches(palette);
  const packed = Uint32Array.from({ length: SWATCHES }, (_, i) => (
    (255 << 24) | (colours[i * 3 + 2] << 16) | (colours[i * 3 + 1] << 8) | colours[i * 3]));
  const swatch = swatchScale(low, high, scale);
  const kept = new Float32Array(width);
  const [down, across] = [part[1] - part[0], part[3] - part[2]];
  for (let y = 0; y < height; y++) {
    kept.fill(NaN);
    const stop = part[0] + Math.floor(((y + 1) * down) / height);
    for (let row = part[0] + Math.floor((y * down) / height); row < stop; row++) {
      for (let x = 0, col = part[2]; x < width; x++) {
        for (const end = part[2] + Math.floor(((x + 1) * across) / width); col < end; col++) {
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

/** Black or white, whichever reads better on the colour; the better one is never under 4.5:1. */
function inkOn(r, g, b) {
  const linear = (c) => (c <= 10.31475 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const y = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  return y > 0.179 ? "#000" : "#fff";
}

/** A colour bar: low end, gradient, high end; `marks` are shares of its length at which a tick stands. */
function colourBar(palette, low, high, middle, marks = []) {
  const bar = make("span", "bar");
  const strip = make("span", "gradient");
  strip.style.background = `linear-gradient(to right, ${palette.join(", ")})`;
  for (const at of marks) {
    const tick = make("i", "tick");
    tick.style.left = `${at * 100}%`;
    strip.append(tick);
  }
  const ends = make("span", "ends");
  ends.append(...[low, ...(middle === undefined ? [] : [middle]), high].map((v) => make("span", "", formatEnd(v))));
  bar.append(strip, ends);
  return bar;
}
