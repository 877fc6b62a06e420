"""The text on the page: typing it, picking an example, sharing it."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlencode

import streamlit as st

from attnviz.models import Model
from attnviz.settings import settings
from attnviz.ui import boxes, say
from attnviz.ui.session import TEXTS, examples, select, selection, show, stores, text_of
from attnviz.ui.work import retry

_DRAFT, _OTHER = "draft", "other-text"
_URL_CHARS = 2_000  # what browsers, mail and chat programs pass on whole


def first_text() -> None:
    """Start a new session on the first example, so that there is a picture to begin with."""
    if not selection().text:
        own = [example["text"] for example in examples() if example.get("model") == selection().model]
        show(replace(selection(), text=stores().texts.put((own or [examples()[0]["text"]])[0])))


def text_form() -> None:
    """The text and the button that runs it; what was typed stays, whatever comes of it."""
    boxes.catch_up({"text": _DRAFT})
    with st.form("text-form", border=False):
        wide, narrow = st.columns([8, 1], vertical_alignment="bottom", gap="small")
        wide.text_area(
            "Text",
            key=_DRAFT,
            height=88,
            label_visibility="collapsed",
            placeholder="Type or paste a text for the model to read.",
        )
        narrow.form_submit_button(
            "Run",
            type="primary",
            width="stretch",
            on_click=lambda: boxes.take({"text": _DRAFT}),
            help="What is typed here counts from this press on; on another page it is not kept before.",
        )
    boxes.complain()


def example_picker() -> None:
    """Example texts, each with what to look for."""

    special = {example["model"] for example in examples() if "model" in example}

    def picked(text: str, model: str) -> None:
        retry()
        # A model with examples of its own is made for those; any other reads every text.
        select(model=model or ("" if selection().model in special else selection().model))
        select(text=stores().texts.put(text), other="")

    with st.popover("Examples", width="stretch"):
        for example in examples():
            st.button(
                f"**{example['title']}** — {say.plain(example['hint'])}",
                key=f"example-{example['id']}",
                on_click=picked,
                args=(example["text"], example.get("model", "")),
                type="tertiary",
            )


def target_field(model: Model) -> None:
    """For encoder-decoders: what the decoder is to read; empty, and the model writes it."""
    if model.info.family == "encoder-decoder":
        other_field("Target", "Leave empty to let the model write it", query=None, key=None)


def other_field(label: str, placeholder: str, **changes: None) -> None:
    """The second text of the Selection; a new one also makes `changes`."""
    boxes.fill(_OTHER, "other")
    st.text_input(
        label,
        key=_OTHER,
        on_change=lambda: boxes.take({"other": _OTHER}, lambda: dict(changes)),
        max_chars=settings().max_chars,
        placeholder=placeholder,
    )


def chat_switch(model: Model) -> None:
    """For instruct models: whether the text is wrapped in the model's chat template."""
    if model.info.has_chat_template:
        st.session_state["chat-switch"] = selection().chat
        st.toggle(
            "Chat template",
            key="chat-switch",
            on_change=lambda: select(chat=st.session_state["chat-switch"]),
            help="Send the text as a user's message in the model's own template. Tokens that the template adds are "
            "underlined with dots.",
        )


def share() -> None:
    """Links to this very view, without the text or, by choice, with it."""
    with st.popover("Share", width="stretch"):
        base = (st.context.url or "").split("?")[0]
        params = selection().to_params()
        st.caption("Link to this view. The text stays on this server and is forgotten some time after its last use.")
        st.code(f"{base}?{urlencode(params)}", language=None, wrap_lines=True)
        if st.toggle("Put the text into the link", key="share-text"):
            without_keys = {name: value for name, value in params.items() if name not in TEXTS}
            kept = {f"with_{name}": text_of(params[name]) for name in TEXTS if name in params}
            texts = {name: text for name, text in kept.items() if text}
            link = f"{base}?{urlencode(without_keys | texts)}"
            if len(link) > _URL_CHARS:
                st.info(f"The text is too long for a link: {len(link):,} characters, {_URL_CHARS:,} at most.")
            else:
                st.caption("Whoever has this link has the text; it may be kept in browser histories and server logs.")
                st.code(link, language=None, wrap_lines=True)
