export default function (component) {
  return mount(component, ".attnviz-tokens", createStrip);
}

function createStrip(root, instance) {
  const { signal } = instance.stop;
  const flow = make("div", "flow");
  const readout = make("p", "readout");
  const legend = make("div", "legend");
  const line = make("p", "marks");
  const hint = make("p", "hidden");
  const live = make("p", "hidden");
  hint.id = "hint";
  live.setAttribute("aria-live", "polite");
  readout.setAttribute("aria-hidden", "true"); // the live region says the same, for the keyboard only
  flow.tabIndex = 0;
  flow.setAttribute("role", "listbox");
  flow.setAttribute("aria-describedby", "hint");
  const table = tableUnder(buildTable);
  root.replaceChildren(flow, readout, line, legend, hint, live, table.details);
  root.dataset.testid = "token-strip";

  let data = null;
  let weights = new Float32Array(0);
  let chips = [];
  let cursor = 0;
  let hover = null;
  let pointed = []; // chips that other components say are pointed at

  const strip = {
    get data() { return data; },
    get weights() { return weights; },
    chip: (i) => chips[i],
  };
  const marks = marking(strip, { flow, line, live, instance, indexOf });
  const tell = pointing(signal, () => data?.link ?? "", (query, key) => {
    for (const chip of pointed) chip.classList.remove("at-query", "at-key");
    const [asQuery, asKey] = [data.picks === "key" ? [] : query ?? [], data.value_name ? key ?? [] : []];
    for (const i of asQuery) chips[i]?.classList.add("at-query");
    for (const i of asKey) chips[i]?.classList.add("at-key");
    pointed = [...asQuery, ...asKey].map((i) => chips[i]).filter(Boolean);
  });
  // A strip without weights holds queries; the tokens of any other are read as keys.
  const tellChip = (i) => tell(i !== null && !data.value_name ? [i] : null, i !== null && data.value_name ? [i] : null);

  function update(next) {
    const before = data;
    data = next;
    weights = decodeFloats(next.weights);
    root.dataset.key = next.key;
    flow.setAttribute("aria-label", next.label);
    const text = (d) => JSON.stringify([d?.labels, d?.kinds, d?.breaks, d?.starts_word]);
    const fresh = text(before) !== text(next);
    if (fresh) build();
    if (fresh || before?.selected !== next.selected) cursor = next.selected ?? Math.min(cursor, chips.length - 1);
    tint();
    mark(before && !fresh ? before : null);
    marks.hear(fresh);
    hint.textContent = "Arrow keys move between tokens, Home and End go to the first and the last, Enter picks the token."
      + (data.marks ? " Shift and Enter marks it, Escape clears the marks." : "");
    if (fresh && next.selected !== null) reveal(chips[next.selected]);
    showLegend();
    showReadout();
    table.refresh();
  }

  function build() {
    hover = null;
    cursor = 0;
    pointed = [];
    const nodes = [];
    chips = data.labels.map((label, i) => {
      const chip = make("span", "chip");
      chip.id = `token-${i}`;
      chip.dataset.index = String(i);
      chip.setAttribute("role", "option");
      chip.setAttribute("aria-selected", "false");
      if (data.kinds[i]) chip.classList.add(data.kinds[i]);
      const text = make("bdi", "", label);
      text.dir = "auto";
      chip.append(text);
      const last = i + 1 === data.labels.length;
      const pill = (j) => data.kinds[j] === "special"; // a pill stands alone, even inside a word
      const free = (j) => j === 0 || data.starts_word[j] || data.breaks[j - 1] || pill(j) || pill(j - 1);
      if (!free(i)) chip.classList.add("glued");
      if (last || free(i + 1)) chip.classList.add("apart");
      nodes.push(chip);
      if (data.breaks[i] && !last) {
        const end = make("span", "line-end");
        end.setAttribute("role", "presentation");
        nodes.push(end);
      }
      return chip;
    });
    // dir="auto" passes over <bdi>, so the flow's own direction is settled here, by the script most letters are in.
    const letters = data.labels.join("");
    const count = (pattern) => (letters.match(pattern) ?? []).length;
    const rightToLeft = count(/[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}]/gu);
    flow.dir = rightToLeft * 2 > count(/\p{L}/gu) ? "rtl" : "ltr";
    flow.replaceChildren(...nodes);
    flow.scrollTop = 0;
  }

  function tint() {
    const colours = swatches(data.palette);
    const swatch = swatchScale(0, data.high, data.scale);
    chips.forEach((chip, i) => {
      const unseen = Number.isNaN(weights[i]);
      chip.classList.toggle("unseen", unseen);
      const from = unseen ? 0 : swatch(weights[i]) * 3;
      const rgb = colours.subarray(from, from + 3);
      chip.style.backgroundColor = unseen ? "" : `rgb(${rgb.join(" ")})`;
      chip.style.color = unseen ? "" : inkOn(...rgb);
    });
  }

  function mark(before) {
    for (const i of before ? [before.selected, before.target] : []) {
      chips[i]?.classList.remove("query", "key");
      chips[i]?.setAttribute("aria-selected", "false");
    }
    chips[data.target]?.classList.add("key");
    chips[data.selected]?.classList.add("query");
    chips[data.selected]?.setAttribute("data-role", data.selected_word);
    chips[data.selected]?.setAttribute("aria-selected", "true");
    setCursor(cursor);
  }

  function setCursor(index) {
    chips[cursor]?.classList.remove("cursor");
    cursor = index;
    chips[cursor]?.classList.add("cursor");
    if (chips[cursor]) flow.setAttribute("aria-activedescendant", chips[cursor].id);
    else flow.removeAttribute("aria-activedescendant");
  }

  /** Scrolls the strip only: scrollIntoView would move the page too. */
  function reveal(chip) {
    const [view, at] = [flow.getBoundingClientRect(), chip.getBoundingClientRect()];
    if (at.top < view.top + 12) flow.scrollTop -= view.top + 12 - at.top;
    else if (at.bottom > view.bottom - 10) flow.scrollTop += at.bottom - view.bottom + 10;
  }

  function showLegend() {
    const item = (className, words) => {
      const node = make("span", "item");
      node.append(make("span", `sample ${className}`), make("span", "", words));
      return node;
    };
    const items = [];
    if (data.value_name) {
      const scale = make("span", "item");
      const start = data.scale === "log" ? colourScale(0, data.high, "log").from : 0;
      const words = { linear: "linear", sqrt: "square root", log: "logarithmic" }[data.scale];
      const bar = colourBar(data.palette, start, data.high, undefined, scaleMarks(0, data.high, data.scale));
      scale.append(make("span", "name", data.value_name), bar, make("span", "", words));
      items.push(scale);
    }
    if (data.selected !== null) items.push(item("query", data.selected_word));
    if (data.target !== null) items.push(item("key", "key"));
    if (weights.some(Number.isNaN)) items.push(make("span", "item dimmed", data.unseen_word));
    if (data.marks) items.push(item("marked", "marked: drag or Ctrl-click"));
    if (data.kinds.includes("special")) items.push(make("span", "item", "◇ special"));
    if (data.kinds.includes("template")) items.push(make("span", "item dotted", "dotted: template"));
    legend.replaceChildren(...items);
  }

  const weight = (i) => (Number.isNaN(weights[i]) ? "cannot be seen" : formatValue(weights[i]));
  const describe = (i, between) => [
    ...indexAndToken(i, data.labels[i]),
    data.value_name ? `${between}${Number.isNaN(weights[i]) ? "" : `${data.value_name} `}${weight(i)}` : "",
    data.kinds[i] ? `${between}${data.kinds[i]} token` : "",
  ];

  const roles = (i) => (i === data.selected ? `, ${data.selected_word}` : "") + (i === data.target ? ", key" : "") + (marks.has(i) ? ", marked" : "");
  const keyboardHere = () => flow.matches(":focus-visible");
  function showReadout() {
    const i = hover ?? (keyboardHere() ? cursor : data.target ?? data.selected);
    readout.classList.toggle("idle", chips[i] === undefined);
    const idle = `Point at a token to read it; click to make it the ${data.picks === "key" ? "key" : data.selected_word}.`;
    fillText(readout, chips[i] ? [...(hover === null && i === data.target ? ["key "] : []), ...describe(i, " · ")] : [idle]);
  }

  function buildTable() {
    return {
      caption: data.value_name ? `${data.value_name} of each token, in the order of the text` : "The tokens in order",
      words: 2,
      head: ["position", "token", ...(data.value_name ? [data.value_name] : [])],
      rows: data.labels.map((label, i) => [String(i), label, ...(data.value_name ? [weight(i)] : [])]),
    };
  }

  /** The chip in the next line up or down that lies nearest above or below. */
  function lineMove(step) {
    const middle = (i) => chips[i].offsetTop + chips[i].offsetHeight / 2;
    const centre = (i) => chips[i].offsetLeft + chips[i].offsetWidth / 2;
    const apart = chips[cursor].offsetHeight / 2;
    const sameLine = (a, b) => Math.abs(middle(a) - middle(b)) < apart;
    let i = cursor;
    while (chips[i] && sameLine(i, cursor)) i += step;
    if (!chips[i]) return cursor;
    let best = i;
    for (let j = i; chips[j] && sameLine(j, i); j += step) {
      if (Math.abs(centre(j) - centre(cursor)) < Math.abs(centre(best) - centre(cursor))) best = j;
    }
    return best;
  }

  function indexOf(event) {
    const chip = event.target.closest(".chip");
    return chip ? Number(chip.dataset.index) : null;
  }
  function pick(index) {
    setCursor(index);
    instance.pick({ index });
  }

  flow.addEventListener("pointerover", (event) => {
    hover = indexOf(event);
    tellChip(hover);
    showReadout();
  }, { signal });
  flow.addEventListener("pointerleave", () => {
    hover = null;
    tellChip(null);
    showReadout();
  }, { signal });
  flow.addEventListener("click", (event) => {
    const index = indexOf(event);
    if (index !== null && !marks.click(event, index)) pick(index);
  }, { signal });
  flow.addEventListener("focus", showReadout, { signal });
  flow.addEventListener("blur", () => { tellChip(null); showReadout(); }, { signal });
  flow.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey || event.ctrlKey || !chips.length) return;
    if (marks.key(event, cursor)) return void event.preventDefault();
    const forward = flow.dir === "rtl" ? "ArrowLeft" : "ArrowRight";
    let to = cursor;
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") to += event.key === forward ? 1 : -1;
    else if (event.key === "ArrowUp") to = lineMove(-1);
    else if (event.key === "ArrowDown") to = lineMove(1);
    else if (event.key === "Home") to = 0;
    else if (event.key === "End") to = chips.length - 1;
    else if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    if (event.key === "Enter" || event.key === " ") return void pick(cursor);
    setCursor(Math.min(chips.length - 1, Math.max(0, to)));
    hover = null;
    reveal(chips[cursor]);
    tellChip(cursor);
    live.textContent = plainText(describe(cursor, ", ")) + roles(cursor);
    showReadout();
  }, { signal });
  return update;
}
