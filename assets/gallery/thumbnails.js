// Holds the thumbnails' bytes and gives them to the gallery that asks for them. Nothing of it is seen.

export default function (component) {
  return mount(component, ".attnviz-thumbnails", createThumbnails);
}

function createThumbnails(root, instance) {
  let held = null;
  const tell = () => window.dispatchEvent(new CustomEvent("attnviz:thumbnails", { detail: held }));
  window.addEventListener("attnviz:thumbnails-wanted", ({ detail }) => {
    if (held && detail.digest === held.digest) tell();
  }, { signal: instance.stop.signal });
  return ({ digest, thumbnails }) => {
    if (held?.digest === digest) return;
    held = { digest, bytes: decodeBytes(thumbnails) };
    tell();
  };
}
