"""Changing a finding: what is typed is kept, also where it was changed meanwhile, in another window or by evidence."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from attnviz.errors import AttnvizError, Conflict
from attnviz.findings import LABELS, Finding, reworded
from attnviz.ui import say
from attnviz.ui.notebook.shelf import by, complained, save, store, tell
from attnviz.ui.notebook.typed import heads_of
from attnviz.ui.session import act

_BASE, _MET, _FIELDS = (
    "attnviz_notebook_base",
    "attnviz_notebook_met",
    ("claim", "note", "heads", "labels", "confidence"),
)


def edit_form(one: Finding) -> None:
    """For its owner: the form, filled when the finding is opened or saved, and not by what is changed meanwhile."""
    _fill(one)
    with st.form("notebook-edit", border=False):
        st.text_area("Claim", key="notebook-edit-claim", height=88, max_chars=2_000)
        st.text_area("Note", key="notebook-edit-note", height=88, max_chars=50_000, placeholder="Anything else.")
        st.text_input("Heads", key="notebook-edit-heads", placeholder="L5H1, L7H2")
        st.multiselect("Labels", LABELS, key="notebook-edit-labels", accept_new_options=True)
        st.slider("Confidence", 0, 100, key="notebook-edit-confidence", format="%d%%")
        st.form_submit_button("Save", type="primary", on_click=_save, icon=":material/save:")
        say.caption(
            f"It is {one.status} as it is worded: with another claim, or other heads, it is a hypothesis again."
            if one.status != "hypothesis"
            else ""
        )
    _conflict(one)


def _fill(one: Finding) -> None:
    base: Finding | None = st.session_state.get(_BASE)
    typing = base is not None and base.id == one.id and "notebook-edit-claim" in st.session_state
    if base is not None and typing and (base.version == one.version or _touched(base)):
        return
    st.session_state[_BASE] = one
    st.session_state.pop(_MET, None)
    for name, value in _shown(one).items():
        st.session_state[f"notebook-edit-{name}"] = value


def _shown(one: Finding) -> dict[str, Any]:
    """What the widgets hold for a finding."""
    return {
        "claim": one.claim,
        "note": one.note,
        "heads": ", ".join(map(str, one.heads)),
        "labels": list(one.labels),
        "confidence": round(one.confidence * 100),
    }


def _touched(base: Finding) -> bool:
    """Whether somebody typed something that is not saved."""
    shown = _shown(base)
    return any(st.session_state.get(f"notebook-edit-{name}", value) != value for name, value in shown.items())


def _typed(base: Finding) -> dict[str, Any]:
    """What the form changes of the finding that it was filled from."""
    was = _shown(base)
    held: dict[str, Any] = {name: st.session_state.get(f"notebook-edit-{name}", was[name]) for name in _FIELDS}
    changed = {name: held[name] for name in _FIELDS if held[name] != was[name]}
    if "heads" in changed:
        changed["heads"] = heads_of(str(changed["heads"]))
    if "labels" in changed:
        changed["labels"] = tuple(str(label).strip() for label in changed["labels"])
    if "confidence" in changed:
        changed["confidence"] = changed["confidence"] / 100
    return changed


def _save() -> None:
    """For callbacks: keep what was typed; on a conflict all of it stays in the form."""
    base: Finding = st.session_state[_BASE]
    with complained():
        changes = _typed(base)
        if not changes:
            tell("Nothing was changed.")
            return
        new = reworded(base, changes)
        try:
            kept = store().save(new, by=by(), base=base.version)
        except Conflict as met:
            st.session_state[_MET] = Conflict(str(met), theirs=met.theirs, by=met.by, at=met.at)
            return
        st.session_state.pop(_MET, None)
        st.session_state[_BASE] = kept
        tell(f"Saved.{_lost(base, kept)}")


def _lost(before: Finding, after: Finding) -> str:
    """What became of the status, where it is another."""
    if before.status == after.status:
        return ""
    return f" It was {before.status}, and these words were not: it is a {after.status} again. Weigh it anew."


def _conflict(one: Finding) -> None:
    """What the other has, what was typed, and which is to stay."""
    met: Conflict | None = st.session_state.get(_MET)
    if met is None:
        return
    st.warning(say.plain(str(met)), icon=":material/call_merge:")
    base: Finding = st.session_state[_BASE]
    theirs = met.theirs if isinstance(met.theirs, Finding) else None
    if theirs is None:
        return
    try:
        ours = _shown(reworded(base, _typed(base)))
    except AttnvizError as error:
        say.problem(error)
        return
    was, other = _shown(base), _shown(theirs)
    rows = [
        {"": name, "you began with": str(was[name]), "you typed": str(ours[name]), "kept meanwhile": str(other[name])}
        for name in _FIELDS
        if not was[name] == ours[name] == other[name]
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, key="notebook-conflict")
    with st.container(horizontal=True):
        st.button("Keep what I typed", key="notebook-keep-mine", on_click=_over, args=(one,), type="primary")
        st.button("Take what is kept", key="notebook-take-theirs", on_click=_take)
    say.caption("“Keep what I typed” changes only the fields that you typed in; the rest stays as the other has it.")


def _over(one: Finding) -> None:
    with complained():
        base: Finding = st.session_state[_BASE]
        new = reworded(one, _typed(base))
        if save(new, one, f"Saved over it.{_lost(one, new)}"):
            st.session_state.pop(_BASE)


def _take() -> None:
    act()
    st.session_state.pop(_BASE)


def others_changed(one: Finding) -> bool:
    """Whether the form was filled from an older version than the one that is shown."""
    base = st.session_state.get(_BASE)
    return base is not None and base.id == one.id and base.version != one.version
