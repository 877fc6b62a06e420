"""“Keep this”, on any page: what is claimed of a view, with the view itself, becomes a finding in the Notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

import plotly.graph_objects as go
import streamlit as st
from pydantic import ValidationError

from attnviz.edits import Head
from attnviz.errors import AttnvizError, InputError
from attnviz.findings import LABELS, EdgeAt, Evidence, Finding, HeadAt, Seen, attach
from attnviz.findings.finding import MOST_DIGESTS
from attnviz.findings.judging import digest_of
from attnviz.findings.lines import plain
from attnviz.settings import settings
from attnviz.ui import say
from attnviz.ui.notebook import viewing
from attnviz.ui.notebook.shelf import by, open_finding, record_here, store
from attnviz.ui.person import how_to_be_known, is_known
from attnviz.ui.session import DRAFTS, TEXTS, act, saved_trace, selection, text_of

MOST_CLAIM, MOST_FIGURE = 2_000, 5_000_000
_MOST_TEXTS, _MOST_TEXT = 20, 50_000
# Of the address: keys of this server, which are nobody else's.
_KEYS = (*TEXTS, *DRAFTS, "corpus", "other_corpus", "finding")
_OF_PAGE = {
    "Ablation": ("donor",),
    "Compare": ("second", "filling"),
    "Highlights": ("study",),
    "Gaze": ("gaze",),
    "Gates": ("course",),
    "Steering": ("plan",),
}
_SAID, _PRESSED = "attnviz_keep_said", "attnviz_keep_pressed"

Draw = Callable[[], go.Figure]


def keep_this(
    page_title: str,
    *,
    heads: Sequence[Head] = (),
    edges: Sequence[EdgeAt] = (),
    evidence: Callable[[], Iterable[Evidence]] = tuple,
    figure: Draw | None = None,
    lines: str = "",
    also_seen: Sequence[str] = (),
    caption: str = "",
    key: str = "",
    title: str = "Keep this",
) -> None:
    """A small button that opens on a form: claim, labels, confidence. A press keeps a finding, private to the person.

    page_title   of the page, as the navigation has it: where the finding is opened again
    evidence     what was measured in this view already, made when somebody presses
    figure       draws the view; made when somebody presses. One too large is left out, and said
    lines        Python that makes the same without the app
    also_seen    texts that the view shows beside those of the Selection: a plan has to be measured on others
    caption      a sentence for the form, such as why what was measured here does not go along
    key          tells two of one page apart
    title        of the button
    """
    name = f"keep-{key or page_title.lower().replace(' ', '-')}"
    # Made here and not by the button: what a callback holds, such as a trace, stays with a session that has gone.
    if st.session_state.get(_PRESSED, ("",))[0] == name and st.session_state.pop(_PRESSED)[1] == selection():
        _keep(name, page_title, heads, edges, evidence, figure, lines, also_seen)
    with st.popover(title, icon=":material/bookmark_add:", key=f"{name}-popover", on_change=act):
        _complaint(name)
        _form(name, heads, edges, caption)
    _answer(name)


def _form(name: str, heads: Sequence[Head], edges: Sequence[EdgeAt], caption: str) -> None:
    with st.form(f"{name}-form", border=False):
        st.text_area(  # without max_chars: a browser drops a paste that is longer, and says nothing
            "Claim",
            key=f"{name}-claim",
            height=88,
            placeholder="What holds here, in a sentence: what does the head do, and on which texts?",
        )
        st.multiselect("Labels", LABELS, key=f"{name}-labels", accept_new_options=True, placeholder="Choose or type")
        st.slider("Confidence", 0, 100, 50, format="%d%%", key=f"{name}-confidence")
        if not is_known():
            say.caption(f"A guest's findings end with this session: to find this one again, {how_to_be_known()}.")
        st.form_submit_button("Keep it", type="primary", on_click=_press, args=(name,))
        say.caption(
            f"It is kept with this view, {_what(heads, edges)}, model and text; others see it once you share it.",
            "It is a hypothesis: in the Notebook you say what would refute it, and measure that on other texts.",
            caption,
        )


def seen_here(page_title: str, *, lines: str = "", also_seen: Sequence[str] = ()) -> Seen:
    """The view that the session looks at, so that it can be opened again: also on another server."""
    chosen = selection()
    params = {name: value for name, value in chosen.to_params().items() if name not in _KEYS}
    # Only what the page shows: a draft of another page, such as somebody's reading times, would be shared with it.
    own = ("text", "other", *_OF_PAGE.get(page_title, ()))
    texts = {name: text_of(getattr(chosen, name)) for name in own if getattr(chosen, name)}
    opened = saved_trace()
    if opened is not None:
        del params["model"]
        texts["text"] = opened.source_text or opened.text
    else:
        params["model"] = chosen.model or settings().default_model
    params |= viewing.held(page_title)
    texts = viewing.packed(page_title, texts)
    texts |= {f"seen {number}": text for number, text in enumerate(also_seen, 1)}
    # A draft, or a text of a corpus, may be longer than a finding's text: the view then opens without it.
    few = {name: text for name, text in texts.items() if text and (name in TEXTS or len(text) <= _MOST_TEXT)}
    return Seen(
        page=page_title,
        params=params,
        texts=dict(list(few.items())[:_MOST_TEXTS]),
        lines=lines if len(lines) <= _MOST_TEXT else "",
        digests=tuple(dict.fromkeys(digest_of(text) for text in also_seen))[:MOST_DIGESTS],
    )


def keep_what_is_shown() -> None:
    """In the Notebook: a finding of the text and head that this session looks at, written down without a picture."""
    chosen = selection()
    layer, head = chosen.layer, chosen.head
    heads = [] if layer is None or head is None else [Head(layer, head, chosen.site)]
    keep_this("Explore", heads=heads, key="notebook", title="Write one down")


def _what(heads: Sequence[Head], edges: Sequence[EdgeAt]) -> str:
    names = [str(HeadAt.of(head)) for head in heads[:3]]
    more = f" and {len(heads) - 3} more" if len(heads) > 3 else ""
    parts = [", ".join(names) + more if names else "", f"{len(edges)} edges" if len(edges) > 1 else ""]
    return " and ".join(part for part in parts if part) or "no single head"


def _press(name: str) -> None:
    """For callbacks: what is typed is to be kept, with the view that is shown."""
    act()
    st.session_state[_PRESSED] = (name, selection())


def _keep(
    name: str,
    page_title: str,
    heads: Sequence[Head],
    edges: Sequence[EdgeAt],
    evidence: Callable[[], Iterable[Evidence]],
    figure: Draw | None,
    lines: str,
    also_seen: Sequence[str],
) -> None:
    picture, left = "", ""
    claim = str(st.session_state[f"{name}-claim"]).strip()
    try:
        if not 1 <= len(claim) <= MOST_CLAIM:
            got = (
                f"this one has {len(claim):,} characters, and at most {MOST_CLAIM:,} are kept"
                if claim
                else "it is empty"
            )
            raise InputError(f"A claim says what holds here, in a sentence or two: {got}.")
        if figure is not None:
            picture = str(figure().to_json())
        if len(picture) > MOST_FIGURE:
            picture, left = "", " Its picture was too large to be kept; the view opens again."
        if len(also_seen) > MOST_DIGESTS:
            left += f" Only the first {MOST_DIGESTS:,} texts are known as seen: plan on none of the others."
        now = datetime.now(UTC).replace(microsecond=0)
        made = Finding(
            claim=claim,
            heads=tuple(map(HeadAt.of, heads)),
            edges=tuple(edges),
            labels=tuple(str(label).strip() for label in st.session_state[f"{name}-labels"]),
            confidence=st.session_state[f"{name}-confidence"] / 100,
            author=by(),
            model=record_here(),
            seen=seen_here(page_title, lines=lines, also_seen=also_seen),
            figure=picture,
            created=now,
            changed=now,
        )
        for one in evidence():
            made = attach(made, one)
        kept = store().save(made.model_copy(update={"version": 1}), by=by())
    except ValidationError as error:
        st.session_state[_SAID] = (name, "", InputError(f"This cannot be kept yet: {plain(error)}"))
    except AttnvizError as error:
        st.session_state[_SAID] = (name, "", type(error)(str(error)))  # without frames that may hold a model
    else:
        st.session_state[f"{name}-claim"], st.session_state[f"{name}-labels"] = "", []
        st.session_state[f"{name}-popover"] = False
        st.session_state[_SAID] = (name, kept.id, f"Kept in your Notebook.{left}")


def _complaint(name: str) -> None:
    """Why the last press kept nothing, once."""
    of, _, said = st.session_state.get(_SAID, ("", "", ""))
    if of == name and isinstance(said, AttnvizError):
        del st.session_state[_SAID]
        say.problem(said)


def _answer(name: str) -> None:
    """That it was kept, and the way to the Notebook."""
    of, finding, said = st.session_state.get(_SAID, ("", "", ""))
    if of != name:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small", width="content"):
        st.markdown(f":material/bookmark_added: {said}", width="content")
        if st.button("Open it", icon=":material/book_2:", key=f"{name}-open", type="tertiary"):
            del st.session_state[_SAID]
            open_finding(finding)
            st.switch_page("pages/notebook.py")
