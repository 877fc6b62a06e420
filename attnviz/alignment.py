"""Which units of two texts correspond, by the words they belong to.

    1. The words that both have, in the order that takes the fewest words put in, left out or exchanged (Levenshtein
       1966), are anchors.
    2. Between two anchors, words replaced by as many others pair one by one, as changed; otherwise none of them pairs.
    3. Within a pair of words, tokens pair in order where there are equally many, else by the characters they hold.

Upper and lower case are told apart. Special tokens pair with equal ones alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

import numpy as np

from attnviz.errors import InputError
from attnviz.text import Span
from attnviz.tokens import Token
from attnviz.units import Units

Word = tuple[str, str]  # its kind, "special", "space" or "text", and what stands in the text there
Pair = tuple[int, int]


@dataclass(frozen=True)
class Axis:
    """The units of an axis, with the tokens they are made of and the text that the tokens' spans point into."""

    units: Units
    tokens: tuple[Token, ...]
    text: str

    def words(self) -> list[tuple[Word, range]]:
        """Units by the word they belong to, in order: the word, and the units in it."""
        starts = [i for i in range(len(self.units)) if i == 0 or not self._continues(i)]
        return [(self._name(a, b), range(a, b)) for a, b in pairwise([*starts, len(self.units)])]

    def span(self, first: int, stop: int) -> Span:
        """Where units stand in the text, without the white space around them."""
        edges = self.units.edges
        a, b = self.tokens[edges[first]].span[0], self.tokens[edges[stop] - 1].span[1]
        piece = self.text[a:b]
        start = a + len(piece) - len(piece.lstrip())
        return (start, start + len(piece.strip())) if piece.strip() else (a, b)

    def _continues(self, unit: int) -> bool:
        word = self.tokens[unit].word if self.units.unit == "token" else None
        return word is not None and word == self.tokens[unit - 1].word

    def _name(self, first: int, stop: int) -> Word:
        token = self.tokens[self.units.edges[first]]
        if token.special:
            return "special", token.text
        source = self.text[slice(*self.span(first, stop))]
        return ("text", " ".join(source.split())) if source.strip() else ("space", source or token.text)


@dataclass(frozen=True)
class Alignment:
    """Which units of two axes correspond, in order; each stands in one pair at most.

    pairs      (unit of the first, unit of the second)
    changed    those of the pairs whose words differ
    deleted    units that only the first axis has
    inserted   units that only the second axis has
    """

    pairs: tuple[Pair, ...]
    changed: frozenset[Pair]
    deleted: tuple[int, ...]
    inserted: tuple[int, ...]

    def side(self, side: int) -> list[int]:
        """[pair], the units of one axis that pair: 0 for the first axis, 1 for the second."""
        return [pair[side] for pair in self.pairs]

    def alone(self, side: int) -> list[int]:
        """The units that only one axis has: 0 for the first axis, 1 for the second."""
        return list((self.deleted, self.inserted)[side])

    def size(self, side: int) -> int:
        """How many units one axis has."""
        return len(self.pairs) + len(self.alone(side))

    def labels(self, first: Units, second: Units) -> tuple[str, ...]:
        """[pair], as people read them: "John → Mary" where a pair is changed."""
        return tuple(
            f"{first.labels[i]} → {second.labels[j]}" if (i, j) in self.changed else first.labels[i]
            for i, j in self.pairs
        )


def align(first: Axis, second: Axis) -> Alignment:
    """Pair the units of two axes: `align(b, a)` gives the same pairs the other way round.

    For two tokenizers, words are the sound units: `View(unit="word")`. Takes two bytes for each pair of words between
    the texts' equal beginnings and ends.
    raises   InputError for axes in two kinds of units
    """
    if first.units.unit != second.units.unit:
        raise InputError(f"Align like with like: got units of {first.units.unit} and of {second.units.unit}.")
    ours, theirs = first.words(), second.words()
    pairs: list[Pair] = []
    changed: set[Pair] = set()
    for i, j in _word_pairs([word for word, _ in ours], [word for word, _ in theirs]):
        (word, units), (other, other_units) = ours[i], theirs[j]
        if len(units) == len(other_units):
            pairs += zip(units, other_units, strict=True)
            changed.update(zip(units, other_units, strict=True) if word != other else ())
        elif word == other:
            pairs += _by_characters(first, units, second, other_units)
    return Alignment(
        pairs=tuple(pairs),
        changed=frozenset(changed),
        deleted=tuple(sorted({*range(len(first.units))}.difference(i for i, _ in pairs))),
        inserted=tuple(sorted({*range(len(second.units))}.difference(j for _, j in pairs))),
    )


def _word_pairs(first: Sequence[Word], second: Sequence[Word]) -> list[Pair]:
    """Words that correspond, in order: the anchors, and what stands between them where it is equally long."""
    if (len(second), list(second)) < (len(first), list(first)):  # of equally good ways, both orders take the same
        return [(i, j) for j, i in _word_pairs(second, first)]
    found: list[Pair] = []
    at = (0, 0)
    for i, j in [*_anchors(first, second), (len(first), len(second))]:
        if i - at[0] == j - at[1]:
            between = zip(range(at[0], i), range(at[1], j), strict=True)
            found += [(a, b) for a, b in between if first[a][0] == second[b][0] == "text"]
        found += [(i, j)] if i < len(first) else []
        at = (i + 1, j + 1)
    return found


def _anchors(first: Sequence[Word], second: Sequence[Word]) -> list[Pair]:
    """Equal words on the shortest way from one sequence to the other; exchanging goes before leaving out."""
    most = min(len(first), len(second))
    start = next((i for i in range(most) if first[i] != second[i]), most)
    end = next((i for i in range(most - start) if first[-1 - i] != second[-1 - i]), most - start)
    number = {word: n for n, word in enumerate(dict.fromkeys([*first, *second]))}
    a, b = (np.array([number[word] for word in x[start : len(x) - end]]) for x in (first, second))
    i, j = len(a), len(b)
    ramp = np.arange(j + 1, dtype=np.int16 if i + j < 2**15 else np.int32)
    cost = np.empty((i + 1, j + 1), ramp.dtype)  # of getting from the first words of one to the first of the other
    cost[0] = ramp
    for row, word in enumerate(a):
        best = cost[row] + 1
        best[1:] = np.minimum(best[1:], cost[row, :-1] + (b != word))
        cost[row + 1] = np.minimum.accumulate(best - ramp) + ramp
    middle: list[Pair] = []
    while i and j:
        if cost[i, j] == cost[i - 1, j - 1] + (a[i - 1] != b[j - 1]):
            i, j = i - 1, j - 1
            middle += [(start + i, start + j)] if a[i] == b[j] else []
        elif cost[i, j] == cost[i - 1, j] + 1:
            i -= 1
        else:
            j -= 1
    ends = [(len(first) - n, len(second) - n) for n in range(end, 0, -1)]
    return [*((n, n) for n in range(start)), *middle[::-1], *ends]


def _by_characters(first: Axis, ours: range, second: Axis, theirs: range) -> list[Pair]:
    """Tokens of one word, split in two ways: those that hold the same characters of it."""
    places: list[list[Span]] = []
    for axis, units in ((first, ours), (second, theirs)):
        start = axis.span(units.start, units.stop)[0]
        spans = [axis.span(unit, unit + 1) for unit in units]
        places.append([(a - start, b - start) for a, b in spans])
    blocks = SequenceMatcher(a=places[0], b=places[1], autojunk=False).get_matching_blocks()
    return [(ours[block.a + n], theirs[block.b + n]) for block in blocks for n in range(block.size)]
