"""Every method on one target, side by side.

A method that mixes layers gives Steps, and what reaches a token from the target is the product of their shares;
max-flow and gradients give their scores at once. None of them is the effect of taking a token away: that is what
`attnviz.flow.yardsticks` measures, and the two are to be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd
import torch

from attnviz.edits import Edit
from attnviz.errors import AttnvizError, InputError, Unsupported
from attnviz.flow.alti import steps as alti_steps
from attnviz.flow.contributions import steps as norm_steps
from attnviz.flow.maxflow import max_flow_steps
from attnviz.flow.mixing import Scores, Step
from attnviz.flow.mixing import steps as attention_steps
from attnviz.flow.relevance import relevance
from attnviz.flow.rollout import scores_of
from attnviz.flow.routes import steps as route_steps
from attnviz.flow.run import Run, take_apart
from attnviz.flow.target import Aim, Target
from attnviz.flow.zeroing import steps as zeroing_steps
from attnviz.models import Model
from attnviz.trace import Trace
from attnviz.view import Sinks, View

Report = Callable[[str, int, int], None]  # the method under way, how many are done, how many in all


@dataclass(frozen=True)
class Method:
    """One way to say where a prediction came from.

    reads    "attention": patterns alone; "parts": what heads write, so it needs a model's anatomy; "gradient": of the
             outcome, and the only kind that looks at the target's prediction
    layered  whether it gives shares for every layer, and so a graph
    words    what it does, for captions
    """

    title: str
    reads: Literal["attention", "parts", "gradient"]
    layered: bool
    words: str
    source: str


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
    ),
    "max-flow": Method(
        "Max-flow",
        "attention",
        False,
        "The most that can flow from the target to a token through the same graph.",
        "Abnar & Zuidema 2020, arXiv 2005.00928",
    ),
    "norms": Method(
        "Norms",
        "parts",
        True,
        "The lengths of what each token's value adds to a state, residual and norms included, multiplied over layers.",
        "Kobayashi et al. 2021, arXiv 2109.07152",
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
    ),
    "zeroing": Method(
        "Value zeroing",
        "parts",
        True,
        "How far a state behind attention turns when one token's values in that layer are zero, multiplied up.",
        "Mohebbi et al. 2023, arXiv 2301.12971",
    ),
    "relevance": Method(
        "Gradient relevance",
        "gradient",
        False,
        "Attention times the outcome's gradient where both are positive, added up over layers.",
        "Chefer et al. 2021, arXiv 2103.15679",
    ),
}


@dataclass(frozen=True, eq=False)
class Explained:
    """One target by several methods.

    scores     method -> Scores, each in its own scale: only their order and shape compare
    refused    method -> why it is not offered here
    """

    trace: Trace
    aim: Aim
    scores: Mapping[str, Scores]
    refused: Mapping[str, str]

    def frame(self) -> pd.DataFrame:
        """A row for each method and token: method, side ("text" or "source"), position, token, score."""
        rows = []
        for name, scores in self.scores.items():
            sides = [("source", self.trace.source_tokens, scores.source), ("text", self.trace.tokens, scores.text)]
            for side, tokens, values in sides:
                if values is not None:
                    pairs = enumerate(zip(tokens, values.tolist(), strict=True))
                    rows += [(name, side, i, token.text, value) for i, (token, value) in pairs]
        return pd.DataFrame(rows, columns=["method", "side", "position", "token", "score"])


def explain(
    model: Model,
    text: str | None = None,
    decoder_text: str | None = None,
    *,
    target: Target | None = None,
    methods: Sequence[str] = tuple(METHODS),
    sinks: Sinks | None = None,
    input_ids: Any = None,
    decoder_input_ids: Any = None,
    edits: Sequence[Edit] = (),
    report: Report | None = None,
) -> Explained:
    """Explain one outcome by several methods.

    text, decoder_text, input_ids, decoder_input_ids, edits   as `Model.trace` has them
    target    what is explained; by default the likeliest token after the text
    sinks     keys taken out of every layer first; see `hidden_steps`
    report    called with (title, done, in all) before each method; raise from it to stop
    raises    InputError for a method there is not; MetricError for a target that the model cannot have
    """
    for name in methods:
        if name not in METHODS:
            raise InputError(f"A method is one of {', '.join(METHODS)}; got {name!r}.")
    given = {"input_ids": input_ids, "decoder_input_ids": decoder_input_ids, "edits": edits}
    run, refused = None, {}
    if not model.anatomy.reason:
        try:
            run = take_apart(model, text, decoder_text, **given)
        except Unsupported as error:
            refused = {name: str(error) for name in methods if METHODS[name].reads == "parts"}
    else:
        refused = {name: model.anatomy.reason for name in methods if METHODS[name].reads == "parts"}
    trace = run.trace if run else model.trace(text, decoder_text, **given)
    aim = (target or Target()).aim(model, trace)
    found: dict[str, Scores] = {}
    for done, name in enumerate(methods):
        if name in refused:
            continue
        if report is not None:
            report(METHODS[name].title, done, len(methods))
        try:
            if name == "relevance":
                found[name] = relevance(model, aim, trace, edits=edits)
            else:
                found[name] = scores(name, steps(name, trace, run=run, model=model, sinks=sinks), aim.query)
        except AttnvizError as error:
            refused[name] = str(error)
    return Explained(trace, aim, found, refused)


def steps(
    name: str, trace: Trace, *, run: Run | None = None, model: Model | None = None, sinks: Sinks | None = None
) -> list[Step]:
    """The layers of one method, bottom first.

    run, model   for a method that reads parts: its run taken apart, and the model of value zeroing
    sinks        what becomes of sinks in every layer: of attention as `View` has it; of parts, see `without_sinks`
    raises       InputError for a method without layers, or without the run that it needs; Unsupported
    """
    method = METHODS.get(name)
    if method is None or method.reads == "gradient":
        raise InputError(
            f"{name!r} has no layers; choose from {', '.join(n for n, m in METHODS.items() if m.layered)}."
        )
    view = None if sinks is None else View(sinks=sinks)
    if name == "position":
        return without_sinks(_even(trace), trace, view)
    if name == "last":
        return _last(trace, view)
    if method.reads == "attention":
        return list(attention_steps(trace, view=view))
    if run is None:
        raise InputError(f"{method.title} reads what heads write: give the run taken apart, flow.take_apart(...).")
    if name == "zeroing":
        if model is None:
            raise InputError("Value zeroing runs layers again: give the model.")
        return without_sinks(zeroing_steps(run, model), trace, view)
    made = {"norms": norm_steps, "alti": alti_steps, "routes": route_steps}[name]
    return without_sinks(made(run), trace, view)


def scores(name: str, made: Sequence[Step], query: int | None) -> Scores:
    """What each token counts for the target, by a method's steps; None: the mean over all queries."""
    if name == "max-flow":
        return max_flow_steps(made, query)
    if name != "last":
        return scores_of(made, query)
    rows = {step.site: step.weights.mean(0) if query is None else step.weights[query] for step in made}
    text = next(row for site, row in rows.items() if site != "cross")
    return Scores(text.double(), rows["cross"].double() if "cross" in rows else None)


