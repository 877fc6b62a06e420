"""Which tokens of a model's text each word of a reading is, whatever the case, the punctuation and the tokenizer.

1. Both sides become letters and digits alone: compatibility forms taken apart, accents and case left out, and with them
   quotes, dashes, spaces and all other punctuation (Unicode's NFKD and case folding).
2. The runs of letters that stand between these on both sides are matched, the longest sequence that both have first
   (difflib); what is left between two matches, letter by letter in the same way.
3. A word is found where at least three quarters of its characters match, and hardly any others stand between them.
4. A token belongs to the word that its characters are matched to; a token that lies across two words is shared out by
   its characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate

import torch

from attnviz.errors import InputError
from attnviz.human.words import Words
from attnviz.text import Span
from attnviz.text import words as words_of_text
from attnviz.tokens import Token
from attnviz.trace import Trace

LEAST = 0.9  # share of the words that has to be found
_ALIKE = 0.75  # of a word's characters
_MOST_CELLS = 1_000_000  # characters of one side times those of the other, in one stretch where they differ
_NAMED = 12  # words that an error lists


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where the rows of a reading are in a model's text.

    rows       [row], positions of the tokens that hold each row's word; () for punctuation and for what was not found
    weights    float64 [row, token], the share of each token that is the row's; a token's shares sum to at most 1
    missing    rows with a word that was not found
    n_words    rows with a word, found or not: those that are not punctuation alone
    spans      [row], characters `[start, end)` of the model's text; None where `rows` has nothing
    """

    rows: tuple[tuple[int, ...], ...]
    weights: torch.Tensor
    missing: tuple[int, ...]
    n_words: int
    spans: tuple[Span | None, ...]

    @property
    def share(self) -> float:
        """How many of the words were found, in [0, 1]."""
        return 1 - len(self.missing) / self.n_words

    @property
    def found(self) -> torch.Tensor:
        """[row] boolean: rows whose word has tokens."""
        return torch.tensor([bool(tokens) for tokens in self.rows])

    def words(self, labels: Sequence[str], text: str) -> Words:
        """The rows that were found as `Words` of the model's text, for what is read of words: `human.baselines`.

        labels   [row]; text: that of the tokens
        """
        numbers = words_of_text(text)
        there = [(row, span) for row, span in enumerate(self.spans) if span is not None]
        return Words(
            labels=tuple(labels[row] for row, _ in there),
            covers=tuple(
                tuple(n for n, (a, b) in enumerate(numbers) if a < end and start < b) for _, (start, end) in there
            ),
            spans=tuple(span for _, span in there),
            tokens=tuple((self.rows[row][0], self.rows[row][-1] + 1) for row, _ in there),
            units=tuple(range(len(there))),
        )

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """[..., token] -> [..., row], float64: a word's tokens summed; NaN for rows without tokens."""
        summed = values.double() @ self.weights.T.to(values.device)
        return summed.masked_fill(~self.found.to(values.device), torch.nan)


