"""Which heads do alike: by their patterns, by what they write, and which might be one too many.

1. Patterns: the Jensen-Shannon divergence of two heads' rows, in nats, from 0 (the same) to ln 2 (nothing in common).
   Its sum over rows is H((P + Q) / 2) - (H(P) + H(Q)) / 2 with all rows laid end to end, so pairs cost one pass.
2. Writing: the cosine of what two heads add to the residual stream at the same position.

Heads that look alike may write different things, and the other way about. Who is alone, and what can be cut, is for an
intervention to say: a redundant pair is a candidate for the pruning curve, not a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import length_hint

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from attnviz.checks import numbers, whole
from attnviz.errors import InputError, ShapeError
from attnviz.flow.run import Run
from attnviz.heads.divergence import divergence_nats, entropy_nats
from attnviz.heads.rows import evenly, runs
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
    layer: int | None = None,
    view: View = TOKENS,
    rows: int = ROWS,
    progress: Progress | None = None,
) -> Pairs:
    """How differently heads attend: Jensen-Shannon divergence in nats, the mean over rows, then over texts.

    layer      only the heads of this one; None: all, whose pairs take time that grows with their number squared
    rows       at most so many rows a text, evenly chosen among those that see more than one key
    progress   called with (texts done, texts in all, or one more where a stream does not say), for a long text several
               times; raise from it to stop
    raises     InputError for no text, or none with such a row; HeadError for a layer without heads
    """
    whole(rows, "rows, those of a text,")
    heads: tuple[tuple[int, int], ...] = ()
    total, n_rows, n_texts = np.zeros(0), 0, 0
    for number, trace in enumerate(traces):

        def told(done: int = number) -> None:
            if progress is not None:
                progress(done, length_hint(traces, done + 1))

        told()
        mine, cells, counted = _cells(trace, trace.info.site(site), layer, view, rows)
        heads = _same(heads, mine)
        if not counted:
            continue
        divergence = _divergences(cells, told) / counted
        total = divergence if not n_texts else total + divergence
        n_rows, n_texts = n_rows + counted, n_texts + 1
    if not n_texts:
        raise InputError("Heads are compared on rows that see more than one key; got no text with such a row.")
    return Pairs(heads, (total / n_texts).astype(np.float32), n_rows, n_texts)


def output_similarity(
    runs: Iterable[Run],
    *,
    site: str | None = None,
    layer: int | None = None,
    rows: int = ROWS,
    progress: Progress | None = None,
) -> Pairs:
    """How alike heads write: the cosine of what they add to the residual stream, the mean over positions and texts.

    runs     from `flow.take_apart`, which refuses models whose parts cannot be told with Unsupported
    layer    only the heads of this one
    rows     at most so many positions a text, evenly chosen
    raises   InputError for no run; HeadError for a layer without heads
    A head that writes nothing at a position has cosine 0 with all others there.
    """
    whole(rows, "rows, those of a text,")
    heads: tuple[tuple[int, int], ...] = ()
    total, n_rows, n_texts = np.zeros(0), 0, 0
    for number, run in enumerate(runs):
        if progress is not None:
            progress(number, length_hint(runs, number + 1))
        at = run.trace.info.site(site)
        layers = _layers(run.trace, at, layer)
        blocks = [block for block in run.blocks if block.site == at and block.layer in layers]
        heads = _same(heads, tuple((block.layer, head) for block in blocks for head in range(block.n_heads)))
        chosen = evenly(blocks[0].z.shape[0], rows)
        wrote = torch.cat([block.heads()[chosen] for block in blocks], 1)  # position head d_model
        wrote = torch.nn.functional.normalize(wrote, dim=-1, eps=1e-30)
        cosine = (wrote @ wrote.transpose(1, 2)).mean(0).cpu().double().numpy()
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
    returns      layer, head, near_layer, near_head, nats, cosine; and candidate, whether the two write in like
                 directions (a cosine above 0): what attends alike and writes otherwise does another job
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
            "candidate": cosine > 0,
        }
    )
    return found.sort_values("nats", kind="stable", ignore_index=True)


def _layers(trace: Trace, site: str, layer: int | None) -> tuple[int, ...]:
    if layer is None:
        return trace.layers(site)
    trace.layer(layer, site)  # or what is wrong with it
    return (layer,)


def _cells(
    trace: Trace, site: str, layer: int | None, view: View, most: int
) -> tuple[tuple[tuple[int, int], ...], torch.Tensor, int]:
    """(heads, [head, cell] the chosen rows end to end, number of rows)."""
    heads: list[tuple[int, int]] = []
    found: list[torch.Tensor] = []
    layers = _layers(trace, site, layer)
    top = next(view.rows(trace, layers[0], site=site, units=range(1)))
    chosen = evenly(len(view.axes(trace, site)[0]), most, first=0 if (top.visible > 1).any() else 1)
    counted = torch.zeros(len(chosen), dtype=torch.bool)
    for at in layers:
        parts, choice = [], []
        for units in runs(chosen):
            for rows in view.rows(trace, at, site=site, units=units):
                parts.append(rows.weights.cpu())
                choice.append((rows.visible > 1).any(0).cpu())
        found.append(torch.cat(parts, 1))
        counted |= torch.cat(choice)
        heads += [(at, head) for head in range(len(found[-1]))]
    cells = torch.cat(found)[:, counted].flatten(1)
    return tuple(heads), cells[:, (cells > 0).any(0)], int(counted.sum())


def _divergences(cells: torch.Tensor, told: Callable[[], None]) -> npt.NDArray[np.float64]:
    """[head, cell] -> [head, head], sums over rows of Jensen-Shannon divergences, in nats; `told` between its parts."""
    n, width = cells.shape
    alone = entropy_nats(cells)
    out = torch.zeros(n, n, dtype=torch.float64)
    step = max(1, _CHUNK_FLOATS // max(1, n * width))
    for first in range(0, n, step):
        if first:
            told()
        some = slice(first, first + step)
        known = (alone[some, None], alone[None, first:])
        out[some, first:] = divergence_nats(cells[some, None], cells[None, first:], known).double()
    upper = torch.triu(out, diagonal=1)
    return (upper + upper.T).numpy()


def _same(before: tuple[tuple[int, int], ...], now: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    if before and before != now:
        raise ShapeError(f"Texts are compared for one site of one model: got {len(before)} heads, then {len(now)}.")
    return now


def _square(distance: npt.ArrayLike) -> npt.NDArray[np.float64]:
    matrix = numbers(distance, "Distances")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise ShapeError(f"Distances are [n, n] of 2 heads or more; got {list(matrix.shape)}.")
    if not np.allclose(matrix, matrix.T, atol=1e-6) or not np.allclose(np.diag(matrix), 0, atol=1e-6):
        raise ShapeError("Distances are symmetric and 0 on the diagonal; these are not.")
    matrix = (matrix + matrix.T) / 2
    np.fill_diagonal(matrix, 0)
    return matrix
