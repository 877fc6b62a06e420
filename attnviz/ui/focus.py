"""What of a trace is looked at: a Selection made one that this trace can show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from attnviz.edits import Head
from attnviz.embedded import EMBEDDED
from attnviz.errors import HeadError
from attnviz.info import ModelInfo
from attnviz.tokens import Token
from attnviz.trace import Trace
from attnviz.ui.selection import Selection, Window
from attnviz.units import Units
from attnviz.view import View


@dataclass(frozen=True)
class Focus:
    """One head, one query and one key that a trace has, the sets around them, and how patterns are read.

    queries, keys   positions chosen together: the attention "between" them is the mean over queries of the sum over
                    keys; never empty: where nothing was chosen, the tokens of the unit that query and key belong to
    heads           heads chosen together, of the same site; never empty: (head,) where none were chosen
    window          the part of the map that is shown, in units of the view: (row, row, col, col), half-open
    """

    head: Head
    query: int
    key: int
    queries: tuple[int, ...]
    keys: tuple[int, ...]
    heads: tuple[Head, ...]
    view: View
    window: Window | None = None


def fitted(chosen: Selection, trace: Trace) -> tuple[Focus, list[str]]:
    """What to look at within this trace, and what of the selection it does not have."""
    info, problems = trace.info, []
    site = chosen.site
    if site is not None and site not in info.sites:
        problems.append(f"{info.name} has no attention at {site!r}")
        site = None
    site = site or info.sites[-1]  # of an encoder-decoder, cross-attention: what it is opened for
    first_layer, first_head = start_head(info, site)
    layer = first_layer if chosen.layer is None else chosen.layer
    head = (first_head if layer == first_layer else 0) if chosen.head is None else chosen.head
    if not _has(info, layer, head, site):
        problems.append(f"{info.name} has no head L{layer}H{head}")
        layer, head = first_layer, first_head
    queries, keys = trace.axes(site)
    query, key = chosen.query, chosen.key
    if query is not None and query >= len(queries):
        problems.append(f"the text has {len(queries)} tokens, so there is no query {query}")
        query = None
    if key is not None and key >= len(keys):
        problems.append(f"the text has {len(keys)} tokens, so there is no key {key}")
        key = None
    if query is None:
        query = 0 if site == "cross" else _last_word(queries)  # the step that writes the first token
    before = len(keys) - len(queries) if site != "cross" else 0  # keys that a cache held
    if key is not None and key > query + before and (info.family == "decoder" or site == "decoder"):
        key = None  # a query that moved back cannot see it
    if key is None:
        key = _strongest(trace, site, layer, head, query)
    named = None if len(info.sites) == 1 else site
    several = tuple(Head(*pair, named) for pair in chosen.heads if _has(info, *pair, site))
    if len(several) < len(chosen.heads):
        problems.append(f"{info.name} does not have all the heads that were chosen")
    query_units, key_units = chosen.view.axes(trace, site)
    focus = Focus(
        head=Head(layer, head, named),
        query=query,
        key=key,
        queries=tuple(i for i in chosen.queries if i < len(queries)) or _unit_around(query_units, query),
        keys=tuple(i for i in chosen.keys if i < len(keys)) or _unit_around(key_units, key),
        heads=several or (Head(layer, head, named),),
        view=chosen.view,
    )
    return replace(focus, window=_inside(chosen.window, len(query_units), len(key_units))), problems


def pinned(chosen: Selection, focus: Focus) -> Selection:
    """The selection with every choice made as `focus` has it."""
    head = focus.head
    return replace(chosen, site=head.site, layer=head.layer, head=head.head, query=focus.query, key=focus.key)


def _unit_around(units: Units, position: int) -> tuple[int, ...]:
    return tuple(range(*units.spans[units.at(position)]))


def _inside(window: Window | None, rows: int, cols: int) -> Window | None:
    """The window as far as the map goes; None where nothing of it is left, or all of the map is in it."""
    if window is None:
        return None
    row, below, col, right = window
    below, right = min(below, rows), min(right, cols)
    whole = (row, below, col, right) == (0, rows, 0, cols)
    return None if whole or row >= below or col >= right else (row, below, col, right)


def start_head(info: ModelInfo, site: str) -> tuple[int, int]:
    """The head to open with: the one that an embedded model names, else the first."""
    for entry in EMBEDDED.values():
        if entry.title == info.name and _has(info, *entry.start, site):
            return entry.start
    return info.layers[site][0], 0


def _has(info: ModelInfo, layer: int, head: int, site: str) -> bool:
    try:
        info.check_head(layer, head, site)
    except HeadError:
        return False
    return True


def _last_word(tokens: Sequence[Token]) -> int:
    """The last token that is text; the last one where none is."""
    return next((i for i in reversed(range(len(tokens))) if not tokens[i].special), len(tokens) - 1)


def _strongest(trace: Trace, site: str, layer: int, head: int, query: int) -> int:
    """The key that the query attends to most, itself, the first token and special ones aside: there heads rest."""
    row = trace.layer(layer, site).pattern(head, slice(query, query + 1))[0, 0, 0].tolist()
    queries, all_keys = trace.axes(site)
    itself = -1 if site == "cross" else query + len(all_keys) - len(queries)
    keys = [i for i, token in enumerate(all_keys) if i not in (0, itself) and not token.special]
    return max(keys, key=row.__getitem__, default=0)
