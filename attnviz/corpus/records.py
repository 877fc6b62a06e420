"""What the shelf keeps, as it is passed around."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


class Item(NamedTuple):
    """A text of a corpus; `pair` is its partner: what an encoder-decoder's decoder reads, or ""."""

    text: str
    label: str = ""
    pair: str = ""


class Corpus(NamedTuple):
    """What is known of a corpus; times in seconds since 1970."""

    key: str
    name: str
    created: float
    used: float
    n: int
    nbytes: int
    notes: tuple[str, ...]


class Run(NamedTuple):
    """One measurement of a corpus.

    shape   of one text's values
    about   what was measured, as `running` wrote it
    done    texts that have values
    left    texts that were left out, by reason
    """

    run: str
    started: float
    shape: tuple[int, ...]
    about: dict[str, Any]
    done: int
    left: dict[str, int]


class Result(NamedTuple):
    """One text's values, in the run's shape, and its chance levels, [variant, detector, layer]."""

    number: int
    label: str
    values: Array
    chance: Array
