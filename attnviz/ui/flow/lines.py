"""The Flow page's pictures as lines of Python that make them again."""

from __future__ import annotations

from collections.abc import Sequence

from attnviz.figures.flow import MOST_SANKEY_EDGES
from attnviz.flow.methods import METHODS
from attnviz.flow.target import Target
from attnviz.settings import settings
from attnviz.ui import python_lines as python
from attnviz.ui.flow.finding import YARDSTICKS, method_of
from attnviz.ui.flow.target import Subject, seen_until
from attnviz.ui.selection import SAVED, Focus, Selection
from attnviz.ui.session import text_of
from attnviz.view import Sinks, View

_FLOW = "attnviz.flow"
_TITLES = f"titles = {{name: one.title for name, one in {_FLOW}.methods.METHODS.items()}}"


def bars_lines(chosen: Selection, subject: Subject, without: Sinks | None, hows: Sequence[str]) -> str:
    """The aligned bars of every method: `figures.flow.bars`."""
    lines = _scored(chosen, subject, without, hows)
    return python.shown(lines, "flow.bars", ["labels", "scores"])


def agreement_lines(chosen: Selection, subject: Subject, without: Sinks | None, hows: Sequence[str]) -> str:
    """How far the methods agree on one text: `figures.flow.agreement_map`."""
    lines = _scored(chosen, subject, without, hows, "scoring")
    lines.append(python.assigned("table", f"{_FLOW}.scoring.table", ["scores", "absolute=True"]))
    return python.shown(lines, "flow.agreement_map", ["table"])


def texts_lines(chosen: Selection, texts: Sequence[str], hows: Sequence[str], other: str, first: int) -> str:
    """How far the methods agree on a set of texts: `figures.flow.agreement_map`."""
    lines = [*_imports("columns", "methods", "scoring", "target", "yardsticks"), *_model(chosen)]
    until = "" if other else ", until=found.aim.query"
    lines += ["texts = [", *(f"    {python.literal(text, 95)}," for text in texts), "]"]
    lines += _target(Target(other=other) if other else Target(first))
    lines += [
        _TITLES,
        "per_text = []",
        "for text in texts:",
        f"    found = {_FLOW}.methods.explain(model, text, target=target)",
        "    scores = {titles[name]: one for name, one in found.scores.items()}",
    ]
    for how in hows:
        made = f'{_FLOW}.yardsticks.yardstick(model, text, aim_target=target, how="{how}")'
        lines += [f"    effects = {made}", f'    scores["{YARDSTICKS[how]}"] = effects']
    lines += [
        "    per_text.append({",
        f"        name: {_FLOW}.columns.columns(one{until})",
        "        for name, one in scores.items()",
        "    })",
    ]
    lines.append(python.assigned("table", f"{_FLOW}.scoring.over_texts", ["per_text", "absolute=True"]))
    return python.shown(lines, "flow.agreement_map", ["table"])


def graph_lines(chosen: Selection, subject: Subject, *, few: bool) -> str:
    """The graph of one method: `figures.flow.sankey`; `few` where it draws the heaviest edges only."""
    name = method_of(subject, chosen.method)
    method, (query, level), view = METHODS[name], subject.state, subject.view
    parts = method.reads != "attention"
    made = _run(chosen, subject) if parts else _trace(chosen, subject)
    lines = [*_imports("graph", "methods", *["run"] * parts), *made]
    sinks = [f"sinks={sinks_literal(view.sinks)}"] if view.sinks.active else []
    stack = [f'"{name}"', "trace", *["run=run", "model=model"] * parts, *sinks]
    lines.append(python.assigned("stack", f"{_FLOW}.methods.steps", stack))
    lines += _units(subject)
    units = [] if view.unit == "token" else ["units=[source, units]" if subject.source_units else "units=[units]"]
    down = [
        "stack",
        "labels",
        str(query),
        f"share={chosen.share:g}",
        *([] if level is None else [f"level={level}"]),
        *units,
    ]
    down += [f"most={MOST_SANKEY_EDGES}"] if few else []
    lines.append(python.assigned("graph", f"{_FLOW}.graph.trace_down", down))
    return python.shown(lines, "flow.sankey", ["graph"])


def edge_lines(chosen: Selection, subject: Subject, focus: Focus, *, plain: bool) -> str:
    """The heads of one edge: `figures.flow.bars`; `plain` where attention alone is known."""
    site, layer = subject.trace.info.site(focus.head.site), focus.head.layer
    if plain:
        lines = [*_imports(), *_trace(chosen, subject)]
        lines.append(f'attention = trace.row({focus.query}, "{site}")[{layer}, :, {focus.key}]')
        lines.append('labels = [f"H{head}" for head in range(len(attention))]')
        return python.shown(lines, "flow.bars", ["labels", '{"attention": attention}'])
    lines = [*_imports("contributions", "run"), *_run(chosen, subject)]
    lines.append(f'block = next(b for b in run.blocks if (b.site, b.layer) == ("{site}", {layer}))')
    lines.append(
        python.assigned("heads", f"{_FLOW}.contributions.edge_heads", ["block", str(focus.query), str(focus.key)])
    )
    lines.append('labels = [f"H{head}" for head in heads["head"]]')
    lines.append('columns = {name: heads[name] for name in heads.columns if name != "head"}')
    return python.shown(lines, "flow.bars", ["labels", "columns"])


