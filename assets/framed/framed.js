const LEAST_HEIGHT = 160;
const MOST_HEIGHT = 2400; // taller documents scroll by themselves
const BORDERS = 2;

// The one thing that the document may tell the page: how tall it is.
const TELL_HEIGHT = `<script>
new ResizeObserver(() => parent.postMessage({ attnvizHeight: document.documentElement.scrollHeight }, "*"))
  .observe(document.body);
</` + "script>";

export default function (component) {
  return mount(component, ".attnviz-framed", createFrame);
}

/** A document of its own in a frame that runs scripts and can do nothing else: no origin, no forms, no new windows. */
function createFrame(root, instance) {
  const { signal } = instance.stop;
  let frame = null;
  let shown = null;

  function update(next) {
    root.dataset.testid = "framed";
    root.dataset.key = next.key;
    if (shown !== next.html) {
      shown = next.html;
      frame = make("iframe");
      frame.setAttribute("sandbox", "allow-scripts");
      frame.setAttribute("referrerpolicy", "no-referrer");
      const end = next.html.lastIndexOf("</body>");
      frame.srcdoc = next.html.slice(0, end) + TELL_HEIGHT + next.html.slice(end);
      root.replaceChildren(frame);
    }
    frame.title = next.label;
  }

  window.addEventListener("message", ({ source, data }) => {
    const height = data?.attnvizHeight;
    if (!frame || source !== frame.contentWindow || !Number.isFinite(height)) return;
    frame.style.height = `${Math.min(MOST_HEIGHT, Math.max(LEAST_HEIGHT, Math.ceil(height))) + BORDERS}px`;
  }, { signal });
  return update;
}
