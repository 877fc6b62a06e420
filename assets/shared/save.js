// Saving what is drawn. A drawing routine that keeps to what SvgContext knows draws on the screen, into a PNG and into
// an SVG alike. See canvas.js for how these scripts are put together.

const SVG_NS = "http://www.w3.org/2000/svg";
const PNG_SCALE = 2;
const NOT_XML = /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu;

function svgNode(tag, attributes) {
  const node = document.createElementNS(SVG_NS, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

const short = (size) => Number(size.toFixed(3));

/**
 * Records what is drawn on it as the SVG element `svg`, with the names that a canvas' 2D context has: rectangles, text,
 * images, paths of lines and curves, save and restore, translate and rotate, clip, and the pen's properties.
 * Text goes in as text nodes, so it stays text whatever it says.
 */
class SvgContext {
  constructor(width, height) {
    this.svg = svgNode("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
    this.ruler = document.createElement("canvas").getContext("2d");
    this.clips = 0;
    this.path = [];
    this.stack = [];
    this.pen = { // everything that save() keeps
      parent: this.svg, moves: "", dash: "", fillStyle: "#000", strokeStyle: "#000", lineWidth: 1, globalAlpha: 1,
      font: "10px sans-serif", textAlign: "start", textBaseline: "alphabetic", imageSmoothingEnabled: true,
    };
  }

  save() { this.stack.push({ ...this.pen }); }
  restore() { this.pen = this.stack.pop() ?? this.pen; }
  translate(x, y) { this.pen.moves += `translate(${short(x)} ${short(y)}) `; }
  rotate(angle) { this.pen.moves += `rotate(${short((angle * 180) / Math.PI)}) `; }
  setLineDash(lengths) { this.pen.dash = lengths.join(" "); }

  add(tag, attributes, paint) {
    const { pen } = this;
    const node = svgNode(tag, attributes);
    if (pen.moves) node.setAttribute("transform", pen.moves.trim());
    if (pen.globalAlpha < 1) node.setAttribute("opacity", short(pen.globalAlpha));
    node.setAttribute("fill", paint === "fill" ? pen.fillStyle : "none");
    if (paint === "stroke") {
      node.setAttribute("stroke", pen.strokeStyle);
      node.setAttribute("stroke-width", pen.lineWidth);
      if (pen.dash) node.setAttribute("stroke-dasharray", pen.dash);
    }
    pen.parent.append(node);
    return node;
  }

  rectangle(x, y, width, height, paint) {
    const [left, top] = [Math.min(x, x + width), Math.min(y, y + height)];
    const size = { width: short(Math.abs(width)), height: short(Math.abs(height)) };
    this.add("rect", { x: short(left), y: short(top), ...size }, paint);
  }
  fillRect(x, y, width, height) { this.rectangle(x, y, width, height, "fill"); }
  strokeRect(x, y, width, height) { this.rectangle(x, y, width, height, "stroke"); }

  beginPath() { this.path = []; }
  moveTo(x, y) { this.path.push(`M${short(x)} ${short(y)}`); }
  lineTo(x, y) { this.path.push(`L${short(x)} ${short(y)}`); }
  bezierCurveTo(...at) { this.path.push(`C${at.map(short).join(" ")}`); }
  quadraticCurveTo(...at) { this.path.push(`Q${at.map(short).join(" ")}`); }
  closePath() { this.path.push("Z"); }
  rect(x, y, width, height) {
    const [w, h] = [short(width), short(height)];
    this.path.push(`M${short(x)} ${short(y)}h${w}v${h}h${-w}Z`);
  }
  stroke() { this.add("path", { d: this.path.join("") }, "stroke"); }
  fill() { this.add("path", { d: this.path.join("") }, "fill"); }

  clip() {
    const id = `clip-${this.clips++}`;
    const region = svgNode("clipPath", { id });
    const shape = svgNode("path", { d: this.path.join("") });
    if (this.pen.moves) shape.setAttribute("transform", this.pen.moves.trim());
    region.append(shape);
    const group = svgNode("g", { "clip-path": `url(#${id})` });
    this.pen.parent.append(region, group);
    this.pen.parent = group;
  }

  measureText(text) {
    this.ruler.font = this.pen.font;
    return this.ruler.measureText(text);
  }

  fillText(text, x, y) {
    const { fontBoundingBoxAscent: ascent, fontBoundingBoxDescent: descent } = this.measureText(text);
    // Shifted here, since not every program that opens an SVG knows dominant-baseline.
    const drop = { middle: (ascent - descent) / 2, top: ascent, bottom: -descent }[this.pen.textBaseline] ?? 0;
    const anchor = { center: "middle", right: "end", end: "end" }[this.pen.textAlign] ?? "start";
    const node = this.add("text", { x: short(x), y: short(y + drop), "text-anchor": anchor }, "fill");
    node.style.font = this.pen.font;
    node.style.whiteSpace = "pre";
    node.textContent = text.replace(NOT_XML, "\ufffd");
  }

  drawImage(canvas, x, y, width, height) {
    const place = { x: short(x), y: short(y), width: short(width), height: short(height) };
    const node = this.add("image", { ...place, href: canvas.toDataURL("image/png"), preserveAspectRatio: "none" });
    if (!this.pen.imageSmoothingEnabled) node.style.imageRendering = "pixelated";
  }
}

// The pen's properties are set and read on the context itself, as on a canvas.
for (const name of ["fillStyle", "strokeStyle", "lineWidth", "globalAlpha", "font", "textAlign", "textBaseline",
  "imageSmoothingEnabled"]) {
  Object.defineProperty(SvgContext.prototype, name, {
    get() { return this.pen[name]; },
    set(value) { this.pen[name] = value; },
  });
}

function svgContext(width, height) {
  return new SvgContext(width, height);
}

function saveBlob(blob, file) {
  const anchor = make("a");
  anchor.href = URL.createObjectURL(blob);
  anchor.download = file;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 10_000); // the download reads it after the click has returned
}

/** Letters, digits and marks that are safe in a file's name on every system. */
function fileName(name) {
  return name.replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^[-.]+/, "").slice(0, 80) || "attnviz";
}

function saveCanvas(canvas, name) {
  canvas.toBlob((blob) => blob && saveBlob(blob, `${fileName(name)}.png`), "image/png");
}

function saveSvg(svg, name) {
  const text = new XMLSerializer().serializeToString(svg);
  saveBlob(new Blob([text], { type: "image/svg+xml" }), `${fileName(name)}.svg`);
}

/**
 * Two buttons, PNG and SVG. picture() gives {width, height, name, paint(ctx, scale)}, in CSS pixels; paint draws the
 * same on either context, scale being how many device pixels there are to one of them.
 */
function saveButtons(picture, signal) {
  const button = (kind, save) => {
    const node = make("button", "tool", kind);
    node.type = "button";
    node.title = `Save this picture as ${kind}`;
    node.setAttribute("aria-label", node.title);
    node.addEventListener("click", () => save(picture()), { signal });
    return node;
  };
  return [
    button("PNG", ({ width, height, name, paint }) => {
      const canvas = make("canvas");
      [canvas.width, canvas.height] = [width, height].map((size) => Math.ceil(size * PNG_SCALE));
      const ctx = canvas.getContext("2d");
      ctx.scale(PNG_SCALE, PNG_SCALE);
      paint(ctx, PNG_SCALE);
      saveCanvas(canvas, name);
    }),
    button("SVG", ({ width, height, name, paint }) => {
      const ctx = svgContext(width, height);
      paint(ctx, PNG_SCALE);
      saveSvg(ctx.svg, name);
    }),
  ];
}
