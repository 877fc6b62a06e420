export default function (component) {
  return mount(component, ".attnviz-scrubber", createScrubber);
}

const PERIOD_MS = 700; // of a step, at speed 1
const DEBOUNCE_MS = 120;
const STOP_PIXELS = 64;
const THUMB_PIXELS = 16;

function createScrubber(root, instance) {
  const { signal } = instance.stop;
  const button = (name, words) => {
    const node = make("button", "icon");
    node.type = "button";
    node.append(make("span", name));
    node.setAttribute("aria-label", words);
    node.title = words;
    return node;
  };
  const previous = button("previous", "Previous step");
  const play = button("play", "Play");
  const next = button("next", "Next step");
  const speed = make("select", "speed");
  speed.setAttribute("aria-label", "Speed");
  speed.append(...[0.5, 1, 2, 4].map((times) => {
    const option = make("option", "", `${times}×`);
    option.value = String(times);
    option.selected = times === 1;
    return option;
  }));
  const now = make("div", "now");
  const [place, token, detail] = [make("span", "place"), make("bdi", "token"), make("span", "detail")];
  now.append(place, token, detail);
  now.setAttribute("aria-hidden", "true"); // the slider's text says the same
  const range = make("input", "range");
  range.type = "range";
  range.min = "0";
  range.step = "1";
  const stops = make("div", "stops");
  stops.setAttribute("aria-hidden", "true");
  const track = make("div", "track");
  track.append(range, stops);
  const controls = make("div", "controls");
  controls.append(previous, play, next, speed, now);
  root.replaceChildren(controls, track);
  root.dataset.testid = "scrubber";

  let data = null;
  let at = 0;
  let playing = false;
  let moved = 0; // when the step last changed
  let sent = null; // the last step that was told to the script, or heard from it
  let sending = 0;
  let waiting = 0;
  let placed = "";
  const held = negotiated();

  function update(given) {
    const before = data;
    data = given;
    root.dataset.key = given.key;
    range.max = String(given.labels.length - 1);
    range.setAttribute("aria-label", given.label);
    const fresh = JSON.stringify(before?.labels) !== JSON.stringify(given.labels);
    const taken = held.hear(given.step) && !sending; // the hand may be on its way already
    if (fresh) halt();
    if (fresh || taken) {
      clearTimeout(sending);
      sending = 0;
      at = sent = given.step;
    }
    show();
    if (playing) plan();
  }

  function show() {
    const last = data.labels.length - 1;
    range.value = String(at);
    const words = `step ${at} of 0–${last}`;
    place.textContent = words;
    token.textContent = data.labels[at];
    detail.textContent = data.details[at] ?? "";
    range.setAttribute("aria-valuetext", [words, data.labels[at], data.details[at]].filter(Boolean).join(", "));
    previous.disabled = at === 0;
    next.disabled = at === last;
    play.disabled = last === 0;
    root.dataset.step = String(at);
    showStops();
  }

  /** Token texts under the slider, as many as have room; the current one is always among them. */
  function showStops() {
    const count = data.labels.length;
    const width = Math.max(1, track.clientWidth - THUMB_PIXELS);
    const chosen = labelsWithRoom(count, count > 1 ? width / (count - 1) : width, STOP_PIXELS, [at]);
    const sign = JSON.stringify([width, chosen, data.labels]);
    if (sign === placed) return;
    placed = sign;
    stops.replaceChildren(...chosen.map(([i, strong]) => {
      const share = count > 1 ? i / (count - 1) : 0;
      const edge = share * width < STOP_PIXELS / 2 ? " first" : (1 - share) * width < STOP_PIXELS / 2 ? " last" : "";
      const node = make("bdi", `stop${strong ? " strong" : ""}${count > 1 ? edge : " first"}`, data.labels[i]);
      node.dataset.step = String(i);
      node.style.insetInlineStart = `${THUMB_PIXELS / 2 + share * width}px`;
      return node;
    }));
  }

  /** Moves here at once, and tells the script when the hand rests. */
  function go(step, delay = 0) {
    const to = Math.min(data.labels.length - 1, Math.max(0, step));
    if (to === at) return;
    at = to;
    moved = performance.now();
    show();
    clearTimeout(sending);
    sending = setTimeout(() => {
      sending = 0;
      if (at === sent) return;
      sent = at;
      held.send(at);
      instance.send("step", { index: at });
    }, delay);
  }

  const period = () => PERIOD_MS / Number(speed.value);

  /** The next step, a period after the last and not before its picture is there. */
  function plan() {
    clearTimeout(waiting);
    if (!playing || data.step !== at) return;
    waiting = setTimeout(() => {
      if (at >= data.labels.length - 1) return void halt();
      go(at + 1);
      if (at >= data.labels.length - 1) halt();
    }, Math.max(0, moved + period() - performance.now()));
  }

  function start() {
    playing = true;
    mark();
    moved = performance.now();
    if (at >= data.labels.length - 1) go(0);
    plan();
  }

  function halt() {
    playing = false;
    clearTimeout(waiting);
    mark();
  }

  function mark() {
    play.firstChild.className = playing ? "pause" : "play";
    play.setAttribute("aria-label", playing ? "Pause" : "Play");
    play.title = playing ? "Pause" : "Play";
    root.dataset.playing = String(playing);
  }

  const byHand = (step, delay) => {
    halt();
    go(step, delay);
  };
  const on = (node, name, listener) => node.addEventListener(name, listener, { signal });
  on(previous, "click", () => byHand(at - 1, DEBOUNCE_MS));
  on(next, "click", () => byHand(at + 1, DEBOUNCE_MS));
  on(play, "click", () => (playing ? halt() : start()));
  on(speed, "change", plan);
  on(range, "input", () => byHand(Number(range.value), DEBOUNCE_MS));
  on(stops, "click", (event) => {
    const stop = event.target.closest(".stop");
    if (stop) byHand(Number(stop.dataset.step));
  });
  on(root, "keydown", (event) => {
    if (event.altKey || event.metaKey || event.ctrlKey || event.target === speed) return;
    const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: data.labels.length - 1 };
    if (event.key === " " && event.target === range) {
      event.preventDefault();
      return void (playing ? halt() : start());
    }
    if (event.key in moves) {
      event.preventDefault();
      byHand(moves[event.key], DEBOUNCE_MS);
    }
  });
  const sizes = new ResizeObserver(() => data && showStops());
  sizes.observe(track);
  signal.addEventListener("abort", () => {
    sizes.disconnect();
    clearTimeout(sending);
    clearTimeout(waiting);
  });
  mark();
  return update;
}
