"""A pruning curve, or a baked checkpoint, as lines of Python that make it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from attnviz.edits import Head
from attnviz.settings import settings
from attnviz.ui import python_lines as python
from attnviz.ui.ablation.asking import embedded_texts
from attnviz.ui.ablation.lines import metric_lines
from attnviz.ui.ablation.pruning_plan import STEPS, TIMED_STEPS, TIMED_TEXTS, Plan, Text, dates
from attnviz.ui.selection import Selection

_DATES = "assets/dates/dates.tsv"
_CASE = "attnviz.ablation.Case(line.split('\\t')[0], '', line.split('\\t')[1])"
_OWN: tuple[tuple[Callable[[], Sequence[Text]], str, str], ...] = (
    (partial(embedded_texts, pairs=False), "assets/sentences.txt", ""),
    (partial(embedded_texts, pairs=True), _DATES, "line.split('\\t')[0]"),
    (dates, _DATES, _CASE),
)


def pruning_lines(chosen: Selection, plan: Plan, *, timed: bool) -> str:
    """The curve with its random orders: `figures.pruning.pruning_curve`.

    timed   with the time that was measured, where heads could be taken out
    """
    lines = [*_model(chosen, "attnviz.figures.pruning"), *_texts("texts", plan.texts)]
    given = ["model", "texts"]
    if plan.metric is not None:
        lines += metric_lines(plan.metric)
        given.append("metric")
    options = []
    if plan.references is not None:
        lines += _texts("references", plan.references)
        options.append("references=references")
    if plan.decoder is not None:
        lines.append(f"read = {list(plan.decoder)}")
        options.append("decoder_input_ids=read")
    steps = [f"steps={STEPS}"] * (STEPS != 20)
    order = "0" if plan.order == "random" else f'"{plan.order}"'
    lines.append(python.assigned("curve", "attnviz.ablation.curve", [*given, f"order={order}", *options, *steps]))
    drawn = ["curve"]
    if plan.controls:
        call = ", ".join([*given, "order=seed", *options, *steps])
        lines += ["controls = [", "    attnviz.ablation.curve(", f"        {call}", "    )"]
        lines += [f"    for seed in range(1, {plan.controls + 1})", "]"]
        drawn.append("controls")
    if timed:
        few = [
            "model",
            f"texts[:{TIMED_TEXTS}]",
            *given[2:],
            "order=curve.order",
            *options,
            f"steps={TIMED_STEPS}",
            "timed=True",
        ]
        lines.append(python.assigned("timed", "attnviz.ablation.curve", few))
        drawn.append("timed=timed")
    if any("Path(" in line for line in lines):
        lines = ["from pathlib import Path", "", *lines]
    return python.shown(lines, "pruning.pruning_curve", drawn)


def baking_lines(chosen: Selection, scales: Mapping[Head, float]) -> str:
    """The checkpoint in a folder of one's own: `attnviz.ablation.bake`."""
    lines = [*_model(chosen), "scales = {"]
    lines += [f"    {python.head_literal(head)}: {scale:g}," for head, scale in scales.items()]
    lines += ["}", python.assigned("baked", "attnviz.ablation.bake", ["model", "scales", 'folder="baked"'])]
    return "\n".join([*lines, "gap = baked.gap  # how far the copy is from the edited model"]) + "\n"


def _model(chosen: Selection, *modules: str) -> list[str]:
    lines = ["import attnviz", *[f"import {module}" for module in modules], ""]
    name = python.named("name", chosen.model or settings().default_model, lines, len("model = attnviz.load_model()"))
    return [*lines, f"model = attnviz.load_model({name})"]


def _texts(name: str, texts: Sequence[Text]) -> list[str]:
    """The lines that make texts: read from the app's own files where they are the first of these."""
    for own, file, each in _OWN:
        if len(texts) > 1 and tuple(texts) == tuple(own())[: len(texts)]:
            read = f'{name} = Path("{file}").read_text("utf-8").splitlines()[:{len(texts)}]'
            return [read, *[f"{name} = [{each} for line in {name}]"] * bool(each)]
    return [f"{name} = [", *(f"    {_text(text)}," for text in texts), "]"]


def _text(text: Text) -> str:
    if isinstance(text, str):
        return python.literal(text, 95)
    parts = [python.literal(part, 60) for part in (text.clean, text.corrupted, text.answer, text.foil)]
    return f"attnviz.ablation.Case({', '.join(parts)})"
