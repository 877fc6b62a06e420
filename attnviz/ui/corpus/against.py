"""One corpus against another, two labels of one, or two models on the same texts: which heads differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from attnviz.corpus import Comparison, Result, compare, compare_paired
from attnviz.corpus.changes import LEAST_TEXTS
from attnviz.errors import ShapeError
from attnviz.figures.corpus import change_grid, choice_words, widest
from attnviz.figures.palette import Theme
from attnviz.ui import say, work
from attnviz.ui.corpus.lines import change_lines
from attnviz.ui.corpus.looked import Looked, labels_of
from attnviz.ui.corpus.running import measuring
from attnviz.ui.corpus.subject import Subject
from attnviz.ui.corpus.tables import of_label, run_facts
from attnviz.ui.corpus.texts import corpora
from attnviz.ui.export import export_bar
from attnviz.ui.head_map import head_matrix, round_up, signed
from attnviz.ui.jobs import Job
from attnviz.ui.notebook.offering_corpus import keep_scored
from attnviz.ui.pickers import dropdown, other_model, segments
from attnviz.ui.session import select, selection
from attnviz.ui.theme import theme

RATE = 0.05
_NEAREST = 5  # heads that are listed where none changed
_VALUES = ("second", "first", "difference", "from", "to")
KINDS = {"corpus": "Other texts", "labels": "Two labels", "model": "Another model"}


@dataclass(frozen=True, eq=False)
class Sides:
    """Two measurements, or one and two of its labels, called by `names`; differences are second minus first."""

    first: Subject
    second: Subject
    labels: tuple[str, str] | None
    names: tuple[str, str]

    @property
    def paired(self) -> bool:
        return self.first.name != self.second.name

    def results(self) -> tuple[Iterator[Result], Iterator[Result]]:
        one, other = self.labels or (None, None)
        return of_label(self.first.id, one), of_label(self.second.id, other)


def against(looked: Looked) -> None:
    """What to compare with, and once both sides are measured what differs."""
    st.markdown("#### Compare")
    kinds = {kind: title for kind, title in KINDS.items() if kind != "labels" or len(labels_of(looked.subject)) > 1}
    wanted = selection().against or ("corpus" if selection().other_corpus else "")
    current = wanted if wanted in kinds else None
    segments(
        "Compare with",
        kinds,
        current,
        key="corpus-against",
        use=lambda kind: select(against=kind or ""),
        free=True,
        label_visibility="collapsed",
    )
    if current is None:
        say.caption("Do heads do the same on other texts, on texts of another label, or in another model?")
        return
    sides = {"corpus": _corpora, "labels": _labels, "model": _models}[current](looked)
    if sides is not None:
        _changes(looked, sides)


def _corpora(looked: Looked) -> Sides | None:
    subject, key = looked.subject, selection().other_corpus
    names = {k: name for k, name in corpora(subject.model).items() if k != subject.known.key}
    if not names:
        say.caption("There are no other texts here yet: paste or upload them above, then come back to these.")
        return None
    dropdown(
        "Other texts",
        names,
        key if key in names else None,
        key="corpus-other",
        use=lambda key: select(other_corpus=key or ""),
        words=lambda key: names.get(key, key),
        index=None,
        placeholder="Choose other texts",
    )
    if key not in names:
        if key and key != subject.known.key:
            say.caption("The other texts behind this address are not here any more: add them again.")
        return None
    other = measuring(Subject.of(subject.name, subject.model, key, subject.site, selection()), which="-other")
    return Sides(subject, other, None, (subject.known.name, other.known.name))


def _labels(looked: Looked) -> Sides | None:
    labels = labels_of(looked.subject)
    picked: list[int] = []

    def chose() -> None:
        label, other = (st.session_state[f"corpus-label-{side}"] for side in (0, 1))
        select(first_label=label, other_label=other)

    chosen = (selection().first_label, selection().other_label)
    titles = "First label", "Minus the label"
    for side, (place, title, at) in enumerate(zip(st.columns(2), titles, chosen, strict=True)):
        st.session_state[f"corpus-label-{side}"] = side if at is None or at >= len(labels) else at
        picked.append(
            place.selectbox(
                title,
                range(len(labels)),
                key=f"corpus-label-{side}",
                format_func=lambda i: labels[i] or "(none)",
                on_change=chose,
            )
        )
    second, first = picked  # title, fields and strips name them in one order
    if first == second:
        say.caption("Choose two labels that differ.")
        return None
    pair = labels[first], labels[second]
    return Sides(looked.subject, looked.subject, pair, (pair[0] or "(none)", pair[1] or "(none)"))


def _models(looked: Looked) -> Sides | None:
    subject, name = looked.subject, selection().other_model
    other_model("Other model", key="corpus-model", but=subject.name)
    if not name or name == subject.name:
        say.caption(
            "Choose a model of the same architecture, such as a checkpoint and what was fine-tuned from it: heads are "
            "compared one by one."
        )
        return None
    model = work.model_for(replace(selection(), model=name))
    site = subject.site
    shapes = [
        (info.layers_of(site), info.heads_of(site)) if site in info.sites else None
        for info in (subject.model.info, model.info)
    ]
    if shapes[0] != shapes[1]:
        words = [f"{s[0]} layers of {s[1]} heads" if s else f"no {site} attention" for s in shapes]
        raise ShapeError(
            f"Heads are compared one by one, so both models need as many layers and heads: {subject.model.info.name} "
            f"has {words[0]}, {model.info.name} has {words[1]}. Choose another of the same architecture."
        )
    other = measuring(Subject.of(name, model, subject.known.key, subject.site, selection()), which="-other")
    titles = subject.model.info.name, model.info.name
    return Sides(subject, other, None, titles if titles[0] != titles[1] else (subject.name, name))


def _changes(looked: Looked, sides: Sides) -> None:
    """The map of differences, and the heads that changed."""
    found = _compared(looked, sides)
    apart, changed = found.difference[0, 0], found.changed(RATE)[0, 0]
    tested = int(np.isfinite(found.p).sum())
    words = choice_words(looked.choice)
    if not tested:
        say.caption(
            f"No head has values in {LEAST_TEXTS} texts or more on each side, so nothing is tested. Choose another "
            "detector, or more texts."
        )
        return
    narrow, wide = st.columns([2, 3], gap="medium")
    first, second = (say.plain(name) for name in sides.names)
    with narrow:
        st.markdown(f"**{words}: {second} minus {first}**")
        _map(looked, apart, sides)
        info, look, names, lines = looked.subject.model.info, theme(), sides.names, _lines(looked, sides)
        site = looked.subject.site

        def figure(scheme: Theme = look) -> go.Figure:
            return change_grid(found, info, names, site=site, rate=RATE, theme=scheme)

        with st.container(horizontal=True):
            export_bar(
                f"corpus changes {looked.detector}",
                figure,
                lambda: found.frame(rate=RATE),
                lines,
                about=_facts(looked, sides),
                key="corpus-changes",
            )
            # Of the difference itself there is no evidence: what a finding measures is one model on one set of texts.
            sets = [side.known for side in (sides.first, sides.second)]
            keep_scored(
                "Corpus",
                looked.scored(),
                figure=lambda: figure("light"),
                lines=lines,
                others=sets,
                key="corpus-changes",
            )
    with wide:
        n = int(changed.sum())
        how = "changed" if sides.paired else f"differ between {second} and {first}"
        st.markdown(f"**{n or 'None'} of {tested} heads {how}**")
        table = found.frame(rate=RATE)
        st.dataframe(
            _rows(table[table["changed"]] if n else table.head(_NEAREST)),
            hide_index=True,
            key="corpus-changed",
            column_config={
                "q": st.column_config.NumberColumn(format="%.1e"),
                **{
                    name: st.column_config.NumberColumn(title[:30], format="%.4f")
                    for name, title in zip(_VALUES, (*sides.names[::-1], *_VALUES[2:]), strict=True)
                },
            },
        )
        say.caption(*_words(found, sides, n, tested))


def _map(looked: Looked, apart: np.ndarray, sides: Sides) -> None:
    head_matrix(
        apart.astype(np.float32),
        looked.head,
        key="corpus-change-map",
        what="The difference of the two means",
        purpose="Pick a head to see its texts.",
        value_name="difference",
        colours=signed(round_up(widest(apart))),
        title=f"{choice_words(looked.choice)}: {sides.names[1]} minus {sides.names[0]}",
        file_name="corpus-changes",
        on_pick=lambda layer, head: select(layer=layer, head=head),
    )


def _rows(table: pd.DataFrame) -> pd.DataFrame:
    heads = [f"L{layer}H{head}" for layer, head in zip(table["layer"], table["head"], strict=True)]
    shown = table[["mean_b", "mean_a", "difference", "low", "high", "q"]]
    shown = shown.set_axis([*_VALUES, "q"], axis=1)
    shown.insert(0, "head", heads)
    return shown


def _words(found: Comparison, sides: Sides, changed: int, tested: int) -> list[str]:
    how = "text by text, the same texts in both" if found.paired else "mean against mean"
    n = f"{found.n[0]:,}" if found.paired else f"{found.n[1]:,} and {found.n[0]:,}"
    test = "for each head a t-test" + ("" if found.paired else " and a permutation test: both have to say so")
    untested = int(np.isfinite(found.difference).sum()) - tested
    words = [
        f"Difference: {sides.names[1]} minus {sides.names[0]}. {n} texts, compared {how} ({test}).",
        f"{tested} heads were looked at, so some would differ by chance: the list is cut where about {RATE:.0%} of it "
        "is expected to be false (q, after Benjamini and Hochberg). That holds for this detector; whoever tries many "
        "looks more often.",
    ]
    if changed:
        words.append("From and to: an interval of the difference, widened for having been chosen.")
    else:
        words.append(
            "No difference stands out: that is a result for these texts and this many of them, not a proof that the "
            "heads are the same. The nearest to it are listed."
        )
    if not found.paired:
        words.append("Longer texts have lower chance levels: texts of two lengths differ by that alone.")
    if not (sides.first.whole and sides.second.whole):
        words.append("Not all texts are measured yet.")
    if untested:
        words.append(f"{untested} heads have fewer than {LEAST_TEXTS} texts that count on a side: they are not tested.")
    if min(found.n) < 20:
        words.append("Below some twenty texts a side only large differences are found.")
    return [*words, "A head that looks elsewhere need not change what the model writes."]


def _compared(looked: Looked, sides: Sides) -> Comparison:
    """Compared once, and kept."""
    measured = [(side.name, *side.id, side.done) for side in (sides.first, sides.second)]
    of = (sides.first.name, "corpus-compared", *measured, sides.labels, looked.choice)

    def make(job: Job) -> Comparison:
        job.report("reading results", 0.0)
        return (compare_paired if sides.paired else compare)(*sides.results(), looked.choice)

    return cast(Comparison, work.once(of, "Comparing", make))


def _lines(looked: Looked, sides: Sides) -> str:
    return change_lines(sides.first, sides.second, looked, sides.labels)


def _facts(looked: Looked, sides: Sides) -> dict[str, object]:
    """Which measurements a file is of."""
    second = {f"second_{name}": value for name, value in run_facts(sides.second).items()}
    labels = {"labels": list(sides.labels)} if sides.labels else {}
    return {
        **run_facts(sides.first),
        **second,
        **labels,
        "detector": looked.detector,
        "variant": looked.choice.variant,
        "false_discovery_rate": RATE,
    }
