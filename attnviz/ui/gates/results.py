"""What came of learning: held-out examples before and after, the curve, which heads, and what else moved."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from attnviz.edits import Head
from attnviz.figures import head_grid
from attnviz.figures.gates import learning_curve
from attnviz.figures.palette import Theme
from attnviz.gates import Elsewhere, Gates, Mean, Tested
from attnviz.ui import say, work
from attnviz.ui.ablation.asking import embedded_texts
from attnviz.ui.export import export_bar
from attnviz.ui.flow.showing import show_figure
from attnviz.ui.gates.asking import Asked
from attnviz.ui.gates.lines import curve_lines, map_lines
from attnviz.ui.head_map import head_matrix, rising
from attnviz.ui.jobs import Job
from attnviz.ui.kept import kept
from attnviz.ui.notebook.keeping import keep_this
from attnviz.ui.notebook.viewing import MOST_CHARS
from attnviz.ui.session import select, selection
from attnviz.ui.theme import theme
from attnviz.ui.views import site_picker

TAKEN = "share of a head's output that is taken away"
UNRELATED = 6  # texts
_LISTED = 12
_MOST_KEPT = 100  # heads of a finding, the most closed
_STOPPED = {
    "early": "Learning stopped by itself, since nothing improved any more.",
    "after all steps": "All steps were taken.",
    "on request": "It was stopped before its end: this is the best step until then.",
}


def digest_of(found: Gates) -> str:
    """What tells these gates from others, for cache keys."""
    return work.digest(repr([(site, values.tolist()) for site, values in found.values.items()]))


def verdict(ask: Asked, found: Gates) -> None:
    """In a sentence: whether anything was learned, and what was done to the model."""
    n, shut, stopped = len(found.changed()), len(found.closed()), _STOPPED.get(found.stopped, "")
    heads = sum(int(np.isfinite(values).sum()) for values in found.values.values())
    if found.best == 0:
        words = "No step was better on the held-out examples than the model as it is, so all gates stay at 1."
        if found.held_out.right[0] == 1:
            words += " It has all of them right already: give it examples that it gets wrong."
    else:
        words = f"Step {found.best} is kept: {n:,} of {heads:,} heads are turned down, {shut or 'none'} of them closed."
        costly = found.settings["penalty"] == "l1" and found.settings["weight"] > 0
        if found.stopped == "early" and costly and 2 * n > heads:
            stopped += " Stopped early: the cost had not yet brought most gates back to 1."
    st.info(say.plain(f"{words} {stopped}"), icon=":material/school:")
    if not found.history.step.iloc[-1] and found.stopped == "on request":
        say.caption("It was stopped before the first step, so nothing was learned yet.")


def before_after(tested: Tested, *, learned: bool, key: str) -> None:
    """Right answers, and by how much the answer leads, without the gates and with them.

    learned   the examples chose the step
    """
    n, (right_before, right_after) = len(tested.outcome_before), tested.right
    with st.container(horizontal=True, gap="medium", key=key):
        st.metric("Right before", f"{right_before:.0%}", width="content")
        st.metric("Right after", f"{right_after:.0%}", width="content")
        name = "log p" if tested.foils == "none" else "Lead"
        st.metric(f"{name} before, nats", f"{tested.before.mean:+z.2f}", width="content")
        st.metric(f"{name} after, nats", f"{tested.after.mean:+z.2f}", width="content")
        st.metric("Change, nats", f"{tested.change.mean:+z.2f}", width="content")
    lead = {
        "all": "The lead is log p(answer) - log p(foil).",
        "some": "The lead is log p(answer), less log p(foil) where there is one.",
        "none": "log p is that of the answer: there is no foil. Right means that each token of it is the likeliest.",
    }[tested.foils]
    say.caption(
        f"The mean over {n} {'held-out ' * learned}example{'s' * (n != 1)}. {lead}",
        f"The change of each example is {_interval(tested.change)}." if n > 1 else "One example has no interval.",
        f"With {n} examples one more or less that is right is {1 / n:.0%}." if n <= 50 else "",
        "They were not learned from, but they chose the step, so they are a little kind to it. The examples that were "
        "learned from are not shown: a gate learned on few examples fits those."
        if learned
        else "",
    )


def _interval(mean: Mean) -> str:
    return f"{mean.mean:+z.2f} nats in the mean, 95% interval {mean.low:+z.2f} to {mean.high:+z.2f}"


def curve(ask: Asked, found: Gates) -> None:
    """How the loss fell, to look at and to take along."""
    look = theme()
    show_figure(learning_curve(found, theme=look), "gates-curve")
    caption = (
        "The loss by step: dotted of the batch that was learned from, and solid of the held-out examples, which count. "
        "The step where that is lowest is kept; step 0 is the model as it is. A lower loss is no proof that the model "
        "is right more often."
    )
    say.caption(caption)
    export_bar(
        f"gates curve {found.model} seed {found.seed}",
        lambda: learning_curve(found, theme=look),
        lambda: found.history,
        curve_lines(selection(), ask, found),
        about=facts(found),
        caption=caption,
        key="gates-curve",
        title="Take the curve along",
    )


def heads(ask: Asked, found: Gates) -> None:
    """Every head's gate as a map, and the heads that were turned down most."""
    site = ask.model.info.site(selection().site)
    if len(found.values) > 1:
        site_picker(ask.model.info, site, sites=tuple(found.values))
    look, chosen = theme(), selection()
    taken = (1 - found.values[site]).astype(np.float32)
    picked = None if chosen.layer is None or chosen.head is None else Head(chosen.layer, chosen.head)
    head_matrix(
        taken,
        picked,
        key="gates-map",
        what="What is taken away of every head",
        purpose="A pick is selected on the other pages too.",
        value_name="taken away",
        colours=rising(taken),
        title=f"Gates of {found.model}",
        file_name="gates-heads",
        on_pick=lambda layer, head: select(layer=layer, head=head),
    )
    caption = (
        f"The {TAKEN}: 0 leaves it as it is, 1 closes it. With a slope for every head many other sets would do as "
        "well, so a head that is turned down here is not thereby the cause of the mistake: compare Ablation."
    )
    say.caption(caption)

    def figure(scheme: Theme = look) -> go.Figure:
        return head_grid(taken, ask.model.info, TAKEN, palette=chosen.palette, theme=scheme, high=None)

    changed, python = found.changed(), map_lines(chosen, ask, found, site, TAKEN)
    with st.container(horizontal=True):
        export_bar(
            f"gates heads {found.model} seed {found.seed}",
            figure,
            found.frame,
            python,
            about=facts(found),
            caption=caption,
            key="gates-heads",
            title="Take the gates along",
        )
        keep_this(
            "Gates",
            heads=list(changed)[:_MOST_KEPT],
            figure=lambda: figure("light"),
            lines=python,
            also_seen=[row.text for row in ask.rows],
            caption=_goes_along(ask),
        )
    if changed:
        rows = list(changed.items())[:_LISTED]
        table = pd.DataFrame({"head": [str(head) for head, _ in rows], "gate": [gate for _, gate in rows]})
        config = {"gate": st.column_config.ProgressColumn(format="%.2f", min_value=0.0, max_value=1.0)}
        with st.popover(f"The {len(rows)} most closed", icon=":material/format_list_numbered:"):
            st.dataframe(table, hide_index=True, key="gates-listed", height="content", column_config=config)


