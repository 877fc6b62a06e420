"""What people say of a prediction or an explanation, on the page that shows it, and the list of what they said.

Kept as the draft `feedback`: gates and head profiles take their examples from it (`attnviz.feedback.examples`).
"""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import streamlit as st
from pydantic import field_validator

from attnviz import feedback
from attnviz.errors import InputError
from attnviz.feedback import MOST_CHARS, Feedback, Kind, Verdict
from attnviz.models import Model
from attnviz.trace import Trace
from attnviz.ui import drafts, say
from attnviz.ui.session import act
from attnviz.ui.work import digest

_OPEN, _KEPT, _PROBLEM = "attnviz_feedback_open", "attnviz_feedback_kept", "attnviz_feedback_problem"
_THUMBS: dict[Verdict, tuple[str, str]] = {
    "up": ("Right", ":material/thumb_up:"),
    "down": ("Wrong", ":material/thumb_down:"),
}
_LISTED = 200  # judgements that the list shows, the latest first


class Said(drafts.Draft):
    """Judgements as JSON Lines, the latest last."""

    lines: str = ""

    @field_validator("lines")
    @classmethod
    def _readable(cls, lines: str) -> str:
        feedback.of_lines(lines)
        return lines


def given() -> list[Feedback]:
    """What this person has said so far, the latest last."""
    return feedback.of_lines(drafts.read(Said, "feedback").lines)


def feedback_row(
    text: str, *, model: str, predicted: str = "", kind: Kind = "prediction", which: str = "", key: str
) -> None:
    """A thumb up and one down; after a press the fields for a reason and, of a wrong prediction, what was wanted.

    text        what the model read, as it was given
    model       its name
    predicted   what it said, as it continues the text: what a thumb up confirms, and what a thumb down proposes as foil
    which       which one, where a page has several: "before steering"
    key         tells the rows of one page apart
    """
    if not text.strip():
        return
    about = digest(repr((text, model, predicted)))
    held = st.session_state.get(_OPEN)
    verdict: Verdict | None = held[2] if held is not None and held[:2] == (key, about) else None
    what = f"the {kind} {which}" if which else f"this {kind}"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"Is {what} right?", width="content")
        for name, (title, icon) in _THUMBS.items():
            st.button(
                title,
                icon=icon,
                key=f"{key}-{name}",
                type="primary" if verdict == name else "secondary",
                on_click=_thumb,
                args=(key, about, None if verdict == name else name, predicted),
            )
    if verdict is None:
        if st.session_state.get(_KEPT) == (key, about):
            n = len(feedback.examples(given(), model=model))
            say.caption(
                f"Kept: {n} example{'s' * (n != 1)} of this model so far. Gates and Steering take them from there, and "
                "Steering lists what you said."
            )
        return
    asks = kind == "prediction" and verdict == "down"
    confirmed = predicted if kind == "prediction" and verdict == "up" else ""
    with st.form(f"{key}-form", border=True):
        st.text_input("Why", key=f"{key}-reason", max_chars=MOST_CHARS["reason"], placeholder="In a few words, if any")
        if asks:
            left, right = st.columns(2)
            left.text_input("Wanted instead", key=f"{key}-wanted", max_chars=MOST_CHARS["wanted"])
            right.text_input("Rather than", key=f"{key}-foil", max_chars=MOST_CHARS["foil"])
        st.form_submit_button("Keep it", on_click=_keep, args=(text, model, kind, verdict, confirmed, key))
        say.caption(
            "Both are next words as they continue the text, with the space before them if there is one."
            if asks
            else f"It confirms “{confirmed}”."
            if confirmed
            else "",
            "It is kept with the text, and changes nothing by itself: gates and profiles can be made from it.",
        )
    if _PROBLEM in st.session_state:
        say.problem(InputError(st.session_state.pop(_PROBLEM)))


