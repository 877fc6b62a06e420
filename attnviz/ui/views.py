"""The pieces that pages share: strip, grid of heads, map; each is given a trace and what of it to look at."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from attnviz.edits import Head
from attnviz.figures.labels import head_words, model_words, run_words, sink_words, unit_words
from attnviz.figures.pooling import block_of, largest_of_blocks
from attnviz.heads import Scores
from attnviz.info import ModelInfo
from attnviz.tokens import Token
from attnviz.trace import Trace
from attnviz.ui import say
from attnviz.ui.components import matrix, token_strip
from attnviz.ui.focus import Focus
from attnviz.ui.head_map import head_matrix, rising, round_up
from attnviz.ui.pickers import dropdown, segments
from attnviz.ui.reading import palette_of
from attnviz.ui.session import select, selection
from attnviz.ui.titles import SCORE_TITLES, grid_words, read_words
from attnviz.units import Units
from attnviz.view import Seen

SITE_TITLES = {"encoder": "Encoder", "decoder": "Decoder", "cross": "Cross-attention"}
SCORE_CAPTIONS = {
    "between": "Attention that the selected query pays to the selected key in each head, a share of 1.",
    "sink": "Mean attention that queries pay to the first token: often where heads rest, and then no finding.",
    "entropy": "Mean row entropy as a share of the most it could be: 0 looks at one key, 1 at all alike.",
    "previous": "Mean attention that queries pay to the one before them, a share of 1.",
    "distance": "How far back or ahead heads look: mean of |query - key|, weighted by attention.",
}
MAP_SIDE = 512  # cells a side that go to the browser; a larger part is pooled
Window = tuple[int, int, int, int]


def strip(trace: Trace, focus: Focus) -> None:
    """The text, each token tinted by the attention that the selected query pays to it in the selected head."""
    queries, keys = trace.axes(focus.head.site)
    row = focus.view.row(trace, focus.head, focus.query)
    weights = row.shown()[0]
    within = trace.info.family == "decoder" or focus.head.site == "decoder"
    if within:
        last = focus.query + len(keys) - len(queries)  # after what a cache held
        weights[[start > last for start, _ in row.keys.spans]] = np.nan
    apart = queries != keys
    if apart:
        _query_strip(queries, focus, focus.view.axes(trace, focus.head.site)[0])
    marked = _whole(row.keys, selection().keys)
    token_strip(
        row.keys.labels,
        weights,
        key="strip",
        **flow(row.keys, keys),
        palettes=palette_of(selection().palette),
        scale=selection().scale,
        high=round_up(float(np.nanmax(weights, initial=0.0))),
        selected=None if apart else row.keys.at(focus.query),
        target=row.keys.at(focus.key),
        label=f"The text. Pick a {focus.view.unit} to make it the {'key' if apart else 'query'}.",
        unseen_word="faded: not seen or taken away" if row.hidden.any() else "faded: not seen",
        picks="key" if apart else "query",
        link=_LINK,
        marked=marked,
        on_mark=lambda units: select(queries=(), keys=_tokens(row.keys, units)),
        on_pick=lambda unit: select(queries=(), **_picked(row.keys, unit, "key" if apart else "query")),
    )


def _query_strip(queries: Sequence[Token], focus: Focus, units: Units) -> None:
    """Queries that are not the keys: what the model wrote, untinted, to choose the query from."""
    plain_strip(
        units,
        queries,
        key="query-strip",
        selected=units.at(focus.query),
        label=f"What the decoder reads. Pick a {focus.view.unit} to make it the query.",
        link=_LINK,
        on_pick=lambda unit: select(**_picked(units, unit, "query")),
    )


def plain_strip(units: Units, tokens: Sequence[Token], *, selected: int | None, **options: Any) -> None:
    """A text without tints, to pick a unit from; `options` are those of `token_strip`."""
    token_strip(
        units.labels,
        np.zeros(len(units), np.float32),
        **flow(units, tokens),
        palettes=palette_of(selection().palette),
        high=1.0,
        selected=selected,
        target=None,
        value_name="",
        **options,
    )


_LINK = "trace"  # what is pointed at in one of a page's pictures is marked in the others


def flow(units: Units, tokens: Sequence[Token]) -> dict[str, Any]:
    """How units run as a text: their kinds, line breaks, and which stand apart from the one before."""
    firsts = [tokens[start] for start, _ in units.spans]
    words = [
        None if start == 0 or t.word is None else tokens[start - 1].word
        for t, (start, _) in zip(firsts, units.spans, strict=True)
    ]
    return {
        "kinds": ["special" if t.special else "template" if t.template else "" for t in firsts],
        "breaks": [any("↵" in token.text for token in tokens[a:b]) for a, b in units.spans],
        "starts_word": [word is None or word != t.word for t, word in zip(firsts, words, strict=True)],
    }


def site_picker(
    info: ModelInfo,
    current: str | None,
    *,
    sites: Sequence[str] = (),
    key: str = "site",
    use: Callable[[str], None] = lambda site: select(site=site),
) -> None:
    """Which attention of an encoder-decoder to look at, or which of some `sites`; nothing where there is one."""
    sites = sites or info.sites
    if len(sites) > 1:
        segments("Attention", {site: SITE_TITLES[site] for site in sites}, current, key=key, use=use)


def score_picker(current: str) -> str:
    """What colours the grid of heads."""
    dropdown("All heads, coloured by", SCORE_TITLES, current, key="score", use=lambda name: select(score=name))
    return current


def grid(trace: Trace, scores: Scores, score: str, focus: Focus) -> None:
    """Every head of the model by the chosen score, and what that is."""
    score_grid(
        trace,
        scores,
        score,
        focus,
        purpose="Pick one to see its map.",
        on_pick=lambda layer, head: select(layer=layer, head=head),
    )
    say.caption(
        score_caption(score, focus),
        unit_words(focus.view),
        "" if score == "sink" else sink_words(focus.view, trace, focus.head.site, None),
        "One text, one number: a place to look closer, not a verdict.",
    )


def score_grid(
    trace: Trace,
    scores: Scores,
    score: str,
    focus: Focus,
    *,
    purpose: str,
    max_height: int = 400,
    on_pick: Callable[[int, int], None],
) -> None:
    """Every head of the model, layers down and heads across, coloured by a score; all but distances are shares."""
    head_matrix(
        scores,
        focus.head,
        key="grid",
        purpose=purpose,
        value_name=SCORE_TITLES[score].lower(),
        colours=rising(scores, limit=math.inf if score == "distance" else 1.0),
        max_height=max_height,
        title=", ".join([grid_words(trace, score, focus), run_words(trace), trace.info.name]),
        file_name=f"heads-{score}",
        on_pick=on_pick,
    )


def score_caption(score: str, focus: Focus) -> str:
    """What a score is, and between which tokens where several were chosen."""
    if score == "between" and len(focus.queries) * len(focus.keys) > 1:
        return (
            f"Attention that {_counted(len(focus.queries), 'chosen query', 'chosen queries')} pay on average to "
            f"{_counted(len(focus.keys), 'chosen key', 'chosen keys')} together, a share of 1."
        )
    return SCORE_CAPTIONS[score]


def attention_map(trace: Trace, focus: Focus, *, key: str = "map", max_height: int = 400) -> Seen:
    """The selected head's pattern as the view shows it, queries down and keys across; the part in the window."""
    seen = focus.view.pattern(trace, focus.head)
    whole: Window = (0, len(seen.queries), 0, len(seen.keys))
    window = focus.window or whole
    part = seen.shown()[window[0] : window[1], window[2] : window[3]]
    few = max(whole[1], whole[3]) <= MAP_SIDE  # then the browser has every value, and zooms by itself
    block = (1, 1) if few else block_of(part.shape, MAP_SIDE)
    box = _box(seen, focus)
    matrix(
        seen.shown() if few else largest_of_blocks(part, block),
        key=key,
        shape=(len(seen.queries), len(seen.keys)),
        window=whole if few else window,
        pool=block,
        zoom=focus.window,
        row_labels=seen.queries.labels,
        col_labels=seen.keys.labels,
        row_axis="query",
        col_axis="key",
        value_name="attention",
        palettes=palette_of(selection().palette),
        low=0.0,
        high=1.0,
        scale=selection().scale,
        selected=(seen.queries.at(focus.query), seen.keys.at(focus.key)),
        label="The selected head's attention, queries down and keys across. Pick a cell to select its query and key.",
        max_height=max_height,
        link=_LINK,
        box=box,
        box_value=None if box is None else _box_value(seen, box),
        title=f"Attention of {head_words(trace, focus.head)}, {run_words(trace)}, {trace.info.name}"
        + read_words(focus, seen),
        file_name=f"attention-{Head(focus.head.layer, focus.head.head)}",
        on_window=lambda window: select(window=window),
        on_box=lambda box: select(**_boxed(seen, box)),
        on_pick=lambda q, k: select(
            queries=(), keys=(), **_picked(seen.queries, q, "query"), **_picked(seen.keys, k, "key")
        ),
    )
    return seen


