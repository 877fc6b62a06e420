"""Words for figures, made from the trace itself so that a figure cannot be mislabelled."""

from __future__ import annotations

import html
from collections.abc import Sequence

from attnviz.edits import Head
from attnviz.info import ModelInfo
from attnviz.tokens import Token
from attnviz.trace import Trace

_SITE_WORDS = {"encoder": "encoder self-attention", "decoder": "decoder self-attention", "cross": "cross-attention"}


def plain(text: str, limit: int | None = None) -> str:
    """Text for Plotly, which reads a little HTML in labels: escaped, and cut at `limit` characters."""
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    return html.escape(text, quote=False)


def model_words(info: ModelInfo) -> str:
    """Model, revision, dtype and what to know of its weights."""
    parts = [info.name, info.revision[:12] if len(info.revision) == 40 else info.revision, info.dtype, info.note]
    return " · ".join(part for part in parts if part)


def run_words(trace: Trace) -> str:
    """Which run: clean, or edited and how."""
    return "edited run: " + "; ".join(trace.edit_titles) if trace.edit_titles else "clean run"


def head_words(trace: Trace, head: Head) -> str:
    """Which head, and of which attention where a model has several."""
    site = trace.info.site(head.site)
    return f"L{head.layer}H{head.head}" + (f", {_SITE_WORDS[site]}" if len(trace.info.sites) > 1 else "")


def token_ticks(tokens: Sequence[Token], most: int = 60) -> tuple[list[int], list[str]]:
    """Positions and labels for an axis, thinned to at most `most`."""
    step = -(-len(tokens) // most)
    positions = list(range(0, len(tokens), step))
    return positions, [plain(tokens[i].text, 16) for i in positions]
