"""What every page has around it: title, logo, styles, and the model in the sidebar."""

from __future__ import annotations

import tempfile
from pathlib import Path

import streamlit as st

from attnviz.embedded import EMBEDDED
from attnviz.errors import AttnvizError, InputError
from attnviz.info import ModelInfo
from attnviz.memory import use_large_pages
from attnviz.settings import MOST_TOKENS, settings
from attnviz.tracefile import load_trace
from attnviz.ui import say
from attnviz.ui.selection import SAVED
from attnviz.ui.session import begin_run, fitting_example, keep_saved, saved_trace, select, selection, stores
from attnviz.ui.uploads import check_upload, most_megabytes

_ASSETS = Path(__file__).resolve().parents[2] / "assets"
_OTHER, _FILE = "another", "a file"
_TITLES = {_OTHER: "Another model…", _FILE: "Open a saved trace…", SAVED: "Saved trace"}
_SIDEBAR_PIXELS = 250


def frame() -> None:
    """Page settings and styles; called once, before the page; stops with a sentence where settings cannot be used."""
    try:
        settings()
    except InputError as error:
        say.problem(error)
        st.stop()
    use_large_pages()
    begin_run()
    icon = str(_ASSETS / "icon.svg")
    st.set_page_config(page_title="AttnViz", page_icon=icon, layout="wide", initial_sidebar_state=_SIDEBAR_PIXELS)
    st.logo(str(_ASSETS / "logo.svg"), size="large", icon_image=icon)
    st.html(f"<style>{(_ASSETS / 'page.css').read_text('utf-8')}</style>")
    _quiet_transformers()


def model_picker() -> None:
    """Choose an embedded model, or name one on the Hub or in a folder."""
    current = selection().model or settings().default_model
    mine: list[str] = st.session_state.setdefault("models-opened", [])  # other people's names stay theirs
    if current not in (*EMBEDDED, *mine, SAVED):
        mine.append(current)
    options = [*EMBEDDED, *mine[-8:], *([SAVED] if current == SAVED else [])]
    titles = {name: entry.title for name, entry in EMBEDDED.items()} | _TITLES
    # The widget follows the Selection, which may have come from the address.
    st.session_state["model-choice"] = st.session_state.get("model-asked") or current

    def chose() -> None:
        name = st.session_state["model-choice"]
        st.session_state["model-asked"] = name if name in (_OTHER, _FILE) else None
        if name in (_OTHER, _FILE, SAVED):
            return
        before = saved_trace()
        if before is not None:
            select(text=stores().texts.put(before.source_text or before.text))
        select(model=name)
        fitting_example(name)

    def typed() -> None:
        name = st.session_state["model-name"].strip()
        if name:
            st.session_state["model-asked"] = None
            select(model=name)

    st.selectbox(
        "Model",
        [*options, _OTHER, _FILE],
        key="model-choice",
        format_func=lambda name: titles.get(name, name),
        on_change=chose,
    )
    if st.session_state.get("model-asked") == _FILE:
        _open_file()
    if st.session_state.get("model-asked") == _OTHER:
        st.text_input(
            "Hugging Face id or folder",
            key="model-name",
            on_change=typed,
            placeholder="org/model or /path/to/folder",
            help="Weights are read as safetensors only, and no code of the model's own is run.",
        )
        st.button("Open", on_click=typed, type="primary", key="model-open", width="stretch")


def _open_file() -> None:
    """Take a file that `Trace.save` wrote, such as a row of `attnviz.record`, and look at it without its model."""
    file = st.file_uploader(
        "A file that Trace.save wrote", type="safetensors", key="trace-file", max_upload_size=most_megabytes()
    )
    if file is None:
        return
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as copy:
        try:
            check_upload(file)
            copy.write(file.getbuffer())
            copy.flush()
            trace = load_trace(copy.name)
        except AttnvizError as error:
            message = str(error).replace(copy.name, file.name)
            say.problem(AttnvizError(message))
            return
    longest = max(len(axis) for site in trace.info.sites for axis in trace.axes(site))
    if longest > MOST_TOKENS:
        say.problem(AttnvizError(f"This trace has {longest:,} tokens; the app draws at most {MOST_TOKENS:,}."))
        return
    st.session_state["model-asked"] = None
    if keep_saved(trace):
        st.rerun()
    say.problem(AttnvizError("This trace is larger than the room for opened traces; see ATTNVIZ_TRACE_CACHE_BYTES."))


def model_facts(info: ModelInfo) -> None:
    """What the chosen model is, in small print."""
    size = info.n_parameters / 1e6
    shapes = [f"{info.layers_of(site)} layers × {info.heads_of(site)} heads" for site in info.sites]
    if len(info.sites) > 1:
        shapes = [f"{site}: {shape}" for site, shape in zip(info.sites, shapes, strict=True)]
    lines = [info.name] if selection().model == SAVED else []
    lines += [
        f"{info.family}, {size:,.{0 if size >= 10 else 1}f} M parameters",
        *shapes,
        f"{info.device}, {info.dtype}",
    ]
    lines += [f"{info.status}: {info.reason}"] if info.reason else []
    say.caption("\n".join(lines))


@st.cache_resource(show_spinner=False)
def _quiet_transformers() -> None:
    """A server's log needs no progress bars; once for the process."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
