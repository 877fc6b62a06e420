"""The Flow page's pictures as lines of Python that make them again."""

from __future__ import annotations

from collections.abc import Sequence

from attnviz.figures.flow import MOST_SANKEY_EDGES
from attnviz.flow.methods import METHODS
from attnviz.flow.target import Target
from attnviz.settings import settings
from attnviz.ui import python_lines as python
from attnviz.ui.flow.asking import YARDSTICKS, Batch, Given, Rows
from attnviz.ui.flow.edge import TO_TARGET, Edge
from attnviz.ui.flow.finding import Options, method_of, too_long_for, unmeasured
from attnviz.ui.flow.target import Subject, seen_until
from attnviz.ui.selection import SAVED, Selection
from attnviz.ui.session import text_of
from attnviz.view import Sinks, View

_FLOW = "attnviz.flow"
_TITLES = f"titles = {{name: one.title for name, one in {_FLOW}.methods.METHODS.items()}}"


def bars_lines(chosen: Selection, subject: Subject, rows: Rows) -> str:
    """The aligned bars of every method: `figures.flow.bars`."""
    return python.shown(_scored(chosen, subject, rows), "flow.bars", ["labels", "scores"])


def agreement_lines(chosen: Selection, subject: Subject, rows: Rows) -> str:
    """How far the methods agree on one text: `figures.flow.agreement_map`."""
    lines = _scored(chosen, subject, rows, "scoring")
    lines.append(python.assigned("table", f"{_FLOW}.scoring.table", ["scores", "absolute=True"]))
    return python.shown(lines, "flow.agreement_map", ["table"])


def texts_lines(chosen: Selection, subject: Subject, batch: Batch) -> str:
    """How far the methods agree on a set of texts: `figures.flow.agreement_map`."""
    modules = ["columns", "methods", "scoring", "target", *["yardsticks"] * bool(batch.yardsticks)]
    lines = [*_imports(*modules), *_model(chosen)]
    lines += ["texts = [", *(f"    {python.literal(text, 95)}," for text in batch.texts), "]", *_target(batch.target)]
    lines.append(_TITLES)
    every = len(batch.methods) == len(METHODS)
    lines += [] if every else _listed("names", batch.methods)
    for options in batch.yardsticks.values():
        lines += _stand_ins(options)
    given = ["model", "input_ids=ids" if batch.chat else "text"]
    some = [] if every else ["methods=names"]
    inside = ["ids = model.encode(text, chat_template=True).ids"] * batch.chat
    inside += _within("found", f"{_FLOW}.methods.explain", [*given, "target=target", *some])
    inside.append("scores = {titles[name]: one for name, one in found.scores.items()}")
    if batch.without is not None and batch.again:
        lines += [f"sinks = {sinks_literal(batch.without)}", *_listed("again", batch.again)]
        arguments = [*given, "target=target", "methods=again", "sinks=sinks"]
        inside += _within("without", f"{_FLOW}.methods.explain", arguments)
        inside.append('scores |= {f"{titles[name]}, without sinks": one for name, one in without.scores.items()}')
    for how, options in batch.yardsticks.items():
        inside += _within("effects", f"{_FLOW}.yardsticks.yardstick", _measuring(how, options, given))
        inside.append(f'scores["{YARDSTICKS[how]}"] = effects')
    axes = '(found.trace, "cross")' if subject.source_units else "(found.trace)[:1]"
    until = "" if subject.trace.info.family == "encoder" else ", until=found.aim.query"
    inside += [
        f'units = attnviz.View("{batch.unit}").axes{axes}',
        "per_text.append({",
        f"    name: {_FLOW}.columns.columns(one, *units{until})",
        "    for name, one in scores.items()",
        "})",
    ]
    lines += ["per_text = []", "for text in texts:", *(f"    {line}" for line in inside)]
    lines.append(python.assigned("table", f"{_FLOW}.scoring.over_texts", ["per_text", "absolute=True"]))
    return python.shown(lines, "flow.agreement_map", ["table"])


