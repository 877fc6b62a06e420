"""Scores of one target as one row of columns: the source's tokens or units first, then the text's."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from attnviz.units import Units


class TwoSided(Protocol):
    """What has numbers for the tokens of a text and, of an encoder-decoder, of its source: Scores and Effects."""

    @property
    def text(self) -> torch.Tensor: ...
    @property
    def source(self) -> torch.Tensor | None: ...


def columns(
    found: TwoSided, text: Units | None = None, source: Units | None = None, *, until: int | None = None
) -> npt.NDArray[np.float64]:
    """[column]: the numbers of a unit's tokens added up; NaN where none of them has one.

    text, source   the units of either text; None: single tokens
    until          the position that is explained, where a causal model does not see what comes after it: NaN from there
                   on, so that no agreement is found in zeros
    """
    own = found.text.double().clone()
    if until is not None:
        own[until + 1 :] = torch.nan
    sides = [(own, text)] if found.source is None else [(found.source.double(), source), (own, text)]
    return np.concatenate([_summed(values, units).cpu().numpy() for values, units in sides])


def _summed(values: torch.Tensor, units: Units | None) -> torch.Tensor:
    if units is None:
        return values
    known = units.sum((~values.isnan()).double())
    return units.sum(values.nan_to_num(0.0)).masked_fill(known == 0, torch.nan)
