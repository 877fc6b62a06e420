"""Findings as files: exported as JSON Lines or CSV, and taken in again with what became of each."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, cast

import pandas as pd
import streamlit as st

from attnviz import report
from attnviz.errors import AttnvizError, InputError
from attnviz.findings import Finding
from attnviz.store import Brief, Imported, Store
from attnviz.store.exchange import MOST_BYTES
from attnviz.store.rows import Asked
from attnviz.ui import say, work
from attnviz.ui.jobs import Job
from attnviz.ui.notebook.listing import brought_words
from attnviz.ui.notebook.shelf import by, store
from attnviz.ui.session import act
from attnviz.ui.uploads import check_upload, most_megabytes

_ASKED, _RESULT = "attnviz_notebook_import", "attnviz_notebook_imported"
_LISTED = 200
MOST_REPORTED = 50  # some 4 s of work; the command line writes up to 200
_MIME = {"jsonl": "application/jsonl", "csv": "text/csv", "html": "text/html", "md": "text/markdown"}


def export_buttons(one: Finding | None = None, *, asked: Asked | None = None) -> None:
    """One finding, or what was searched for, else all that the person keeps; the file is made when somebody clicks."""
    wanted: Asked = asked or {"owner": by()} if one is None else {"ids": [one.id]}
    stem = "findings" if one is None else f"finding-{one.id[:8]}"
    what = "Export" if one is not None else "Export what was found" if asked else "Export mine"
    with st.container(horizontal=True, vertical_alignment="center", gap="small", width="content"):
        for ending, title in (("jsonl", "JSON Lines"), ("csv", "CSV")):
            st.download_button(
                f"{what} ({title})",
                partial(_file, store(), by(), wanted, ending == "csv"),  # made where no session is
                file_name=f"{stem}.{ending}",
                mime=_MIME[ending],
                on_click="ignore",
                icon=":material/download:",
                key=f"notebook-export-{ending}",
            )


def _file(kept: Store, who: str, asked: Asked, as_csv: bool) -> bytes:
    """An export; where it cannot be made the file says why, as a report does, and is none that can be imported."""
    try:
        return kept.export_findings(by=who, as_csv=as_csv, **asked).encode()
    except AttnvizError as error:
        return f"There is no export. {error}\n".encode()


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
        wanted: Asked = {"ids": [one]} if one else asked
        briefs = kept.briefs(by=who, limit=MOST_REPORTED + 1, **wanted)
        told = [f"The {MOST_REPORTED} that were changed last; there are more."] * (len(briefs) > MOST_REPORTED)
        several = [brief for brief in briefs[:MOST_REPORTED] if not brief.damaged]
        n_damaged = min(len(briefs), MOST_REPORTED) - len(several)
        told += [f"{n_damaged} cannot be read, and {'is' if n_damaged == 1 else 'are'} left out."] * bool(n_damaged)
        make = report.html if ending == "html" else report.markdown
        notes = {brief.id: words for brief in several if (words := brought_words(brief))}
        return make(_each(kept, who, several), about=" ".join(told), notes=notes).encode()
    except AttnvizError as error:
        words = html.escape(f"There is no report. {error}")
        return f'<!DOCTYPE html><meta charset="utf-8"><p>{words}</p>\n'.encode() if ending == "html" else words.encode()


def _each(kept: Store, who: str, several: Sequence[Brief]) -> Iterator[Finding]:
    """One whole finding after the other, so that never two of them are held."""
    for brief in several:
        yield from kept.several([brief.id], by=who)


def import_form() -> None:
    """A file of findings, and what became of each. Last on a page, which ends here where an import fails."""
    with st.expander("Import findings", icon=":material/upload:", expanded=_RESULT in st.session_state):
        file = st.file_uploader(
            "Findings that were exported",
            type=["jsonl", "csv"],
            key="notebook-import-file",
            max_upload_size=min(most_megabytes(), MOST_BYTES >> 20),
        )
        ready = False
        if file is not None:
            try:
                check_upload(file)
                ready = True
            except InputError as error:
                say.problem(error)
        st.button(
            "Import", key="notebook-import", on_click=_ask, args=(file.file_id if file else "",), disabled=not ready
        )
        say.caption(
            "All of a file is taken in, or nothing. What is here already stays as it is; what is here otherwise is a "
            "conflict, and is left. A status comes only with the evidence that holds it up.",
            "Imported findings are private to you, whatever the file says, and are shown as brought by you until they "
            "are measured here. What the file says that others called them stands there in their names, and is not "
            "counted as agreement.",
        )
        if file is not None and ready and st.session_state.get(_ASKED) == file.file_id:
            st.session_state[_RESULT] = (file.name, _imported(file, by(), store()))
            st.session_state.pop(_ASKED)
            st.rerun()
        if _RESULT in st.session_state:
            _result(*st.session_state[_RESULT])


def _ask(file: str) -> None:
    """For callbacks: take in the uploaded file when the page runs."""
    act()
    work.retry()
    st.session_state.pop(_RESULT, None)
    st.session_state[_ASKED] = file


def _imported(file: Any, who: str, kept: Store) -> Imported:
    """What became of a file's findings: read and taken in away from the page, in its line."""

    def take(job: Job) -> Imported:
        job.report("reading it", 0.0)
        return kept.import_findings(file.getvalue(), by=who, as_csv=file.name.lower().endswith(".csv"), name=file.name)

    key = ("finding-import", who, file.file_id)
    return cast(Imported, work.finished(key, "Importing", take, stopped="Stopped. It may have been taken in."))


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
