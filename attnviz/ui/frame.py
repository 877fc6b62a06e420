"""What every page has around it: title, logo, styles, and the model in the sidebar."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from attnviz.embedded import EMBEDDED
from attnviz.info import ModelInfo
from attnviz.settings import settings
from attnviz.ui import say
from attnviz.ui.session import fitting_example, select, selection

_ASSETS = Path(__file__).resolve().parents[2] / "assets"
_OTHER = "another"
_SIDEBAR_PIXELS = 250


def frame() -> None:
    """Page settings and styles; called once, before the page."""
    icon = str(_ASSETS / "icon.svg")
    st.set_page_config(page_title="AttnViz", page_icon=icon, layout="wide", initial_sidebar_state=_SIDEBAR_PIXELS)
    st.logo(str(_ASSETS / "logo.svg"), size="large", icon_image=icon)
    st.html(f"<style>{(_ASSETS / 'page.css').read_text('utf-8')}</style>")
    _quiet_transformers()


def model_picker() -> None:
    """Choose an embedded model, or name one on the Hub or in a folder."""
    current = selection().model or settings().default_model
    mine: list[str] = st.session_state.setdefault("models-opened", [])  # other people's names stay theirs
    if current not in EMBEDDED and current not in mine:
        mine.append(current)
    options = [*EMBEDDED, *mine[-8:]]
    titles = {name: entry.title for name, entry in EMBEDDED.items()}
    # The widget follows the Selection, which may have come from the address.
    st.session_state["model-choice"] = _OTHER if st.session_state.get("model-other-open") else current

    def chose() -> None:
        name = st.session_state["model-choice"]
        st.session_state["model-other-open"] = name == _OTHER
        if name != _OTHER:
            select(model=name)
            fitting_example(name)

    def typed() -> None:
        name = st.session_state["model-name"].strip()
        if name:
            st.session_state["model-other-open"] = False
            select(model=name)

    st.selectbox(
        "Model",
        [*options, _OTHER],
        key="model-choice",
        format_func=lambda name: "Another model…" if name == _OTHER else titles.get(name, name),
        on_change=chose,
    )
    if st.session_state.get("model-other-open"):
        st.text_input(
            "Hugging Face id or folder",
            key="model-name",
            placeholder="org/model or /path/to/folder",
            help="Weights are read as safetensors only, and no code of the model's own is run.",
        )
        st.button("Open", on_click=typed, type="primary", key="model-open", width="stretch")


def model_facts(info: ModelInfo) -> None:
    """What the chosen model is, in small print."""
    size = info.n_parameters / 1e6
    shapes = [f"{info.layers_of(site)} layers × {info.heads_of(site)} heads" for site in info.sites]
    if len(info.sites) > 1:
        shapes = [f"{site}: {shape}" for site, shape in zip(info.sites, shapes, strict=True)]
    lines = [f"{info.family}, {size:,.{0 if size >= 10 else 1}f} M parameters", *shapes, f"{info.device}, {info.dtype}"]
    lines += [f"{info.status}: {info.reason}"] if info.reason else []
    say.caption("\n".join(lines))


@st.cache_resource(show_spinner=False)
def _quiet_transformers() -> None:
    """A server's log needs no progress bars; once for the process."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
