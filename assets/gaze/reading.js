export default function (component) {
  return mount(component, ".attnviz-reading", createReading);
}

const SPEEDS = [0.25, 0.5, 1, 2, 4];
const LIFT = 7; // pixels that an arrow rises above its words, and more over a wide gap
const ICONS = {
  back: "M10 3 5 8 10 13",
  play: "M5 3 13 8 5 13Z",
  pause: "M5 3V13M11 3V13",
  on: "M6 3 11 8 6 13",
  whole: "M4 4H12V12H4Z",
};

/** Words that light up in their order, each for as long as it was read. */
function createReading(root, instance) {
  const { signal } = instance.stop;
  const tool = (icon, words) => {
    const node = make("button", "tool icon");
    node.type = "button";
    draw(node, icon, words);
    return node;
  };
  const [back, play, on, whole] = [
    tool("back", "Previous word"), tool("play", "Play"), tool("on", "Next word"), tool("whole", "Stop, and show the whole reading"),
  ];
  const speed = make("select", "speed");
  speed.setAttribute("aria-label", "Speed");
  speed.append(...SPEEDS.map((times) => {
    const option = make("option", "", `${times}×`);
    option.value = String(times);
    option.selected = times === 1;
    return option;
  }));
  const now = make("div", "now");
  now.setAttribute("aria-hidden", "true"); // the slider's text says the same
  const range = make("input", "range");
  range.type = "range";
  range.min = "0";
  range.step = "1";
  const bar = make("div", "bar-of-tools");
  bar.append(back, play, on, whole, speed, now);
  const flow = make("div", "flow");
  const legend = make("div", "legend");
  const table = tableUnder(buildTable);
  root.replaceChildren(bar, range, flow, legend, table.details);
  root.dataset.testid = "reading";

  let data = null;
  let chips = [];
  let moves = []; // [group, row it leads to]
  let svg = svgNode("svg", { class: "moves", "aria-hidden": "true" });
  let times = new Float32Array(0); // as they came, NaN where not recorded
  let starts = [];
  let total = 0;
  let counted = 0; // milliseconds on counted words
  let at = null; // the row that is read; null: the whole reading is shown
  let clock = 0; // milliseconds into the reading
  let playing = false;
  let frame = 0;
  let before = 0;

  const lasts = (i) => (Number.isNaN(times[i]) ? 0 : times[i]);
  const read = (i) => lasts(i) > 0;
  const share = (i) => (data.counted[i] && counted > 0 && !Number.isNaN(times[i]) ? times[i] / counted : NaN);
  const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
  const tell = pointing(signal, () => data?.link ?? "", (query, key) => {
    chips.forEach((chip, i) => chip.classList.toggle("at-key", (key ?? []).includes(i)));
  });

  function update(next) {
    const sign = (d) => JSON.stringify([d?.labels, d?.durations, d?.counted, d?.spaced]);
    const fresh = sign(data) !== sign(next);
    data = next;
    root.dataset.key = next.key;
    range.setAttribute("aria-label", next.label);
    if (fresh) build();
    show();
    showLegend();
    table.refresh();
  }

  function build() {
    halt();
    times = decodeFloats(data.durations);
    starts = [];
    total = counted = 0;
    data.labels.forEach((_, i) => {
      starts.push(total);
      total += lasts(i);
      if (data.counted[i]) counted += lasts(i);
    });
    [at, clock] = [null, 0];
    range.max = String(Math.round(total));
    chips = data.labels.map((label, i) => {
      const chip = make("span", "chip");
      chip.dataset.index = String(i);
      if (i && data.spaced[i]) chip.classList.add("apart");
      if (!data.counted[i]) chip.classList.add("uncounted");
      else if (Number.isNaN(times[i])) chip.classList.add("lost");
      else if (!read(i)) chip.classList.add("skipped");
      const text = make("bdi", "", label);
      text.dir = "auto";
      chip.append(text);
      return chip;
    });
    svg = svgNode("svg", { class: "moves", "aria-hidden": "true" });
    flow.replaceChildren(...chips, svg);
    flow.scrollTop = 0;
    arrange();
  }

  /** An arrow from each word that was looked at to the next one, over those that were skipped. */
  function arrange() {
    const rows = chips.map((_, i) => i).filter((i) => data.counted[i] && read(i));
    const box = (i) => {
      const chip = chips[i];
      return { x: chip.offsetLeft + chip.offsetWidth / 2, y: chip.offsetTop - 1, half: chip.offsetHeight / 2 };
    };
    [svg.style.width, svg.style.height] = ["1px", "1px"];
    moves = rows.slice(1).map((to, n) => {
      const [a, b] = [box(rows[n]), box(to)];
      const group = svgNode("g", {});
      const way = (d) => group.append(svgNode("path", { d }));
      const tip = (x, y, right) => {
        const back = right ? -5 : 5;
        group.append(svgNode("path", { class: "head", d: `M${x} ${y}l${back} -4l${-back / 5} 5z` }));
      };
      if (Math.abs(a.y - b.y) < a.half) {
        const right = b.x > a.x;
        const [from, to_] = right ? [a.x + 3, b.x - 3] : [a.x - 3, b.x + 3];
        const top = a.y - LIFT - Math.min(8, Math.abs(b.x - a.x) / 30);
        way(`M${from} ${a.y}C${from} ${top} ${to_} ${top} ${to_} ${b.y}`);
        tip(to_, b.y, right);
      } else { // out of the line's end, and in at the beginning of another
        const right = getComputedStyle(flow).direction !== "rtl";
        const out = right ? 12 : -12;
        way(`M${a.x} ${a.y}q0 ${-LIFT} ${out} ${-LIFT}`);
        way(`M${b.x - out} ${b.y - LIFT}q${out} 0 ${out} ${LIFT}`);
        tip(b.x, b.y, right);
      }
      return [group, to];
    });
    svg.replaceChildren(...moves.map(([group]) => group));
    showMoves();
  }

  function showMoves() {
    moves.forEach(([group, to]) => {
      group.style.display = at === null || to <= at ? "" : "none";
      group.classList.toggle("last", at === to);
    });
  }

  function show() {
    const colours = swatches(data.palette);
    const shares = data.labels.map((_, i) => share(i));
    const most = shares.reduce((high, one) => (one > high ? one : high), 0) || 1;
    const swatch = swatchScale(0, most, "linear");
    chips.forEach((chip, i) => {
      const lit = !Number.isNaN(shares[i]) && (at === null || i <= at);
      const rgb = colours.subarray(swatch(shares[i]) * 3, swatch(shares[i]) * 3 + 3);
      chip.style.backgroundColor = lit ? `rgb(${rgb.join(" ")})` : "";
      chip.style.color = lit ? inkOn(...rgb) : "";
      chip.classList.toggle("current", at === i);
    });
    showMoves();
    range.value = String(Math.round(clock));
    fillText(now, words());
    range.setAttribute("aria-valuetext", plainText(words()));
    root.dataset.at = at === null ? "" : String(at);
    play.disabled = total === 0;
    whole.disabled = at === null;
  }

  const how = (i) => {
    if (!data.counted[i]) return "punctuation, not counted";
    if (Number.isNaN(times[i])) return "not recorded";
    return read(i) ? `${Math.round(times[i])} ms · ${(share(i) * 100).toFixed(1)}%` : "skipped";
  };
  function words() {
    const n = data.counted.filter(Boolean).length;
    const skipped = data.labels.filter((_, i) => data.counted[i] && times[i] === 0).length;
    if (at === null) return [`${n} words in ${seconds(counted)}, ${skipped} of them skipped`];
    return [{ token: data.labels[at] }, ` · ${how(at)} · ${(clock / 1000).toFixed(1)} of ${seconds(total)}`];
  }

  /** Stands at a row; playing goes on from its beginning. */
  function go(row) {
    at = row;
    clock = row === null ? 0 : starts[row];
    tell(null, row === null ? null : [row]);
    show();
    if (row !== null) reveal(chips[row]);
  }

  /** Scrolls the words only: scrollIntoView would move the page too. */
  function reveal(chip) {
    const [view, place] = [flow.getBoundingClientRect(), chip.getBoundingClientRect()];
    if (place.top < view.top + 16) flow.scrollTop -= view.top + 16 - place.top;
    else if (place.bottom > view.bottom - 8) flow.scrollTop += place.bottom - view.bottom + 8;
  }

  function tick(stamp) {
    clock += (stamp - before) * Number(speed.value);
    before = stamp;
    if (clock >= total) {
      halt();
      return void go(null);
    }
    let row = at ?? 0;
    while (row + 1 < starts.length && starts[row] + lasts(row) <= clock) row++;
    if (row === at) show();
    else {
      const gone = clock;
      go(row);
      clock = gone;
    }
    frame = requestAnimationFrame(tick);
  }

  function start() {
    playing = true;
    draw(play, "pause", "Pause");
    root.dataset.playing = "true";
    if (at === null) clock = 0;
    before = performance.now();
    frame = requestAnimationFrame(tick);
  }

  function halt() {
    playing = false;
    cancelAnimationFrame(frame);
    draw(play, "play", "Play");
    root.dataset.playing = "false";
  }

  const byHand = (row) => {
    halt();
    go(row === null ? null : Math.min(data.labels.length - 1, Math.max(0, row)));
  };
  const rowAt = (ms) => starts.findLastIndex((from, i) => from <= ms && (read(i) || i === 0));

  function showLegend() {
    const shares = data.labels.map((_, i) => share(i)).filter((one) => !Number.isNaN(one));
    const items = [make("span", "name", "share of the time"), colourBar(data.palette, 0, Math.max(...shares, 0) || 1)];
    const has = (kinds) => chips.some((chip) => chip.matches(kinds));
    if (has(".skipped")) items.push(make("span", "dotted", "dotted: skipped"));
    if (has(".lost, .uncounted")) items.push(make("span", "", "faded: punctuation, or not recorded"));
    legend.replaceChildren(...items);
  }

  function buildTable() {
    return {
      caption: "Each row of the reading, in the order of the text",
      words: 2,
      head: ["row", "word", "time, and its share"],
      rows: data.labels.map((label, i) => [String(i), label, how(i)]),
    };
  }

  const listen = (node, name, listener) => node.addEventListener(name, listener, { signal });
  listen(back, "click", () => byHand(at === null ? data.labels.length - 1 : at - 1));
  listen(on, "click", () => byHand(at === null ? 0 : at + 1));
  listen(play, "click", () => (playing ? halt() : start()));
  listen(whole, "click", () => byHand(null));
  listen(range, "input", () => byHand(rowAt(Number(range.value))));
  listen(flow, "click", (event) => {
    const chip = event.target.closest(".chip");
    if (chip) byHand(Number(chip.dataset.index));
  });
  listen(root, "keydown", (event) => {
    if (event.altKey || event.metaKey || event.ctrlKey || event.target === speed) return;
    const steps = { ArrowLeft: (at ?? data.labels.length) - 1, ArrowRight: at === null ? 0 : at + 1, Home: 0, Escape: null };
    if (event.key === " " && event.target === range) (playing ? halt() : start());
    else if (event.key in steps) byHand(steps[event.key]);
    else return;
    event.preventDefault();
  });
  const sizes = new ResizeObserver(() => data && arrange());
  sizes.observe(flow);
  listen(document.fonts, "loadingdone", () => data && arrange());
  signal.addEventListener("abort", () => {
    sizes.disconnect();
    cancelAnimationFrame(frame);
  });
  return update;
}

function draw(button, icon, words) {
  const picture = svgNode("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" });
  picture.append(svgNode("path", { d: ICONS[icon] }));
  button.replaceChildren(picture);
  button.setAttribute("aria-label", words);
  button.title = words;
}
