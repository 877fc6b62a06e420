// The box that a person draws around cells, and the line that says what is in it.

const DRAG_PX = 4; // a hand is not still when it clicks

function boxing(map, { line, instance }) {
  const { signal } = instance.stop;
  const asked = negotiated();
  const words = make("span", "");
  const remove = make("button", "tool clear", "×");
  remove.type = "button";
  remove.title = "Remove the box";
  remove.setAttribute("aria-label", remove.title);
  remove.addEventListener("click", () => set(null), { signal });
  line.replaceChildren(words, remove);
  let start = null;
  let before = null; // the box that a drag replaces

  function set(box) {
    map.box = box;
    asked.send(box);
    instance.send("box", { box });
    show();
    map.redraw();
  }

  function show() {
    line.hidden = !map.data.boxes && !map.box;
    remove.hidden = !map.box || !map.data.boxes;
    line.classList.toggle("idle", !map.box);
    words.textContent = map.box ? describeBox(map.data, map.part, map.box) : "Drag over cells to add them up.";
  }

  return {
    /** Whether this press may become a drag that draws; a finger's drag scrolls the page. */
    press(event) {
      const cell = map.data.boxes && event.button === 0 && event.pointerType !== "touch" && map.cellAt(event);
      if (!cell) return false;
      start = { block: map.part.block(...cell), x: event.clientX, y: event.clientY, drawing: false };
      before = map.box;
      return true;
    },
    drag(event) {
      if (!start || start.cancelled) return;
      const far = Math.hypot(event.clientX - start.x, event.clientY - start.y) >= DRAG_PX;
      const box = boxAround(start.block, map.part.block(...map.cellAt(event, true)));
      const more = box[1] - box[0] > 1 || box[3] - box[2] > 1;
      if (!start.drawing && !(far && more)) return;
      start.drawing = true;
      map.box = more ? box : before;
      show();
    },
    /** Whether this was a drag and no click. */
    release() {
      const drew = start?.drawing ?? false;
      const done = drew && !start.cancelled;
      start = null;
      if (done && JSON.stringify(map.box) !== JSON.stringify(before)) set(map.box);
      return drew;
    },
    /** Escape: whether there was something to take away. */
    escape() {
      if (start?.drawing && !start.cancelled) {
        start.cancelled = true;
        map.box = before;
        show();
        map.redraw();
        return true;
      }
      if (!map.box || !map.data.boxes) return false;
      set(null);
      return true;
    },
    hear(fresh) {
      if (fresh) start = null;
      if (asked.hear(map.data.box) || fresh) map.box = map.data.box;
      show();
    },
  };
}
