"""The model's side of the Highlights page: which heads agree with the marks, against chance and baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from attnviz.edits import Head
from attnviz.figures.highlights import agreement_dots
from attnviz.figures.labels import model_words
from attnviz.flow.methods import METHODS
from attnviz.heads import Scores
from attnviz.human import BASELINES, METRICS, Ranking
from attnviz.human.ranking import LEAST_TEXTS
from attnviz.ui import say
from attnviz.ui.export import export_bar
from attnviz.ui.flow.showing import show_figure
from attnviz.ui.head_map import head_matrix, rising, signed
from attnviz.ui.highlights.asking import METRIC_TITLES, Asked, chance_words, marked, methods
from attnviz.ui.highlights.deleting import LOST, MOST, Deleted, offer_best
from attnviz.ui.highlights.lines import ranking_lines
from attnviz.ui.highlights.study import change
from attnviz.ui.session import selection
from attnviz.ui.theme import theme

_MOST_LAYERS = 5


def verdict(ranking: Ranking) -> None:
    """Which heads may be named, or why none is."""
    named = ", ".join(str(Head(head.layer, head.head)) for head in ranking.named)
    if named:
        st.success(f"**{named}**: {say.plain(ranking.why)}", icon=":material/verified:")
    else:
        st.info(say.plain(ranking.why), icon=":material/info:")


def chosen_head(ask: Asked, ranking: Ranking) -> Head | None:
    """The head that was picked, or else the best one; None where no head has a number."""
    heads = ranking.frame[(ranking.frame["kind"] == "head") & np.isfinite(ranking.frame[ranking.metric])]
    if heads.empty:
        return None
    pairs = [(int(layer), int(head)) for layer, head in zip(heads["layer"], heads["head"], strict=True)]
    return Head(*(ask.study.head if ask.study.head in pairs else pairs[0]), ask.site)


def heads_map(ask: Asked, ranking: Ranking, head: Head) -> None:
    """The agreement of every head, to pick one from."""
    values = _values(ranking)
    head_matrix(
        values,
        head,
        key="highlights-map",
        purpose="Pick one to see its words beside yours.",
        value_name=ask.measure.title,
        colours=signed(1.0) if ranking.metric == "spearman" else rising(values),
        title=f"Agreement with the marks, {ask.model.info.name}",
        file_name="highlights-heads",
        on_pick=lambda layer, at: change(head=(layer, at)),
    )
    n = len(ranking.texts)
    say.caption(
        f"{ask.measure.title} of every head: {ask.measure.words}; {chance_words(ask, ranking)}.",
        ask.score_words,
        f"The mean over {n} texts." if n > 1 else "",
        "Pick a head to see its words. A head that agrees looks where you look; that the model relies on it is "
        "another question.",
    )


def best(ask: Asked, ranking: Ranking, numbers: Sequence[int], made: Deleted | None) -> None:
    """The best heads against chance and baselines, as a picture, and what can be taken along."""
    st.markdown("**The best heads, against chance and baselines**")
    look = theme()
    show_figure(agreement_dots(ranking, theme=look), "highlights-dots")
    band = ranking.bands["head"]
    caption = (
        f"{ask.measure.title} of the {MOST} best heads. The solid line is chance: your marks were moved along the "
        f"text {'in all' if band.complete else 'in'} {len(band.maxima):,} ways, and each time the best of all "
        f"{len(band.observed)} heads was kept; in 95% of them it stayed left of the line.",
        "The broken lines rank words without any attention: by length, rarity, place and surprise."
        if (ranking.frame["kind"] == "baseline").any()
        else "",
        "Bars are 95% intervals of a head's mean over texts (Student's t), each for itself."
        if len(ranking.texts) >= LEAST_TEXTS
        else f"With fewer than {LEAST_TEXTS} texts there are no intervals.",
        "A filled dot is a head that won again on texts held out." if ranking.named else "",
    )
    say.caption(*caption)
    chosen = selection()
    texts = [ask.study.passages[number] for number in numbers]
    shared = min((methods(ask, one) for one in texts), key=len)
    lines = ranking_lines(chosen, ask, [marked(ask, one) for one in texts], shared, ranking.held)
    export_bar(
        f"highlights {ask.model.info.name} {ranking.metric}",
        lambda: agreement_dots(ranking, theme=look),
        lambda: ranking.frame if made is None else made.beside(ranking),
        lines,
        about={"model": ask.model.info.name, "model_words": model_words(ask.model.info), "metric": ranking.metric},
        key="highlights",
        caption=" ".join(filter(None, caption)),
        title="Take the ranking along",
    )


def tables(ask: Asked, ranking: Ranking, numbers: Sequence[int], made: Deleted | None) -> None:
    """The best heads by all measures; and layers, methods and baselines; with what is lost when words are deleted."""
    frame, metric = ranking.frame if made is None else made.beside(ranking), ranking.metric
    lost = {} if made is None else LOST
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown(f"**The {MOST} best heads**")
        heads = frame[frame["kind"] == "head"].head(MOST)
        p = {"p": "p"} | ({"p_found": "p found", "p_held": "p held out"} if ranking.held else {})
        _table(heads, metric, p | lost, "highlights-heads")
        say.caption(
            "p is how often the best of all heads does as well by chance, so it is corrected for their number.",
            "“found” is p on the texts that heads are chosen by, “held out” on the others, for heads that did well on "
            "these."
            if ranking.held
            else "",
            "All heads are in the files.",
        )
        offer_best(ask, ranking, numbers, made)
    with right:
        st.markdown("**Layers, methods and baselines**")
        layers = frame[frame["kind"] == "layer"].head(_MOST_LAYERS)
        others = frame[frame["kind"].isin(["method", "baseline"])]
        both = pd.concat([others, layers]).sort_values(metric, ascending=False, kind="stable")
        titles = {name: method.title for name, method in METHODS.items()}
        both = both.assign(name=[titles.get(name, name) for name in both["name"]])
        _table(both, metric, {"kind": "kind", "p": "p"} | lost, "highlights-others")
        used = [f"{name}: {BASELINES[name]}" for name in BASELINES if name in set(others["name"])]
        say.caption(
            f"The {min(_MOST_LAYERS, len(layers))} best layers (means of their heads), methods that follow attention "
            "or gradients through the model, and baselines that look at no attention.",
            *used,
            "p of layers and methods is for the best of their kind, of a baseline for itself.",
        )
        if any(len(methods(ask, ask.study.passages[number])) < len(METHODS) for number in numbers):
            st.button(
                "Add the slower methods",
                icon=":material/hourglass_top:",
                key="highlights-thorough",
                on_click=lambda: change(thorough=True),
                help="Methods that read values and gradients take minutes on long texts.",
            )
        for name, reason in ranking.refused.items():
            say.caption(f"{titles.get(name, name)} is not here: {reason}")


def _table(rows: pd.DataFrame, metric: str, more: dict[str, str], key: str) -> None:
    """Names, the chosen metric first, p, and the other metrics."""
    titles = {name: METRIC_TITLES[name].short for name in (metric, *(m for m in METRICS if m != metric))}  # type: ignore[index]
    first, *rest = titles
    columns = {"name": "name", first: titles[first], **more, **{name: titles[name] for name in rest}}
    shown = rows[list(columns)].rename(columns=columns)
    number = st.column_config.NumberColumn(format="%.3f", width=70)
    looks: dict[str, Any] = dict.fromkeys(shown.select_dtypes("number").columns, number)
    looks |= dict.fromkeys(LOST.values(), st.column_config.NumberColumn(format="%.3f", width=115))
    looks["name"] = st.column_config.TextColumn(width=150 if "kind" in more else 60)
    st.dataframe(shown, hide_index=True, key=key, column_config=looks, height="content")


def _values(ranking: Ranking) -> Scores:
    """[layer, head]; NaN where there is no head."""
    heads = ranking.frame[ranking.frame["kind"] == "head"]
    layers, at = heads["layer"].to_numpy(int), heads["head"].to_numpy(int)
    values = np.full((layers.max() + 1, at.max() + 1), np.nan, np.float32)
    values[layers, at] = heads[ranking.metric]
    return values
