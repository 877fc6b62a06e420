"""The Ablation page's pictures as lines of Python that measure the same and make them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from attnviz.metrics import Metric
from attnviz.settings import settings
from attnviz.ui import python_lines as python
from attnviz.ui.ablation.asking import embedded_texts
from attnviz.ui.ablation.subject import Subject
from attnviz.ui.ablation.trial import Trial
from attnviz.ui.selection import Selection
from attnviz.ui.session import text_of

_WIDTH = 100
_NAMED = "outcome_"  # begins the names of what an outcome is made of


def effect_lines(chosen: Selection, subject: Subject, *, estimate: bool) -> str:
    """Every head's effect, or its estimate: `figures.ablation.effect_map`."""
    lines, arguments = _asked(chosen, subject)
    lines.append(python.assigned("sweep", f"attnviz.ablation.{'screen' if estimate else 'sweep'}", arguments))
    return python.shown(lines, "ablation.effect_map", ["sweep"])


def estimate_lines(chosen: Selection, subject: Subject) -> str:
    """The estimate against the exact effect: `figures.ablation.estimate_scatter`."""
    lines, arguments = _asked(chosen, subject)
    lines.append(python.assigned("screened", "attnviz.ablation.screen", arguments))
    lines.append(python.assigned("sweep", "attnviz.ablation.sweep", arguments))
    return python.shown(lines, "ablation.estimate_scatter", ["screened", "sweep"])


def attention_lines(chosen: Selection, subject: Subject, between: str) -> str:
    """Attention against effect: `figures.ablation.attention_scatter`."""
    lines, arguments = _asked(chosen, subject, traced=True)
    lines.append(python.assigned("sweep", "attnviz.ablation.sweep", arguments))
    focus, site = subject.focus, subject.focus.head.site
    where = [str(list(positions)) for positions in (focus.queries, focus.keys)]
    named = [] if site is None else [f'site="{site}"']
    given = ["trace", *where, *named, *python.view_argument(focus.view)]
    lines.append(python.assigned("attention", "attnviz.heads.attention_between", given))
    lines.append(f"between = {python.literal(between, 80)}")
    return python.shown(lines, "ablation.attention_scatter", ["attention", "sweep", "between=between"])


def position_lines(chosen: Selection, subject: Subject) -> str:
    """How far each prediction moved without the set: `figures.ablation.position_bars`."""
    lines, given = _run(chosen, subject)
    lines += _edit(subject)
    lines.append(python.assigned("clean", "model.trace", given))
    lines.append(python.assigned("edited", "model.trace", [*given, "edits=[edit]"]))
    lines += [
        "before, after = (trace.logits.float().log_softmax(-1) for trace in (clean, edited))",
        "moved = (before.exp() * (before - after)).nansum(-1).clamp(min=0)",
        "tokens = [token.text for token in clean.tokens]",
    ]
    return python.shown(lines, "ablation.position_bars", ["tokens", "moved"])


def map_lines(chosen: Selection, subject: Subject, head: str, *, edited: bool) -> str:
    """The map of one head in the clean or in the edited run: `figures.attention_map`."""
    lines, given = _run(chosen, subject)
    lines += _edit(subject) if edited else []
    lines.append(python.assigned("trace", "model.trace", [*given, *["edits=[edit]"] * edited]))
    drawn = ["trace", head, *python.view_argument(subject.focus.view), *python.looks(chosen, scale="sqrt")]
    return python.shown(lines, "attention_map", drawn)


def many_lines(chosen: Selection, subject: Subject, file: str, most: int) -> str:
    """The mean over minimal pairs: `figures.many.mean_map`.

    file   of the pairs, of which the first `most` are read
    """
    lines, _ = _run(chosen, subject)
    lines[lines.index("import attnviz.figures.ablation")] = "import attnviz.figures.many"
    lines = [line for line in lines if not line.startswith(("text = ", "written = "))]
    given = ["model", "cases", f'how="{subject.how}"']
    lines.append(f"cases = attnviz.ablation.read_cases({python.literal(file, 60)})[:{most}]")
    if subject.how == "mean":
        given += _stand_in(subject, lines)
    if subject.model.family == "encoder-decoder":
        given.append(f"decoder_input_ids={subject.trace.input_ids[:1]}")
    units = [f'units="{subject.parts}"'] * (subject.parts != "head")
    site = [] if subject.focus.head.site is None else [f'site="{subject.focus.head.site}"']
    lines.append(python.assigned("averaged", "attnviz.ablation.over_texts", [*given, *site, *units]))
    return python.shown(lines, "many.mean_map", ["averaged"])


def control_lines(chosen: Selection, subject: Subject, trial: Trial) -> str:
    """The set against random heads: `figures.ablation.control_dots`."""
    lines, _ = _run(chosen, subject, embedded="mean" in trial.hows)
    lines.append("cases = [")
    for case in trial.cases:
        parts = [python.literal(part, 60) for part in (case.clean, case.corrupted, case.answer, case.foil)]
        lines.append("    attnviz.ablation.Case(" + ", ".join(parts) + "),")
    lines += ["]", f"heads = [{', '.join(map(python.head_literal, subject.heads))}]"]
    options = trial.options(subject)
    given = [f"hows={trial.hows!r}"]
    if "texts" in options:
        lines += _read(subject, len(options["texts"]))
        given.append("texts=texts")
    if not trial.own:
        lines += metric_lines(subject.metric)
        given.append("metric=metric")
    given += ["decoder_input_ids=written"] if "decoder_input_ids" in options else []
    drawn = [f"n={trial.n}", *["anywhere=True"] * trial.anywhere]
    lines.append(python.assigned("rows", "attnviz.ablation.table", ["model", "cases", "[heads]", *given]))
    lines.append(python.assigned("controls", "attnviz.ablation.band", ["model", "cases", "heads", *drawn, *given]))
    lines.append("verdict = attnviz.ablation.verdict(rows, controls)[0]  # verdict.reason says why")
    return python.shown(lines, "ablation.control_dots", ["rows", "controls"])


