"""Copy as Python: the lines that make a page's view again with the library.

Text stands in them as a literal that shows whatever is invisible or reorders as an escape, so that what is copied is
what is read. Arguments that have their default are left out, and no line is longer than 100 characters.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from attnviz.bertviz_views import Kind
from attnviz.edits import Head
from attnviz.literals import WIDTH, quoted
from attnviz.literals import literal as literal
from attnviz.settings import settings
from attnviz.ui.focus import Focus
from attnviz.ui.selection import SAVED, Selection
from attnviz.view import Sinks, View

SIDE = 48  # of a thumbnail, where nothing else is asked for
_SCORES = {
    "sink": ("sink_mass", "attention to the first token (share of 1)"),
    "entropy": ("entropy", "entropy (share of the most)"),
    "previous": ("previous_token", "attention to the previous token (share of 1)"),
    "distance": ("distance", "mean distance (tokens)"),
}


def map_lines(chosen: Selection, focus: Focus, text: str, target: str = "") -> str:
    """The map of the selected head: `figures.attention_map`.

    text, target   what the model reads, and for an encoder-decoder what its decoder reads, "" for what it writes;
                   other models are given no target
    """
    window = [] if focus.window is None else [f"window={focus.window}"]
    arguments = ["trace", head_literal(focus.head), *view_argument(focus.view), *window, *looks(chosen, scale="sqrt")]
    return shown(_traced(chosen, focus, text, target), "attention_map", arguments)


def row_lines(chosen: Selection, focus: Focus, text: str, target: str = "") -> str:
    """The selected query's row, as bars: `figures.attention_row`."""
    arguments = ["trace", head_literal(focus.head), str(focus.query), *view_argument(focus.view)]
    return shown(_traced(chosen, focus, text, target), "attention_row", arguments)


def grid_lines(chosen: Selection, focus: Focus, text: str, target: str = "") -> str:
    """The chosen score of every head: `figures.head_grid`."""
    lines = _traced(chosen, focus, text, target)
    if chosen.score == "between":
        return _between_shown(lines, chosen, focus)
    scored, name = _SCORES[chosen.score]
    return _grid_shown(lines, scored, ["trace"], name, chosen, focus)


def gallery_lines(chosen: Selection, focus: Focus, text: str, target: str = "", *, side: int = SIDE) -> str:
    """Every head as a thumbnail of `side` pixels: `figures.head_gallery`."""
    lines, view = _traced(chosen, focus, text, target), [*_site(focus), *view_argument(focus.view)]
    sides = [] if side == SIDE else [f"side={side}"]
    lines.append(assigned("overview", "attnviz.overview.overview", ["trace", *view, *sides]))
    return shown(lines, "head_gallery", ["overview", "trace", *view, *looks(chosen, scale="sqrt")])


def lines_lines(chosen: Selection, focus: Focus, text: str, target: str = "", *, one: bool = False) -> str:
    """The strongest edges of the chosen heads: `figures.attention_lines`.

    one   only those of the selected query
    """
    lines = _traced(chosen, focus, text, target)
    heads = ", ".join(map(head_literal, focus.heads))
    query = [f"query={focus.query}"] if one else []
    share = [] if chosen.share == Selection().share else [f"share={chosen.share:g}"]
    arguments = ["trace", f"[{heads}]", *query, *share, *view_argument(focus.view)]
    lines.append(assigned("edges", "attnviz.lines.strongest_edges", arguments))
    return shown(lines, "attention_lines", ["trace", "edges", *view_argument(focus.view)])


def products_lines(
    chosen: Selection, focus: Focus, text: str, target: str = "", *, keys: Sequence[int] | None = None
) -> str:
    """The selected query's products with its keys: `figures.product_map`.

    keys   positions to show; None for those that the query sees
    """
    lines = _traced(chosen, focus, text, target)
    arguments = ["trace", head_literal(focus.head), str(focus.query)]
    lines.append(assigned("products", "attnviz.products.query_key", arguments))
    some = [] if keys is None else [f"keys={list(keys)}"]
    return shown(lines, "product_map", ["trace", "products", *some])


def movement_lines(chosen: Selection, focus: Focus, text: str, *, length: int | None = None) -> str:
    """How the selected head's attention moved while the model wrote: `figures.movement_map`.

    text     what the model was given
    length   most tokens written, where that is not the Selection's
    """
    arguments = ["trace", head_literal(focus.head), *view_argument(focus.view), *looks(chosen, scale="sqrt")]
    return shown(_written(chosen, text, length), "movement_map", arguments)


def step_lines(chosen: Selection, focus: Focus, text: str, *, length: int | None = None) -> str:
    """What every head pays at one step of a generation, by `focus.queries` and `focus.keys`: `figures.head_grid`.

    text, length   as for `movement_lines`
    """
    return _between_shown(_written(chosen, text, length), chosen, focus)


def bertviz_lines(
    chosen: Selection,
    focus: Focus,
    text: str,
    target: str = "",
    *,
    kind: Kind,
    layers: Sequence[int],
    heads: Sequence[int] | None,
) -> str:
    """One of BertViz's views, written to a file: `attnviz.bertviz_views`.

    heads   to show, None for all; the neuron view starts with the selected head instead
    """
    lines = _traced(chosen, focus, text, target)
    lines[0] = "import attnviz.bertviz_views"
    some = [] if heads is None else [f"heads={list(heads)}"]
    which = [f"head={focus.head.head}"] if kind == "neuron" else some
    arguments = ["trace", f"layers={list(layers)}", *which, *_site(focus)]
    lines.append(assigned("page", f"attnviz.bertviz_views.{kind}_view", arguments))
    opened = f'with open("bertviz-{kind}-view.html", "w", encoding="utf-8") as file:'
    return "\n".join([*lines, opened, "    file.write(page.html)"]) + "\n"