def map_caption(trace: Trace, focus: Focus, seen: Seen) -> None:
    """Which run, head, axes and unit the map shows, and what it is not; from the trace itself."""
    head = focus.head
    query, key = seen.queries.at(focus.query), seen.keys.at(focus.key)
    weight = float(seen.weights[query, key])
    scale = {"sqrt": "on a square-root scale", "linear": "on a linear scale", "log": "on a logarithmic scale"}
    say.caption(
        f"{head_words(trace, head)}, {run_words(trace)} of {model_words(trace.info)}.",
        "Rows are queries, columns are keys; colour is attention after the softmax, a share of 1 in each row, "
        f"{scale[selection().scale]}.",
        unit_words(focus.view),
        sink_words(focus.view, trace, head.site, seen.taken),
        *["Each row is the step that reads its token and writes the next one."] * (head.site in ("decoder", "cross")),
        f"Selected: query {query} “{seen.queries.labels[query]}” pays {weight:.4f} to key {key} "
        f"“{seen.keys.labels[key]}”{_away(seen, query, key, focus.view.sinks.how == 'value-norm')}.",
        "It shows where the head looks, not what that does to the prediction.",
    )


def _away(seen: Seen, query: int, key: int, weighted: bool) -> str:
    if seen.hidden[key]:
        return ", which is taken away"
    taken = float(seen.taken[query])
    done = "moved to other keys" if weighted else "taken away"
    return f" ({taken:.4f} of its attention was {done})" if taken else ""