def prediction_row(model: Model, trace: Trace, position: int, *, name: str, which: str = "", key: str) -> None:
    """Thumbs for the likeliest token at a position of a trace, judged on the text up to there.

    name    of the model
    which   as `feedback_row` has it
    Nothing where the model predicts no tokens, for an encoder where no mask stands, and where a text would end in the
    middle of a character.
    """
    token = trace.tokens[position]
    if not trace.info.has_vocabulary or (trace.info.family == "encoder" and token.id != model.mask_id):
        return
    last = position in (-1, len(trace.tokens) - 1)
    text = trace.source_text if trace.info.family == "encoder-decoder" else trace.text
    if trace.info.family == "decoder" and not last:
        if token.span is None:
            return
        text = text[: token.span[1]]
    first = int(trace.predictions(position, 1)["token_id"][0])
    said = trace.decode(first)
    # Not a step of an encoder-decoder, whose answer is all of its target, nor a piece of a character.
    whole = trace.info.family != "encoder-decoder" and model.ids_of(said) == [first]
    feedback_row(text, model=name, predicted=said if whole else "", which=which, key=key)


def feedback_list() -> None:
    """All that was said, to take along or to take away; nothing where nothing was."""
    lines = given()
    if not lines:
        return
    n, newest = len(lines), list(enumerate(lines))[::-1][:_LISTED]
    st.markdown(f"**Your feedback: {n:,} judgement{'s' * (n != 1)}**")
    names = ("verdict", "wanted", "foil", "reason", "kind", "text", "model", "at")
    table = pd.DataFrame({name: [getattr(one, name) for _, one in newest] for name in names})
    st.dataframe(table, hide_index=True, key="feedback-list", height="content" if n < 9 else 320)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        whole = feedback.to_lines(lines)
        st.download_button(
            "Download (JSONL)",
            whole,
            file_name="feedback.jsonl",
            mime="application/jsonl",
            on_click="ignore",
            icon=":material/download:",
            key="feedback-download",
        )
        titles = {i: f"{i + 1}: {_THUMBS[one.verdict][0].lower()}, {one.text[-40:]}" for i, one in newest}
        chosen = st.selectbox(
            "To take away", list(titles), format_func=titles.__getitem__, key="feedback-which", width=320
        )
        st.button("Take it away", key="feedback-remove", on_click=_remove, args=(chosen,), icon=":material/delete:")
    examples = len(feedback.examples(lines))
    say.caption(
        f"{examples} example{'s' * (examples != 1)} for gates and profiles can be made of it: each text whose right "
        "next word is known, once.",
        "It stays on this server as long as the texts do: download it to keep it.",
    )


def _thumb(key: str, about: str, verdict: Verdict | None, predicted: str) -> None:
    act()
    if verdict is None:
        st.session_state.pop(_OPEN, None)
        return
    st.session_state[_OPEN] = (key, about, verdict)
    st.session_state[f"{key}-foil"] = predicted


def _keep(text: str, model: str, kind: Kind, verdict: Verdict, confirmed: str, key: str) -> None:
    act()
    typed = {name: str(st.session_state.get(f"{key}-{name}", "")) for name in ("reason", "wanted", "foil")}
    asks = kind == "prediction" and verdict == "down"
    try:
        one = Feedback(
            text,
            kind,
            verdict,
            typed["reason"],
            typed["wanted"] if asks else confirmed,
            typed["foil"] if asks else "",
            model,
            datetime.now(UTC).isoformat(timespec="seconds"),
        )
        drafts.keep("feedback", Said(lines=feedback.to_lines([*given(), one])))
    except InputError as error:
        st.session_state[_PROBLEM] = str(error)
        return
    st.session_state[_KEPT] = st.session_state.pop(_OPEN, ("", ""))[:2]
    st.session_state[f"{key}-reason"] = st.session_state[f"{key}-wanted"] = ""


def _remove(number: int) -> None:
    lines = given()
    drafts.keep("feedback", Said(lines=feedback.to_lines(lines[:number] + lines[number + 1 :])))
