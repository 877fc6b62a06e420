"""Rollout: what reaches each token if every state is the mixture that attention says (Abnar & Zuidema 2020).

Shares are multiplied along every path of the layers and summed over the paths. `rollout` gives the whole product of one
text's attention; `scores_of` one row of the top, of any steps, which costs a vector a layer instead of a matrix.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from attnviz.errors import InputError
from attnviz.flow.mixing import Scores, Stack, Step, steps
from attnviz.trace import Trace
from attnviz.view import View


def rollout(patterns: Any, residual: float = 0.5, *, view: View | None = None) -> torch.Tensor:
    """Attention rollout (Abnar & Zuidema 2020, arXiv 2005.00928), heads averaged: R_l = A_l R_(l-1), R_0 = I.

    patterns   [layer, head, query, key] after the softmax, or averaged [layer, query, key]; or a Trace of one text
    residual   share of the skip connection in each A_l, in [0, 1]
    view       of a trace: what becomes of sinks in every layer; then words or sentences: summed over a unit's tokens,
               averaged over its queries
    returns    [layer, query, token], float32 (float64 for such patterns); layer 0 first, only layers with attention;
               rows sum to 1 where the patterns' do
    raises     InputError, ShapeError; InputError for an encoder-decoder's trace: `scores_of` has both its texts
    Attention and the mask alone: it looks neither at values nor at the prediction, and is no causal effect.
    """
    one_text(patterns, "scores_of")
    rolled: list[torch.Tensor] = []
    for step in steps(patterns, residual=residual, view=view):
        rolled.append(step.matrix() @ rolled[-1] if rolled else step.matrix())
    out = torch.stack(rolled)
    if view is None or view.unit == "token":
        return out
    queries, keys = view.axes(patterns)
    return queries.mean(keys.sum(out).transpose(-1, -2)).transpose(-1, -2)


def scores_of(stack: Iterable[Step] | Stack, query: int | None, *, level: int | None = None) -> Scores:
    """One row of the product: how much each token's embedding counts for one state.

    query    a position of the text (of the source, at a level up to the encoder's top); None: the mean over all, for
             a pooled embedding
    level    the number of steps below the state, from 1; None: the top
    returns  float64; source and text together sum to 1 where every step's rows do
    raises   InputError or ShapeError for steps that do not fit each other, a query or a level that there is not
    """
    stack = Stack.of(stack)
    level, mass = stack.target(query, level)
    for place in reversed(range(level)):
        mass = stack.fall(mass, place)
    return stack.scores(mass)


def one_text(patterns: Any, instead: str) -> None:
    """Refuse a trace of two texts where the result has one axis of tokens."""
    if isinstance(patterns, Trace) and patterns.info.family == "encoder-decoder":
        raise InputError(
            f"{patterns.info.name} reads two texts: use {instead}(mixing.steps(trace), query), which has the source's "
            "tokens as well."
        )