def align(
    words: Sequence[str],
    tokens: Trace | Sequence[Token],
    text: str | None = None,
    *,
    least: float = LEAST,
) -> Alignment:
    """Find the words of a reading in a model's text.

    words    as they stand in the rows; a row without a letter or digit is punctuation, and is not looked for
    tokens   of a trace of one text, or with `text`, which their spans point into
    least    refuse where a smaller share of the words is found
    raises   InputError with the words that were not found; without any word; for two long texts that differ
    """
    if isinstance(tokens, Trace):
        return align(words, tokens.tokens, tokens.text, least=least)
    if text is None:
        raise InputError("Give the text that the tokens' spans point into, or the trace itself.")
    ours, theirs = [_plain(word) for word in words], _plain(text)
    owner = [row for row, word in enumerate(ours) for _ in word.places]
    n_words = len(set(owner))
    if not n_words:
        raise InputError("None of the rows holds a letter or a digit, so there are no words to find in the text.")
    matched = _matched([run for word in ours for run in word.runs], theirs.runs)
    places: list[list[int]] = [[] for _ in words]
    for row, place in zip(owner, matched, strict=True):
        if place is not None:
            places[row].append(place)
    taken = {row for row, found in enumerate(places) if _is_word(found, len(ours[row].places))}
    missing = tuple(sorted(set(owner).difference(taken)))
    at = {theirs.places[place]: row for row in taken for place in range(places[row][0], places[row][-1] + 1)}
    weights = _weights(tokens, at, set(theirs.places), len(words))
    ends = [(theirs.places[found[0]], theirs.places[found[-1]] + 1) if found else (0, 0) for found in places]
    # A word of the text that no token holds was cut off, or is not in the model's vocabulary.
    lost = [row for row in taken if not bool((weights[row] > 0).any())]
    missing = tuple(sorted({*missing, *lost}))
    if len(missing) > (1 - least) * n_words + 1e-9:
        said = ", ".join(f"'{words[row]:.30}'" for row in missing[:_NAMED])
        raise InputError(
            f"{n_words - len(missing)} of {n_words} words were found in the model's text; at least {least:.0%} are "
            f"needed. Not found: {said}{' and others' if len(missing) > _NAMED else ''}. Check that the table and the "
            "text are of the same sentence."
        )
    return Alignment(
        rows=tuple(tuple(weights[row].nonzero()[:, 0].tolist()) for row in range(len(words))),
        weights=weights,
        missing=missing,
        n_words=n_words,
        spans=tuple(span if row in taken and row not in lost else None for row, span in enumerate(ends)),
    )


@dataclass(frozen=True)
class _Plain:
    """A text's letters and digits without case and accents.

    runs     what stands between two of the other characters
    places   [letter of all runs], where in the text it comes from
    """

    runs: tuple[str, ...]
    places: tuple[int, ...]


def _plain(text: str) -> _Plain:
    runs, places = [""], []
    for place, char in enumerate(text):
        folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", char).casefold())
        letters = "".join(c for c in folded if c.isalnum())
        if letters:
            runs[-1] += letters
            places += [place] * len(letters)
        elif unicodedata.category(char)[0] != "M" and unicodedata.category(char) != "Cf" and runs[-1]:
            runs.append("")
    return _Plain(tuple(run for run in runs if run), tuple(places))


def _matched(ours: Sequence[str], theirs: Sequence[str]) -> list[int | None]:
    """[letter of our runs], the place of the same one among the letters of theirs."""
    starts, other_starts = ([0, *accumulate(map(len, runs))] for runs in (ours, theirs))
    found: list[int | None] = [None] * starts[-1]

    def pair(first: int, there: int, size: int) -> None:
        found[first : first + size] = range(there, there + size)

    i = j = 0
    for block in SequenceMatcher(a=ours, b=theirs, autojunk=False).get_matching_blocks():
        for first, there, size in _letters("".join(ours[i : block.a]), "".join(theirs[j : block.b])):
            pair(starts[i] + first, other_starts[j] + there, size)
        i, j = block.a + block.size, block.b + block.size
        pair(starts[block.a], other_starts[block.b], starts[i] - starts[block.a])
    return found


def _letters(a: str, b: str) -> Sequence[tuple[int, int, int]]:
    """(place in a, place in b, length) of what two stretches between equal runs have in common."""
    if len(a) * len(b) > _MOST_CELLS:
        raise InputError(
            f"{len(a):,} letters of the table stand where the text has {len(b):,} others, which is too much to be "
            "aligned. Give one sentence at a time, and check that both are of the same one."
        )
    return SequenceMatcher(a=a, b=b, autojunk=False).get_matching_blocks()


def _is_word(places: Sequence[int], length: int) -> bool:
    """Whether a word's matched characters are the word: most of it, and together."""
    if len(places) < _ALIKE * length or not places:
        return False
    return places[-1] - places[0] + 1 <= length / _ALIKE


def _weights(tokens: Sequence[Token], at: dict[int, int], plain: set[int], n_rows: int) -> torch.Tensor:
    """[row, token]: the share of a token's letters and digits that are each row's.

    Several tokens of one character, as of a script that the vocabulary has no letters of, each belong to it.
    """
    weights = torch.zeros(n_rows, len(tokens), dtype=torch.float64)
    for position, token in enumerate(tokens):
        inside = [] if token.special else [place for place in range(*token.span) if place in plain]
        for place in inside:
            if place in at:
                weights[at[place], position] += 1 / len(inside)
    return weights
