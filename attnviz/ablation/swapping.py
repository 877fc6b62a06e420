"""A donor text for a text: names and numbers swapped for others, token by token.

What is left of a head's effect when it is taken from such a donor is what the swapped words had to do with it. Every
mention of a name gets a name of its own, so a repetition goes too (the "ABC" texts of Wang et al. 2022, arXiv
2211.00593).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from attnviz.errors import InputError
from attnviz.models import Model

# One token each, with a space before it, in the vocabularies of SmolLM2 and MiniLM, most of them.
_PEOPLE = """
Mary John Anna Tom Paul Kate Laura Peter James Sarah Emma David Michael Robert Lisa Mark Susan George Alice Henry Jack
Jane Daniel Rachel William Martin Thomas Helen Richard Linda Charles Karen Frank Julia Alex Maria Andrew Steven
Elizabeth Simon Joseph Ruth Kevin Rose Max Grace
"""
_PLACES = """
France Italy Spain Germany Japan China Russia Greece Egypt India Canada Brazil Mexico Poland Sweden Norway Turkey Cuba
Iran Ireland Chile Peru Paris London Rome Berlin Madrid Tokyo Moscow Athens Vienna Boston Chicago Dublin
"""
_LISTS = (_PEOPLE.split(), _PLACES.split())
_WORD = re.compile(
    r"(?<![^\W\d_])(?:" + "|".join(_LISTS[0] + _LISTS[1]) + r")(?![^\W\d_])|\d+(?:(?:st|nd|rd|th)(?![^\W_]))?"
)
_SUFFIXES = {1: "st", 2: "nd", 3: "rd"}
_DAYS = 31  # an ordinal up to here may be that of a day, and then stays one


@dataclass(frozen=True)
class Donor:
    """A text to resample heads from.

    swapped   (what stood there, what stands there now), in the order of the text
    """

    text: str
    swapped: tuple[tuple[str, str], ...]

    @property
    def title(self) -> str:
        return ", ".join(f"{old} → {new}" for old, new in self.swapped)


def propose_donor(text: str, model: Model, *, repeats: bool = False) -> Donor | None:
    """The text with its names, places and numbers swapped for others of as many tokens; None where it has none.

    repeats   keep repetitions: a name that comes twice is swapped for one name both times
    Only words of the lists here are known, and digits. What cannot be swapped without shifting tokens stays. The same
    text always gives the same donor; choose a phrase of your own where the proposal misses the point.
    """
    if not isinstance(text, str):
        raise InputError(f"A donor is proposed for a text; got {text!r:.80}.")
    taken = {match[0] for match in _WORD.finditer(text)}
    made, swapped, kept = text, [], dict[str, str]()
    shift = 0
    ids = model.encode(text).ids
    for match in _WORD.finditer(text):
        old, start = match[0], match.start() + shift
        choices = [kept[old]] if repeats and old in kept else _others(old, taken)
        for new in choices:
            trial = made[:start] + new + made[start + len(old) :]
            got = model.encode(trial).ids
            if len(got) == len(ids) and _one_span(ids, got):
                made, ids, shift = trial, got, shift + len(new) - len(old)
                swapped.append((old, new))
                kept[old] = new
                taken.add(new)
                break
    return Donor(made, tuple(swapped)) if swapped else None


def propose_foil(text: str, answer: str, model: Model) -> str | None:
    """What to compare a name that a text asks for with: the last other name, or other place, that the text has.

    answer    one of the text's names or places, with the space before it; the proposal has the same
    returns   a text of one token; None where the answer is no name of the text, or the text has no other
    """
    name = answer.strip()
    words = [match[0] for match in _WORD.finditer(text)]
    known = next((known for known in _LISTS if name in known), [])
    if name not in words:
        return None
    others = [answer.replace(name, word) for word in reversed(words) if word in known and word != name]
    return next((other for other in others if len(model.ids_of(other)) == 1), None)


def _others(old: str, taken: set[str]) -> Iterator[str]:
    """What may stand in for a word, in order, none of it in use."""
    if old[0].isdigit():
        digits = old.rstrip("sthndr")
        for step in range(1, 9):
            new = "".join(str((int(digit) + step - 1) % 9 + 1) if digit != "0" else "0" for digit in digits)
            fits = digits == old or int(digits) > _DAYS or int(new) <= _DAYS
            new += "" if digits == old else _suffix(int(new))
            if fits and new not in taken:
                yield new
        return
    words = next(words for words in _LISTS if old in words)
    first = words.index(old) + 1
    yield from (word for word in words[first:] + words[:first] if word not in taken)


def _suffix(number: int) -> str:
    """Of an ordinal: 1st, 2nd, 3rd, 4th, but 11th to 13th."""
    return "th" if number % 100 in (11, 12, 13) else _SUFFIXES.get(number % 10, "th")


def _one_span(ids: tuple[int, ...], got: tuple[int, ...]) -> bool:
    """Whether two lists of ids differ, and in one stretch."""
    apart = [a != b for a, b in zip(ids, got, strict=True)]
    changes = sum(one != other for one, other in zip([False, *apart], [*apart, False], strict=True))
    return changes == 2
