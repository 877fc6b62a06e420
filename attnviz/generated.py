"""A generated trace read step by step: what each step expected, what it wrote, and how a head's attention moved.

A step is one generated token. Token p was written by the query p - 1, in decoders and on the decoder's side of an
encoder-decoder alike: that query's row is where a head looked when p was written.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from attnviz.edits import Head
from attnviz.errors import InputError
from attnviz.trace import Trace
from attnviz.units import Units
from attnviz.view import View

MOST_SHIFT = math.log(2)  # nats, of rows that have nothing in common
_CHUNK_STEPS = 16
_AS_IT_IS = View()


class Movement(NamedTuple):
    """One head's rows at the steps of a generation.

    weights   [step, key unit] float32, a share of 1 in each row; NaN where the key was not there yet or is taken away
    taken     [step], on the CPU: the share of attention that sinks took away, or that weighting moved
    keys      the key units
    """

    weights: npt.NDArray[np.float32]
    taken: torch.Tensor
    keys: Units


def writers(trace: Trace) -> range:
    """The query positions that wrote the generated tokens, one a step.

    raises   InputError for a trace that no model has generated
    """
    given = trace.prompt_length
    if given is None or not 1 <= given < len(trace.tokens):
        raise InputError("This trace holds no generated tokens; make one with model.generate(text).")
    return range(given - 1, len(trace.tokens) - 1)


def steps(trace: Trace) -> pd.DataFrame:
    """A row for each generated token: step, query, position, token, token_id, probability, rank, entropy_nats.

    query         the position that wrote the token, position - 1
    probability   the model's own for the token that was written, before temperature and forced tokens
    rank          of that token among the model's predictions, 1 the likeliest; equal ones share the better rank
    entropy_nats  of the prediction over the whole vocabulary
    A compact trace keeps its likeliest tokens only (`Trace.compact`): a written token beyond them has neither
    probability nor rank (NaN, NA), and no entropy is known at all.
    raises        InputError for a trace that no model has generated, or one without a vocabulary head
    """
    queries = writers(trace)
    written = trace.tokens[queries.start + 1 :]
    ids = torch.tensor([token.id for token in written])
    read = _of_top if trace.raw_logits is None else _of_logits
    probability, rank, entropy = read(trace, queries, ids)
    return pd.DataFrame(
        {
            "step": range(len(queries)),
            "query": queries,
            "position": [query + 1 for query in queries],
            "token": [token.text for token in written],
            "token_id": ids.tolist(),
            "probability": probability.numpy(),
            "rank": pd.array([int(r) or pd.NA for r in rank], dtype="Int64"),
            "entropy_nats": entropy.numpy(),
        }
    )


def movement(trace: Trace, head: Head, *, view: View = _AS_IT_IS) -> Movement:
    """How a head's attention moved: its row at each step.

    view     sinks as everywhere; its units are those of the keys, while a row stays one step, the token it wrote
    raises   InputError for a trace that no model has generated; HeadError; Unsupported as `View.pattern`
    """
    queries = writers(trace)
    site = trace.info.check_head(head.layer, head.head, head.site)
    if site == "encoder":
        raise InputError("An encoder writes nothing: give the head the site 'decoder' or 'cross'.")
    keys = view.axes(trace, site)[1]
    weights, taken = _rows(trace, head, View(sinks=view.sinks))
    shown = keys.sum(weights)
    hidden = keys.mean(view.hidden(trace, site).float()) == 1
    shown = shown.masked_fill(hidden, torch.nan)
    if site != "cross":
        later = torch.tensor(keys.edges[:-1])[None] > torch.tensor(queries)[:, None]
        shown = shown.masked_fill(later, torch.nan)
    return Movement(shown.numpy(), taken, keys)


def movement_frame(trace: Trace, head: Head, *, view: View = _AS_IT_IS) -> pd.DataFrame:
    """`movement` as a table, a row for each cell: step, token, key, key_text, attention (NaN as there)."""
    weights, _, keys = movement(trace, head, view=view)
    n_step, n_key = weights.shape
    written = np.array([trace.tokens[query + 1].text for query in writers(trace)], dtype=object)
    return pd.DataFrame(
        {
            "step": np.repeat(np.arange(n_step), n_key),
            "token": np.repeat(written, n_key),
            "key": np.tile(np.arange(n_key), n_step),
            "key_text": np.tile(np.array(keys.labels, dtype=object), n_step),
            "attention": weights.ravel(),
        }
    )


def shift(trace: Trace, head: Head) -> npt.NDArray[np.float32]:
    """How far a head's attention moved from one step to the next: [step], nats, in [0, ln 2]; NaN for the first.

    Jensen-Shannon divergence of successive rows as the model made them, token by token, sinks included. A key that
    only the later row sees had nothing in the earlier one; on models with sinks of their own, what a row pays to no
    key is a bin too. A head that follows the text, such as one that looks at the token before, moves at every step.
    """
    rows = _rows(trace, head, _AS_IT_IS)[0].double()
    rows = torch.cat([rows, (1 - rows.sum(-1, keepdim=True)).clamp(min=0)], -1)
    before, after = rows[:-1], rows[1:]
    nats = _nats((before + after) / 2) - (_nats(before) + _nats(after)) / 2
    out = np.full(len(rows), np.nan, np.float32)
    out[1:] = nats.clamp(0, MOST_SHIFT).numpy()
    return out


def _rows(trace: Trace, head: Head, view: View) -> tuple[torch.Tensor, torch.Tensor]:
    """(weights [step, key token], taken [step]) of a head under a view by token, on the CPU."""
    parts = list(view.rows(trace, head.layer, head.head, head.site, writers(trace)))
    return torch.cat([p.weights[0].cpu() for p in parts]), torch.cat([p.taken[0].cpu() for p in parts])


def _nats(rows: torch.Tensor) -> torch.Tensor:
    return torch.special.entr(rows).sum(-1)


_Read = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _of_logits(trace: Trace, queries: range, ids: torch.Tensor) -> _Read:
    """(probability, rank, entropy) of written ids, a few steps at a time: in float32, log_softmax is off by 1e-5."""
    assert trace.raw_logits is not None
    logits = trace.raw_logits[queries.start : queries.stop]
    parts = []
    for chunk, chosen in zip(logits.split(_CHUNK_STEPS), ids.split(_CHUNK_STEPS), strict=True):
        log_shares = chunk.double().log_softmax(-1)
        own = log_shares.gather(-1, chosen[:, None].to(chunk.device))
        rank = 1 + (log_shares > own).sum(-1)
        parts.append((own[:, 0].exp().cpu(), rank.cpu(), _nats(log_shares.exp()).cpu()))
    probability, ranks, entropy = (torch.cat(column) for column in zip(*parts, strict=True))
    return probability.float(), ranks, entropy.float()


def _of_top(trace: Trace, queries: range, ids: torch.Tensor) -> _Read:
    """(probability, rank, entropy) of written ids from the likeliest tokens; rank 0 beyond them, no entropy."""
    top = trace.top
    if top is None:
        raise InputError(f"{trace.info.name} has no vocabulary head, so it predicts no tokens.")
    kept = slice(queries.start, queries.stop)
    logits, found = top.logits[kept], top.ids[kept] == ids[:, None]
    known = found.any(-1)
    own = logits.masked_fill(~found, -torch.inf).amax(-1)
    probability = (own - top.log_total[kept]).exp().masked_fill(~known, torch.nan)
    rank = (1 + (logits > own[:, None]).sum(-1)).masked_fill(~known, 0)
    return probability, rank, torch.full_like(probability, torch.nan)
