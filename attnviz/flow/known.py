"""The methods that there are, in words: what each reads, what it does, and where it was published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Method:
    """One way to say where a prediction came from.

    reads    "attention": patterns alone; "parts": what heads write, so it needs a model's anatomy; "gradient": of the
             outcome, and the only kind that looks at the target's prediction
    layered  whether it gives shares for every layer, and so a graph
    words    what it does, for captions
    options  what `steps` takes for it besides, by name
    """

    title: str
    reads: Literal["attention", "parts", "gradient"]
    layered: bool
    words: str
    source: str
    options: tuple[str, ...] = ()


METHODS: dict[str, Method] = {
    "position": Method(
        "Position alone",
        "attention",
        True,
        "Rollout of attention spread evenly over all that a query can see: what the mask alone would say of any text.",
        "a baseline",
    ),
    "last": Method(
        "Last layer",
        "attention",
        False,
        "The last layer's attention, heads averaged, as if its states still were the tokens below them.",
        "a baseline",
    ),
    "rollout": Method(
        "Rollout",
        "attention",
        True,
        "Attention of all layers multiplied, heads averaged, half of every state kept as the residual.",
        "Abnar & Zuidema 2020, arXiv 2005.00928",
        ("residual",),
    ),
    "max-flow": Method(
        "Max-flow",
        "attention",
        False,
        "The most that can flow from the target to a token through the same graph.",
        "Abnar & Zuidema 2020, arXiv 2005.00928",
        ("residual",),
    ),
    "norms": Method(
        "Norms",
        "parts",
        True,
        "The lengths of what each token's value adds to a state, residual and norm included. Multiplied over layers as "
        "rollout does, which is ours: the paper stops at one layer.",
        "Kobayashi et al. 2021, arXiv 2109.07152",
        ("residual", "norm"),
    ),
    "norms-attention": Method(
        "Norms, attention alone",
        "parts",
        True,
        "The lengths of what each token's value adds to a state, without residual and norm, multiplied over layers in "
        "the same way. Nothing is kept, so with cross-attention all of it ends in the source.",
        "Kobayashi et al. 2020, arXiv 2004.10102",
    ),
    "alti": Method(
        "ALTI",
        "parts",
        True,
        "How much nearer each token's part brings a state to what it becomes, multiplied over layers.",
        "Ferrando et al. 2022, arXiv 2203.04212",
    ),
    "routes": Method(
        "Information flow routes",
        "parts",
        True,
        "As ALTI with every head a part of its own, so that heads that cancel each other do not count.",
        "Ferrando & Voita 2024, arXiv 2403.00824",
        ("threshold", "share", "feed_forward"),
    ),
    "zeroing": Method(
        "Value zeroing",
        "parts",
        True,
        "How far a state behind attention turns when one token's values in that layer are zero, multiplied over "
        "layers. The attention variant: the paper measures behind the feed-forward block.",
        "Mohebbi et al. 2023, arXiv 2301.12971",
        ("through",),
    ),
    "relevance": Method(
        "Gradient relevance",
        "gradient",
        False,
        "Attention times the outcome's gradient where both are positive, added up over layers.",
        "Chefer et al. 2021, arXiv 2103.15679",
    ),
}
