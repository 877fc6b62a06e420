"""The Compare page's pictures as lines of Python that make them again."""

from __future__ import annotations

from collections.abc import Mapping

from attnviz.edits import Head
from attnviz.ui import python_lines as python
from attnviz.ui.comparison.pair import Pair, Run
from attnviz.ui.selection import Selection, Window
from attnviz.view import View


def map_lines(run: Run, head: Head, view: View, window: Window | None, chosen: Selection) -> str:
    """`figures.attention_map` of one run's head; `window` is the part that is shown, None for all."""
    part = [] if window is None else [f"window={window}"]
    arguments = ["trace", python.head_literal(head), *python.view_argument(view), *part]
    return python.shown(_traced({"trace": run}), "attention_map", [*arguments, *python.looks(chosen, scale="sqrt")])


def difference_lines(pair: Pair, chosen: Selection) -> str:
    """`figures.difference_map` of the two heads."""
    other = [] if pair.other == pair.head else [f"other={python.head_literal(pair.other)}"]
    scale = [] if chosen.scale == "sqrt" else [f'scale="{chosen.scale}"']
    arguments = ["first", "second", python.head_literal(pair.head), *other, *python.view_argument(pair.view), *scale]
    return python.shown(_traced(_both(pair)), "difference_map", arguments)


def divergence_lines(pair: Pair, head: Head | None, chosen: Selection) -> str:
    """`figures.divergence_grid` of every head; `head` where one of the first was held against all."""
    view = python.view_argument(pair.view)
    site = [f'site="{pair.head.site}"'] if pair.head.site and head is None else []
    other = [f'other_site="{pair.other.site}"'] if pair.other.site not in (None, pair.head.site) else []
    if head is None:
        scored = python.assigned("scores", "attnviz.compare.divergence", ["first", "second", *site, *other, *view])
        which = []
    else:
        arguments = ["first", python.head_literal(head), "second", *other, *view]
        scored = python.assigned("scores", "attnviz.compare.nearest_heads", arguments)
        which = [f"head={python.head_literal(head)}"]
    drawn = ["scores", "first", "second", *which, *site, *other, *view, *python.looks(chosen)]
    return python.shown([*_traced(_both(pair)), scored], "divergence_grid", drawn)


def _both(pair: Pair) -> dict[str, Run]:
    return dict(zip(("first", "second"), pair.runs, strict=True))


def _traced(runs: Mapping[str, Run]) -> list[str]:
    """The lines that make the traces, each under its name; one or two of them."""
    lines = ["import attnviz", ""]
    models = dict(zip(dict.fromkeys(run.name for run in runs.values()), ("model", "other_model"), strict=False))
    for name, model in models.items():
        line = f"{model} = attnviz.load_model()"
        opened = python.named(model.replace("model", "name"), name, lines, len(line))
        lines.append(f"{model} = attnviz.load_model({opened})")
    for which, run in runs.items():
        function = f"{models[run.name]}.trace"
        chat = ["chat_template=True"] * run.chat
        words = [(f"{which}_text", run.text), *([(f"{which}_target", run.target)] * bool(run.target))]
        taken = len(f"{which} = {function}({', '.join(['', *chat])})") + (len(words) > 1) * 40
        given = [python.named(name, value, lines, taken) for name, value in words]
        lines.append(python.assigned(which, function, [*given, *chat]))
    return lines
