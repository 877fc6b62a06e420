"""Which heads do alike: by their patterns, by what they write, and which might be one too many.

1. Patterns: the Jensen-Shannon divergence of two heads' rows, in nats, from 0 (the same) to ln 2 (nothing in common).
   Its sum over rows is H((P + Q) / 2) - (H(P) + H(Q)) / 2 with all rows laid end to end, so pairs cost one pass.
2. Writing: the cosine of what two heads add to the residual stream at the same position.

Heads that look alike may write different things, and the other way about. Who is alone, and what can be cut, is for an
intervention to say: a redundant pair is a candidate for the pruning curve, not a finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from operator import length_hint

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from attnviz.errors import InputError, ShapeError
from attnviz.flow.run import Run
from attnviz.tap import Progress
from attnviz.trace import Trace
from attnviz.view import View

Matrix = npt.NDArray[np.float32]
TOKENS = View()
ROWS = 64
_CHUNK_FLOATS = 8_000_000  # of pairs x cells held at once; some copies


@dataclass(frozen=True, eq=False)
class Pairs:
    """A number for every pair of heads, the mean over rows and texts.

    heads    (layer, head) of each row and column, in order of layers
    values   [n, n] symmetric, float32
    rows     how many rows (or positions) they are means of, `texts` of how many texts
    """

    heads: tuple[tuple[int, int], ...]
    values: Matrix
    rows: int
    texts: int


@dataclass(frozen=True, eq=False)
class Places:
    """Heads as points of a plane: [n, 2] `points`, and the share of all variance that the plane holds."""

    points: Matrix
    share: float


def pattern_distance(
    traces: Iterable[Trace],
    *,
    site: str | None = None,
    view: View = TOKENS,
    rows: int = ROWS,
    progress: Progress | None = None,
) -> Pairs:
    """How differently heads attend: Jensen-Shannon divergence in nats, the mean over rows, then over texts.

    rows       at most so many rows a text, evenly chosen among those that see more than one key
    progress   called with (texts done, texts in all, or one more where a stream does not say); raise from it to stop
    raises     InputError for no text, or none with such a row
    """
    heads: tuple[tuple[int, int], ...] = ()
    total, n_rows, n_texts = np.zeros(0), 0, 0
    for number, trace in enumerate(traces):
        if progress is not None:
            progress(number, length_hint(traces, number + 1))
        mine, cells, counted = _cells(trace, trace.info.site(site), view, rows)
        heads = _same(heads, mine)
        if not counted:
            continue
        divergence = _divergences(cells) / counted
        total = divergence if not n_texts else total + divergence
        n_rows, n_texts = n_rows + counted, n_texts + 1
    if not n_texts:
        raise InputError("Heads are compared on rows that see more than one key; got no text with such a row.")
    return Pairs(heads, (total / n_texts).astype(np.float32), n_rows, n_texts)


def output_similarity(
    runs: Iterable[Run], *, site: str | None = None, rows: int = ROWS, progress: Progress | None = None
) -> Pairs:
    """How alike heads write: the cosine of what they add to the residual stream, the mean over positions and texts.

    runs     from `flow.take_apart`, which refuses models whose parts cannot be told with Unsupported
    rows     at most so many positions a text, evenly chosen
    raises   InputError for no run
    A head that writes nothing at a position has cosine 0 with all others there.
    """
    heads: tuple[tuple[int, int], ...] = ()
    total, n_rows, n_texts = np.zeros(0), 0, 0
    for number, run in enumerate(runs):
        if progress is not None:
            progress(number, length_hint(runs, number + 1))
        at = run.trace.info.site(site)
        blocks = [block for block in run.blocks if block.site == at]
        heads = _same(heads, tuple((block.layer, head) for block in blocks for head in range(block.n_heads)))
        chosen = _evenly(blocks[0].z.shape[0], rows)
        wrote = torch.cat([block.heads()[chosen] for block in blocks], 1)  # position head d_model
        wrote = torch.nn.functional.normalize(wrote, dim=-1, eps=1e-30)
        cosine = (wrote @ wrote.transpose(1, 2)).mean(0).double().cpu().numpy()
        total = cosine if not n_texts else total + cosine
        n_rows, n_texts = n_rows + len(chosen), n_texts + 1
    if not n_texts:
        raise InputError("Heads' outputs are compared on one run or more; got none.")
    return Pairs(heads, (total / n_texts).astype(np.float32), n_rows, n_texts)


def ordered(distance: npt.ArrayLike) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """(order, linkage): average linkage, leaves ordered so that neighbours are as near as can be.

    distance   [n, n] symmetric with a zero diagonal
    returns    positions in the order to draw, and scipy's linkage matrix [n - 1, 4] for a dendrogram
    """
    tree = linkage(squareform(_square(distance), checks=False), "average", optimal_ordering=True)
    return leaves_list(tree).astype(np.intp), tree


def places(distance: npt.ArrayLike) -> Places:
    """Classical scaling (Torgerson 1952): the plane in which distances are kept best.

    distance   [n, n] symmetric with a zero diagonal
    returns    points centred at 0, and the plane's share of the sum of all eigenvalues' sizes: what is left out is
               what the picture cannot show
    """
    squared = _square(distance) ** 2
    centred = squared - squared.mean(0) - squared.mean(1)[:, None] + squared.mean()
    values, vectors = np.linalg.eigh(-centred / 2)
    first = np.argsort(values)[::-1][:2]
    points = vectors[:, first] * np.sqrt(np.maximum(values[first], 0))
    points *= np.where(points.sum(0) < 0, -1, 1)  # an axis has no sign: keep one for the same picture every time
    whole = float(np.abs(values).sum())
    return Places(points.astype(np.float32), float(np.maximum(values[first], 0).sum() / whole) if whole > 0 else 1.0)


def redundant(distance: Pairs, similarity: Pairs | None = None) -> pd.DataFrame:
    """Each head with the head that attends most like it, nearest pairs first: a candidate, not a finding.

    distance     from `pattern_distance`
    similarity   from `output_similarity`, for the cosine of what the two write; without it NaN
    returns      layer, head, near_layer, near_head, nats, cosine
    """
    if similarity is not None and similarity.heads != distance.heads:
        raise ShapeError("Patterns and outputs are of other heads: compare the same site of the same model.")
    if len(distance.heads) < 2:
        raise InputError("One head alone is like no other.")
    apart = distance.values + np.diag(np.full(len(distance.heads), np.inf, np.float32))
    near = apart.argmin(1)
    at = np.arange(len(near))
    cosine = np.full(len(near), np.nan, np.float32) if similarity is None else similarity.values[at, near]
    layer, head = np.array(distance.heads).T
    found = pd.DataFrame(
        {
            "layer": layer,
            "head": head,
            "near_layer": layer[near],
            "near_head": head[near],
            "nats": apart[at, near],
            "cosine": cosine,
        }
    )
    return found.sort_values("nats", kind="stable", ignore_index=True)


def _cells(trace: Trace, site: str, view: View, most: int) -> tuple[tuple[tuple[int, int], ...], torch.Tensor, int]:
    """(heads, [head, cell] the chosen rows end to end, number of rows)."""
    heads: list[tuple[int, int]] = []
    found: list[torch.Tensor] = []
    top = next(view.rows(trace, trace.layers(site)[0], site=site, units=range(1)))
    chosen = _evenly(len(view.axes(trace, site)[0]), most, first=0 if (top.visible > 1).any() else 1)
    counted = torch.zeros(len(chosen), dtype=torch.bool)
    for layer in trace.layers(site):
        parts, choice = [], []
        for units in _runs(chosen):
            for rows in view.rows(trace, layer, site=site, units=units):
                parts.append(rows.weights.cpu())
                choice.append((rows.visible > 1).any(0).cpu())
        found.append(torch.cat(parts, 1))
        counted |= torch.cat(choice)
        heads += [(layer, head) for head in range(len(found[-1]))]
    cells = torch.cat(found)[:, counted].flatten(1)
    return tuple(heads), cells[:, (cells > 0).any(0)], int(counted.sum())


def _evenly(n: int, most: int, first: int = 0) -> list[int]:
    """At most so many positions, evenly chosen; from `first` on where there are others."""
    first = min(first, n - 1)
    return sorted({int(i) for i in np.linspace(first, n - 1, min(most, n - first)).round()})


def _runs(positions: list[int]) -> Iterator[range]:
    """Positions as ranges of neighbours."""
    breaks = [0, *(i for i in range(1, len(positions)) if positions[i] != positions[i - 1] + 1), len(positions)]
    for a, b in pairwise(breaks):
        yield range(positions[a], positions[b - 1] + 1)


def _divergences(cells: torch.Tensor) -> npt.NDArray[np.float64]:
    """[head, cell] -> [head, head], sums over rows of Jensen-Shannon divergences, in nats."""

    def nats(x: torch.Tensor) -> torch.Tensor:
        return -torch.special.xlogy(x, x).sum(-1)

    n, width = cells.shape
    alone = nats(cells).double()
    out = torch.zeros(n, n, dtype=torch.float64)
    step = max(1, _CHUNK_FLOATS // max(1, n * width))
    for first in range(0, n, step):
        rows = cells[first : first + step]
        both = nats((rows[:, None] + cells[None, first:]) / 2).double()
        out[first : first + step, first:] = both - (alone[first : first + step, None] + alone[None, first:]) / 2
    upper = torch.triu(out, diagonal=1).clamp(min=0)
    return (upper + upper.T).numpy()


def _same(before: tuple[tuple[int, int], ...], now: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    if before and before != now:
        raise ShapeError(f"Texts are compared for one site of one model: got {len(before)} heads, then {len(now)}.")
    return now


def _square(distance: npt.ArrayLike) -> npt.NDArray[np.float64]:
    matrix = np.asarray(distance, float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise ShapeError(f"Distances are [n, n] of 2 heads or more; got {list(matrix.shape)}.")
    if not np.allclose(matrix, matrix.T, atol=1e-6) or not np.allclose(np.diag(matrix), 0, atol=1e-6):
        raise ShapeError("Distances are symmetric and 0 on the diagonal; these are not.")
    matrix = (matrix + matrix.T) / 2
    np.fill_diagonal(matrix, 0)
    return matrix
