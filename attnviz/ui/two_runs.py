"""Two runs on one text beside each other: which is which, and where what they write parts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import streamlit as st

from attnviz.figures.labels import run_words
from attnviz.trace import Trace
from attnviz.ui import say

_TITLE_CHARS = 160


def titled(trace: Trace) -> str:
    """Which run a trace is of, from itself."""
    words = run_words(trace)
    words = words if len(words) <= _TITLE_CHARS else f"{words[: _TITLE_CHARS - 1]}…"
    return words[:1].upper() + words[1:]


def written(first: tuple[str, ...], second: tuple[str, ...], *, most: int) -> None:
    """The tokens that both runs write, greedily, with the first one that differs marked; `most` were asked for."""
    same = common(first, second)
    for place, tokens in zip(st.columns(2, gap="medium"), (first, second), strict=True):
        with place:
            st.markdown("Writes: " + marked(tokens, same))
    differs = same < max(len(first), len(second))
    say.caption(
        f"{most} tokens at most, always the likeliest one.",
        f"Marked is the first that differs, token {same}; what follows reads it, and differs for that reason too."
        if differs
        else "Both write the same.",
    )


def common(first: Sequence[str], second: Sequence[str]) -> int:
    """How many tokens both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def marked(tokens: Sequence[str], same: int) -> str:
    """Tokens as Markdown, the first one after `same` of them marked; a space's sign stays with its word."""
    joined = [say.plain(token).replace("␣", "␣\N{WORD JOINER}") for token in tokens]
    if same < len(joined):
        joined[same] = f":orange-background[{joined[same]}]"
    return "".join(joined) or say.plain("nothing")
