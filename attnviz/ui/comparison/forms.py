"""What the Compare page compares: two texts, two models or two templates, typed and run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import streamlit as st

from attnviz.models import Model
from attnviz.settings import settings
from attnviz.ui import boxes, say, work
from attnviz.ui.comparison.pair import Run
from attnviz.ui.pickers import other_model, segments
from attnviz.ui.session import examples, select, selection, stores, text_of

TITLES = {"texts": "Two texts", "models": "Two models", "templates": "Two templates"}
SLOT = "{input}"
_BOXES = {"text": "compare-first", "second": "compare-second", "filling": "compare-input"}
_PARTNERS = {
    "indirect-object": "When John and Mary went to the store, Mary gave a drink to",
    "agreement": "The key that the old janitor left beside the open doors of the school",
    "induction": "Brel tamo visk drona. Kelp mora. Sund tamo visk",
}
_TEMPLATES = {
    "text": f"The capital of {SLOT} is",
    "second": f"Q: What is the capital of {SLOT}? A: The capital is",
    "filling": "France",
}


def mode_picker() -> str:
    """What is compared."""
    current = selection().comparison
    segments(
        "Compare",
        TITLES,
        current,
        key="comparison",
        use=lambda mode: select(comparison=mode, **_SAME_HEAD),
        label_visibility="collapsed",
    )
    return current


_SAME_HEAD: dict[str, Any] = {"other_layer": None, "other_head": None}


def form(mode: str) -> None:
    """The texts and the button that compares; what was typed stays, whatever comes of it."""
    if mode == "models":
        other_model("Second model", key="compare-model", **_SAME_HEAD)
    names = {"texts": ("text", "second"), "models": ("text",), "templates": ("text", "second", "filling")}[mode]
    sent = {name: _BOXES[name] for name in names}
    boxes.catch_up(sent)
    with st.form("compare-form", border=False):
        places = st.columns(2) if mode != "models" else [st.container()]
        # One label in all modes: a box that keeps its label keeps what was typed in it.
        places[0].text_area("First", key=_BOXES["text"], height=92)
        if mode != "models":
            places[1].text_area("Second", key=_BOXES["second"], height=92)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            if mode == "templates":
                st.text_input(f"Input, put in place of {SLOT} in both", key=_BOXES["filling"])
            st.form_submit_button(
                "Compare",
                type="primary",
                on_click=lambda: boxes.take(sent),
                help="What is typed here counts from this press on; before it, another page would lose it.",
            )
    boxes.complain()


def runs(mode: str, model: Model) -> tuple[Run, Run] | None:
    """The two runs; None, with a word on what to do, where something for them is still missing."""
    chosen = selection()
    name = chosen.model or settings().default_model
    first, second = text_of(chosen.text), text_of(chosen.second)
    if mode == "models":
        if not chosen.other_model:
            say.caption("Choose a second model: it reads the same text, and its words are aligned with the first's.")
            return None
        target = text_of(chosen.other)
        run = _run(model, name, first, target)  # before the other model: it may have to make room for that
        return run, _run(_second_model(chosen.other_model), chosen.other_model, first, target)
    texts = _filled(first, second, text_of(chosen.filling)) if mode == "templates" else (first, second)
    if texts is None or not second:
        if mode == "texts":
            _offer_partner(first)
        return None
    return _run(model, name, texts[0]), _run(model, name, texts[1])


def _run(model: Model, name: str, text: str, target: str = "") -> Run:
    """`target` is for encoder-decoders; without one they write it."""
    given = target if model.info.family == "encoder-decoder" else ""
    chat = selection().chat and model.info.has_chat_template
    return Run(name, text, given, chat, work.trace_of(model, name, text, given, chat=chat))


def _second_model(name: str) -> Model:
    """The second model; says so where another had to go for it."""
    before = stores().models.names()
    model = work.model_for(replace(selection(), model=name))
    gone = [other for other in before if other not in stores().models.names()]
    if gone:
        held = settings().models_held
        say.caption(f"{', '.join(gone)} was let go: this server holds {held} model{'s' * (held != 1)} at a time.")
    return model


def _filled(first: str, second: str, filling: str) -> tuple[str, str] | None:
    """Both templates with the input in place; None, with a word on what to do, where something is missing."""
    if SLOT not in first or SLOT not in second or not filling:
        say.caption(f"Write {SLOT} in both templates where the input goes, give an input, and press Compare.")
        _offer("An example: two ways to ask for a capital", lambda: _TEMPLATES)
        return None
    return first.replace(SLOT, filling), second.replace(SLOT, filling)


def _offer_partner(first: str) -> None:
    say.caption(
        "Type a second text that differs from the first in one thing, and press Compare: what then differs in "
        "attention goes with that thing, or with its words alone."
    )
    own = next((_PARTNERS.get(example["id"]) for example in examples() if example["text"] == first), None)
    if own:
        _offer(f"Compare with “{say.plain(own)}”", lambda: {"second": own})


def _offer(title: str, texts: Callable[[], dict[str, str]]) -> None:
    def take() -> None:
        work.retry()
        select(**{name: stores().texts.put(text) for name, text in texts().items()})

    st.button(title, on_click=take, key="compare-offer", icon=":material/lightbulb:")
