"""Which heads look at places whatever the text says: patterns compared over texts of one length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from attnviz.errors import InputError
from attnviz.heads.detecting import Values
from attnviz.heads.detectors import FIRST
from attnviz.heads.divergence import LN2, divergence_nats
from attnviz.trace import Trace
from attnviz.view import Sinks

_CHUNK_WEIGHTS = 1_500_000  # some copies of so many are held at once


def position_only(traces: Sequence[Trace], *, site: str | None = None, sinks: Sinks | None = None) -> Values:
    """How alike a head's patterns are over texts of one length: [text, variant, layer, head]; NaN where no head is.

    1 - JS(row, the mean of the same row over the other texts) / ln 2, JS the Jensen-Shannon divergence in nats, and the
    mean over rows that see more than one key: 1 where the pattern is the same whatever the text, 0 where what is
    attended is never attended in another text.

    sinks    which keys are taken away in "without sink", in every text where it is one in any; None: the first token
    raises   InputError for fewer than two texts, or texts of several lengths
    A head may look at places on random tokens and at words on real ones: the score is of these texts.
    """
    if len(traces) < 2:
        raise InputError(f"Position is told by comparing 2 texts or more; got {len(traces)}.")
    site = traces[0].info.site(site)
    sizes = {tuple(map(len, trace.axes(site))) for trace in traces}
    if len(sizes) > 1:
        raise InputError(f"Position is told from texts of one length; got lengths {sorted(sizes)} of query and key.")
    hidden = torch.stack([(sinks or FIRST).of(trace.axes(site)[1], trace.texts(site)[1]) for trace in traces]).any(0)
    info = traces[0].info
    out = np.full((len(traces), 2, info.layers_of(site), info.heads_of(site)), np.nan, np.float32)
    for layer in traces[0].layers(site):
        attentions = [trace.layer(layer, site) for trace in traces]
        n_heads, (n_queries, n_keys) = attentions[0].n_heads, min(sizes)
        step = max(1, _CHUNK_WEIGHTS // (len(traces) * n_heads * n_keys))
        sums, counts = torch.zeros(len(traces), 2, n_heads), torch.zeros(2, n_heads)
        for first in range(0, n_queries, step):
            rows = slice(first, min(first + step, n_queries))
            patterns = torch.stack([one.pattern(queries=rows)[0] for one in attentions])  # text head query key
            kept = patterns.masked_fill(hidden.to(patterns.device), 0)
            for variant, weights in enumerate((patterns, kept)):
                left = weights.sum(-1, keepdim=True)
                whole = weights / left.clamp(min=1e-30) if variant else weights
                choice = (weights > 0).any(0).any(0).sum(-1) > 1  # query
                counted = choice & (left[..., 0] > 0).all(0)  # head query
                values = torch.where(counted, 1 - divergence_from_others(whole) / LN2, 0)
                sums[:, variant] += values.sum(-1).cpu()
                counts[variant] += counted.sum(-1).cpu()
        out[..., layer, :n_heads] = torch.where(counts > 0, sums / counts.clamp(min=1), torch.nan).numpy()
    return out


def divergence_from_others(rows: torch.Tensor) -> torch.Tensor:
    """[text, ..., key] -> [text, ...]: each text's row against the mean row of the other texts, in nats."""
    others = (rows.sum(0) - rows) / (len(rows) - 1)
    return divergence_nats(rows, others.clamp(min=0))  # a difference of sums may fall below zero
