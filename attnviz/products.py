"""How one query meets every key: the score of a pair, taken apart into its dimensions.

A score, before the mask, is the sum over d of query[d] * key[d] * scaling. Many models put more between score and
weight than a softmax; whether this one did here is computed and said, not assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from attnviz.edits import Head
from attnviz.errors import Unsupported
from attnviz.recorded import Recorded
from attnviz.trace import Trace, checked_position

_TOLERANCE = 1e-4  # of a weight, a share of 1


@dataclass(frozen=True, eq=False)
class Products:
    """One query of one head against all keys; float32 on the CPU.

    scaling        what q · k is multiplied with, as the model called its attention
    query_vector   [d_head] as the kernel was given it: after rotary positions and norms
    key_vectors    [key, d_head], of the key head that this query head shares
    products       [key, d_head], query * key * scaling, dimension by dimension
    scores         [key], their sums: before soft-capping, bias and mask, also for keys that are hidden
    visible        [key], whether the query sees the key
    weights        [key], the query's row of the pattern
    exact          whether the softmax of the visible scores gives the weights, within 1e-4
    why            a sentence saying what else is in the weights when it does not; else ""
    """

    head: Head
    query: int
    scaling: float
    query_vector: torch.Tensor
    key_vectors: torch.Tensor
    products: torch.Tensor
    scores: torch.Tensor
    visible: torch.Tensor
    weights: torch.Tensor
    exact: bool
    why: str


@torch.no_grad()
def query_key(trace: Trace, head: Head, query: int) -> Products:
    """The score of `query` with every key in one head, dimension by dimension.

    query     a position, or negative from the end
    raises    HeadError or InputError for a head or position that the trace does not have; Unsupported for a view-only
              model, whose queries and keys were never seen
    A large product says which dimensions make a score, not what they mean: a rotation of both queries and keys
    changes every product and no weight.
    """
    site = trace.info.check_head(head.layer, head.head, head.site)
    at = checked_position(query, len(trace.axes(site)[0]), "query")
    layer = trace.layer(head.layer, site)
    if not isinstance(layer, Recorded):
        raise Unsupported(
            f"{trace.info.name} gives its patterns only: its queries and keys are not recorded, so there are no "
            "products to show. Take a model whose status is exact."
        )
    q = layer.query[0, head.head, at].float().cpu()
    k = layer.key[0, head.head // layer.group].float().cpu()
    scaling = layer.keywords.get("scaling")
    scaling = float(q.shape[-1] ** -0.5 if scaling is None else scaling)
    row = slice(at, at + 1)
    mask = layer.scores_mask(slice(head.head, head.head + 1), row)
    added = torch.zeros(len(k)) if mask is None else mask[0, 0, 0].float().cpu().expand(len(k))
    visible = added > torch.finfo(torch.float16).min
    weights = layer.pattern(head.head, row)[0, 0, 0].cpu()
    products = q * k * scaling
    scores = products.sum(-1)
    alone = scores.masked_fill(~visible, -torch.inf).softmax(-1)
    exact = bool(torch.allclose(alone, weights, atol=_TOLERANCE, rtol=0))
    return Products(
        head=head,
        query=at,
        scaling=scaling,
        query_vector=q,
        key_vectors=k,
        products=products,
        scores=scores,
        visible=visible,
        weights=weights,
        exact=exact,
        why="" if exact else _why(layer, added, visible),
    )


def _why(layer: Recorded, added: torch.Tensor, visible: torch.Tensor) -> str:
    """What stands between the scores and the weights, as far as the call shows it.

    added, visible   [key]: what the mask adds to this query's scores, and whether it lets the key be seen
    """
    if not visible.any():
        return "This query sees no key, so its weights say nothing about its scores."
    found = []
    if layer.keywords.get("softcap") is not None:
        found.append(f"its scores are soft-capped at {layer.keywords['softcap']:g}")
    if layer.keywords.get("sinks") is not None or getattr(layer.module, "sinks", None) is not None:
        found.append("each head has a sink that takes part of the attention")
    if layer.keywords.get("position_bias") is not None or bool((added[visible] != 0).any()):
        found.append("a bias (of the positions, or of an edit) is added to its scores")
    if not found:
        return "The softmax of these scores does not give the weights: this model's attention does more with them."
    return f"The softmax of these scores does not give the weights: in this model {' and '.join(found)}."
