"""One number a token from every head, layer and method, for what a person reads: no single query, but the whole text.

A key's score is the attention that it receives, averaged over the queries that can see it: in a causal model the first
token is seen by every query and the last by itself alone, so that sums would only say where a token stands.

    heads     the pattern itself
    layers    its heads averaged; "mean" averages all layers, "last" is the last one
    methods   the top states of the text in equal parts, divided by the share of queries that can see the token
    gradient  of one outcome: the token that the model expects after the text; of a model without a vocabulary, how
              like another text's embedding this one's is
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from attnviz.errors import InputError, Unsupported
from attnviz.flow import METHODS, Run, Target, steps, take_apart
from attnviz.flow.methods import scores, without_sinks
from attnviz.flow.relevance import relevance
from attnviz.models import Model
from attnviz.trace import Trace
from attnviz.view import Sinks, View

MEAN = "mean"
GAZE_METHODS = ("last", MEAN, "rollout", "max-flow", "norms-attention", "norms", "relevance")
SINKS = {"in": Sinks(), "out": Sinks("renormalise", ("first", "special"))}


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model pays the tokens of one text.

    trace    of the text, with its logits
    heads    [layer, head] of each row of `received`
    received by sink ("in", "out"), float64 [head, token]
    methods  by sink and name, float64 [token]
    hidden   [token] boolean, the keys that are taken out where the sink is
    refused  method -> why there is none
    """

    trace: Trace
    heads: tuple[tuple[int, int], ...]
    received: Mapping[str, torch.Tensor]
    methods: Mapping[str, Mapping[str, torch.Tensor]]
    hidden: torch.Tensor
    refused: Mapping[str, str]


def check(model: Model, methods: Sequence[str]) -> None:
    """Raises Unsupported for a model of two texts, InputError for a method that there is not."""
    if model.family == "encoder-decoder":
        raise Unsupported(f"{model.name} reads two texts; reading times are held against a model that reads one.")
    known = (MEAN, *METHODS)
    for name in methods:
        if name not in known:
            raise InputError(f"A method is one of {', '.join(known)}; got {name!r}.")


def seen_by(model: Model, text: str, other: str | None, methods: Sequence[str]) -> Seen:
    """Run a model on a text and score its tokens.

    other    a second text, for the gradient of a model without a vocabulary; None where there is none
    raises   what `Model.trace` raises. What a method refuses is in `refused`
    """
    refused: dict[str, str] = {}
    run = None
    parts = [name for name in methods if name in METHODS and METHODS[name].reads == "parts"]
    if parts:
        try:
            run = take_apart(model, text)
        except Unsupported as error:
            refused = dict.fromkeys(parts, str(error))
    trace = model.trace(text) if run is None else run.trace
    places = tuple((layer, head) for layer in trace.layers() for head in range(trace.layer(layer).n_heads))
    received = {sink: received_by(trace, View(sinks=how)) for sink, how in SINKS.items()}
    found: dict[str, dict[str, torch.Tensor]] = {sink: {} for sink in SINKS}
    for name in methods:
        if name in refused:
            continue
        try:
            for sink, values in _method(name, model, trace, run, other, received).items():
                found[sink][name] = values
        except (InputError, Unsupported) as error:
            refused[name] = str(error)
    hidden = View(sinks=SINKS["out"]).hidden(trace)
    return Seen(trace, places, received, found, hidden, refused)


def received_by(trace: Trace, view: View) -> torch.Tensor:
    """[head of all layers, key]: attention received, over the queries that can see the key; 0 where none can."""
    out = []
    for layer in trace.layers():
        weights = torch.cat([rows.weights.cpu() for rows in view.rows(trace, layer)], dim=1).double()
        seeing = trace.layer(layer).visible()[0].cpu().sum(-2)  # [1 or head, key]
        out.append(weights.sum(1) / seeing.clamp(min=1))
    return torch.cat(out)


def _method(
    name: str, model: Model, trace: Trace, run: Run | None, other: str | None, received: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """By sink, one method's score of each token."""
    if name == MEAN:
        return {sink: values.mean(0) for sink, values in received.items()}
    if name == "relevance":
        target = Target() if model.has_vocabulary else Target(other=other)
        # Gradients know no sink: with it taken out, its word alone is left out.
        return dict.fromkeys(SINKS, relevance(model, target.aim(model, trace), trace).text.cpu())
    n = len(trace.tokens)
    seeing = torch.arange(n, 0, -1) if model.family == "decoder" else torch.full((n,), n)
    if METHODS[name].reads == "parts":  # which know nothing of sinks, so that they are made once
        whole = steps(name, trace, run=run, model=model)
        made = {sink: without_sinks(whole, trace, View(sinks=how)) for sink, how in SINKS.items()}
    else:
        made = {sink: steps(name, trace, sinks=how) for sink, how in SINKS.items()}
    return {sink: scores(name, one, None).text.cpu() * n / seeing for sink, one in made.items()}
