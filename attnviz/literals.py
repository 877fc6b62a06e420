"""Values as Python that reads as what it is: whatever is invisible or reorders stands as an escape."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from attnviz.text import visible

WIDTH = 100
_WORDS = re.compile(r"\S*\s+|\S+")


def literal(value: str, width: int = WIDTH) -> str:
    """A text as Python, in parentheses and pieces where one line does not hold it; `ast.literal_eval` gives it back."""
    whole = quoted(value)
    if len(whole) <= width:
        return whole
    mark = _mark(value)
    lines, line = [], ""
    for piece in _pieces(value, mark):
        if len(line) + len(piece) > WIDTH - 6:
            lines.append(line)
            line = ""
        line += piece
    return "(\n" + "".join(f"    {mark}{part}{mark}\n" for part in [*lines, line] if part) + ")"


def quoted(value: str) -> str:
    """A text as Python, on one line."""
    mark = _mark(value)
    return mark + "".join(_shown_as(c, mark) for c in value) + mark


def _pieces(value: str, mark: str) -> Iterator[str]:
    """The inside of a literal in words, each with the white space after it; a long one character by character."""
    for word in _WORDS.findall(value):
        shown = [_shown_as(c, mark) for c in word]
        yield from ["".join(shown)] if sum(map(len, shown)) < WIDTH // 2 else shown


def _mark(value: str) -> str:
    return "'" if '"' in value and "'" not in value else '"'


@lru_cache(maxsize=8192)
def _shown_as(character: str, mark: str) -> str:
    """One character inside a literal: itself, or an escape if nothing is seen of it or it reorders what stands near."""
    if character in "\"'":
        return f"\\{character}" if character == mark else character
    shown = repr(character)[1:-1]
    if len(shown) > 1 or character.isascii() or character in visible(character):
        return shown
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"
