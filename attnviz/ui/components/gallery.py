"""The gallery: a thumbnail of every head, on one canvas, by layer or ranked by a score."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from attnviz.ui.components.parts import Scale, as_index, check_colours, component, float32_base64, sent

Pair = tuple[int, int]

_mount_gallery = component(
    "gallery",
    root="attnviz-gallery",
    scripts=("gallery/bytes.js", "gallery/layout.js", "gallery/paint.js", "gallery/gallery.js"),
    sheet="gallery/gallery.css",
)
_mount_thumbnails = component(
    "thumbnails",
    root="attnviz-thumbnails",
    scripts=("gallery/bytes.js", "gallery/thumbnails.js"),
    sheet="gallery/thumbnails.css",
)


def gallery(
    thumbnails: NDArray[np.uint8],
    scores: NDArray[Any],
    *,
    key: str,
    exists: NDArray[np.bool_],
    order: Sequence[Pair],
    arranged: Literal["layer", "ranked"],
    value_name: str,
    pixel_name: str,
    palettes: Mapping[str, Sequence[str]],
    scale: Scale = "sqrt",
    selected: Pair | None,
    label: str,
    title: str = "",
    file_name: str = "attnviz",
    on_pick: Callable[[int, int], None],
) -> None:
    """Draw `thumbnails` [layer, head, row, column], bytes of 255 times the square root of a share of 1.

    `scores` [layer, head] are read out and may be NaN; `exists` [layer, head] says which heads there are. `order`
    holds the heads, (layer, head), that can be picked, best first: "ranked" draws these alone, with name and score
    under each; arranged by "layer" the others stay, dimmed. `value_name` names the score, `pixel_name` what a pixel is.
    A saved picture has `title` on top and is called `file_name`. on_pick(layer, head) runs as a widget callback,
    before the script reruns. Raises ValueError for what does not fit together.
    """
    if thumbnails.ndim != 4 or 0 in thumbnails.shape or thumbnails.dtype != np.uint8:
        raise ValueError(f"thumbnails: bytes [layer, head, row, column]; got {thumbnails.dtype} {thumbnails.shape}")
    shape = layers, heads = thumbnails.shape[:2]
    if scores.shape != shape or exists.shape != shape:
        raise ValueError(f"{layers} x {heads} heads: scores and exists must have that shape too")
    places = [*order, *([] if selected is None else [selected])]
    if not all(0 <= layer < layers and 0 <= head < heads and exists[layer, head] for layer, head in places):
        raise ValueError("order and selected: only heads that exist")
    if arranged not in ("layer", "ranked"):
        raise ValueError(f'arranged: "layer" or "ranked" expected; got {arranged!r}')
    check_colours(palettes, scale=scale)
    states = exists.astype(np.uint8)
    states.flat[[layer * heads + head for layer, head in order]] = 2
    digest = hashlib.sha256(thumbnails.tobytes()).hexdigest()

    def picked() -> None:
        value = sent(key, "pick")
        layer, head = as_index(value.get("layer"), layers), as_index(value.get("head"), heads)
        if layer is not None and head is not None and states[layer, head] == 2:
            on_pick(layer, head)

    both = {name: list(stops) for name, stops in palettes.items()}
    with st.container(gap=None):
        # In an element of their own: one that has not changed goes over as a reference, whatever else is new.
        _mount_thumbnails(
            key=f"{key}-thumbnails",
            data={"digest": digest, "thumbnails": _bytes_base64(thumbnails), "palettes": {"light": [], "dark": []}},
        )
        _mount_gallery(
            key=key,
            data={
                "key": key,
                "layers": layers,
                "heads": heads,
                "height": thumbnails.shape[2],
                "width": thumbnails.shape[3],
                "digest": digest,
                "states": _bytes_base64(states),
                "scores": float32_base64(scores),
                "order": [int(layer * heads + head) for layer, head in order],
                "arranged": arranged,
                "value_name": value_name,
                "pixel_name": pixel_name,
                "palettes": both,
                "low": 0.0,
                "high": 1.0,
                "scale": scale,
                "selected": None if selected is None else [int(selected[0]), int(selected[1])],
                "label": label,
                "title": title,
                "file_name": file_name,
            },
            on_pick_change=picked,
        )


def _bytes_base64(values: NDArray[np.uint8]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