def graph_lines(chosen: Selection, subject: Subject, options: Options, *, few: bool) -> str:
    """The graph of one method with its options: `figures.flow.sankey`; `few` where it draws the heaviest edges only."""
    name = method_of(subject, chosen.method)
    method, (query, level), view = METHODS[name], subject.state, subject.view
    parts = method.reads != "attention"
    made = _run(chosen, subject) if parts else _trace(chosen, subject)
    lines = [*_imports("graph", "methods", *["run"] * parts), *made]
    sinks = [f"sinks={sinks_literal(view.sinks)}"] if view.sinks.active else []
    stack = [f'"{name}"', "trace", *["run=run", "model=model"] * parts, *sinks]
    stack += [f"{name}={value!r}" for name, value in options.items()]
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


def edge_lines(chosen: Selection, subject: Subject, edge: Edge, *, measured: Sequence[str]) -> str:
    """The heads of one edge: `figures.flow.bars`; `measured` are the columns of its table."""
    rows, columns = (f"{first}:{end}" for first, end in (edge.queries, edge.keys))
    mean = ".sum(-1).mean(-1)"
    if "contribution" not in measured:
        lines = [*_imports(), *_trace(chosen, subject)]
        lines.append(f'layer = trace.layer({edge.layer}, "{edge.site}")')
        lines.append(f"pattern = layer.pattern(queries=slice({rows.replace(':', ', ')}))[0]")
        lines.append(f"attention = pattern[:, :, {columns}]{mean}")
        lines.append('labels = [f"H{head}" for head in range(len(attention))]')
        return python.shown(lines, "flow.bars", ["labels", '{"attention": attention}'])
    written = TO_TARGET in measured
    lines = [*_imports("contributions", "run", *["logits", "target"] * written), *_run(chosen, subject)]
    lines.append(f'block = next(b for b in run.blocks if (b.site, b.layer) == ("{edge.site}", {edge.layer}))')
    if edge.single:
        arguments = ["block", str(edge.queries[0]), str(edge.keys[0])]
        lines.append(python.assigned("heads", f"{_FLOW}.contributions.edge_heads", arguments))
        lines.append('labels = [f"H{head}" for head in heads["head"]]')
        lines.append('columns = {name: heads[name] for name in heads.columns if name != "head"}')
    else:
        lines += [
            'labels = [f"H{head}" for head in range(block.n_heads)]',
            "cells = {",
            '    "attention": block.attention.pattern()[0],',
            f'    "contribution": {_FLOW}.contributions.head_norms(block),',
            f'    "proximity": {_FLOW}.contributions.proximities(block)[0],',
            "}",
            f"columns = {{name: cell[:, {rows}, {columns}]{mean} for name, cell in cells.items()}}",
        ]
    if written:
        assert subject.target is not None
        lines += [*_target(subject.target), "aim = target.aim(model, run.trace)"]
        arguments = ["run", "model", "block", str(subject.goal), f"range({columns.replace(':', ', ')})", "aim"]
        lines.append(python.assigned("written", f"{_FLOW}.logits.edge_logits", arguments))
        order = '[heads["head"].tolist()]' if edge.single else ""
        lines.append(f'columns["{TO_TARGET}"] = written{order}')
    return python.shown(lines, "flow.bars", ["labels", "columns"])


def attribution_lines(chosen: Selection, subject: Subject, site: str) -> str:
    """What each head writes: `figures.attribution.attribution_map`."""
    assert subject.target is not None
    lines = [*_imports("logits", "run", "target"), *_run(chosen, subject), *_target(subject.target)]
    lines[lines.index("import attnviz.figures.flow")] = "import attnviz.figures.attribution"
    lines.append("aim = target.aim(model, run.trace)")
    lines.append(python.assigned("found", f"{_FLOW}.logits.attribution", ["run", "model", "aim"]))
    title = 'title=f"What writes the {found.title}"'
    return python.shown(lines, "attribution.attribution_map", ["found.frame()", f'site="{site}"', title])


def lens_lines(chosen: Selection, subject: Subject, answer: int) -> str:
    """The logit lens, and the answer in it: `figures.attribution.lens_map`."""
    lines = [*_imports("logits", "run"), *_run(chosen, subject)]
    lines[lines.index("import attnviz.figures.flow")] = "import attnviz.figures.attribution"
    lines.append(
        python.assigned("lens", f"{_FLOW}.logits.lens", ["run", "model", str(subject.goal), f"answer={answer}"])
    )
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