def without_sinks(made: Iterable[Step], trace: Trace, view: View | None) -> list[Step]:
    """Steps with the view's hidden keys taken out of every layer; with "renormalise" each row's attention is scaled
    back to what it was. Weighting by value norms changes nothing here: what heads write has its length already."""
    kept = list(made)
    if view is None or view.sinks.how not in ("hide", "renormalise"):
        return kept
    hidden = {site: view.hidden(trace, site) for site in dict.fromkeys(step.site for step in kept)}
    out = []
    for step in kept:
        weights = step.weights.masked_fill(hidden[step.site], 0)
        if view.sinks.how == "renormalise":
            left = weights.sum(-1, keepdim=True)
            weights = torch.where(left > 0, weights * step.weights.sum(-1, keepdim=True) / left.clamp(min=1e-30), 0)
        out.append(replace(step, weights=weights))
    return out


def _even(trace: Trace) -> Iterator[Step]:
    """Attention spread evenly over the keys that each query can see, half of every state kept."""
    for step in attention_steps(trace):
        seen = trace.layer(step.layer, step.site).visible()[0].any(0).cpu()
        seen = seen.expand(step.weights.shape).to(step.weights.dtype)
        yield replace(step, weights=0.5 * seen / seen.sum(-1, keepdim=True).clamp(min=1), kept=step.kept)


def _last(trace: Trace, view: View | None) -> list[Step]:
    """The last block of each site that the text's states pass, with nothing kept."""
    tokens = view or View()
    made = []
    for site in trace.info.sites:
        if site == "encoder" and trace.info.family == "encoder-decoder":
            continue
        layer = trace.layers(site)[-1]
        weights = torch.cat([rows.weights.mean(0).cpu() for rows in tokens.rows(trace, layer, None, site)])
        made.append(Step(site, layer, weights, torch.zeros(len(weights))))
    return made
