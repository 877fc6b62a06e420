"""The clean run beside the run without the chosen heads: outcome, predictions, what is written, and a later head's map.

Each picture takes its title from its own trace, so that neither run can stand under the other's name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from attnviz.ablation import Sweep
from attnviz.edits import Head
from attnviz.errors import InputError, Unsupported
from attnviz.export import about
from attnviz.figures.ablation import position_bars
from attnviz.figures.attention import attention_map
from attnviz.figures.labels import head_words, run_words
from attnviz.trace import Trace
from attnviz.ui import say
from attnviz.ui.ablation import finding, lines
from attnviz.ui.ablation.chosen import Pair, later_than, named, selected_later
from attnviz.ui.ablation.finding import Run
from attnviz.ui.ablation.overview import OFF
from attnviz.ui.ablation.subject import Subject, position_of
from attnviz.ui.components import matrix
from attnviz.ui.export import export_bar
from attnviz.ui.flow.showing import show_figure
from attnviz.ui.pickers import dropdown
from attnviz.ui.python_lines import head_literal
from attnviz.ui.reading import palette_of
from attnviz.ui.session import select, selection
from attnviz.ui.theme import theme
from attnviz.ui.two_runs import titled, written

_MOST_LATER = 200  # heads to choose from
_PREDICTED = 8


def beside(subject: Subject, known: Sweep | None) -> None:
    """Everything that taking the set out changes; nothing where the set is empty."""
    if not subject.heads:
        say.caption("No head is in the set yet, so both runs are the same.")
        return
    try:
        clean, edited = finding.clean_run(subject), finding.edited_run(subject)
    except (InputError, Unsupported) as error:
        say.problem(error)
        return
    _outcome(subject, clean, edited, known)
    if clean.trace.info.has_vocabulary or clean.trace.class_logits is not None:
        for place, run in zip(st.columns(2, gap="medium"), (clean, edited), strict=True):
            with place:
                st.markdown(f"**{say.plain(titled(run.trace))}**")
                _predictions(subject, run.trace)
    else:
        say.caption("This model predicts no tokens and no classes: its embedding is what is measured.")
    _written(subject, clean, edited)
    _moved(subject, edited.trace)
    _maps(subject, clean.trace, edited.trace)


def _outcome(subject: Subject, clean: Run, edited: Run, known: Sweep | None) -> None:
    change = edited.outcome - clean.outcome
    cells = [("Clean", f"{clean.outcome:.4f}"), ("Edited", f"{edited.outcome:.4f}"), ("Change", signed(change))]
    alone = None
    if known is not None and known.units == "head" and len(subject.heads) > 1:
        alone = float(sum(known.found[subject.site][head.layer, head.head] for head in subject.heads))
        if np.isfinite(alone):
            cells.append(("One by one, added up", signed(alone)))
    with st.container(horizontal=True):
        for name, value in cells:
            st.metric(name, value, width="content")
    words = ""
    if alone is not None and np.isfinite(alone):
        words = (
            f"The change less what they do one by one is {signed(change - alone)} (interaction): where it is not near "
            "zero, heads make up for one another or need one another. An outcome that bends, as KL and the loss do, "
            "does not add up either, even for heads that never meet."
        )
    n = len(subject.heads)
    say.caption(
        f"{subject.metric.title[:1].upper() + subject.metric.title[1:]}, {n} head{'s' * (n > 1)} taken out together.",
        words,
        OFF if subject.how == "zero" else "",
    )


def signed(value: float) -> str:
    """A change in four decimals, or as a power of ten where these would hide it."""
    return f"{value:+.4f}" if value == 0 or abs(value) >= 0.0005 else f"{value:+.1e}"


def _predictions(subject: Subject, trace: Trace) -> None:
    """What is likeliest at the position that the outcome reads; or the classes."""
    if trace.info.has_vocabulary:
        table = trace.predictions(position_of(subject.model, trace) if _masked(subject) else -1, _PREDICTED)
        shown = table[["token", "probability"]]
    else:
        assert trace.class_logits is not None
        shares = trace.class_logits.float().softmax(-1).tolist()
        shown = pd.DataFrame({"class": subject.model.labels, "probability": shares}).nlargest(_PREDICTED, "probability")
    chance = {"probability": st.column_config.ProgressColumn(format="%.4f", min_value=0.0, max_value=1.0)}
    key = f"ablation-predicted-{'edited' if trace.edit_titles else 'clean'}"
    st.dataframe(shown, hide_index=True, key=key, height="content", column_config=chance)


def _masked(subject: Subject) -> bool:
    return subject.model.mask_id is not None and subject.model.mask_id in subject.trace.input_ids


def _written(subject: Subject, clean: Run, edited: Run) -> None:
    """What both runs write, greedily, with the first token that differs marked."""
    if clean.written is None or edited.written is None:
        return
    written(clean.written, edited.written, most=finding.WRITTEN)
    if subject.how == "resample":
        say.caption("The donor stands beside the prompt alone: tokens behind it are written with the heads back.")


def _moved(subject: Subject, edited: Trace) -> None:
    try:
        moved = finding.moved(subject)
    except (InputError, Unsupported) as error:
        say.problem(error)
        return
    if moved is None:
        return
    st.markdown("**How far each prediction moved**")
    tokens, scheme = [token.text for token in edited.tokens], theme()
    title = f"How far each prediction moved: {titled(edited)}"

    def figure() -> Any:
        return position_bars(tokens, moved, theme=scheme, title=title)

    show_figure(figure(), "ablation-moved")
    furthest = int(moved.argmax())
    say.caption(
        "KL divergence of the edited from the clean prediction after each token, in nats; it says how far a prediction "
        f"moved, not where to. The furthest is at {furthest} “{tokens[furthest]}”: {moved[furthest]:.4f}.",
        "Of an encoder it is the prediction at the token itself, of which only masked ones were trained."
        if subject.model.family == "encoder"
        else "",
    )
    export_bar(
        "predictions moved",
        figure,
        lambda: pd.DataFrame({"position": range(len(tokens)), "token": tokens, "kl_nats": moved}),
        lines.position_lines(selection(), subject),
        about=about(edited) | {"what": "KL(clean || edited) in nats"},
        key="ablation-moved",
    )


def _maps(subject: Subject, clean: Trace, edited: Trace) -> None:
    """The map of one later head, clean and edited."""
    later = later_than(subject)
    if not later:
        say.caption("No head comes after these, so no map can have changed.")
        return
    changes = finding.changed(subject, clean, edited)
    order = sorted(later, key=lambda pair: -float(np.nan_to_num(changes[pair])))
    wanted = selected_later()
    head = wanted if wanted in later else order[0]
    options = list(dict.fromkeys([*order[:_MOST_LATER], head]))
    dropdown(
        "A later head, clean and edited",
        {pair: f"{named(pair)} · {changes[pair]:.0%} of its attention moved" for pair in options},
        head,
        key="ablation-later",
        use=_pick_later,
        help="Those whose maps changed most come first: half the sum of all changes of a row, averaged over rows.",
        width=420,
    )
    for place, trace in zip(st.columns(2, gap="medium"), (clean, edited), strict=True):
        with place:
            _map(subject, trace, head)
    say.caption(
        "Rows are queries, columns are keys; colour is attention after the softmax, on one scale for both.",
        "That a map changed does not say that its head matters for the outcome.",
    )


def _pick_later(pair: Pair) -> None:
    select(later_layer=pair[0], later_head=pair[1])


def _map(subject: Subject, trace: Trace, pair: Pair) -> None:
    site, which = subject.focus.head.site, "edited" if trace.edit_titles else "clean"
    head, chosen, look, view = Head(*pair, site), selection(), theme(), subject.focus.view
    seen = view.pattern(trace, head)
    title = f"Attention of {head_words(trace, head)}, {run_words(trace)}"
    st.markdown(f"**{which.capitalize()}: {say.plain(head_words(trace, head))}**")
    matrix(
        seen.shown(),
        key=f"ablation-map-{which}",
        row_labels=seen.queries.labels,
        col_labels=seen.keys.labels,
        row_axis="query",
        col_axis="key",
        value_name="attention",
        palettes=palette_of(chosen.palette),
        low=0.0,
        high=1.0,
        scale=chosen.scale,
        selected=None,
        label=f"Attention of the later head in the {which} run, queries down and keys across.",
        max_height=380,
        link="ablation-maps",
        title=f"{title}, {trace.info.name}",
        file_name=f"{which}-{named(pair)}",
        on_pick=lambda query, key: select(
            query=seen.queries.spans[query][1] - 1, key=seen.keys.spans[key][0], queries=(), keys=()
        ),
    )
    export_bar(
        f"{which} {trace.info.name} {named(pair)}",
        lambda: attention_map(trace, head, view=view, scale=chosen.scale, palette=chosen.palette, theme=look),
        seen.frame,
        lines.map_lines(chosen, subject, head_literal(head), edited=bool(trace.edit_titles)),
        rows=seen.weights.numel(),
        about=about(trace, head=head, view=view),
        key=f"ablation-map-{which}",
    )