def _scored(chosen: Selection, subject: Subject, rows: Rows, *modules: str) -> list[str]:
    """The lines that make `labels` and `scores`: method in words -> [column]."""
    lines = (
        _stepped(chosen, subject, rows, modules) if unmeasured(subject) else _explained(chosen, subject, rows, modules)
    )
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


def _explained(chosen: Selection, subject: Subject, rows: Rows, modules: Sequence[str]) -> list[str]:
    """The lines that make `every` for a target: method in words -> its scores."""
    assert subject.target is not None
    lines = [*_imports("columns", "methods", "target", *["yardsticks"] * bool(rows.yardsticks), *modules)]
    lines += _model(chosen)
    given = ["model", *_given(chosen, subject, lines)]
    lines += _target(subject.target)
    some = []
    if any(too_long_for(name, subject.trace) for name in METHODS):
        lines += _listed("names", rows.names)
        some = ["methods=names"]
    lines.append(python.assigned("found", f"{_FLOW}.methods.explain", [*given, "target=target", *some]))
    lines += ["trace = found.trace", _TITLES, "every = {titles[name]: one for name, one in found.scores.items()}"]
    if rows.without is not None and rows.again:
        lines += [f"sinks = {sinks_literal(rows.without)}", *_listed("again", rows.again)]
        arguments = [*given, "target=target", "methods=again", "sinks=sinks"]
        lines.append(python.assigned("without", f"{_FLOW}.methods.explain", arguments))
        lines.append('every |= {f"{titles[name]}, without sinks": one for name, one in without.scores.items()}')
    named = [f"{word}={word}" if word == "decoder_text" else word for word in given]
    for how, options in rows.yardsticks.items():
        lines += _stand_ins(options)
        arguments = _measuring(how, options, named)
        lines.append(python.assigned("effects", f"{_FLOW}.yardsticks.yardstick", arguments))
        lines.append(f'every["{YARDSTICKS[how]}"] = effects')
    return lines


def _stepped(chosen: Selection, subject: Subject, rows: Rows, modules: Sequence[str]) -> list[str]:
    """The lines that make `every` where no outcome is measured: layer by layer, without `explain`."""
    parts = any(METHODS[name].reads == "parts" for name in rows.names)
    lines = [*_imports("columns", "methods", *["run"] * parts, *modules)]
    lines += _run(chosen, subject) if parts else _trace(chosen, subject)
    lines += [_TITLES, "every = {}"]
    variants = [("names", rows.names, "", "titles[name]")]
    if rows.without is not None and rows.again:
        lines.append(f"sinks = {sinks_literal(rows.without)}")
        variants.append(("again", rows.again, ", sinks=sinks", 'f"{titles[name]}, without sinks"'))
    for listed, names, sinks, title in variants:
        lines += [
            *_listed(listed, names),
            f"for name in {listed}:",
            f"    steps = {_FLOW}.methods.steps(name, trace{', run=run, model=model' * parts}{sinks})",
            f"    every[{title}] = {_FLOW}.methods.scores(name, steps, {subject.goal})",
        ]
    return lines


def _listed(name: str, values: Sequence[str]) -> list[str]:
    """A list of texts, on several lines where one is too short for it."""
    words = [python.literal(value) for value in values]
    line = f"{name} = [{', '.join(words)}]"
    return [line] if len(line) <= 100 else [f"{name} = [", *(f"    {word}," for word in words), "]"]


def _within(name: str, function: str, arguments: Sequence[str]) -> list[str]:
    """The lines of an assignment that is to stand in a loop."""
    first, *others = python.assigned(f"    {name}", function, arguments).split("\n")
    return [first.removeprefix("    "), *others]


def _stand_ins(options: Given) -> list[str]:
    """The lines that make a yardstick's `words` and `neutral`, where they were given."""
    lines = _listed("words", options["words"]) if "words" in options else []
    return lines + ([f"neutral = {python.literal(options['neutral'])}"] if "neutral" in options else [])


def _measuring(how: str, options: Given, given: Sequence[str]) -> list[str]:
    """The arguments of a yardstick."""
    return [*given, "aim_target=target", f'how="{how}"', *(f"{name}={name}" for name in options)]


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
