"""One finding, open: what was seen, who it belongs to, what is planned and measured, and what people call it."""

from __future__ import annotations

import streamlit as st

from attnviz.findings import Finding
from attnviz.store.shorn import shorn
from attnviz.ui import say
from attnviz.ui.notebook import planning, proving
from attnviz.ui.notebook.carrying import export_buttons, report_buttons
from attnviz.ui.notebook.editing import edit_form, others_changed
from attnviz.ui.notebook.labelling import labels_of
from attnviz.ui.notebook.listing import facts_of, head_buttons, status_badge
from attnviz.ui.notebook.pictures import figure_of
from attnviz.ui.notebook.restoring import ask_first, forget_asking, restore
from attnviz.ui.notebook.shelf import by, complained, open_finding, save, store, tell


def finding_view(one: Finding) -> None:
    """All there is about a finding, to read and to change."""
    owner = store().owners([one.id], by=by()).get(one.id, "")
    mine = owner == by()
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button("All findings", key="notebook-back", icon=":material/arrow_back:", type="tertiary", on_click=_back)
        st.space("stretch")
        export_buttons(one)
        report_buttons(one=one)
        if mine:
            _share(one)
            _remove(one)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        status_badge(one)
        for label in one.labels:
            st.badge(say.plain(label), color="blue")
    st.markdown(f"### {say.plain(one.claim)}")
    facts_of(one)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        _seen(one, one if mine else shorn(one))
    with right:
        if mine:
            proving.status_row(one)
        else:
            say.caption(f"Its status and its plan are set by {owner}; you may measure it, and label it.")
        if mine:
            with st.expander("Change it", icon=":material/edit:", expanded=others_changed(one)):
                edit_form(one)
        st.markdown("**What people call it**")
        labels_of(one)
    st.divider()
    plan, evidence = st.columns(2, gap="medium")
    with plan:
        st.markdown("**The plan**")
        planning.plan_shown(one)
        if mine:
            with st.expander("Another plan" if one.plan else "Plan a measurement", icon=":material/edit_note:"):
                planning.plan_form(one)
    with evidence:
        st.markdown("**The evidence**")
        proving.measure_buttons(one)
        place = st.container()
        proving.again_table(one)
        proving.evidence_list(one)
    with place:
        proving.measure_asked(one)


def _seen(one: Finding, told: Finding) -> None:
    """The view it was seen in: its picture, its heads, its text, and the way back to it.

    told   the same as this person may read it: for others than its owner without folders of this machine
    """
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            "Restore this view",
            key="notebook-restore",
            icon=":material/history:",
            on_click=restore,
            args=(one,),
            disabled=not one.seen.texts,
            help="Puts the text back and opens the page as it was.",
        )
        head_buttons(one.id, one.heads, "notebook-head")
    ask_first(one)
    figure = figure_of(one.figure) if one.figure else None
    if figure is not None:
        figure.update_layout(title_subtitle_text="")  # which is wider than a column, and stands below
        # On its own paper: it was drawn for a light page, or a dark one, and this may be the other.
        st.plotly_chart(figure, key="notebook-figure", theme=None, config={"displaylogo": False})
        say.caption("The picture as it was kept; “Restore this view” draws it anew.")
    elif one.figure:
        say.caption("The picture that came with this finding cannot be shown.")
    model = told.model
    parts = [
        model.name,
        model.revision,
        model.dtype,
        model.device,
        f"weights {model.fingerprint}" * bool(model.fingerprint),
    ]
    say.caption(
        f"Seen on {one.seen.page or 'no page'}, by {', '.join(part for part in parts if part)}.",
        ""
        if model.fingerprint
        else "The model was not in memory when this was kept, so its weights are not known: they are those of the "
        "first measurement as planned, on a model of this name.",
        f"Text: {one.seen.texts['text'][:500]}" if "text" in one.seen.texts else "",
    )
    if one.note:
        st.markdown(say.plain(one.note))
    if told.seen.lines:
        with st.expander("As Python", icon=":material/code:"):
            st.code(told.seen.lines, language="python", wrap_lines=True)


def _share(one: Finding) -> None:
    st.button(
        "Make it private" if one.shared else "Share",
        key="notebook-share",
        icon=":material/lock:" if one.shared else ":material/group:",
        on_click=_set_shared,
        args=(one,),
        help="Shared, everybody on this server sees it, may add evidence and label it.",
    )


def _set_shared(one: Finding) -> None:
    told = "It is yours alone again." if one.shared else "Everybody here sees it now."
    save(one.model_copy(update={"shared": not one.shared}), one, told)


def _remove(one: Finding) -> None:
    with st.popover("Delete", icon=":material/delete:"):
        say.caption(
            "It is removed with its evidence and everybody's labels, and cannot be brought back. Export it first."
        )
        st.button("Delete it", key="notebook-delete", type="primary", on_click=_delete, args=(one,))


def _delete(one: Finding) -> None:
    with complained():
        store().delete(one.id, by=by())
        open_finding("")
        tell("It is removed.")


def _back() -> None:
    proving.forget()
    forget_asking()
    open_finding("")
