"""The store behind the Notebook: who asks, and changes that are made or complained of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import streamlit as st

from attnviz.embedded import EMBEDDED
from attnviz.errors import AttnvizError
from attnviz.findings import Finding, ModelRecord, model_record
from attnviz.findings.judging import FOLDER
from attnviz.store import Store, open_store
from attnviz.ui import say
from attnviz.ui.person import person
from attnviz.ui.selection import SAVED
from attnviz.ui.session import act, model_name, saved_trace, select, selection, stores

_TOLD, _PROBLEM = "attnviz_notebook_told", "attnviz_notebook_problem"


@st.cache_resource(show_spinner=False)
def store() -> Store:
    """The server's findings, opened once, where the settings say; StoreError where they cannot be, and the next call
    tries again."""
    kept = open_store()
    kept.sweep_guests()
    return kept


def by() -> str:
    """Who asks."""
    return person()


def opened() -> str:
    """The id of the finding that is open; "" for none."""
    return selection().finding


def open_finding(finding: str) -> None:
    """For callbacks: open one, or with "" go back to all."""
    select(finding=finding)


def save(new: Finding, base: Finding, told: str) -> bool:
    """For callbacks: keep a change of `base`, and say so on the page; a problem is said there too."""
    with complained():
        store().save(new, by=by(), base=base.version)
        tell(told)
        return True
    return False


@contextmanager
def complained() -> Iterator[None]:
    """For callbacks: what is raised within is said when the page runs."""
    act()
    try:
        yield
    except AttnvizError as error:
        st.session_state[_PROBLEM] = type(error)(str(error))


def tell(words: str) -> None:
    """For callbacks: a sentence for the page to say once."""
    st.session_state[_TOLD] = words


def messages() -> None:
    """Say what callbacks left to be said."""
    told, problem = st.session_state.pop(_TOLD, ""), st.session_state.pop(_PROBLEM, None)
    if told:
        st.toast(say.plain(told), icon=":material/check:")
    if problem is not None:
        say.problem(problem)


def record_here() -> ModelRecord:
    """Which model the session looks at, by its weights where they are held; of a saved trace, what it says."""
    if model_name() == SAVED:
        trace = saved_trace()
        assert trace is not None
        info = trace.info
        return ModelRecord(name=info.name[:300], revision=info.revision[:300], family=info.family, dtype=info.dtype)
    model = stores().models.get(model_name())
    return _unread(model_name()) if model is None else model_record(model)


def _unread(name: str) -> ModelRecord:
    """What is known of a model without reading it: no weights, and of one on the Hub no revision."""
    if name in EMBEDDED:
        try:
            return ModelRecord(name=EMBEDDED[name].title, revision=EMBEDDED[name].version)
        except PackageNotFoundError:
            return ModelRecord(name=EMBEDDED[name].title)
    return ModelRecord(name=Path(name).name[:300], revision=FOLDER) if _is_path(name) else ModelRecord(name=name[:300])


def _is_path(name: str) -> bool:
    """Whether it can be no name on the Hub; not whether there is such a folder, which is not told."""
    return Path(name).is_absolute() or name.startswith(("~", "."))


def opened_as(finding: Finding) -> str:
    """The name that opens the model which the finding is of: the one it was seen by, where that is the same model, else
    an embedded model's, else the model's own."""
    seen = finding.seen.params.get("model", "")
    return _own_name(finding) if seen in ("", SAVED) or seen_on_another(finding) else seen


def seen_on_another(finding: Finding) -> str:
    """The model that the finding's view opens where that is not the model which it is of; "" where it is.

    Told by its name: whoever made the finding may have written any model there, and none is read to find out.
    """
    seen = finding.seen.params.get("model", "")
    if finding.model.revision == FOLDER and _is_path(seen) and Path(seen).name == finding.model.name:
        return ""
    return "" if seen in ("", SAVED, _own_name(finding)) else seen


def _own_name(finding: Finding) -> str:
    return {entry.title: name for name, entry in EMBEDDED.items()}.get(finding.model.name, finding.model.name)


def heads_words(names: Sequence[object], most: int = 6) -> str:
    """L5H1, L7H2 and 3 more."""
    more = len(names) - most
    return ", ".join(map(str, names[:most])) + (f" and {more} more" if more > 0 else "")
