"""Scores of every head on one text: one number a head, `[layer, head]`, to find heads worth a closer look.

A score on one text says what a head did there, not what it is for, and attention is not effect. Patterns are made one
layer at a time and let go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from attnviz.tap import Progress
from attnviz.trace import Trace, checked_position

Scores = npt.NDArray[np.float32]


def attention_between(trace: Trace, query: int, key: int, *, site: str | None = None) -> Scores:
    """How much attention one query pays to one key, a share of 1: [layer, head]; NaN where there is no head."""
    weights = trace.row(query, site).numpy()
    return weights[:, :, checked_position(key, weights.shape[-1], "key")]


def entropy(trace: Trace, *, site: str | None = None, progress: Progress | None = None) -> Scores:
    """Mean row entropy, as a share of the most it could be: [layer, head], 0 (one key) to 1 (all keys alike).

    A row's entropy in nats is divided by the log of the number of keys the query can see. Rows that see a single key
    (the first of a causal model) have no choice and are left out; NaN if no row has one.
    """

    def score(pattern: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        nats = torch.special.entr(pattern).sum(-1)
        return _mean_over_rows(nats / visible.clamp(min=2).log(), visible > 1)

    return _by_layer(trace, site, score, progress)


def sink_mass(trace: Trace, *, key: int = 0, site: str | None = None, progress: Progress | None = None) -> Scores:
    """Mean attention that queries pay to one key, by default the first token: [layer, head], a share of 1.

    Queries before the key, and those that see no other key, are left out. Much of it is a place where heads rest, not
    a finding (arXiv 2410.10781).
    """
    site = trace.info.site(site)
    key = checked_position(key, len(trace.axes(site)[1]), "key")
    within = trace.info.family == "decoder" or site == "decoder"

    def score(pattern: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        after = torch.arange(pattern.shape[-2], device=pattern.device) >= (key if within else 0)
        return _mean_over_rows(pattern[..., key], (visible > 1) & after)

    return _by_layer(trace, site, score, progress)


def _mean_over_rows(values: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Mean over the last axis where `counted`; NaN where nothing is."""
    counted = counted.expand_as(values)
    return torch.where(counted, values, 0).sum(-1) / torch.where(counted.any(-1), counted.sum(-1), torch.nan)


def _by_layer(
    trace: Trace,
    site: str | None,
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    progress: Progress | None,
) -> Scores:
    """score(pattern [head, query, key], visible [1 or head, query]) of every layer, as [layer, head]."""
    site = trace.info.site(site)
    out = np.full((trace.info.layers_of(site), trace.info.heads_of(site)), np.nan, np.float32)
    for done, (layer, pattern) in enumerate(_with_progress(trace, site, progress), 1):
        visible = trace.layer(layer, site).visible()[0]
        out[layer, : pattern.shape[0]] = score(pattern, visible).cpu().numpy()
        if progress is not None:
            progress(done, len(trace.layers(site)))
    return out


def _with_progress(trace: Trace, site: str, progress: Progress | None) -> Iterator[tuple[int, torch.Tensor]]:
    if progress is not None:
        progress(0, len(trace.layers(site)))
    yield from trace.patterns(site)
