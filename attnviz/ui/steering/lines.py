"""The Steering page's pictures as lines of Python that steer the same and make them again."""

from __future__ import annotations

import textwrap

from attnviz.settings import settings
from attnviz.ui import python_lines as python
from attnviz.ui.selection import Selection
from attnviz.ui.session import text_of
from attnviz.ui.steering.subject import Subject

_WIDTH = 100


def went_lines(chosen: Selection, subject: Subject, *, steered: bool) -> str:
    """The share of attention that goes to the words in every head, before or after: `figures.head_grid`."""
    lines = _runs(chosen, subject)
    site = [] if subject.focus.head.site is None else [f'site="{subject.focus.head.site}"']
    given = ["clean", "steered", str(list(subject.meant)), *site]
    lines.append(python.assigned("went", "attnviz.steering.went", given))
    if subject.model.has_vocabulary and subject.model.family != "encoder":
        lines.append("moved = attnviz.steering.moved(clean, steered)  # nats, of the next token's distribution")
    which = "after" if steered else "before"
    lines.append(f'shares = went.frame().pivot(index="layer", columns="head", values="{which}").to_numpy()')
    drawn = ["shares", "clean.info", f'"attention to the marked words, {which}"', *python.looks(chosen), "high=None"]
    return python.shown(lines, "head_grid", drawn)


def map_lines(chosen: Selection, subject: Subject, *, steered: bool) -> str:
    """The map of the selected head in the clean or in the steered run: `figures.attention_map`."""
    focus = subject.focus
    window = [] if focus.window is None else [f"window={focus.window}"]
    drawn = [
        "steered" if steered else "clean",
        python.head_literal(focus.head),
        *python.view_argument(focus.view),
        *window,
        *python.looks(chosen, scale="sqrt"),
    ]
    return python.shown(_runs(chosen, subject), "attention_map", drawn)


def _runs(chosen: Selection, subject: Subject) -> list[str]:
    """The lines that make `clean` and `steered`."""
    lines = ["import attnviz", ""]
    name = python.named("name", chosen.model or settings().default_model, lines, len("model = attnviz.load_model()"))
    text = text_of(chosen.text) if subject.chat else subject.trace.source_text or subject.trace.text
    lines += [f"model = attnviz.load_model({name})", f"text = {python.literal(text, _WIDTH - 7)}"]
    given = ["text"]
    if subject.chat:
        lines.append("ids = model.encode(text, chat_template=True).ids")
        given = ["input_ids=ids"]
    elif subject.model.family == "encoder-decoder":
        lines.append(f"written = {subject.trace.input_ids}")
        given.append("decoder_input_ids=written")
    lines += _edits(subject)
    lines.append(python.assigned("clean", "model.trace", given))
    lines.append(python.assigned("steered", "model.trace", [*given, "edits=edits"]))
    return lines


def _edits(subject: Subject) -> list[str]:
    """The lines that make `edits`."""
    lines, where = [], []
    if subject.heads is not None:
        heads = ", ".join(map(python.head_literal, subject.heads))
        lines.append(_listed("heads", heads))
        where = ["heads=heads"]
    elif subject.focus.head.site is not None:
        where = [f'site="{subject.focus.head.site}"']
    if subject.kind != "steer":
        lines.append(_listed("weights", ", ".join(f"{weight:g}" for weight in subject.weights)))
        amount = subject.plan.beta if subject.kind == "beta" else subject.plan.alpha
        given = ["weights", f"{subject.kind}={amount:g}", *where]
        lines.append(python.assigned("edit", "attnviz.edits.ExternalAttention", given))
        return [*lines, "edits = [edit]"]
    names = []
    for name, holds, away in (
        ("emphasis", lambda weight: weight > 0, []),
        ("ignoring", lambda weight: weight < 0, ["ignore=True"]),
    ):
        keys = subject.at(holds)
        if keys:
            given = [str(list(keys)), f"strength={subject.strength:g}", *where, *away]
            lines.append(python.assigned(name, "attnviz.edits.Steer", given))
            names.append(name)
    return [*lines, f"edits = [{', '.join(names)}]"]


def _listed(name: str, inside: str) -> str:
    """`name = [...]`, on several lines where one is too short for it."""
    line = f"{name} = [{inside}]"
    if len(line) <= _WIDTH:
        return line
    wrapped = textwrap.wrap(f"{inside},", _WIDTH - 4, break_long_words=False, break_on_hyphens=False)
    return "\n".join([f"{name} = [", *(f"    {part}" for part in wrapped), "]"])
