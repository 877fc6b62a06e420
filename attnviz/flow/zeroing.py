"""Value zeroing: how far a state turns when one token's values are set to zero in that layer.

Mohebbi et al. 2023 (arXiv 2301.12971): in layer l alone, v_j = 0 in all heads, the pattern left as it is; then

    C[i, j] = 1 - cos(state of i, state of i without v_j),    rows made to sum to 1

and the layers multiplied. The residual is never zeroed, so C[i, i] is what i's own value adds; as in the paper, no
share is set aside for the residual (`kept` is 0).

Nothing is run again: a state without v_j is the state's sum less the part that v_j has in it, sent through the model's
own norms, and with `through="layer"`, as in the paper, through its feed-forward block.

The paper has encoders alone. Here, a decoder layer that also reads a source is measured behind each of its two blocks,
and the row that is made to sum to 1 is that of both: what its tokens and the source's together turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch

from attnviz.anatomy import Wiring
from attnviz.errors import InputError, Unsupported
from attnviz.flow.mixing import Step
from attnviz.flow.run import Block, Run
from attnviz.models import Model
from attnviz.watching import applied

Through = Literal["attention", "layer"]
_CHUNK_FLOATS = 12_000_000  # of states without a key, held several times at once


def steps(run: Run, model: Model, *, through: Through = "attention") -> Iterator[Step]:
    """The steps of value zeroing, bottom first, for `mixing`'s consumers.

    model     the one that made the run; its norms and feed-forward blocks are called
    through   where states are compared: behind the attention block, or behind the "layer", feed-forward included (the
              paper's; some 10 times the work); with two attention blocks in a layer, behind each of them
    returns   weights and kept float64; a row that no value turns at all is kept whole
    raises    Unsupported where "layer" is asked for and the feed-forward block cannot be called by itself
    """
    if through not in ("attention", "layer"):
        raise InputError(f"States are compared behind the attention block or the layer; got {through!r}.")
    wirings = model.anatomy.checked().wirings
    own: torch.Tensor | None = None  # of a decoder's own block, until its cross-attention is known too
    for number, (block, wiring) in enumerate(zip(run.blocks, wirings, strict=True)):
        turned = _turned(block, wiring, model.hf_model.dtype, through)
        rest = torch.zeros(len(turned), dtype=torch.float64, device=turned.device)
        if block.site == "cross" and own is not None:
            rest, own = own, None
        total = rest + turned.sum(-1)
        some = total.clamp(min=torch.finfo(torch.float64).tiny)
        kept = torch.where(total > 0, rest / some, 1.0)
        yield Step(block.site, block.layer, (turned / some[:, None]).cpu(), kept.cpu())
        following = run.blocks[number + 1] if number + 1 < len(run.blocks) else None
        if following is not None and following.site == "cross" and block.site == "decoder":
            own = turned.sum(-1)


@torch.no_grad()
def _turned(block: Block, wiring: Wiring, dtype: torch.dtype, through: Through) -> torch.Tensor:
    """1 - cos of each query's state with and without each key's value: [query, key], float64; 0 for unseen keys."""
    far = through == "layer" and wiring.first and wiring.mlp is not None
    if far and wiring.order != "beside" and not wiring.mlp_path:
        raise Unsupported(
            f"The feed-forward block of {block.site} layer {block.layer} cannot be called by itself; compare states "
            'behind the attention block: through="attention".'
        )
    straight = not far and wiring.norm is None and wiring.out_norm is None
    values = block.values()
    n_queries, n_keys, width = block.before.shape[0], *values.shape[1:]
    clean = _states(block, wiring, dtype, far, torch.arange(n_queries), torch.zeros_like(block.before))
    out = torch.zeros(n_queries, n_keys, dtype=torch.float64, device=values.device)
    rows = max(1, _CHUNK_FLOATS // (n_keys * width))
    for first in range(0, n_queries, rows):
        weights = block.weights(slice(first, min(first + rows, n_queries)))
        query, key = (weights != 0).any(0).nonzero(as_tuple=True)
        parts = torch.einsum("hqk,hkd->qkd", weights, values)[query, key]
        query = query + first
        # What the residual takes as it comes is not computed as a difference of large numbers.
        gone = parts * wiring.factor if straight else clean[query] - _states(block, wiring, dtype, far, query, parts)
        out[query, key] = _distance(clean[query], gone)
    return out


def _states(
    block: Block, wiring: Wiring, dtype: torch.dtype, far: bool, query: torch.Tensor, parts: torch.Tensor
) -> torch.Tensor:
    """The states of some queries without some parts of what the projection gave: [pair, d_model], float32."""

    def through(*modules: torch.nn.Module, states: torch.Tensor) -> torch.Tensor:
        return applied(modules, states[None].to(dtype))[0].float()

    if wiring.out_norm is None:
        states = (block.before + block.written)[query] - parts * wiring.factor
    else:
        given = torch.einsum("qhv,hvd->qd", block.z, block.weight) + block.bias
        states = block.before[query] + wiring.factor * through(wiring.out_norm, states=given[query] - parts)
    if wiring.norm is not None:
        states = through(wiring.norm, states=states)
    if not far or block.mlp is None:
        return states
    if wiring.order == "beside":
        return states + block.mlp.written[query]
    states = states + wiring.mlp_factor * through(*wiring.mlp_path, states=states)
    return states if wiring.mlp_norm is None else through(wiring.mlp_norm, states=states)


def _distance(states: torch.Tensor, gone: torch.Tensor) -> torch.Tensor:
    """1 - cos(states, states - gone), [pair] float64, exact also where next to nothing is gone.

    By Lagrange's identity sin^2 = (|s|^2 |g|^2 - (s.g)^2) / (|s|^2 |s - g|^2), and 1 - cos = sin^2 / (1 + cos).
    """
    s, g = states.double(), gone.double()
    ss, gg, sg = (s * s).sum(-1), (g * g).sum(-1), (s * g).sum(-1)
    tiny = torch.finfo(torch.float64).tiny
    size = (ss * (ss - 2 * sg + gg)).clamp(min=tiny)
    cosine = (ss - sg) / size.sqrt()
    near = (ss * gg - sg * sg).clamp(min=0) / size / (1 + cosine.clamp(min=0))
    return torch.where(cosine > 0, near, 1 - cosine)