def _goes_along(ask: Asked) -> str:
    """What of the view a finding has."""
    if len(ask.course.model_dump_json()) > MOST_CHARS:
        return "The examples, or the file of gates, are too large to go along: the view opens without them."
    if ask.course.loaded:
        return "The file of gates goes along."
    return "The examples and how they were learned from go along; there the gates are learned again."


def elsewhere(ask: Asked, found: Gates) -> None:
    """How far the gates move what the model says of texts that have nothing to do with the examples."""
    st.markdown("**What else changed**")
    if not found.changed(1.0):
        say.caption("Nothing: all gates are 1.")
        return
    moved = _moved(ask, found)
    mean, worst = moved.mean, int(moved.kl.argmax())
    with st.container(horizontal=True, gap="medium"):
        st.metric("Moved elsewhere (KL, nats)", f"{mean.mean:.3f}", width="content")
        st.metric("Most, of one text", f"{moved.kl[worst]:.3f}", width="content")
    kind = "dates" if ask.model.family == "encoder-decoder" else "sentences"
    interval = f", 95% interval {mean.low:.3f} to {mean.high:.3f}" if math.isfinite(mean.low) else ""
    say.caption(
        f"How far predictions move on {len(moved.texts)} {kind} of the app's own that are not among the examples: "
        f"KL(without || with gates), the mean over positions{interval}. 0 is no change. Read it beside every gain: a "
        "model that answers these examples better and all else worse was not taught.",
        f"Most moved: “{moved.texts[worst]}”.",
    )


def _moved(ask: Asked, found: Gates) -> Elsewhere:
    mine = {row.text for row in ask.course.rows}
    pairs = ask.model.family == "encoder-decoder"
    others = [text for text in embedded_texts(pairs=pairs)[::7] if text not in mine][:UNRELATED]

    def make(job: Job) -> Elsewhere:
        parts = []
        for number, text in enumerate(others):
            job.report(f"text {number + 1} of {len(others)}", number / len(others))
            parts.append(found.elsewhere(ask.model, [text]).kl)
        return Elsewhere(tuple(others), np.concatenate(parts))

    key = (ask.name, "gates-elsewhere", digest_of(found), tuple(others))
    return cast(Elsewhere, kept(ask, key, "Reading other texts", make))


def on_examples(ask: Asked, found: Gates) -> None:
    """Gates of a file on the examples of the table, which they may or may not have been learned from."""
    if not ask.rows:
        say.caption("Put examples into the table to see what these gates do on them.")
        return

    def make(job: Job) -> Tested:
        job.report("without gates, then with", 0.0)
        return found.test(ask.model, ask.examples)

    key = (ask.name, "gates-tested", digest_of(found), work.digest(repr(ask.rows)))
    st.markdown("**On the examples of the table**")
    before_after(cast(Tested, kept(ask, key, "Trying the gates", make)), learned=False, key="gates-tested")
    say.caption(
        "If these gates were learned from the same examples, this says little: a gate fits what it learned from."
    )


def facts(found: Gates) -> dict[str, Any]:
    """Which gates, for the header of a file."""
    held = found.held_out.title
    return {"gates": found.title, "model": found.model, "revision": found.revision, "held_out": held}
