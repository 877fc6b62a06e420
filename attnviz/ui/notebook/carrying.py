"""Findings as files: exported as JSON Lines or CSV, and taken in again with what became of each."""

from __future__ import annotations

import html
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from attnviz import report
from attnviz.errors import AttnvizError, InputError
from attnviz.findings import Finding
from attnviz.store import Imported, Store
from attnviz.store.rows import Asked
from attnviz.ui import say
from attnviz.ui.notebook.shelf import by, complained, store
from attnviz.ui.uploads import check_upload, most_megabytes

_FILE, _RESULT = "attnviz_notebook_file", "attnviz_notebook_imported"
_LISTED = 200
MOST_REPORTED = 50  # some 4 s of work; the command line writes up to 200
_MIME = {"jsonl": "application/jsonl", "csv": "text/csv", "html": "text/html", "md": "text/markdown"}


def export_buttons(one: Finding | None = None) -> None:
    """One finding, or all that the person may see, to take along; the file is made when somebody clicks."""
    ids = None if one is None else [one.id]
    stem = "findings" if one is None else f"finding-{one.id[:8]}"
    with st.container(horizontal=True, vertical_alignment="center", gap="small", width="content"):
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


def report_buttons(asked: Asked | None = None, *, one: Finding | None = None) -> None:
    """One finding, or the last changed of those that were searched for, as a file to read; made on a click.

    What the person may not see when they click is not in it.
    """
    help = None if one is not None else f"What the search finds: at most the {MOST_REPORTED} that were changed last."
    for ending, title in (("html", "HTML"), ("md", "Markdown")):
        st.download_button(
            f"Report ({title})",
            partial(_report, store(), by(), asked or {}, "" if one is None else one.id, ending),
            file_name=f"{'findings' if one is None else f'finding-{one.id[:8]}'}.{ending}",
            mime=_MIME[ending],
            on_click="ignore",
            icon=":material/article:",
            key=f"notebook-report-{ending}",
            help=help,
        )


def _report(kept: Store, who: str, asked: Asked, one: str, ending: str) -> bytes:
    """A report; where it cannot be made the file says why, since no page is there to say it."""
    try:
        ids = [one] if one else [brief.id for brief in kept.briefs(by=who, limit=MOST_REPORTED + 1, **asked)]
        more = len(ids) > MOST_REPORTED
        about = f"The {MOST_REPORTED} that were changed last; there are more." if more else ""
        make = report.html if ending == "html" else report.markdown
        return make(kept.several(ids[:MOST_REPORTED], by=who), about=about).encode()
    except AttnvizError as error:
        words = html.escape(f"There is no report. {error}")
        return f'<!DOCTYPE html><meta charset="utf-8"><p>{words}</p>\n'.encode() if ending == "html" else words.encode()


def import_form() -> None:
    """A file of findings, and what became of each."""
    with st.expander("Import findings", icon=":material/upload:", expanded=_RESULT in st.session_state):
        file = st.file_uploader(
            "Findings that were exported",
            type=["jsonl", "csv"],
            key="notebook-import-file",
            max_upload_size=most_megabytes(),
        )
        st.session_state[_FILE] = None
        if file is not None:
            try:
                check_upload(file)
                st.session_state[_FILE] = (file.name, file.getvalue())
            except InputError as error:
                say.problem(error)
        st.button("Import", key="notebook-import", on_click=_import, disabled=st.session_state[_FILE] is None)
        say.caption(
            "All of a file is taken in, or nothing. What is here already stays as it is; what is here otherwise is a "
            "conflict, and is left. A status comes only with the evidence that holds it up.",
            "Imported findings are private to you, whatever the file says, and are shown as brought by you. What the "
            "file says that others called them stands there in their names, and is not counted as agreement.",
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
    here = store().briefs(by=by(), ids=ids[:_LISTED], limit=_LISTED)  # but what was removed meanwhile
    return [{"claim": one.claim, "result": result, "why": ""} for one in here]
