"""Heads' outputs taken from other runs: their mean over reference texts, or what they are on a donor text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from attnviz.edits.base import Head, heads_of, positions_of
from attnviz.edits.outputs import HeadEdit, names
from attnviz.errors import InputError

Text = str | Sequence[int]

_TITLE_LETTERS = 60


@dataclass(frozen=True)
class MeanHeads(HeadEdit):
    """Set the outputs of some heads to their mean over reference texts (`attnviz.replacing.mean_outputs`).

    texts         texts, or ids; the edits before this one hold in their runs too, save those tied to tokens of the run
    by_position   False: one mean over all tokens of all texts, special ones too; it also acts on what is written after
                  a prompt. True: the mean at each position, over texts of as many tokens as the run; while a text is
                  being continued it acts on what was given alone
    A mean says what a head adds beyond its average, on texts like these: other texts, other means.
    """

    heads: tuple[Head, ...]
    texts: tuple[Text, ...]
    by_position: bool = False
    positions: tuple[int, ...] | None = None

    def __init__(
        self,
        heads: Iterable[Head],
        texts: Sequence[Text],
        by_position: bool = False,
        positions: int | Sequence[int] | None = None,
    ) -> None:
        if isinstance(texts, str) or not isinstance(texts, Iterable):
            raise InputError(f"MeanHeads takes several texts, e.g. texts=['A text.', 'Another.']; got {texts!r:.80}.")
        kept = tuple(_text(text, "MeanHeads") for text in texts)
        if not kept:
            raise InputError("MeanHeads needs at least one reference text, e.g. texts=['A text.', 'Another.'].")
        object.__setattr__(self, "heads", heads_of(heads, "MeanHeads"))
        object.__setattr__(self, "texts", kept)
        object.__setattr__(self, "by_position", bool(by_position))
        object.__setattr__(self, "positions", positions_of(positions, "positions"))

    needs_values = True

    @property
    def doing(self) -> str:
        mean = "the mean at each position" if self.by_position else "the mean"
        number = "1 text" if len(self.texts) == 1 else f"{len(self.texts)} texts"
        return f"{names(self.heads)} set to {mean} over {number}"

    @property
    def tied(self) -> bool:
        return self.by_position or self.positions is not None

    def new(self, z: torch.Tensor, site: str, layer: int, values: torch.Tensor | None) -> torch.Tensor:
        return _known(values)


@dataclass(frozen=True)
class ResampleHeads(HeadEdit):
    """Set the outputs of some heads to what they are on a donor text, token by token.

    donor   a text, or ids, of as many tokens as the run; the edits before this one hold in its run too. An
            encoder-decoder's decoder reads there what it reads in the run
    While a text is being continued the donor stands beside what was given, and what is written after it is not edited.
    """

    heads: tuple[Head, ...]
    donor: Text
    positions: tuple[int, ...] | None = None

    def __init__(self, heads: Iterable[Head], donor: Text, positions: int | Sequence[int] | None = None) -> None:
        object.__setattr__(self, "heads", heads_of(heads, "ResampleHeads"))
        object.__setattr__(self, "donor", _text(donor, "ResampleHeads"))
        object.__setattr__(self, "positions", positions_of(positions, "positions"))

    needs_values = True

    @property
    def doing(self) -> str:
        if not isinstance(self.donor, str):
            return f"{names(self.heads)} taken from a donor of {len(self.donor)} given tokens"
        cut = self.donor if len(self.donor) <= _TITLE_LETTERS else self.donor[: _TITLE_LETTERS - 1] + "…"
        return f"{names(self.heads)} taken from {cut!r}"

    @property
    def tied(self) -> bool:
        return True

    def new(self, z: torch.Tensor, site: str, layer: int, values: torch.Tensor | None) -> torch.Tensor:
        return _known(values)


def _text(given: Text, what: str) -> Text:
    if isinstance(given, str):
        return given
    if not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:
        raise InputError(f"{what} takes a text or token ids; got {given!r:.80}.")
    kept = tuple(given)
    if not kept or any(isinstance(i, bool) or not isinstance(i, int) for i in kept):
        raise InputError(f"{what} takes a text or one or more token ids; got {given!r:.80}.")
    return kept


def _known(values: torch.Tensor | None) -> torch.Tensor:
    assert values is not None, "an edit that needs values is bound with them"
    return values
