"""How parts of a Selection are written in an address, and read from one that anybody may have written."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_HEAD = re.compile(r"L([0-9]{1,4})H([0-9]{1,4})")
_RANGE = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")
_MOST = 4_096  # positions in a set, heads in a list


@dataclass(frozen=True)
class Field:
    """One parameter: `read` raises ValueError for what it cannot take, and `expected` says what that would be."""

    read: Callable[[str], Any]
    write: Callable[[Any], str]
    expected: str


def number(most: int) -> Field:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > most:
            raise ValueError(text)
        return int(text)

    return Field(read, str, f"a whole number up to {most:,}" if most < 999_999 else "a whole number")


def fraction(low: float, high: float) -> Field:
    def read(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,4})?", text) or not low <= float(text) <= high:
            raise ValueError(text)
        return float(text)

    return Field(read, lambda value: f"{round(value, 4):g}", f"a number from {low:g} to {high:g}")


def one_of(names: Sequence[str]) -> Field:
    def read(text: str) -> str:
        if text not in names:
            raise ValueError(text)
        return text

    return Field(read, str, f"one of {', '.join(names)}")


def some_of(names: Sequence[str]) -> Field:
    """A tuple out of `names`; the empty one is written as "none"."""

    def read(text: str) -> tuple[str, ...]:
        found = () if text == "none" else tuple(text.split("."))
        if not set(found) <= set(names):
            raise ValueError(text)
        return tuple(name for name in names if name in found)

    return Field(read, lambda value: ".".join(value) or "none", f"some of {', '.join(names)}, with dots between")


def matching(pattern: str, expected: str) -> Field:
    """A text, or none at all."""

    def read(text: str) -> str:
        if text and not re.fullmatch(pattern, text, re.DOTALL):
            raise ValueError(text)
        return text

    return Field(read, str, expected)


def switch() -> Field:
    return Field(lambda text: text == "1", lambda value: "1" if value else "0", "0 or 1")


def positions() -> Field:
    """A sorted tuple of positions, written as ranges: 3-7.12"""

    def read(text: str) -> tuple[int, ...]:
        found: set[int] = set()
        for piece in text.split("."):
            match = _RANGE.fullmatch(piece)
            if match is None:
                raise ValueError(text)
            first, last = int(match[1]), int(match[2] or match[1])
            if not 0 <= last - first < _MOST:
                raise ValueError(text)
            found.update(range(first, last + 1))
        if len(found) > _MOST:
            raise ValueError(text)
        return tuple(sorted(found))

    return Field(read, _ranges, "positions such as 3-7.12")


def heads() -> Field:
    """A tuple of (layer, head), written as L5H1.L7H2"""

    def read(text: str) -> tuple[tuple[int, int], ...]:
        found = []
        for piece in text.split(".")[:_MOST]:
            match = _HEAD.fullmatch(piece)
            if match is None:
                raise ValueError(text)
            found.append((int(match[1]), int(match[2])))
        return tuple(dict.fromkeys(found))

    return Field(read, lambda value: ".".join(f"L{a}H{b}" for a, b in value), "heads such as L5H1.L7H2")


def window() -> Field:
    """(row, row, col, col), half-open, or None."""

    def read(text: str) -> tuple[int, int, int, int]:
        parts = text.split("-")
        if len(parts) != 4 or not all(re.fullmatch(r"[0-9]{1,6}", part) for part in parts):
            raise ValueError(text)
        a, b, c, d = (int(part) for part in parts)
        if a >= b or c >= d:
            raise ValueError(text)
        return a, b, c, d

    return Field(read, lambda value: "-".join(map(str, value)), "four numbers such as 0-64-0-64")


def _ranges(values: Sequence[int]) -> str:
    pieces: list[list[int]] = []
    for value in sorted(values):
        if pieces and value == pieces[-1][1] + 1:
            pieces[-1][1] = value
        else:
            pieces.append([value, value])
    return ".".join(str(a) if a == b else f"{a}-{b}" for a, b in pieces)
