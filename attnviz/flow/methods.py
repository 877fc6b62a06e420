"""Every method on one target, side by side.

A method that mixes layers gives Steps, and what reaches a token from the target is the product of their shares;
max-flow and gradients give their scores at once. None of them is the effect of taking a token away: that is what
`attnviz.flow.yardsticks` measures, and the two are to be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch

from attnviz.edits import Edit
from attnviz.errors import InputError, Unsupported
from attnviz.flow.alti import steps as alti_steps
from attnviz.flow.contributions import steps as norm_steps
from attnviz.flow.known import METHODS, Method
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
from attnviz.tap import Progress
from attnviz.trace import Trace
from attnviz.view import Sinks, View

__all__ = ["METHODS", "Explained", "Method", "Report", "explain", "scores", "steps", "without_sinks"]

Report = Callable[[str, float, int], None]  # what is under way, how much is done, how much in all


@dataclass(frozen=True, eq=False)
class Explained:
    """One target by several methods.

    scores     method -> Scores, each in its own scale: only their order and shape compare
    refused    method -> why it is not offered here
    run        the run taken apart, for another call of `explain`; None where no method needed it or it cannot be
    """

    trace: Trace
    aim: Aim
    scores: Mapping[str, Scores]
    refused: Mapping[str, str]
    run: Run | None = None

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
    run: Run | None = None,
    report: Report | None = None,
) -> Explained:
    """Explain one outcome by several methods.

    text, decoder_text, input_ids, decoder_input_ids, edits   as `Model.trace` has them
    target    what is explained; by default the likeliest token after the text
    sinks     keys taken out of every layer first; see `without_sinks`
    run       a run of this model that was taken apart before (`Explained.run`): it stands for text, ids and edits
    report    called with (title, done, in all) before each part of the work and within the long ones, where `done` is
              no whole number; raise from it to stop
    raises    InputError for a method there is not; MetricError for a target that the model cannot have; what
              `Model.trace` raises. What a method refuses by itself is in `refused`
    """
    for name in methods:
        if name not in METHODS:
            raise InputError(f"A method is one of {', '.join(METHODS)}; got {name!r}.")
    total = len(methods) + (run is None)

    def within(title: str, before: int) -> Progress | None:
        return None if report is None else lambda done, of: report(title, before + done / max(1, of), total)

    refused: dict[str, str] = {}
    trace = None if run is None else run.trace
    if run is None:
        given = {"input_ids": input_ids, "decoder_input_ids": decoder_input_ids, "edits": edits}
        progress = within("Running the model", 0)
        parts = [name for name in methods if METHODS[name].reads == "parts"]
        try:
            run = take_apart(model, text, decoder_text, **given, progress=progress) if parts else None
        except Unsupported as error:
            refused = dict.fromkeys(parts, str(error))
        trace = run.trace if run else model.trace(text, decoder_text, **given, progress=progress)
    assert trace is not None
    aim = (target or Target()).aim(model, trace)
    found: dict[str, Scores] = {}
    for before, name in enumerate(methods, total - len(methods)):
        if name in refused:
            continue
        title = METHODS[name].title
        if report is not None:
            report(title, before, total)
        inner = within(title, before)
        try:
            if name == "relevance":
                found[name] = relevance(model, aim, trace, edits=trace.edits, progress=inner)
            elif name == "max-flow":
                found[name] = scores(name, steps(name, trace, sinks=sinks), aim.query, progress=inner)
            else:
                made = steps(name, trace, run=run, model=model, sinks=sinks, progress=inner)
                found[name] = scores(name, made, aim.query)
        # An edit that was not met, want of memory or a wish to stop is no property of the method.
        except (InputError, Unsupported) as error:
            refused[name] = str(error)
    return Explained(trace, aim, found, refused, run)


def steps(
    name: str,
    trace: Trace,
    *,
    run: Run | None = None,
    model: Model | None = None,
    sinks: Sinks | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> list[Step]:
    """The layers of one method, bottom first.

    run, model   for a method that reads parts: its run taken apart, and the model of value zeroing
    sinks        what becomes of sinks in every layer: of attention as `View` has it; of parts, see `without_sinks`
    progress     called with (blocks done, blocks in all); raise from it to stop
    options      of the method (`Method.options`), as its own module has them: "residual" of rollout and max-flow
                 (`mixing`), "residual" and "norm" of norms (`contributions`), "threshold", "share" and "feed_forward"
                 of routes (`routes`), "through" of value zeroing (`zeroing`)
    raises       InputError for a method without layers, without the run that it needs, or without such an option;
                 Unsupported
    """
    method = METHODS.get(name)
    if method is None or method.reads == "gradient":
        raise InputError(
            f"{name!r} has no layers; choose from {', '.join(n for n, m in METHODS.items() if m.layered)}."
        )
    unknown = [option for option in options if option not in method.options]
    if unknown:
        takes = f"takes {', '.join(method.options)}" if method.options else "takes no options"
        raise InputError(f"{method.title} {takes}; got {', '.join(unknown)}.")
    if run is not None and (run.trace.info.name, run.trace.input_ids) != (trace.info.name, trace.input_ids):
        raise InputError(f"run is the trace's own text taken apart; got that of {run.trace!r} beside {trace!r}.")
    view = None if sinks is None else View(sinks=sinks)
    if name == "last":
        return _last(trace, view)
    if method.reads == "attention":
        n_blocks = sum(len(trace.layers(site)) for site in trace.info.sites)
        if name == "position":
            return without_sinks(_counted(_even(trace), n_blocks, progress), trace, view)
        return list(_counted(attention_steps(trace, view=view, **options), n_blocks, progress))
    if run is None:
        raise InputError(f"{method.title} reads what heads write: give the run taken apart, flow.take_apart(...).")
    made: Iterable[Step]
    if name == "zeroing":
        if model is None:
            raise InputError("Value zeroing sends states through the model's own norms: give the model.")
        made = zeroing_steps(run, model, **options)
    elif name == "norms-attention":
        made = norm_steps(run, residual=False, norm=False)
    else:
        made = {"norms": norm_steps, "alti": alti_steps, "routes": route_steps}[name](run, **options)
    return without_sinks(_counted(made, len(run.blocks), progress), trace, view)


def scores(name: str, made: Sequence[Step], query: int | None, *, progress: Progress | None = None) -> Scores:
    """What each token counts for the target, by a method's steps; None: the mean over all queries.

    progress   of max-flow, called with (tokens done, all); the others take no time
    """
    if name == "max-flow":
        return max_flow_steps(made, query, progress=progress)
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


def _counted(made: Iterable[Step], total: int, progress: Progress | None) -> Iterator[Step]:
    for done, step in enumerate(made, 1):
        yield step
        if progress is not None:
            progress(done, total)


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
