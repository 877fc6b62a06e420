"""Reading times against every head, layer and method: the request with its estimate, the map, the best head, tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from attnviz import human
from attnviz.figures.heads import detector_map
from attnviz.figures.labels import model_words
from attnviz.figures.palette import Theme
from attnviz.heads import Scores
from attnviz.human import Correlation
from attnviz.human.gaze_correlation import Best
from attnviz.human.gaze_sentence import LEAST_WORDS
from attnviz.ui import say
from attnviz.ui.export import export_bar
from attnviz.ui.gaze.asking import Asked, Fit, Found, comparable, correlated, seconds_a_sentence, spread, want
from attnviz.ui.gaze.draft import HEAD, change
from attnviz.ui.gaze.lines import correlation_lines
from attnviz.ui.gaze.played import BESIDE_TITLES, SINK_TITLES, SINK_WORDS, head_words
from attnviz.ui.head_map import head_matrix, round_up, signed
from attnviz.ui.notebook.offering_gaze import keep_read
from attnviz.ui.pickers import dropdown, segments
from attnviz.ui.session import select, selection
from attnviz.ui.theme import theme

_MOST_HEADS, _MOST_LAYERS = 15, 5
_MOST = 0.5  # where the colours of a map end at the latest
MEASURE_TITLES = {"partial": "Partial", "raw": "Raw"}
MEASURE_WORDS = {
    "partial": "Partial: what is left of both once the words' length, rarity, position and surprisal, as far as this "
    "model has it, are taken out.",
    "raw": "Raw: with all that length, rarity, position and surprisal do for it.",
}


def correlate(ask: Asked, fit: Fit) -> None:
    """The section: how many sentences, how long it will take, and what came of it."""
    st.markdown("**All sentences, all readers**")
    names = comparable(ask, fit.refused)
    if not names:
        say.caption(
            f"No sentence can be correlated: each needs {LEAST_WORDS} words or more, and its words in the model's text."
        )
        return
    chosen = len(spread(names, ask.gaze.number))
    _controls(ask, names)
    with st.container():  # in which a bar may come and go
        found = correlated(ask, names)
    if found is None:
        _offer(ask, names, chosen)
        return
    _verdict(ask, found)
    left, right = st.columns([2, 3], gap="medium")
    with left:
        _map(ask, found, fit.refused, ask.gaze.number if chosen < len(names) else 0)
    with right:
        _others(ask, found)
    _heads(ask, found)


def _controls(ask: Asked, names: list[str]) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        n = len(names)
        numbers = {number: f"{number}" for number in (20, 60) if number < n} | {0: f"All {n:,}"}
        current = ask.gaze.number if ask.gaze.number in numbers else 0
        segments("Sentences", numbers, current, key="gaze-number", use=lambda number: change(number=number))
        dropdown(
            "Word frequencies",
            sorted(human.languages()),
            ask.gaze.language,
            key="gaze-language",
            use=lambda name: change(language=name),
            help="The language that the words' rarity is looked up in.",
            width=130,
        )


def _offer(ask: Asked, names: list[str], chosen: int) -> None:
    seconds = chosen * seconds_a_sentence(ask, names)
    st.button(
        "Correlate",
        type="primary",
        icon=":material/play_arrow:",
        key="gaze-correlate",
        on_click=lambda: want(ask, names),
    )
    say.caption(
        f"Reads {chosen:,} sentence{'s' * (chosen != 1)}"
        f"{', spread evenly over the tables,' if chosen < len(names) else ''} with every head, layer and method of "
        f"{ask.model.info.name}. It takes about {_span(seconds)}, and you can stop it.",
        f"Sentences of fewer than {LEAST_WORDS} words are left out.",
    )


def _span(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} min"


def _verdict(ask: Asked, found: Found) -> None:
    """The best head, and what it is worth; how far readers agree."""
    made, sink = found.correlation, ask.gaze.sink
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        segments(
            "Correlation",
            MEASURE_TITLES,
            ask.gaze.measure,
            key="gaze-measure",
            use=lambda name: change(measure=name),
            help="Partial is the one that counts: what the model adds to length, rarity, position and surprisal.",
        )
        segments("Sinks", SINK_TITLES, sink, key="gaze-sink-all", use=lambda name: change(sink=name))
        readers = {"": "All readers", **{name: name for name in made.readers}}
        dropdown("Of", readers, _of(ask, made), key="gaze-of", use=lambda name: change(of=name), width=200)
    best = made.best.get((sink, ask.gaze.measure))
    n = f"{len(made.sentences):,} sentence{'s' * (len(made.sentences) != 1)}"
    if best is None:
        st.info(f"No head has a {ask.gaze.measure} figure on {n}.", icon=":material/info:")
    elif _holds(best):
        st.success(_best_words(best, ask.gaze.measure, n, made), icon=":material/verified:")
    else:
        st.info(_best_words(best, ask.gaze.measure, n, made), icon=":material/info:")
    left = next(iter(made.left_out.values()), "")
    say.caption(
        "Over all readers.",
        _agreement(ask, found),
        f"{len(made.left_out):,} of the chosen sentences are in no figure: {left}" if left else "",
    )


def _of(ask: Asked, made: Correlation) -> str:
    return ask.gaze.of if ask.gaze.of in made.readers else ""


def _holds(best: Best) -> bool:
    """Beyond chance where it was found, and above 0 where it was not."""
    return best.value > best.band and best.low > 0


def _best_words(best: Best, measure: str, n: str, made: Correlation) -> str:
    n_heads = sum(row.kind == "head" for row in made.rows)
    held = (
        f" The heads that are best on either half ({best.chosen[0]}, {best.chosen[1]}) come to {best.elsewhere:.2f} on "
        f"the other half ({best.low:.2f} to {best.high:.2f})."
        if np.isfinite(best.elsewhere) and np.isfinite(best.low)
        else " There are too few sentences to try it on others."
    )
    verdict = "" if _holds(best) else " So no head is named."
    return say.plain(
        f"The best head, {best.head}, has a {measure} correlation of {best.value:.2f} with reading times over {n}. By "
        f"chance the best of {n_heads} heads stays below {best.band:.2f} in 95% of the draws (p {best.p:.3f}).{held}"
        f"{verdict}"
    )


def _agreement(ask: Asked, found: Found) -> str:
    rows = _rows(found.frame, ask.gaze.sink, "")
    pairs = rows[rows["kind"] == "readers"]
    if pairs.empty:
        return "With one reader, how far people agree with each other cannot be said."
    return (
        f"The readers agree with each other at {pairs['raw'].mean():.2f} raw, {pairs['partial'].mean():.2f} partial"
        f"{'' if len(pairs) == 1 else f', the mean of {len(pairs)} pairs'}: one reading alone is noisy."
    )


def _map(ask: Asked, found: Found, refused: Mapping[str, str], number: int) -> None:
    """The figure of every head, to pick one from; `number` of the sentences that can be compared are in it, 0: all."""
    made, measure = found.correlation, ask.gaze.measure
    of = _of(ask, made)
    values = _values(_rows(found.frame, ask.gaze.sink, of), measure)
    if not np.isfinite(values).any():
        say.caption(f"No head has a {measure} figure here.")
        return

    def pick(layer: int, head: int) -> None:
        select(layer=layer, head=head)
        change(beside=HEAD)

    title = f"{MEASURE_TITLES[measure]} correlation with reading times, {ask.model.info.name}"
    head_matrix(
        values,
        None if selection().layer is None else ask.head,
        key="gaze-map",
        purpose="Pick one to see its words below the map and beside the reading.",
        value_name=f"{measure} correlation",
        colours=signed(round_up(float(np.nanmax(np.abs(values))), _MOST)),
        title=title,
        file_name="gaze-heads",
        on_pick=pick,
    )
    whose = of or "all readers"
    caption = (
        f"Every head's rank correlation with the reading times of {whose}, the mean over {len(made.sentences):,} "
        "sentences: blue where it pays more to what was read longer, orange where less.",
        MEASURE_WORDS[measure],
        SINK_WORDS[ask.gaze.sink],
        "Pick a head to see its words below and beside the reading. Two orders of words that are alike do not show "
        "that a model reads as people do.",
    )
    say.caption(*caption)
    look = theme()

    def figure(scheme: Theme = look) -> go.Figure:
        return detector_map(values, chance=0.0, name="correlation", note=whose, theme=scheme, title=title)

    python = correlation_lines(selection(), ask, refused, number=number, of=of)
    with st.container(horizontal=True):
        export_bar(
            f"gaze {ask.model.info.name} {measure}",
            figure,
            lambda: found.frame,
            python,
            about={
                "model": ask.model.info.name,
                "model_words": model_words(ask.model.info),
                "readers": list(made.readers),
                "sentences": len(made.sentences),
                "controls": list(made.controls),
            },
            key="gaze",
            caption=" ".join(caption),
            title="Take all figures along",
        )
        keep_read(ask, figure=lambda: figure("light"), lines=python)
    if selection().layer is not None:
        head_words(ask)


def _others(ask: Asked, found: Found) -> None:
    """Methods, the best layers, baselines, and readers against each other."""
    made = found.correlation
    rows = _rows(found.frame, ask.gaze.sink, _of(ask, made))
    layers = rows[rows["kind"] == "layer"].nlargest(_MOST_LAYERS, ask.gaze.measure)
    order = ["method", "layer", "baseline", "readers"]
    known = rows["kind"].isin(["method", "baseline", "readers"]) & rows[["raw", "partial"]].notna().any(axis=1)
    parts = pd.concat([rows[known], layers])
    parts = parts.assign(at=[order.index(kind) for kind in parts["kind"]])
    parts = parts.sort_values(["at", ask.gaze.measure], ascending=[True, False], kind="stable")
    parts = parts.assign(name=[BESIDE_TITLES.get(name, name) for name in parts["name"]])
    _table(parts, "gaze-others", "kind")
    without = [name for name in ("length", "rarity", "position", "surprisal") if name not in made.controls]
    say.caption(
        "Punctuation is left out: it is hardly looked at, and would make every figure larger.",
        "Even so the length of words alone reached .4 to .5 in two readers of an encyclopedia, so a raw figure says "
        "little."
        if not any(table.made_up for table in ask.gaze.tables)
        else "",
        "What counts is the partial column: what something adds to length, rarity, position and surprisal.",
        "A baseline is given the others.",
        f"There is no {' and no '.join(without)} here." if without else "",
        "In brackets 95% intervals over sentences and, for all readers, over readers too; those are too short where "
        "readers are few: with two they hold the mean over all people in about 7 of 10 simulations, with ten in 9.",
        f"The {len(layers)} best layers are shown; all are in the files.",
        *[f"{BESIDE_TITLES.get(name, name)} is not here: {why}" for name, why in made.refused.items()],
    )


def _heads(ask: Asked, found: Found) -> None:
    rows = _rows(found.frame, ask.gaze.sink, _of(ask, found.correlation))
    heads = rows[rows["kind"] == "head"].nlargest(_MOST_HEADS, ask.gaze.measure)
    with st.expander(f"The {len(heads)} best heads"):
        _table(heads, "gaze-heads", *([] if _of(ask, found.correlation) else ["p raw", "p partial"]))
        say.caption(
            f"By the {ask.gaze.measure} figure. p is how often the best of all heads does as well when the times are "
            "moved along the words in a circle, so it is corrected for the number of heads; it is of all readers "
            "together. All heads are in the files."
        )


def _rows(frame: pd.DataFrame, sink: str, reader: str) -> pd.DataFrame:
    """A row for each thing with both figures, their intervals as words, and p; pairs of readers are always there."""
    pairs = (frame["kind"] == "readers") & (frame["reader"] == "")
    part = frame[(frame["sink"] == sink) & ((frame["reader"] == reader) | pairs)]
    out = part[part["measure"] == "raw"][["kind", "name", "layer", "head"]].reset_index(drop=True)
    for measure in MEASURE_TITLES:
        own = part[part["measure"] == measure]
        out[measure], out[f"p {measure}"] = own["mean"].to_numpy(), own["p"].to_numpy()
        out[f"{measure} 95%"] = [
            f"[{low:.2f}, {high:.2f}]" if np.isfinite(low) else ""
            for low, high in zip(own["low"], own["high"], strict=True)
        ]
    return out


def _table(rows: pd.DataFrame, key: str, *more: str) -> None:
    shown = rows[["name", *(one for one in more if one == "kind")]]
    for measure in ("raw", "partial"):
        shown = shown.assign(**{measure: rows[measure], f"{measure} 95%": rows[f"{measure} 95%"]})
    shown = shown.assign(**{one: rows[one] for one in more if one != "kind"})
    number = st.column_config.NumberColumn(format="%.2f", width=70)
    p = st.column_config.NumberColumn(format="%.3f", width=80)
    looks = {"raw": number, "partial": number, "p raw": p, "p partial": p}
    looks["name"] = st.column_config.TextColumn(width=180)
    st.dataframe(shown, hide_index=True, key=key, column_config=looks, height="content" if len(shown) < 25 else 560)


def _values(rows: pd.DataFrame, measure: str) -> Scores:
    """[layer, head]; NaN where there is no head, or no figure."""
    heads = rows[rows["kind"] == "head"]
    layers, at = heads["layer"].to_numpy(int), heads["head"].to_numpy(int)
    values = np.full((layers.max() + 1, at.max() + 1), np.nan, np.float32)
    values[layers, at] = heads[measure]
    return values