def _opened(chosen: Selection) -> list[str]:
    """The lines that make `model`, or `trace` where a file is looked at."""
    lines = ["import attnviz", ""]
    if chosen.model == SAVED:
        return [*lines, 'trace = attnviz.load_trace("trace.safetensors")  # the file that was opened']
    name = named("name", chosen.model or settings().default_model, lines, len("model = attnviz.load_model()"))
    return [*lines, f"model = attnviz.load_model({name})"]


def _traced(chosen: Selection, focus: Focus, text: str, target: str) -> list[str]:
    """The lines that make `trace`."""
    lines = _opened(chosen)
    if chosen.model == SAVED:
        return lines
    target = target if focus.head.site is not None else ""  # a model of one site has no decoder to give it to
    others = "".join(f", {word}" for word in [*["target"] * bool(target), *_chat(chosen)])
    arguments = [named("text", text, lines, len(f"trace = model.trace({others})"))]
    arguments += [named("target", target, lines, WIDTH // 2)] if target else []
    return [*lines, assigned("trace", "model.trace", [*arguments, *_chat(chosen)])]


def _written(chosen: Selection, text: str, length: int | None) -> list[str]:
    """The lines that make `trace` of what the model writes."""
    lines = _opened(chosen)
    if chosen.model == SAVED:
        return lines
    length = chosen.length if length is None else length
    options = [f"max_new_tokens={length}"] if length != 20 else []
    options += [f"seed={chosen.seed}"] if chosen.seed is not None else []
    options += [f"temperature={chosen.warmth:g}"] if chosen.seed is not None and chosen.warmth != 1 else []
    options += _chat(chosen)
    given = named("text", text, lines, len(f"trace = model.generate({', '.join(['', *options])})"))
    return [*lines, assigned("trace", "model.generate", [given, *options])]


def _between_shown(lines: list[str], chosen: Selection, focus: Focus) -> str:
    """All the lines of a file that draws the attention between the chosen queries and keys in every head."""
    arguments = ["trace", _positions(focus.queries), _positions(focus.keys)]
    name = "attention, query to key (share of 1)"
    return _grid_shown(lines, "attention_between", arguments, name, chosen, focus)


def _grid_shown(lines: list[str], scored: str, arguments: list[str], name: str, chosen: Selection, focus: Focus) -> str:
    scores = assigned("scores", f"attnviz.heads.{scored}", [*arguments, *_site(focus), *view_argument(focus.view)])
    drawn = ["scores", "trace.info", f'"{name}"', *looks(chosen), "high=None"]
    return shown([*lines, scores], "head_grid", drawn)


def _chat(chosen: Selection) -> list[str]:
    return ["chat_template=True"] if chosen.chat else []


def named(name: str, value: str, lines: list[str], taken: int) -> str:
    """The literal, or where it leaves no room on its line a name that `lines` gives to it."""
    inline = quoted(value)
    if len(inline) <= WIDTH - taken:
        return inline
    lines.append(f"{name} = {literal(value, WIDTH - len(name) - 3)}")
    return name


def shown(lines: Sequence[str], function: str, arguments: Sequence[str]) -> str:
    """All the lines of a file: these, the figure, and what shows it."""
    return "\n".join([*lines, assigned("figure", f"attnviz.figures.{function}", arguments), "figure.show()"]) + "\n"


def assigned(name: str, function: str, arguments: Sequence[str]) -> str:
    """An assignment, on several lines where one is too short for it."""
    line = f"{name} = {function}({', '.join(arguments)})"
    if len(line) <= WIDTH:
        return line
    indented = textwrap.TextWrapper(
        WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False
    )
    broken = [part for argument in arguments for part in indented.wrap(f"{argument},")]
    return "\n".join([f"{name} = {function}(", *broken, ")"])


def head_literal(head: Head) -> str:
    """A head as Python."""
    site = "" if head.site is None else f', "{head.site}"'
    return f"attnviz.Head({head.layer}, {head.head}{site})"


def _site(focus: Focus) -> list[str]:
    return [] if focus.head.site is None else [f'site="{focus.head.site}"']


def looks(chosen: Selection, *, scale: str = "") -> list[str]:
    """Scale and palette, where they are not the figure's own; no scale for figures without one."""
    scaled = [f'scale="{chosen.scale}"'] if scale and chosen.scale != scale else []
    return scaled + ([f'palette="{chosen.palette}"'] if chosen.palette != "indigo" else [])


def view_argument(view: View) -> list[str]:
    """The view argument, if it says anything."""
    parts = [f'"{view.unit}"'] if view.unit != View().unit else []
    if view.sinks.active:
        parts.append(f"{'' if parts else 'sinks='}{_sinks(view.sinks)}")
    return [f"view=attnviz.View({', '.join(parts)})"] if parts else []


def _sinks(sinks: Sinks) -> str:
    parts = [f'"{sinks.how}"']
    if sinks.how != "value-norm":  # which weights every key alike
        kinds = ", ".join(f'"{kind}"' for kind in sinks.kinds) + "," * (len(sinks.kinds) == 1)
        parts += [f"({kinds})"] if sinks.kinds != Sinks().kinds else []
        parts += [f"tokens={_tuple(sinks.tokens)}"] if sinks.tokens else []
    return f"attnviz.Sinks({', '.join(parts)})"


def _positions(positions: Sequence[int]) -> str:
    first, last = positions[0], positions[-1]
    if len(positions) > 3 and tuple(positions) == tuple(range(first, last + 1)):
        return f"range({first}, {last + 1})"
    return str(first) if len(positions) == 1 else _tuple(positions)


def _tuple(values: Sequence[int]) -> str:
    return repr(tuple(values))
