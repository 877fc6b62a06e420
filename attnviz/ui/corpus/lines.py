"""The Corpus page's pictures as lines of Python that measure the same texts and make them again."""

from __future__ import annotations

from attnviz.ui import python_lines as python
from attnviz.ui.corpus.looked import Looked
from attnviz.ui.corpus.subject import Subject
from attnviz.ui.measuring import shelf
from attnviz.ui.selection import Selection
from attnviz.view import Sinks

TEXTS, OTHER_TEXTS = "texts.jsonl", "other-texts.jsonl"


def means_lines(looked: Looked, chosen: Selection) -> str:
    """`figures.corpus.means_grid` of one detector; `texts.jsonl` is the file that the page gives."""
    drawn = ["summary", "model.info", "shelf.about(key).name", *_site(looked.subject), *python.looks(chosen)]
    return python.shown(_summarised(looked), "corpus.means_grid", drawn)


def dots_lines(looked: Looked) -> str:
    """`figures.corpus.text_dots` of one head."""
    lines = [
        *_summarised(looked, "import pandas"),
        f"head, rows = {python.head_literal(looked.head)}, []",
        f"for result in {_results(looked.label)}:",
        "    value = choice.of(result.values)[0, 0, head.layer, head.head]",
        "    if value == value:  # not NaN: the detector has something to look for in this text",
        "        rows.append((result.number, result.label, value))",
        'values = pandas.DataFrame(rows, columns=["number", "label", "value"])',
    ]
    drawn = ["values", "summary", "head", "model.info", "shelf.about(key).name"]
    return python.shown(lines, "corpus.text_dots", drawn)


def change_lines(first: Subject, second: Subject, looked: Looked, labels: tuple[str, str] | None) -> str:
    """`figures.corpus.change_grid` of two corpora, two models, or two labels of one corpus."""
    lines = _opened(first)
    names = ("key", "key")
    if first.name != second.name:
        opened = python.named("other_name", second.name, lines, len("other = attnviz.load_model()"))
        lines += [f"other = attnviz.load_model({opened})", *_measured(first, "key", "ran", TEXTS)]
        lines.append(_run(second, "key", "other_ran", model="other"))
        results = ["shelf.results(key, ran.run)", "shelf.results(key, other_ran.run)"]
    elif labels is not None:
        lines += _measured(first, "key", "ran", TEXTS)
        results = [_results(label) for label in labels]
    else:
        lines += _measured(first, "key", "ran", TEXTS)
        lines += _measured(second, "other_key", "other_ran", OTHER_TEXTS)
        names = ("key", "other_key")
        results = ["shelf.results(key, ran.run)", "shelf.results(other_key, other_ran.run)"]
    compared = "compare_paired" if first.name != second.name else "compare"
    lines += [_choice(looked), python.assigned("found", f"corpus.{compared}", [*results, "choice"])]
    called = ", ".join(f"shelf.about({name}).name" for name in names)
    if labels is not None:
        called = ", ".join(python.literal(label) for label in labels)
    elif first.name != second.name:
        called = "model.info.name, other.info.name"
    drawn = ["found", "model.info", f"({called})", *_site(first)]
    return python.shown(lines, "corpus.change_grid", drawn)


def _opened(subject: Subject, *imports: str) -> list[str]:
    lines = [
        "from pathlib import Path",
        "",
        *imports,
        "import attnviz.figures.corpus",
        "from attnviz import corpus",
        "",
    ]
    name = python.named("name", subject.name, lines, len("model = attnviz.load_model()"))
    return [*lines, f"model = attnviz.load_model({name})", 'shelf = corpus.Shelf("corpora.sqlite")']


def _measured(subject: Subject, key: str, ran: str, file: str) -> list[str]:
    """The lines that read a corpus's texts and measure them."""
    has_pairs = subject.model.family == "encoder-decoder"
    columns = ['text="text"', *['label="label"'] * any(shelf().labels(subject.known.key)), *['pair="pair"'] * has_pairs]
    texts = python.assigned("texts", "corpus.read", [f'Path("{file}")', *columns])
    name = python.literal(subject.known.name, 60)
    return [
        f"# {file}: what “Texts as JSONL” on the page gives",
        texts,
        python.assigned(key, "shelf.add", ["texts", name]),
        _run(subject, key, ran),
    ]


def _run(subject: Subject, key: str, ran: str, *, model: str = "model") -> str:
    kinds = subject.sinks.kinds
    sinks = [] if kinds == Sinks().kinds else [f"sinks=attnviz.Sinks(kinds={kinds!r})"]
    return python.assigned(ran, "corpus.run", [model, "shelf", key, *_site(subject), *sinks])


def _summarised(looked: Looked, *imports: str) -> list[str]:
    lines = [*_opened(looked.subject, *imports), *_measured(looked.subject, "key", "ran", TEXTS), _choice(looked)]
    return [*lines, python.assigned("summary", "corpus.Summary.of", [_results(looked.label), "choice"])]


def _choice(looked: Looked) -> str:
    return f'choice = corpus.Choice("{looked.choice.detector}", "{looked.choice.variant}")'


def _results(label: str | None) -> str:
    if label is None:
        return "shelf.results(key, ran.run)"
    return f"(r for r in shelf.results(key, ran.run) if r.label == {python.literal(label)})"


def _site(subject: Subject) -> list[str]:
    return [f'site="{subject.site}"'] if len(subject.model.info.sites) > 1 else []
