"""How many heads can go: the outcome over texts while heads leave one after the other, beside random orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from attnviz import export
from attnviz.ablation import Curve
from attnviz.figures.pruning import pruning_curve, was_timed
from attnviz.ui import say
from attnviz.ui.ablation import background
from attnviz.ui.ablation import pruning_plan as plans
from attnviz.ui.ablation.overview import OFF
from attnviz.ui.ablation.pruning_lines import pruning_lines
from attnviz.ui.ablation.pruning_plan import Known, Order, Plan
from attnviz.ui.ablation.subject import Subject
from attnviz.ui.export import export_bar
from attnviz.ui.flow.showing import show_figure
from attnviz.ui.pickers import segments
from attnviz.ui.session import act, selection
from attnviz.ui.theme import theme

PRUNING = "pruning"  # the kind of the job
_FIELDS = "attnviz_ablation_pruning"
_ORDERS: dict[Order, str] = {"screen": "By estimate", "exact": "By exact effect", "random": "At random"}
_HOWS = {"mean": "Mean", "zero": "Zero (off-distribution)"}
_NONE: Mapping[Any, str] = {}
_MOST_CONTROLS = 5
_TIME_UP_TO = 50_000_000  # parameters of a model whose smaller copies are made unasked
_TIMED_HELP = (
    "Makes copies of the model with smaller matrices, and runs them in turn with the whole model. Takes the memory of "
    "a second model. Offered where heads share no keys."
)


def pruning(subject: Subject) -> None:
    """The fields, the button, and the curve as far as it is known; `background.again(PRUNING)` ends the page."""
    with st.expander("Pruning curve: how many heads can go?", expanded=_FIELDS in st.session_state):
        if subject.chat:
            say.caption("Pruning curves read plain texts: switch the chat template off.")
            return
        plan = _plan(subject)
        asked = (subject.name, plan)
        under_way = background.started(PRUNING, asked) and background.watch(PRUNING, "Pruning curve")
        found = plans.known(subject, plan)
        if not under_way and not found.complete:
            _offer(subject, plan, asked, found)
        if found.curve is not None:
            _shown(subject, plan, found, found.curve)


def _plan(subject: Subject) -> Plan:
    """What is asked, with the fields to change it."""
    sets, model = plans.texts_for(subject), subject.model
    with st.container(horizontal=True, vertical_alignment="bottom"):
        texts = sets[_segments("texts", "Texts", list(sets), next(iter(sets)))]
        metric = plans.metric_for(subject, texts)
        orders = plans.orders_for(metric)
        order: Order = _segments("order", "Order", orders, orders[0], _ORDERS)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        how = _segments("how", "A removed head gives", list(_HOWS), "zero" if subject.how == "zero" else "mean", _HOWS)
        key = _shows("controls", 2)
        controls = st.number_input(
            "Random orders", 0, _MOST_CONTROLS, key=key, width=130, on_change=lambda: _use("controls")
        )
        timed = plans.can_time(model)
        if timed:
            key = _shows("timed", model.info.n_parameters <= _TIME_UP_TO)
            timed = st.toggle("Take heads out and time it", key=key, help=_TIMED_HELP, on_change=lambda: _use("timed"))
    if orders == ("random",):
        say.caption("What a model writes moves in steps and is read off no single run, so heads leave at random only.")
    references = plans.references_for(subject) if how == "mean" else None
    return Plan(texts, metric, order, references, plans.decoder_for(subject, texts), int(controls), timed)


def _segments(name: str, title: str, options: Sequence[Any], default: Any, words: Mapping[Any, str] = _NONE) -> Any:
    """One of a few, kept with the session; what is not among the options is forgotten."""
    chosen = st.session_state.get(_FIELDS, {}).get(name, default)
    current = chosen if chosen in options else default
    segments(
        title,
        options,
        current,
        key=f"ablation-pruning-{name}",
        use=lambda value: _use(name, value),
        words=lambda value: words.get(value, str(value)),
    )
    return current


def _shows(name: str, default: Any) -> str:
    """The key of a widget that shows what the session keeps."""
    key = f"ablation-pruning-{name}"
    st.session_state[key] = st.session_state.get(_FIELDS, {}).get(name, default)
    return key


def _use(name: str, value: Any = None) -> None:
    act()
    found = st.session_state[f"ablation-pruning-{name}"] if value is None else value
    st.session_state[_FIELDS] = st.session_state.get(_FIELDS, {}) | {name: found}


def _offer(subject: Subject, plan: Plan, asked: background.Asked, found: Known) -> None:
    """The button that starts, or goes on, with what it will take."""

    def start() -> None:
        st.session_state.setdefault(_FIELDS, {})
        background.start(PRUNING, asked, partial(plans.measure, subject, plan))

    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Draw the curve" if found.curve is None else "Measure the rest",
            key="ablation-pruning-run",
            icon=":material/content_cut:",
            on_click=background.asked_for,
            args=(start,),
        )
        runs = plan.runs(plans.n_heads(subject.model))
        ordering = {"screen": ", and an estimate of each text", "exact": ", and a sweep of each text"}
        st.markdown(say.plain(f"{runs:,} forward passes{ordering.get(plan.order, '')}; you can stop at any time."))


def _shown(subject: Subject, plan: Plan, found: Known, curve: Curve) -> None:
    scheme, controls = theme(), found.controls
    timed = found.timed if was_timed(found.timed) else None

    def figure() -> Any:
        return pruning_curve(curve, controls, timed=timed, theme=scheme)

    st.markdown(f"**{say.plain(curve.title[:1].upper() + curve.title[1:])}**")
    show_figure(figure(), "ablation-pruning-curve")
    words = caption_of(plan, found, curve)
    say.caption(*words)
    about = {"model": subject.model.info.name, "what": curve.title, "texts": curve.values.shape[1], "knee": curve.knee}
    with st.container(horizontal=True):
        export_bar(
            "pruning curve",
            figure,
            lambda: frame(curve, controls, timed),
            pruning_lines(selection(), plan, timed=timed is not None),
            about=about,
            caption=" ".join(words),
            key="ablation-pruning",
        )
        for ending, kind, make in (
            ("csv", "text/csv", lambda: export.csv(curve.order_frame())),
            ("json", "application/json", lambda: export.json(curve.order_frame(), about)),
        ):
            st.download_button(
                f"The order, {ending.upper()}",
                make,
                file_name=f"pruning-order.{ending}",
                mime=kind,
                on_click="ignore",
                key=f"ablation-pruning-order-{ending}",
            )


def caption_of(plan: Plan, found: Known, curve: Curve) -> list[str]:
    """What the curve shows, and what not."""
    n, knee = curve.values.shape[1], curve.knee
    words = [
        f"Heads leave from left to right, and at the end all are gone; over {n:,} text{'s' * (n > 1)}, every step "
        "measured anew, since effects do not add up.",
        "The order was found on the very texts that it is judged on, so other texts will be less kind."
        if plan.order != "random"
        else "This order is random: it is what others are compared with.",
    ]
    if knee is not None:
        share = curve.removable[knee] / curve.n_parameters
        words.append(
            f"Knee: the step farthest from the straight line between both ends, {curve.removed[knee]:,} heads, "
            f"{curve.removable[knee]:,} removable parameters ({share:.1%})."
        )
    words.append(OFF.strip() if plan.references is None else "")
    if was_timed(found.timed):
        assert found.timed is not None
        few = found.timed.values.shape[1]
        words.append(
            f"Below: milliseconds of a forward pass of {few} text{'s' * (few > 1)} with the heads really taken out, "
            "in turn with the whole model, on this machine; none where a layer would keep no head."
        )
    else:
        words.append("No parameter is gone: heads held at a constant or zeroed save no time, so none is shown.")
    return [word for word in words if word]


def frame(curve: Curve, controls: tuple[Curve, ...], timed: Curve | None) -> pd.DataFrame:
    """A row for each order and step: `Curve.frame`, with kind (curve, random or timed), order in words, n_texts, and
    low95 and high95 of the mean over texts."""
    tables = []
    kinds = ["curve", *["random"] * len(controls), *["timed"] * (timed is not None)]
    for kind, one in zip(kinds, (curve, *controls, *([timed] if timed is not None else [])), strict=True):
        order = {"kind": kind, "order": one.by, "n_texts": one.values.shape[1]}
        tables.append(one.frame().assign(**order, low95=one.low, high95=one.high))
    return pd.concat(tables, ignore_index=True)