def _picked(units: Units, unit: int, axis: str) -> dict[str, int]:
    """What a pick of a unit selects: as query its last token, after which the model predicts; as key its first."""
    start, stop = units.spans[unit]
    return {axis: stop - 1 if axis == "query" else start}


def _tokens(units: Units, chosen: Sequence[int]) -> tuple[int, ...]:
    return tuple(i for unit in sorted(chosen) for i in range(*units.spans[unit]))


def _whole(units: Units, positions: Sequence[int]) -> tuple[int, ...]:
    """The units any of whose tokens are among the positions."""
    return tuple(sorted({units.at(i) for i in positions if i < units.n_tokens}))


def _boxed(seen: Seen, box: Window | None) -> dict[str, tuple[int, ...]]:
    if box is None:
        return {"queries": (), "keys": ()}
    return {
        "queries": _tokens(seen.queries, range(box[0], box[1])),
        "keys": _tokens(seen.keys, range(box[2], box[3])),
    }


def _box(seen: Seen, focus: Focus) -> Window | None:
    """The box around queries and keys that were chosen together, where they are without gaps."""
    if not (selection().queries and selection().keys):
        return None
    rows, cols = _whole(seen.queries, focus.queries), _whole(seen.keys, focus.keys)
    gaps = rows[-1] - rows[0] >= len(rows) or cols[-1] - cols[0] >= len(cols)
    return None if gaps else (rows[0], rows[-1] + 1, cols[0], cols[-1] + 1)


def _box_value(seen: Seen, box: Window) -> float:
    return float(seen.weights[box[0] : box[1], box[2] : box[3]].sum(-1).mean())


def _counted(count: int, one: str, many: str) -> str:
    return f"the {count} {many}" if count > 1 else f"the {one}"
