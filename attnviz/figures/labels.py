"""Words for figures, made from the trace itself so that a figure cannot be mislabelled."""

from __future__ import annotations

import html
from collections.abc import Sequence

import torch

from attnviz.edits import Head
from attnviz.info import ModelInfo
from attnviz.trace import Trace
from attnviz.view import View

KIND_WORDS = {"first": "first token", "special": "special tokens", "punctuation": "punctuation"}
SITE_WORDS = {"encoder": "encoder self-attention", "decoder": "decoder self-attention", "cross": "cross-attention"}


def plain(text: str, limit: int | None = None) -> str:
    """Text for Plotly, which reads a little HTML in labels, and TeX between dollars where a notebook has MathJax.

    Escaped, and cut at `limit` characters.
    """
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    return html.escape(text, quote=False).replace("$", "&#36;")


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
    return f"L{head.layer}H{head.head}" + (f", {SITE_WORDS[site]}" if len(trace.info.sites) > 1 else "")


def sink_words(view: View, trace: Trace, site: str | None, taken: torch.Tensor | None) -> str:
    """What was done with sinks, and the attention that was taken away or moved; "" where nothing was done.

    taken   shares in [0, 1] of the rows that are spoken of; None where none were made
    """
    sinks = view.sinks
    if not sinks.active:
        return ""
    share = "" if taken is None or not taken.numel() else f"{float(taken.mean()):.0%} of the attention"
    if sinks.how == "value-norm":
        moved = f"; this moved {share} on average" if share else ""
        return f"Weighted by the length of the value vectors, each row scaled back to its sum{moved}."
    names = [KIND_WORDS[kind] for kind in sinks.kinds]
    names += [f"{len(sinks.tokens)} chosen"] if sinks.tokens else []
    count = int(view.hidden(trace, site).sum())
    done = "hidden and the rows renormalised" if sinks.how == "renormalise" else "hidden"
    what = f"Sinks ({', '.join(names) or 'none'}: {count} key{'s' * (count != 1)}) are {done}"
    return f"{what}; {share} was taken away, on average over these rows." if share else f"{what}."


def unit_words(view: View) -> str:
    """What a row and a column stand for; "" for tokens."""
    if view.unit == "token":
        return ""
    return f"By {view.unit}: attention is summed over the tokens of a key and averaged over those of a query."


def pooled_words(block: tuple[int, int]) -> str:
    """That cells stand for blocks of cells; "" where each is its own."""
    return "" if block == (1, 1) else f"Each cell is the largest weight of {block[0]} queries × {block[1]} keys."


def ticks(labels: Sequence[str], shown: range | None = None) -> tuple[list[int], list[str]]:
    """Positions and labels for an axis: all up to 60, else some 40 of them.

    shown   the positions that are drawn; None for all
    """
    shown = range(len(labels)) if shown is None else shown
    positions = list(shown[:: 1 if len(shown) <= 60 else -(-len(shown) // 40)])
    return positions, [plain(labels[i], 16) for i in positions]
