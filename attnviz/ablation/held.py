"""Heads held at their mean over reference texts, the mean taken once for any number of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from attnviz.edits import Edit, Head, HeadEdit, MeanHeads, ZeroHeads
from attnviz.encoding import Encoded
from attnviz.errors import InputError
from attnviz.models import Model
from attnviz.replacing import Outputs, lengths_of, mean_outputs
from attnviz.tap import Place


@dataclass(frozen=True, eq=False)
class HeldHeads(HeadEdit):
    """What `MeanHeads(heads, texts)` does, without running the texts again.

    values   by site and layer, [head, d_head]
    """

    asked: MeanHeads
    values: Mapping[tuple[str, int], torch.Tensor]
    positions = None

    @property
    def heads(self) -> tuple[Head, ...]:  # type: ignore[override]
        return self.asked.heads

    @property
    def doing(self) -> str:
        return self.asked.doing

    def new(self, z: torch.Tensor, site: str, layer: int, values: torch.Tensor | None) -> torch.Tensor:
        return self.values[site, layer].to(z.dtype)


@dataclass(frozen=True, eq=False)
class Removal:
    """How heads are removed: set to zero or, with reference texts, to their mean over these (`mean_outputs`)."""

    texts: tuple[Any, ...]
    values: Mapping[tuple[str, int], torch.Tensor]

    @classmethod
    def of(cls, model: Model, texts: Sequence[Any] | None) -> Removal:
        """
        texts   None: zeros
        raises  InputError for no text; as `Model.trace`
        """
        if texts is None:
            return cls((), {})
        if isinstance(texts, str) or not texts:
            raise InputError(
                f"A mean is taken over one or more texts, e.g. ['A text.', 'Another.']; got {texts!r:.80}."
            )
        first = model.encode(texts[0]) if isinstance(texts[0], str) else model.reader.encode_ids(texts[0])
        decoder = model.decoder_side(first, None, None, ())
        found = mean_outputs(model, first, decoder, texts, by_position=False)
        return cls(tuple(texts), {(site, layer): z[0] for (site, layer), z in found.items()})

    def outputs(self, model: Model, source: Encoded, decoder: Encoded | None) -> Outputs:
        """What `mean_outputs` gives for this run, without running the texts again."""
        lengths = lengths_of(model, source, decoder)
        return {Place(*at): z[None].expand(lengths[at[0]][0], -1, -1) for at, z in self.values.items()}

    def edits(self, heads: Iterable[Head]) -> list[Edit]:
        kept = tuple(heads)
        if not kept:
            return []
        return [HeldHeads(MeanHeads(kept, self.texts), self.values)] if self.texts else [ZeroHeads(kept)]
