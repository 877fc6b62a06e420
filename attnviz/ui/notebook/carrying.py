"""Findings as files: exported as JSON Lines or CSV, and taken in again with what became of each."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from attnviz.errors import InputError
from attnviz.findings import Finding
from attnviz.settings import settings
from attnviz.store import Imported, Store
from attnviz.ui import say
from attnviz.ui.notebook.shelf import by, complained, store

_FILE, _RESULT = "attnviz_notebook_file", "attnviz_notebook_imported"
_LISTED = 200
_MIME = {"jsonl": "application/jsonl", "csv": "text/csv"}


def export_buttons(one: Finding | None = None) -> None:
    """One finding, or all that the person may see, to take along; the file is made when somebody clicks."""
    ids = None if one is None else [one.id]
    stem = "findings" if one is None else f"finding-{one.id[:8]}"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for ending, title in (("jsonl", "JSON Lines"), ("csv", "CSV")):
            st.download_button(
                f"{'Export all' if one is None else 'Export'} ({title})",
                partial(_file, store(), by(), ids, ending == "csv"),  # made where no session is
                file_name=f"{stem}.{ending}",
                mime=_MIME[ending],
                on_click="ignore",
                icon=":material/download:",
                key=f"notebook-export-{ending}",
            )


def _file(kept: Store, who: str, ids: list[str] | None, as_csv: bool) -> bytes:
    return kept.export_findings(by=who, ids=ids, as_csv=as_csv).encode()


def import_form() -> None:
    """A file of findings, and what became of each."""
    with st.expander("Import findings", icon=":material/upload:", expanded=_RESULT in st.session_state):
        file = st.file_uploader("Findings that were exported", type=["jsonl", "csv"], key="notebook-import-file")
        st.session_state[_FILE] = None
        if file is not None and file.size > settings().upload_bytes:
            say.problem(
                InputError(f"{file.name} has {file.size / 1e6:,.0f} MB, more than this server takes. Split it.")
            )
        elif file is not None:
            st.session_state[_FILE] = (file.name, file.getvalue())
        st.button("Import", key="notebook-import", on_click=_import, disabled=st.session_state[_FILE] is None)
        say.caption(
            "All of a file is taken in, or nothing. What is here already stays as it is; what is here otherwise is a "
            "conflict, and is left. A status comes only with the evidence that holds it up.",
        )
        if _RESULT in st.session_state:
            _result(*st.session_state[_RESULT])


def _import() -> None:
    """For callbacks: take in the uploaded file."""
    st.session_state.pop(_RESULT, None)
    with complained():
        name, data = st.session_state[_FILE]
        done = store().import_findings(data, by=by(), as_csv=name.lower().endswith(".csv"), name=name)
        st.session_state[_RESULT] = (name, done)


def _result(name: str, done: Imported) -> None:
    n = len(done.imported)
    st.markdown(
        f"**{say.plain(name)}**: {n:,} imported, {len(done.same):,} here already, {len(done.conflicts):,} in conflict."
    )
    rows = [*_claims(done.imported, "imported"), *_claims(done.same, "here already")]
    for met in done.conflicts[:_LISTED]:
        claim = met.mine.claim if isinstance(met.mine, Finding) else ""
        rows.append({"claim": claim, "result": "conflict", "why": str(met)})
    if rows:
        st.dataframe(pd.DataFrame(rows[:_LISTED]), hide_index=True, key="notebook-import-table")


def _claims(ids: tuple[str, ...], result: str) -> list[dict[str, Any]]:
    found = []
    for one in ids[:_LISTED]:
        try:
            claim = store().get(one, by=by()).claim
        except InputError:  # removed meanwhile
            claim = ""
        found.append({"claim": claim, "result": result, "why": ""})
    return found