def attribution_lines(chosen: Selection, subject: Subject, site: str) -> str:
    """What each head writes: `figures.attribution.attribution_map`."""
    assert subject.target is not None
    lines = [*_imports("logits", "run", "target"), *_run(chosen, subject), *_target(subject.target)]
    lines[lines.index("import attnviz.figures.flow")] = "import attnviz.figures.attribution"
    lines.append("aim = target.aim(model, run.trace)")
    lines.append(python.assigned("found", f"{_FLOW}.logits.attribution", ["run", "model", "aim"]))
    title = 'title=f"What writes the {aim.title}"'
    return python.shown(lines, "attribution.attribution_map", ["found.frame()", f'site="{site}"', title])


def lens_lines(chosen: Selection, subject: Subject) -> str:
    """The logit lens: `figures.attribution.lens_map`."""
    lines = [*_imports("logits", "run"), *_run(chosen, subject)]
    lines[lines.index("import attnviz.figures.flow")] = "import attnviz.figures.attribution"
    lines.append(python.assigned("lens", f"{_FLOW}.logits.lens", ["run", "model", str(subject.goal)]))
    return python.shown(lines, "attribution.lens_map", ["lens"])


def target_literal(target: Target) -> str:
    """A target as Python."""
    parts = [] if target.query == -1 else [str(target.query)]
    parts += [f"{name}={value}" for name in ("answer", "foil") if (value := getattr(target, name)) is not None]
    return f"{_FLOW}.target.Target({', '.join(parts)})"


def sinks_literal(sinks: Sinks) -> str:
    """Sinks as Python."""
    (argument,) = python.view_argument(View(sinks=sinks))
    return argument.removeprefix("view=attnviz.View(sinks=").removesuffix(")")


def _scored(
    chosen: Selection, subject: Subject, without: Sinks | None, hows: Sequence[str], *modules: str
) -> list[str]:
    """The lines that make `labels` and `scores`: method in words -> [column]."""
    lines = [*_imports("columns", "methods", "target", *["yardsticks"] * bool(hows), *modules), *_model(chosen)]
    given = ["model", *_given(chosen, subject, lines)]
    lines += _target(subject.target or Target())
    lines.append(python.assigned("found", f"{_FLOW}.methods.explain", [*given, "target=target"]))
    lines.append("trace = found.trace")
    lines.append(_TITLES)
    lines.append("every = {titles[name]: one for name, one in found.scores.items()}")
    if without is not None:
        arguments = [*given, "target=target", f"sinks={sinks_literal(without)}"]
        lines.append(python.assigned("without", f"{_FLOW}.methods.explain", arguments))
        lines.append('every |= {f"{titles[name]}, without sinks": one for name, one in without.scores.items()}')
    for how in hows:
        arguments = [*given, "aim_target=target", f'how="{how}"']
        lines.append(python.assigned("effects", f"{_FLOW}.yardsticks.yardstick", arguments))
        lines.append(f'every["{YARDSTICKS[how]}"] = effects')
    lines += _units(subject)
    until = seen_until(subject)
    arguments = [
        "one",
        "units",
        *["source"] * bool(subject.source_units),
        *([] if until is None else [f"until={until}"]),
    ]
    row = f"{_FLOW}.columns.columns({', '.join(arguments)})"
    lines += ["scores = {", f"    name: {row}", "    for name, one in every.items()", "}"]
    return lines


def _units(subject: Subject) -> list[str]:
    """The lines that make `units`, `source` where there is one, and `labels`, of `trace`."""
    view = f'attnviz.View("{subject.view.unit}")'
    if subject.source_units is None:
        return [f"units = {view}.axes(trace)[0]", "labels = units.labels"]
    return [
        f'units, source = {view}.axes(trace, "cross")',
        "labels = source.labels + units.labels",
    ]


def _imports(*modules: str) -> list[str]:
    return ["import attnviz", "import attnviz.figures.flow", *(f"import {_FLOW}.{m}" for m in sorted(set(modules))), ""]


def _model(chosen: Selection) -> list[str]:
    lines: list[str] = []
    name = python.named("name", chosen.model or settings().default_model, lines, len("model = attnviz.load_model()"))
    return [*lines, f"model = attnviz.load_model({name})"]


def _given(chosen: Selection, subject: Subject, lines: list[str]) -> list[str]:
    """What a function reads: the text and the target, or the ids of a chat, made by `lines`."""
    lines.append(f"text = {python.literal(text_of(chosen.text), 90)}")
    if chosen.chat:
        lines.append("ids = model.encode(text, chat_template=True).ids")
        return ["input_ids=ids"]
    target = text_of(chosen.other) if subject.trace.info.family == "encoder-decoder" else ""
    if target:
        lines.append(f"decoder_text = {python.literal(target, 80)}")
    return ["text", *["decoder_text"] * bool(target)]


def _trace(chosen: Selection, subject: Subject) -> list[str]:
    if chosen.model == SAVED:
        return ['trace = attnviz.load_trace("trace.safetensors")  # the file that was opened']
    lines = _model(chosen)
    given = _given(chosen, subject, lines)
    return [*lines, python.assigned("trace", "model.trace", given)]


def _run(chosen: Selection, subject: Subject) -> list[str]:
    lines = _model(chosen)
    given = _given(chosen, subject, lines)
    return [*lines, python.assigned("run", f"{_FLOW}.run.take_apart", ["model", *given]), "trace = run.trace"]


def _target(target: Target) -> list[str]:
    if target.other is None:
        return [f"target = {target_literal(target)}"]
    return [f"other = {python.literal(target.other, 90)}", f"target = {_FLOW}.target.Target(other=other)"]
