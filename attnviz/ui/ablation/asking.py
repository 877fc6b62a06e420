"""The questions of the Ablation page: what is measured, and what stands in for a head that is taken out."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import streamlit as st

from attnviz.ablation import propose_donor
from attnviz.errors import AttnvizError, InputError
from attnviz.models import Model
from attnviz.settings import settings
from attnviz.text import check_text, visible
from attnviz.trace import Trace
from attnviz.ui import boxes, say
from attnviz.ui.ablation.subject import (
    MOST_TOKENS,
    How,
    Part,
    Subject,
    foil_of,
    kinds_of,
    metric_of,
    parts_of,
    position_of,
    ranked_texts,
)
from attnviz.ui.focus import Focus
from attnviz.ui.pickers import dropdown, held, segments
from attnviz.ui.selection import PARTS
from attnviz.ui.session import select, selection, show, stores, text_of
from attnviz.ui.texts import other_field

_METRICS = {
    "difference": "One next token against another",
    "continuation": "Log-probability of a continuation",
    "kl": "How far predictions move (KL)",
    "loss": "Loss of the text",
    "match": "Exact match of what is written",
    "similarity": "Similarity of the embedding, to one text or before others",
    "class": "Probability of a class",
}
_HOWS = {"resample": "Resample", "mean": "Mean", "zero": "Zero (off-distribution)"}
_PARTS = {"head": "Heads", "group": "Key/value groups", "layer": "Layers"}
_HELP = (
    "Resample: a head gives what it gives on the donor text. Mean: what it gives on average over reference texts. "
    "Zero: nothing at all, which the model never met in training, so that effects may be the zero's and not the head's."
)
_ASSETS = Path(__file__).resolve().parents[3] / "assets"
_FEW, _ALL, _OWN = "Few", "All 200", "My own"
_WHICH, _TYPED, _OF, _REFUSED = (f"attnviz_ablation_{name}" for name in ("texts", "typed", "of", "refused"))
_MOST_TEXTS = 200
FEW = 20  # texts of a mean that nobody has to wait for
_LIKELIEST, MOST_RANKED = 10, 20
_BESIDE = "ablation-beside"


def subject_of(model: Model, trace: Trace, focus: Focus) -> Subject:
    """What the person asks, with the fields to change it; raises AttnvizError for what cannot be asked here."""
    longest = max(len(trace.tokens), len(trace.source_tokens))
    if longest > MOST_TOKENS:
        raise InputError(
            f"Heads are taken out of texts of at most {MOST_TOKENS} tokens here; this has {longest:,}. Shorten it, "
            "or run `attnviz.ablation.sweep`, which has no such limit."
        )
    site = model.info.site(focus.head.site)
    _drop_strange(model, trace, site)
    left, right = st.columns(2, gap="medium")
    with left:
        _metric_fields(model, trace)
        parts = _parts_field(model, site)
    chosen = selection()
    other = "" if model.family == "encoder-decoder" else text_of(chosen.other)
    metric = metric_of(model, trace, chosen, other)
    with right:
        how, donor, texts = _stand_in_fields(model, trace)
    heads = focus.heads if chosen.heads else ()
    name = chosen.model or settings().default_model
    return Subject(name, model, trace, focus, metric, how, donor, texts, chosen.chat, heads, parts)


def _drop_strange(model: Model, trace: Trace, site: str) -> None:
    """Leave out what another text or model was asked: the donor stands beside one text, an outcome needs its model."""
    chosen, problems = selection(), []
    of = (chosen.model, chosen.text, chosen.chat)
    before, donor = st.session_state.get(_OF, (of, chosen.donor))
    if before != of and chosen.donor == donor:
        chosen = replace(chosen, donor="")
    st.session_state[_OF] = (of, chosen.donor)
    if chosen.metric and chosen.metric not in kinds_of(model, trace):
        problems.append(f"{model.name} has no outcome of the kind {chosen.metric!r} on this text")
        chosen = replace(chosen, metric="")
    if chosen.parts not in parts_of(model, site):
        problems.append(f"no heads of {model.name} share their keys and values here")
        chosen = replace(chosen, parts=PARTS[0])
    most = model.vocabulary if model.has_vocabulary else len(model.labels)
    for name in ("answer", "foil"):
        value = getattr(chosen, name)
        if value is not None and value >= most:
            problems.append(f"{model.name} has no answer {value}")
            chosen = replace(chosen, **{name: None})  # type: ignore[arg-type]
    show(chosen)
    say.notes(problems)


def _metric_fields(model: Model, trace: Trace) -> None:
    kinds, chosen = kinds_of(model, trace), selection()
    kind = chosen.metric or kinds[0]
    titles = {name: _METRICS[name] for name in kinds}
    words = "The one number whose change is a head's effect. What the model's own outputs suggest comes first."
    dropdown("Measured by", titles, kind, key="ablation-metric", use=lambda name: select(metric=name), help=words)
    if kind == "difference":
        _tokens(model, trace)
    elif kind == "continuation":
        other_field("Continuation", "What comes next, with the space before it")
        if not text_of(chosen.other):
            say.caption("Nothing is typed, so two next tokens are compared.")
    elif kind == "match":
        say.caption(
            "1 where the model, writing greedily, writes just what the decoder reads here, and stops; else 0. One "
            "wrong token is as wrong as ten, so most heads seem to do nothing. Each takes a generation of its own."
        )
    elif kind == "similarity":
        _texts_beside()
    elif kind == "class":
        _classes(model, trace)


def _texts_beside() -> None:
    """The texts that the embedding is compared with: none, one, or several to be ranked."""
    boxes.fill(_BESIDE, "other")
    st.text_area(
        "Texts to compare with, one a line",
        key=_BESIDE,
        height=88,
        on_change=lambda: boxes.take({"other": _BESIDE}),
        max_chars=settings().max_chars,
        placeholder="Left empty, the text is compared with itself, unedited",
    )
    boxes.complain()
    n = len(ranked_texts(text_of(selection().other)))
    if n > MOST_RANKED:
        raise InputError(f"At most {MOST_RANKED} texts are ranked; these are {n}.")
    if n > 1:
        say.caption(
            f"The first of {n} is the wanted one: measured is the cosine to it less the largest to another, above 0 "
            "where it comes first. These texts are never edited."
        )


def _tokens(model: Model, trace: Trace) -> None:
    """The answer and the foil, out of the likeliest tokens."""
    chosen = selection()
    table = trace.predictions(position_of(model, trace), _LIKELIEST)
    shares = dict(zip(table["token_id"].tolist(), table["probability"].tolist(), strict=True))
    options = list(dict.fromkeys([*shares, *(i for i in (chosen.answer, chosen.foil) if i is not None)]))
    answer = options[0] if chosen.answer is None else chosen.answer
    proposed, named = foil_of(model, trace, answer)
    foils = [i for i in dict.fromkeys([*options, proposed]) if i != answer]
    foil = chosen.foil if chosen.foil in foils else proposed

    def words(token: int) -> str:
        share = f"{shares[token]:.4f}" if token in shares else "not among the likeliest"
        return f"{visible(trace.decode(token)) or '␣'} · {share}"

    left, right = st.columns(2)
    with left:
        dropdown("Answer", options, answer, key="ablation-answer", use=lambda i: select(answer=i), words=words)
    with right:
        dropdown("Rather than", foils, foil, key="ablation-foil", use=lambda i: select(foil=i), words=words)
    _any_token(model)
    from_text = named and foil == proposed
    notes = [
        st.session_state.get(_REFUSED, ""),
        "Proposed: another name of the text, not the likeliest other token." if from_text else "",
    ]
    if any(notes):
        say.caption(*notes)


def _any_token(model: Model) -> None:
    """A field for a token that is not among the likeliest."""

    def typed() -> None:
        text = st.session_state["ablation-token"]
        ids = model.ids_of(text) if text else []
        st.session_state[_REFUSED] = f"“{text}” is {len(ids)} tokens for {model.name}, not one." if text else ""
        if len(ids) == 1:
            st.session_state[_REFUSED] = ""
            select(foil=ids[0])

    st.text_input(
        "Rather than another token",
        key="ablation-token",
        on_change=typed,
        max_chars=60,
        label_visibility="collapsed",
        placeholder="Rather than another token, with its space: ␣John",
    )


def _parts_field(model: Model, site: str) -> Part:
    """What is taken out one by one."""
    parts: Part = selection().parts  # type: ignore[assignment]
    titles = {name: _PARTS[name] for name in parts_of(model, site)}
    words = "A key/value group: the heads that share their keys and values. A layer: all of its heads together."
    segments(
        "Taken out one by one", titles, parts, key="ablation-parts", use=lambda name: select(parts=name), help=words
    )
    return parts


def _classes(model: Model, trace: Trace) -> None:
    likeliest = 0 if trace.class_logits is None else int(trace.class_logits.argmax())
    current = likeliest if selection().answer is None else selection().answer
    titles = dict(enumerate(map(say.plain, model.labels)))
    dropdown("Class", titles, current, key="ablation-class", use=lambda number: select(answer=number))


def _stand_in_fields(model: Model, trace: Trace) -> tuple[How, str, tuple[str, ...]]:
    """(how, donor, texts)."""
    chosen = selection()
    text = trace.source_text or trace.text
    text = text_of(chosen.text) or text
    found = propose_donor(text, model)
    offer = "" if found is None or _misaligned(model, trace, found.text) else found.text
    how: How = chosen.how or ("resample" if offer or text_of(chosen.donor) else "mean")  # type: ignore[assignment]
    title = "A head that is taken out gives"
    segments(title, _HOWS, how, key="ablation-how", use=lambda name: select(how=name), help=_HELP)
    if how == "resample":
        return how, _donor_field(model, trace, offer), ()
    return how, "", _texts_field(model) if how == "mean" else ()


def _misaligned(model: Model, trace: Trace, donor: str) -> str:
    """Why a donor cannot stand beside the text, token by token; "" where it can."""
    try:
        check_text(donor, max_chars=settings().max_chars)
        n = len(model.encode(donor, chat_template=selection().chat).ids)
    except AttnvizError as error:
        return str(error)
    wanted = len(trace.source_tokens or trace.tokens)
    return (
        "" if n == wanted else f"The donor has {n} tokens and the text {wanted}: it has to be as long, token by token."
    )


def _donor_field(model: Model, trace: Trace, offer: str) -> str:
    """The donor text, proposed or typed; stops with a sentence under the box where it does not fit."""
    donor = text_of(selection().donor) or offer
    st.session_state["ablation-donor"] = donor

    def typed() -> None:
        text = str(st.session_state["ablation-donor"])
        select(donor=stores().texts.put(text) if text.strip() and text != offer else "", how="resample")

    st.text_input(
        "Donor text",
        key="ablation-donor",
        on_change=typed,
        max_chars=settings().max_chars,
        placeholder="A text of as many tokens that differs in what you ask about",
    )
    if not donor:
        raise InputError("No name and no number was found to swap. Type a donor text of as many tokens, or use Mean.")
    problem = _misaligned(model, trace, donor)
    if problem:
        raise InputError(problem)
    say.caption(
        "" if donor != offer else "Proposed: other names, places or numbers. Change it as you like.",
        "What text and donor share is not tested: only what differs can have an effect.",
    )
    return donor


def _texts_field(model: Model) -> tuple[str, ...]:
    """The reference texts."""
    which: str = st.session_state.get(_WHICH, _FEW)

    def use(name: str) -> None:
        st.session_state[_WHICH] = name

    segments("Reference texts", (_FEW, _ALL, _OWN), which, key="ablation-texts", use=use, label_visibility="collapsed")
    if which != _OWN:
        pairs = model.family == "encoder-decoder"
        texts = embedded_texts(pairs=pairs)[: FEW if which != _ALL else _MOST_TEXTS]
        kind = "dates" if pairs else "sentences"
        put = ", each in the chat template" if selection().chat else ""
        say.caption(f"The mean over all tokens of the app's first {len(texts)} {kind}{put}: other texts, other means.")
        return texts
    hold = held(_TYPED, "", key="ablation-own")
    st.text_area(
        "Texts, one a line",
        key="ablation-own",
        height=100,
        on_change=hold,
    )
    own = tuple(line.strip() for line in st.session_state.get(_TYPED, "").splitlines() if line.strip())
    if not 1 <= len(own) <= _MOST_TEXTS:
        raise InputError(f"Give 1 to {_MOST_TEXTS} reference texts, one a line; these are {len(own)}.")
    for text in own:
        check_text(text, max_chars=settings().max_chars)
    return own


@cache
def embedded_texts(*, pairs: bool) -> tuple[str, ...]:
    """The app's own texts; `pairs`: those that the date translator reads."""
    if pairs:
        lines = (_ASSETS / "dates" / "dates.tsv").read_text("utf-8").splitlines()
        return tuple(line.split("\t")[0] for line in lines[:_MOST_TEXTS])
    return tuple((_ASSETS / "sentences.txt").read_text("utf-8").splitlines()[:_MOST_TEXTS])
