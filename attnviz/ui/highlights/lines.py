"""The Highlights page's ranking as lines of Python that make it again."""

from __future__ import annotations

from collections.abc import Sequence

from attnviz.flow import METHODS
from attnviz.human import Marked
from attnviz.settings import settings
from attnviz.ui import python_lines as python
from attnviz.ui.highlights.asking import Asked
from attnviz.ui.selection import Selection
from attnviz.view import Sinks


def ranking_lines(
    chosen: Selection, ask: Asked, texts: Sequence[Marked], methods: Sequence[str], held: Sequence[int] | None = None
) -> str:
    """The best heads over the marked texts: `figures.highlights.agreement_dots`.

    methods   that read all of them
    held      numbers of the texts that were held out; None: every second one
    """
    lines = ["import attnviz", "import attnviz.figures.highlights", "from attnviz import human", ""]
    name = python.named("name", chosen.model or settings().default_model, lines, len("model = attnviz.load_model()"))
    lines.append(f"model = attnviz.load_model({name})")
    names = [f"marked_{number}" for number in range(1, len(texts) + 1)]
    for number, one in enumerate(texts, 1):
        text = python.named(f"text_{number}", one.text, lines, 60)
        query = [] if one.query is None else [f"query={one.query}"]
        other = [] if one.other is None else [f"other={python.named(f'other_{number}', one.other, lines, 60)}"]
        passage = [] if one.passage is None else [f"passage={one.passage}"]
        given = [text, repr(dict(one.marks)), *query, *other, *passage]
        lines.append(python.assigned(names[number - 1], "human.Marked", given))
    usual = list(range(1, len(texts), 2))
    options = [f'metric="{ask.study.metric}"'] if ask.study.metric != "auroc" else []
    options += [f"held={list(held)!r}"] if held is not None and list(held) != usual else []
    options += [f'site="{ask.site}"'] if ask.site is not None else []
    options += [f'language="{ask.study.language}"'] if ask.study.language != "en" else []
    options += [f"sinks=attnviz.Sinks({ask.sinks.how!r}, {ask.sinks.kinds!r})"] if ask.sinks != Sinks() else []
    options += [f"methods={tuple(methods)!r}"] if len(methods) < len(METHODS) else []
    lines.append(python.assigned("ranking", "human.rank", ["model", f"[{', '.join(names)}]", *options]))
    lines.append("why = ranking.why  # which heads are named, or why none is")
    return python.shown(lines, "highlights.agreement_dots", ["ranking"])
