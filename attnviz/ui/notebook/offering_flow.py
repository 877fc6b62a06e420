"""“Keep this” on the Flow page: the share that the methods shown give the selected key goes along as evidence.

Evidence is what a finding can measure again: the share of a word of the text, by a method with nothing left out, of
what is predicted at the end of a word. Where the page shows another thing, none goes along, and the form says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import ValidationError

from attnviz import findings
from attnviz.errors import InputError
from attnviz.findings import Case, EdgeAt, Evidence, Measurement
from attnviz.findings.cases import keys_of, positions_of
from attnviz.findings.flowing import shares
from attnviz.flow import METHODS
from attnviz.models import Model
from attnviz.text import words
from attnviz.tokens import Token
from attnviz.ui.flow.finding import Found
from attnviz.ui.flow.target import Subject
from attnviz.ui.focus import Focus
from attnviz.ui.notebook.keeping import Draw, keep_this
from attnviz.ui.notebook.offering import ALONE, evidence_of
from attnviz.ui.session import selection, text_of

_MOST_WORDS = 6  # that a query is told by


def keep_flow(
    subject: Subject,
    focus: Focus,
    found: Callable[[], Found] | None = None,
    *,
    names: Sequence[str] = (),
    figure: Draw | None = None,
    lines: str = "",
    otherwise: str = "",
) -> None:
    """Flow: the picture, with the selected edge.

    found       the methods' scores of the target, with no sinks taken away; called when somebody presses
    names       of the methods that are shown
    otherwise   why what is shown is no evidence; "" where it is, as far as the page knows
    """
    trace, reason, told = subject.trace, otherwise, ""
    if not reason:
        try:
            key = case_of(subject, focus).key
            told = f"The share that goes to “{key}” is kept as evidence, beside the shares of all other words."
        except InputError as error:
            reason = str(error)
    keep_this(
        "Flow",
        heads=focus.heads,
        edges=[EdgeAt(query=focus.query, key=focus.key)],
        evidence=lambda: [] if reason or found is None else flowed(subject, focus, found(), names),
        figure=figure,
        lines=lines,
        also_seen=[trace.text] if trace.text != text_of(selection().text) else (),
        caption=f"{ALONE}{reason}" if reason else told,
    )


def flowed(subject: Subject, focus: Focus, found: Found, names: Sequence[str]) -> list[Evidence]:
    """One piece of evidence for each method that gives the text's words a share; InputError where none can be had."""
    model, case, made = subject.model, case_of(subject, focus), []
    assert model is not None
    assert subject.target is not None
    aimed = [(subject.target.answer, case.answer), (subject.target.foil, case.foil)]
    unsaid = any(token is not None and not said for token, said in aimed)
    for name in names:
        if name not in found.scores or (unsaid and METHODS[name].reads == "gradient"):
            continue
        try:
            share, others = shares(subject.trace, found.scores[name], name, case)
        except InputError:
            continue  # such as relevance that adds up to less than nothing
        asked = Measurement(kind="flow", what=name)
        told = f"{len(others)} other words of the same text, each by itself; their middle 95%"
        outcome = findings.summed_up(asked, [share], others, controls=told, unit="share")
        made.append(evidence_of(model, asked, [case], outcome, "Measured on the Flow page."))
    return made


def case_of(subject: Subject, focus: Focus) -> Case:
    """What is explained, in words; InputError, with the reason, where no words say it."""
    model, trace, target = subject.model, subject.trace, subject.target
    if model is None or target is None:
        raise InputError(subject.lacking)
    several, site = trace.info.family == "encoder-decoder", trace.info.site(focus.head.site)
    if several and site == "decoder":
        raise InputError("the selected key is one that the decoder wrote, and a finding's is a word of its source.")
    text, tokens = (trace.source_text, trace.source_tokens) if several else (trace.text, trace.tokens)
    if list(model.encode(text).ids) != [token.id for token in tokens]:
        raise InputError("the model reads more here than the text alone, such as a chat template.")
    key = _word(tokens, text, focus.key)
    if focus.key not in keys_of(tokens, text, key):
        raise InputError(f"“{key}” stands in the text before, and a finding's key is a word where it comes first.")
    written, query = (
        ("", "") if not model.has_vocabulary else _until(subject, model) if several else ("", _query(subject))
    )
    try:
        return Case(
            text=text,
            target=written,
            key=key,
            query=query,
            answer=_said(subject, target.answer) if model.has_vocabulary else target.other or "",
            foil=_said(subject, target.foil),
        )
    except ValidationError as error:
        raise InputError("a finding holds texts of fewer characters.") from error


def _until(subject: Subject, model: Model) -> tuple[str, str]:
    """(what an encoder-decoder's decoder reads, words of it): cut off at the goal, where no words end there."""
    trace, goal = subject.trace, subject.goal
    assert goal is not None
    try:
        return text_of(selection().other), _query(subject)
    except InputError:
        start = next((token.span[0] for token in trace.tokens if not token.special), len(trace.text))
        read = trace.text[start : trace.tokens[goal].span[1]]
        ids = model.decoder_side(model.encode(trace.source_text), read, None, ()) if read.strip() else None
        if ids is None or list(ids.ids) != trace.input_ids[: goal + 1]:
            raise InputError("it is predicted where the decoder has read no words yet, or half a one.") from None
        return read, ""


def _query(subject: Subject) -> str:
    """Words of the text that end where something is predicted, and that stand there last; "" for the last token."""
    text, tokens, goal = subject.trace.text, subject.trace.tokens, subject.goal
    assert goal is not None
    if goal == len(tokens) - 1:
        return ""
    _word(tokens, text, goal)
    end = tokens[goal].span[1]
    spans = [span for span in words(text) if span[0] < end]
    for start, _ in spans[: -_MOST_WORDS - 1 : -1]:
        said = text[start : spans[-1][1]]
        if positions_of(tokens, text, said, last=True)[-1] == goal:
            return said
    raise InputError("what is explained is predicted within a word, or at one that stands in the text again.")


def _word(tokens: Sequence[Token], text: str, at: int) -> str:
    """The word that a token belongs to."""
    token = tokens[at]
    if token.word is not None:
        return text[slice(*words(text)[token.word])]
    raise InputError(f"token {at}, “{token.text}”, belongs to no word of the text, and a finding names words.")


def _said(subject: Subject, token: int | str | None) -> str:
    """A token of the target as it continues the text; "" for none, and where its words would be other tokens."""
    assert subject.model is not None
    said = subject.trace.decode(token) if isinstance(token, int) else token or ""
    return said if subject.model.ids_of(said) == [token] else ""
