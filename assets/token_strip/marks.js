// Marking several tokens. `strip` is token_strip.js's: {data, weights, chip(i)}.

const HOLD_MS = 500; // a finger that stays this long marks
const STILL_PX = 8;

function marking(strip, { flow, line, live, instance, indexOf }) {
  const { signal } = instance.stop;
  const asked = negotiated();
  const words = make("span", "");
  const clear = make("button", "tool clear", "×");
  clear.type = "button";
  clear.title = "Clear the marks";
  clear.setAttribute("aria-label", clear.title);
  clear.addEventListener("click", () => set([]), { signal });
  line.replaceChildren(words, clear);
  let marked = new Set();
  let shown = new Set();
  let anchor = null; // where a range begins: the token marked last
  let drag = null;
  let hold = 0;
  let handled = false; // the click that follows was already dealt with

  const ascending = () => [...marked].sort((a, b) => a - b);
  const between = (a, b) => Array.from({ length: Math.abs(a - b) + 1 }, (_, i) => Math.min(a, b) + i);

  function show() {
    for (const i of shown) if (!marked.has(i)) strip.chip(i)?.classList.remove("marked");
    for (const i of marked) strip.chip(i)?.classList.add("marked");
    shown = new Set(marked);
    flow.classList.toggle("markable", strip.data.marks);
    line.hidden = marked.size === 0;
    clear.hidden = !strip.data.marks;
    words.textContent = sentence();
  }

  function sentence() {
    const { data, weights } = strip;
    const count = `${marked.size} ${marked.size === 1 ? "token" : "tokens"} marked`;
    if (!data.value_name) return count;
    const told = data.mark_value !== null && JSON.stringify(ascending()) === JSON.stringify(data.marked);
    const sum = ascending().reduce((total, i) => total + (weights[i] || 0), 0); // what cannot be seen weighs nothing
    return `${count}: ${data.value_name} ${formatValue(told ? data.mark_value : sum)} in all`;
  }

  function set(indices) {
    marked = new Set(indices);
    const sent = ascending();
    asked.send(sent);
    instance.send("mark", { indices: sent });
    show();
  }

  function toggle(index) {
    anchor = index;
    set(marked.has(index) ? [...marked].filter((i) => i !== index) : [...marked, index]);
  }

  const enabled = () => strip.data?.marks;
  flow.addEventListener("pointerdown", (event) => {
    handled = false;
    const index = enabled() ? indexOf(event) : null;
    if (index === null) return;
    if (event.pointerType === "touch") {
      hold = setTimeout(() => { handled = true; toggle(index); }, HOLD_MS);
      drag = { x: event.clientX, y: event.clientY, touch: true };
    } else if (event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      drag = { start: index, before: new Set(marked), touch: false };
    }
  }, { signal });
  flow.addEventListener("pointerover", (event) => {
    const index = drag && !drag.touch ? indexOf(event) : null;
    if (index === null || (index === drag.start && !handled)) return;
    handled = true;
    marked = new Set([...drag.before, ...between(drag.start, index)]);
    show();
  }, { signal });
  flow.addEventListener("pointermove", (event) => {
    if (drag?.touch && Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > STILL_PX) clearTimeout(hold);
  }, { signal });
  for (const end of ["pointerup", "pointercancel"]) {
    window.addEventListener(end, () => {
      clearTimeout(hold);
      if (drag && !drag.touch && handled) set(marked);
      drag = null;
    }, { signal });
  }
  flow.addEventListener("contextmenu", (event) => {
    if (enabled() && drag?.touch) event.preventDefault(); // what a long touch would bring up
  }, { signal });
  signal.addEventListener("abort", () => clearTimeout(hold));

  return {
    has: (index) => marked.has(index),
    /** Whether a click marked, or ended something that did. */
    click(event, index) {
      if (!enabled()) return false;
      if (handled) return true;
      if (event.shiftKey) set([...marked, ...between(anchor ?? strip.data.selected ?? index, index)]);
      else if (event.ctrlKey || event.metaKey) toggle(index);
      else return false;
      return true;
    },
    key(event, cursor) {
      if (!enabled()) return false;
      if (event.key === "Enter" && event.shiftKey) toggle(cursor);
      else if (event.key === "Escape" && marked.size) set([]);
      else return false;
      live.textContent = marked.size ? words.textContent : "no token is marked";
      return true;
    },
    hear(fresh) {
      if (fresh) shown = new Set();
      if (fresh) anchor = null;
      if (asked.hear(strip.data.marked) || fresh) marked = new Set(strip.data.marked);
      show();
    },
  };
}
