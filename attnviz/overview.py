"""Every head of a model at a glance: a small picture of each one's real pattern, and its scores.

    pattern rows -> the largest weight of each block of units -> square root -> one byte

Pictures and scores come from one pass over the patterns, made some rows at a time on the recording's device and let go;
from two where the view does something to sinks, since the score for the sink reads the clean pattern.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from attnviz.errors import InputError
from attnviz.heads import NAMES, TOKENS, RowMeans, Scores, passes, row_means, sweep
from attnviz.tap import Progress
from attnviz.trace import Trace
from attnviz.view import Rows, View

MOST_SIDE = 256


@dataclass(frozen=True, eq=False)
class Overview:
    """All heads of one site on one text.

    thumbnails  [layer, head, row, column], bytes: 255 times the square root of the largest weight in each block of
                units; unit i of n stands in block floor(i * side / n). All zero where there is no head
    scores      name -> [layer, head], for the names in `heads.NAMES`; NaN where there is no head or no row counts
    taken       [layer, head], the mean share of attention that the view took away or moved; NaN where there is no head
    """

    thumbnails: npt.NDArray[np.uint8]
    scores: dict[str, Scores]
    taken: Scores

    @property
    def exists(self) -> npt.NDArray[np.bool_]:
        """[layer, head], whether the model has this head."""
        return np.isfinite(self.taken)

    def frame(self) -> pd.DataFrame:
        """A row for each head: layer, head, one column a score, taken."""
        layer, head = np.nonzero(self.exists)
        columns = {name: score[layer, head] for name, score in self.scores.items()}
        return pd.DataFrame({"layer": layer, "head": head, **columns, "taken": self.taken[layer, head]})

    @property
    def nbytes(self) -> int:
        return self.thumbnails.nbytes + self.taken.nbytes + sum(score.nbytes for score in self.scores.values())


def overview(
    trace: Trace,
    *,
    site: str | None = None,
    view: View = TOKENS,
    side: int = 48,
    progress: Progress | None = None,
) -> Overview:
    """Thumbnails and scores of every head.

    side     pixels of a thumbnail's side, 1 to 256; an axis of fewer units has a pixel for each
    raises   InputError for another side; Unsupported for value norms where none were recorded
    """
    if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= MOST_SIDE:
        raise InputError(f"A thumbnail's side is 1 to {MOST_SIDE} pixels; got {side!r}.")
    site = trace.info.site(site)
    shape = (trace.info.layers_of(site), trace.info.heads_of(site))
    queries, keys = view.axes(trace, site)
    pictures = _Thumbnails(shape, len(queries), len(keys), side)
    taken = RowMeans(shape, lambda rows: (rows.taken, torch.ones_like(rows.taken, dtype=torch.bool)))
    means = row_means(trace, NAMES, site=site, view=view)
    readers = passes(means, view)
    readers[view] += [pictures, taken]
    sweep(trace, readers, site=site, progress=progress)
    found = {name: mean.result() for name, mean in means.items()}
    return Overview(pictures.result(), found, taken.result())


class _Thumbnails:
    """A reader for `heads.sweep` that keeps the largest weight of each block."""

    def __init__(self, shape: tuple[int, int], n_query: int, n_key: int, side: int) -> None:
        self._blocks = np.arange(n_query) * min(side, n_query) // n_query  # [query unit], its row of the thumbnail
        self._members = _members(n_key, min(side, n_key))
        self._largest = torch.zeros((*shape, min(side, n_query), min(side, n_key)))

    def __call__(self, layer: int, rows: Rows) -> None:
        blocks = self._blocks[rows.units.start : rows.units.stop]
        first = int(blocks[0])
        starts = [*np.flatnonzero(np.diff(blocks, prepend=-1)), len(blocks)]
        # Queries first: what is left of them is little, and the keys then cost next to nothing.
        fewer = [rows.weights[:, a:b].amax(1) for a, b in pairwise(starts)]
        pooled = torch.stack(fewer, 1)[..., self._members.to(rows.weights.device)].amax(-1).cpu()
        kept = self._largest[layer, : len(pooled), first : first + len(fewer)]
        torch.maximum(kept, pooled, out=kept)  # a block may go on in the next piece

    def result(self) -> npt.NDArray[np.uint8]:
        roots = self._largest.clamp(0, 1).sqrt()
        return (255 * roots).round().to(torch.uint8).numpy()


def _members(length: int, blocks: int) -> torch.Tensor:
    """[block, most], the units of each block, its last one repeated where it has fewer than the largest."""
    ends = -(-np.arange(1, blocks + 1) * length // blocks)
    starts = np.concatenate([[0], ends[:-1]])
    most = int((ends - starts).max())
    return torch.from_numpy(np.minimum(starts[:, None] + np.arange(most), ends[:, None] - 1))
