"""The frame component: a whole HTML document that runs its own scripts and reaches nothing else."""

from __future__ import annotations

from attnviz.ui.components.parts import component

_mount = component("framed", root="attnviz-framed", scripts=("framed/framed.js",), sheet="framed/framed.css")


def framed(html: str, *, key: str, label: str) -> None:
    """Show a document, up to its own height, in a frame without an origin: `sandbox="allow-scripts"` and no more.

    Not `st.iframe`, whose documents have the app's own origin. The document itself must forbid requests, as
    `attnviz.bertviz_views` does. `label` names the frame for screen readers.
    """
    if "</body>" not in html:
        raise ValueError("html: a whole document expected, with a </body>")
    _mount(key=key, data={"key": key, "html": html, "label": label, "palettes": {"light": [], "dark": []}})
