"""ALTI: how much nearer each token's part leads a state, layer by layer (Ferrando 2022, arXiv 2203.04212).

1. What query i takes from token j is one vector, T_i(x_j): what attention adds for it, all heads together, and for
   i = j the old state too, through the norm behind the sum, held at its scale in this run.
2. The new state y_i is the sum of these and of the biases, which are no token's.
3. c_ij = max(0, |y_i| - |y_i - T_i(x_j)|) in L1, each query's scaled to sum to 1.
4. Layers are multiplied, as in rollout. The feed-forward block is not looked at.

In an encoder-decoder the old state of a cross block is a part beside those of the source (ALTI+, Ferrando 2022, arXiv
2205.11631).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from attnviz.flow.contributions import Reading, diagonal, nearer_by, of_keys, own_share, split, step
from attnviz.flow.mixing import Step
from attnviz.flow.run import Block, Run


def steps(run: Run) -> Iterator[Step]:
    """Each block's shares as steps for `rollout`, `max_flow` and `graph`; no causal effects.

    What a token takes from itself and what it keeps are one part; it is split by `own_share`. A query that no part
    leads nearer to keeps its state.
    """
    return map(_step, run.blocks)


@torch.no_grad()
def _step(block: Block) -> Step:
    reading, old, whole = Reading.of(block, norm=True), block.behind(block.before), block.after
    size = whole.abs().sum(-1)
    kept = nearer_by(old, whole)
    across = block.site == "cross"
    nearer = whole.new_zeros(len(whole), reading.values.shape[1])
    if not across:
        nearer.diagonal()[:] = kept  # of tokens that do not read themselves
    own = torch.zeros_like(kept)
    for queries, keys, weights in reading.cells():
        away = of_keys(reading, keys, weights, whole[queries], -1.0)
        if not across:
            at = diagonal(queries, keys)
            mine = queries.start + at[1]
            own[mine] = own_share(whole[mine] - away[at], old[mine])
            away[at] -= old[mine]
        here = (size[queries] - torch.linalg.vector_norm(away, ord=1, dim=-1)).clamp(min=0).T
        nearer[queries, keys] = torch.where((weights != 0).any(0), here, nearer[queries, keys])
    return step(block, nearer, kept) if across else step(block, *split(nearer, own))
