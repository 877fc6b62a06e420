"""The Compare page's pictures as lines of Python that make them again."""

from __future__ import annotations

from collections.abc import Sequence

from attnviz.edits import Head
from attnviz.ui.comparison.pair import Pair
from attnviz.ui.python_lines import literal
from attnviz.view import View


def difference_lines(pair: Pair, scale: str) -> str:
    """`figures.comparison.difference_map` of the two heads."""
    other = [] if pair.other == pair.head else [f"other={_head(pair.other)}"]
    looks = [] if scale == "sqrt" else [f'scale="{scale}"']
    return _script(pair, [], "difference_map", ["first", "second", _head(pair.head), *other, *_view(pair), *looks])


def divergence_lines(pair: Pair, head: Head | None) -> str:
    """`figures.comparison.divergence_grid` of every head; `head` where one of the first was held against all."""
    site = [f'site="{pair.head.site}"'] if pair.head.site else []
    other = [f'other_site="{pair.other.site}"'] if pair.other.site not in (None, pair.head.site) else []
    if head is None:
        scored = _call("compare.divergence", ["first", "second", *site, *other, *_view(pair)])
    else:
        scored = _call("compare.nearest_heads", ["first", _head(head), "second", *other, *_view(pair)])
    drawn = ["scores", "first", "second", *([f"head={_head(head)}"] if head else [])]
    return _script(pair, [f"scores = {scored}"], "divergence_grid", drawn)


def _script(pair: Pair, lines: Sequence[str], function: str, arguments: Sequence[str]) -> str:
    """Imports, both runs, `lines`, and a figure."""
    body = [*_traced(pair), *lines, f"figure = {_call(function, arguments)}", "figure.show()"]
    words = "\n".join(line for line in body if "trace(" not in line)  # what a text says is no name
    names = [name for name in ("Head", "Sinks", "View", "compare") if f"{name}(" in words or f"{name}." in words]
    imports = [
        f"from attnviz import {', '.join([*names, 'load_model'])}",
        f"from attnviz.figures.comparison import {function}",
    ]
    return "\n".join([*imports, "", *body]) + "\n"


def _traced(pair: Pair) -> list[str]:
    """The lines that make `first` and `second`."""
    first, second = pair.runs
    lines = [f"model = load_model({literal(first.name)})"]
    other = "model"
    if second.name != first.name:
        other = "other_model"
        lines.append(f"other_model = load_model({literal(second.name)})")
    for name, model, run in (("first", "model", first), ("second", other, second)):
        arguments = [literal(run.text), *([literal(run.target)] if run.target else [])]
        lines.append(f"{name} = {_call(f'{model}.trace', [*arguments, *['chat_template=True'] * run.chat])}")
    return lines


def _call(function: str, arguments: Sequence[str]) -> str:
    return f"{function}({', '.join(arguments)})"


def _view(pair: Pair) -> list[str]:
    return [] if pair.view == View() else [f"view={pair.view!r}"]


def _head(head: Head) -> str:
    return f"Head({head.layer}, {head.head}{'' if head.site is None else f', {head.site!r}'})"
