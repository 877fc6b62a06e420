"""The detectors on one trace: every head of a site, some rows at a time, so that a long text needs no more memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from attnviz.heads.detectors import DETECTORS, VARIANTS, Kind, Masks, Measure
from attnviz.tap import Progress
from attnviz.trace import LayerAttention, Trace
from attnviz.view import Sinks

Values = npt.NDArray[np.float32]
_CHUNK_WEIGHTS = 1_500_000  # some copies of so many are held at once


@dataclass(frozen=True, eq=False)
class Detected:
    """What every head of a site does on one text.

    values   [variant, detector, layer, head], in the order of VARIANTS and of `names`; NaN where there is no head, or
             no row that counts
    chance   [variant, detector, layer], what even attention scores on this text; layers differ where windows do
    """

    names: tuple[str, ...]
    values: Values
    chance: Values

    def frame(self) -> pd.DataFrame:
        """A row for each head, detector and variant: layer, head, detector, variant, value, chance."""
        variant, detector, layer, head = np.nonzero(np.isfinite(self.values))
        return pd.DataFrame(
            {
                "layer": layer,
                "head": head,
                "detector": np.array(self.names, dtype=object)[detector],
                "variant": np.array(VARIANTS, dtype=object)[variant],
                "value": self.values[variant, detector, layer, head],
                "chance": self.chance[variant, detector, layer],
            }
        )


def detect(
    trace: Trace, *, site: str | None = None, sinks: Sinks | None = None, progress: Progress | None = None
) -> Detected:
    """Every detector on one text, with the sink and without it.

    sinks      which keys rest in "without sink", and what "sink" measures; None: the first token
    progress   called with (steps done, steps in all); raise from it to stop
    What a head does on one text is not what it is for, and attention is not effect.
    """
    values, even = detected(trace, lambda masks, rows: masks.sought(rows), len(DETECTORS), site, sinks, progress)
    return Detected(tuple(DETECTORS), values, even)


def detected(
    trace: Trace,
    sought: Callable[[Masks, slice], torch.Tensor],
    n_values: int,
    site: str | None,
    sinks: Sinks | None,
    progress: Progress | None = None,
) -> tuple[Values, Values]:
    """Means of what `sought` looks for, then entropy and distance.

    returns   ([variant, value, layer, head], by chance [variant, value, layer])
    """
    site = trace.info.site(site)
    masks = masks_of(trace, site, sinks)
    shape = (2, n_values, trace.info.layers_of(site), trace.info.heads_of(site))
    sums, counts = np.zeros(shape), np.zeros(shape)
    even_sums, even_counts = np.zeros(shape[:3]), np.zeros(shape[:3])
    queries, keys = trace.axes(site)
    layers, chunks = trace.layers(site), list(_chunks(len(queries), len(keys), shape[-1]))
    for done, rows in enumerate(chunks):
        made: list[tuple[torch.Tensor, Measure, tuple[torch.Tensor, torch.Tensor]]] = []
        for n, layer in enumerate(layers):
            if progress is not None:
                progress(done * len(layers) + n, len(chunks) * len(layers))
            attention = trace.layer(layer, site)
            visible = seen_by_any(attention, rows)
            # Layers differ in what they see only by their windows: most find their masks made.
            known = next((one for one in made if torch.equal(one[0], visible)), None)
            if known is None:
                measure = Measure.of(masks, visible, rows, sought(masks, rows))
                known = (visible, measure, measure.sums(measure.even()))
                made.append(known)
            total, counted = (x[0].cpu().double().numpy() for x in known[1].sums(attention.pattern(queries=rows)))
            sums[:, :, layer, : total.shape[-1]] += total
            counts[:, :, layer, : total.shape[-1]] += counted
            total, counted = (x[0, ..., 0].cpu().double().numpy() for x in known[2])
            even_sums[:, :, layer] += total
            even_counts[:, :, layer] += counted
    if progress is not None:
        progress(len(chunks) * len(layers), len(chunks) * len(layers))
    return _mean(sums, counts), _mean(even_sums, even_counts)


def masks_of(trace: Trace, site: str, sinks: Sinks | None) -> Masks:
    """What the detectors must know of a trace's axes; the recorded masks say what is causal."""
    axes = trace.axes(site)
    return Masks.of(
        [axes],
        kind_of(trace, site),
        causal=False,
        key_texts=[trace.texts(site)[1]],
        sinks=sinks,
        device=_device(trace, site),
    )


def kind_of(trace: Trace, site: str) -> Kind:
    """Self-attention is where the queries are the last of the keys."""
    queries, keys = trace.axes(site)
    own = [token.id for token in keys[max(0, len(keys) - len(queries)) :]] == [token.id for token in queries]
    return "self" if site != "cross" and own else "cross"


def seen_by_any(attention: LayerAttention, rows: slice) -> torch.Tensor:
    """[1, query, key], the keys that any head of the layer sees."""
    return attention.visible(rows).any(1)


def _chunks(n_queries: int, n_keys: int, n_heads: int) -> Iterator[slice]:
    step = max(16, _CHUNK_WEIGHTS // (n_keys * max(n_heads, len(DETECTORS) * len(VARIANTS))))
    for first in range(0, n_queries, step):
        yield slice(first, min(first + step, n_queries))


def _device(trace: Trace, site: str) -> torch.device:
    return next(
        (x.device for layer in trace.layers(site) for x in trace.layer(layer, site).tensors()), torch.device("cpu")
    )


def _mean(sums: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]) -> Values:
    return (sums / np.where(counts > 0, counts, np.nan)).astype(np.float32)