def donor_lines(chosen: Selection, subject: Subject, texts: Sequence[str]) -> str:
    """The set's effect by several donors, as a table: `ablation.donors`."""
    lines, given = _run(chosen, subject)
    lines.remove("import attnviz.figures.ablation")
    lines += ['case = attnviz.ablation.Case(text, "", "")', "donors = ["]
    lines += [*(f"    {python.literal(text, 95)}," for text in texts), "]"]
    lines += [f"heads = [{', '.join(map(python.head_literal, subject.heads))}]", *metric_lines(subject.metric)]
    arguments = ["model", "case", "[heads]", "donors", "metric=metric", *given[1:]]
    lines.append(python.assigned("table", "attnviz.ablation.donors", arguments))
    return "\n".join([*lines, "effects = table.frame()"]) + "\n"


def _asked(chosen: Selection, subject: Subject, *, traced: bool = False) -> tuple[list[str], list[str]]:
    """(the lines that make model and question, the arguments of `attnviz.ablation.sweep`)."""
    lines, given = _run(chosen, subject)
    if traced:
        lines.append(python.assigned("trace", "model.trace", given))
    if given[0].startswith("input_ids"):
        given = ["None", *given]
    lines += metric_lines(subject.metric)
    stands_in = _stand_in(subject, lines)
    site = subject.focus.head.site
    named = [] if site is None else [f'site="{site}"']
    units = [f'units="{subject.parts}"'] * (subject.parts != "head")
    return lines, ["model", given[0], "metric", *given[1:], f'how="{subject.how}"', *stands_in, *named, *units]


def metric_lines(metric: Metric) -> list[str]:
    """The lines that make `metric`; what is long has a name of its own."""
    lines, arguments = [], []
    for field in fields(metric):  # type: ignore[arg-type]
        value = getattr(metric, field.name)
        written = python.literal(value, 60) if isinstance(value, str) else repr(value)
        if isinstance(value, tuple) and all(isinstance(one, str) for one in value):
            lines += [f"{_NAMED}{field.name} = [", *(f"    {python.literal(one, 90)}," for one in value), "]"]
            written = f"{_NAMED}{field.name}"
        elif "\n" in written:
            lines.append(f"{_NAMED}{field.name} = {written}")
            written = f"{_NAMED}{field.name}"
        arguments.append(f"{field.name}={written}")
    return [*lines, python.assigned("metric", f"attnviz.metrics.{type(metric).__name__}", arguments)]


def _run(chosen: Selection, subject: Subject, *, embedded: bool = False) -> tuple[list[str], list[str]]:
    """(the lines that make `model` and `text`, the arguments of `model.trace`)."""
    lines = ["import attnviz", "import attnviz.figures.ablation", ""]
    if embedded or _embedded(subject):
        lines = ["from pathlib import Path", "", *lines]
    name = python.named("name", chosen.model or settings().default_model, lines, len("model = attnviz.load_model()"))
    text = text_of(chosen.text) if subject.chat else subject.trace.source_text or subject.trace.text
    lines += [f"model = attnviz.load_model({name})", f"text = {python.literal(text, _WIDTH - 7)}"]
    if subject.chat:
        lines.append("ids = model.encode(text, chat_template=True).ids")
        return lines, ["input_ids=ids"]
    if subject.model.family == "encoder-decoder":
        lines += [f"written = {subject.trace.input_ids}"]
        return lines, ["text", "decoder_input_ids=written"]
    return lines, ["text"]


def _embedded(subject: Subject) -> bool:
    """Whether the reference texts are the app's own."""
    return bool(subject.texts) and subject.texts == _own(subject)


def _own(subject: Subject) -> tuple[str, ...]:
    return embedded_texts(pairs=subject.model.family == "encoder-decoder")[: len(subject.texts)]


def _stand_in(subject: Subject, lines: list[str]) -> list[str]:
    """The argument for what stands in, after the lines that make it."""
    if subject.how == "resample":
        lines.append(f"donor = {python.literal(subject.donor, _WIDTH - 8)}")
        lines += ["donor = model.encode(donor, chat_template=True).ids"] * subject.chat
        return ["donor=donor"]
    if subject.how != "mean":
        return []
    if _embedded(subject):
        lines += _read(subject, len(subject.texts))
    else:
        lines += ["texts = [", *(f"    {python.literal(text, 95)}," for text in subject.texts), "]"]
    lines += ["texts = [model.encode(one, chat_template=True).ids for one in texts]"] * subject.chat
    return ["texts=texts"]


def _read(subject: Subject, n: int) -> list[str]:
    """The lines that read the app's own texts, from the folder of the repository."""
    pairs = subject.model.family == "encoder-decoder"
    file = "assets/dates/dates.tsv" if pairs else "assets/sentences.txt"
    read = f'texts = Path("{file}").read_text("utf-8").splitlines()[:{n}]'
    return [read, *['texts = [line.split("\\t")[0] for line in texts]'] * pairs]


def _edit(subject: Subject) -> list[str]:
    """The lines that make `edit`, for the chosen heads."""
    lines: list[str] = []
    stands_in = [argument.split("=")[1] for argument in _stand_in(subject, lines)]
    heads = ", ".join(map(python.head_literal, subject.heads))
    name = {"resample": "ResampleHeads", "mean": "MeanHeads", "zero": "ZeroHeads"}[subject.how]
    return [*lines, python.assigned("edit", f"attnviz.edits.{name}", [f"[{heads}]", *stands_in])]
