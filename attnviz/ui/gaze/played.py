"""One sentence as somebody read it, played word by word, and beside it what the model pays the same words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st

from attnviz.errors import AttnvizError
from attnviz.flow import METHODS
from attnviz.human import Reading
from attnviz.human.gaze_sentence import LEAST_WORDS
from attnviz.human.gaze_statistics import Doubles, correlation
from attnviz.ui import say
from attnviz.ui.components import token_strip
from attnviz.ui.components.reading import reading as player
from attnviz.ui.gaze.asking import Asked, Fit, Scored, fit, heads_of, scored
from attnviz.ui.gaze.draft import HEAD, change
from attnviz.ui.head_map import round_up
from attnviz.ui.pickers import dropdown, segments
from attnviz.ui.reading import palette_of
from attnviz.ui.session import select, selection, stores

SINK_TITLES = {"out": "Taken out", "in": "Left in"}
SINK_WORDS = {
    "out": "The first token and special tokens, on which heads rest, are taken out; a word in them is not compared.",
    "in": "The first token and special tokens, on which heads rest, are left in.",
}
BESIDE_TITLES = {
    HEAD: "One head",
    "mean": "All layers, mean",
    "last": "Last layer, mean",
    **{name: METHODS[name].title for name in ("rollout", "max-flow", "norms-attention", "norms", "relevance")},
}
_GO = "attnviz_gaze_go"
_START = 60  # characters of a sentence in a list
_OUTSTANDING = 4  # times the middle one
_NAMED = 12  # words and sentences that are listed


def overview(ask: Asked) -> Fit:
    """What was read, and how much of it stands in the model's text."""
    found = fit(ask)
    words = [time for one in ask.readings for time in _word_times(one)]
    punctuation = sum(sum(one.readings[0].punctuation) for one in ask.sentences)  # each counted once, as words are
    several = len(ask.readers) > 1
    lost, skipped = sum(np.isnan(words)), sum(time == 0 for time in words)
    n_found = found.n_found / max(found.n_words, 1)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(
            say.plain(
                f"{_many(len(ask.readers), 'reader')}, {_many(len(ask.sentences), 'sentence')}, "
                f"{_many(found.n_words, 'word')}: {n_found:.1%} of them found in what {ask.model.info.name} reads."
            ),
            width="content",
        )
        with st.popover("By reader", icon=":material/groups:"):
            _by_reader(ask)
        if found.missing or found.refused:
            with st.popover("Not found", icon=":material/search_off:"):
                _not_found(found)
    if found.refused:
        st.warning(
            say.plain(
                f"{_many(len(found.refused), 'sentence')} cannot be compared: "
                + ", ".join(list(found.refused)[:_NAMED])
                + (" and others" if len(found.refused) > _NAMED else "")
                + ". “Not found” says why."
            ),
            icon=":material/search_off:",
        )
    say.caption(
        f"{skipped / max(len(words), 1):.0%} of the words were skipped.",
        f"Of {lost:,}{', all readers together,' * several} no time was recorded." if lost else "",
        f"{_many(punctuation, 'place')} of punctuation{' in every reading of these sentences' * several} "
        f"{'is' if punctuation == 1 else 'are'} shown and counted nowhere."
        if punctuation
        else "",
        "Words are found whatever their case, their punctuation and the model's tokens.",
    )
    return found


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def _word_times(one: Reading) -> list[float]:
    return [time for time, mark in zip(one.times_ms, one.punctuation, strict=True) if not mark]


def _by_reader(ask: Asked) -> None:
    rows = []
    for reader in ask.readers:
        own = [one for one in ask.readings if one.reader == reader]
        times = np.array([time for one in own for time in _word_times(one)])
        known = times[np.isfinite(times)]
        skipped = float((known == 0).mean()) if len(known) else np.nan
        mean = float(known[known > 0].mean()) if (known > 0).any() else np.nan
        rows.append((reader, len(own), len(times), 100 * skipped, mean))
    table = pd.DataFrame(rows, columns=["reader", "sentences", "words", "skipped", "ms on a word"])
    looks = {
        "skipped": st.column_config.NumberColumn(format="%.0f%%"),
        "ms on a word": st.column_config.NumberColumn(format="%.0f"),
    }
    st.dataframe(table, hide_index=True, key="gaze-readers", column_config=looks)
    say.caption("The mean time is of words that were looked at.")


def _not_found(found: Fit) -> None:
    if found.missing:
        listed = ", ".join(found.missing[:_NAMED])
        say.caption(f"Words: {listed}{' and others' if len(found.missing) > _NAMED else ''}.")
    for name, why in list(found.refused.items())[:_NAMED]:
        say.caption(f"Sentence {name}: {why}")


def sentence_picker(ask: Asked) -> Reading:
    """The sentence and the reader that are looked at."""
    last = len(ask.sentences) - 1
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.button(
            "Previous",
            icon=":material/chevron_left:",
            key="gaze-previous",
            disabled=ask.at == 0,
            on_click=lambda: change(at=ask.at - 1),
        )
        dropdown(
            "Sentence",
            range(last + 1),
            ask.at,
            key="gaze-at",
            use=lambda at: change(at=at),
            words=lambda at: _title(ask, at),
            width=430,
        )
        st.button(
            "Next",
            icon=":material/chevron_right:",
            key="gaze-next",
            disabled=ask.at == last,
            on_click=lambda: change(at=ask.at + 1),
        )
        readers = [one.reader for one in ask.sentence.readings]
        one = ask.sentence.by(ask.gaze.reader)
        dropdown("Reader", readers, one.reader, key="gaze-by", use=lambda name: change(reader=name), width=220)
    return one


def _title(ask: Asked, at: int) -> str:
    text = ask.sentences[at].text
    return f"{at + 1}. {text[:_START]}{'…' * (len(text) > _START)}"


def beside(ask: Asked, one: Reading) -> None:
    """The reading to be played, and the same words by what the model pays them."""
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown(f"**{say.plain(one.reader)}**")
        player(
            one.words,
            one.times_ms,
            key="gaze-player",
            counted=[not mark for mark in one.punctuation],
            spaced=_spaced(one),
            palettes=palette_of(selection().palette),
            label=f"The reading of {one.reader}, in milliseconds",
            link="gaze",
        )
        say.caption(
            "Words light up one after another, each for the time it was looked at in all; its colour is its share of "
            "the sentence's time. Such a table holds no path of the eye: words come in the order of the text, each "
            "once, arrows lead over those that were skipped, and looks back are not to be seen."
        )
    with right:
        _model_controls(ask)
        try:
            _model_words(ask, one, scored(ask))
        except AttnvizError as error:
            say.problem(error)


def _spaced(one: Reading) -> list[bool]:
    """[row], whether white space is before it in the text."""
    out, at = [], 0
    for word in one.words:
        out.append(not one.text.startswith(word, at))
        at += len(word) + out[-1]
    return out


def _model_controls(ask: Asked) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        dropdown(
            "The model's side",
            BESIDE_TITLES,
            ask.gaze.beside,
            key="gaze-beside",
            use=lambda name: change(beside=name),
            width=190,
        )
        if ask.gaze.beside == HEAD:
            dropdown(
                "Head",
                heads_of(ask.model),
                (ask.head.layer, ask.head.head),
                key="gaze-head",
                use=lambda pair: select(layer=pair[0], head=pair[1]),
                words=lambda pair: f"L{pair[0]}H{pair[1]}",
                width=110,
            )
        segments(
            "Sinks",
            SINK_TITLES,
            ask.gaze.sink,
            key="gaze-sink",
            use=lambda sink: change(sink=sink),
            help="Heads with nothing to do rest on the first token and on special tokens.",
        )


def _model_words(ask: Asked, one: Reading, found: Scored) -> None:
    name, values = _values(ask, found)
    paid = ask.gaze.beside in (HEAD, "mean", "last")
    _strip(ask, one, found, key="gaze-strip")
    shares = one.shares()
    both = np.isfinite(shares) & np.isfinite(values)
    figure = _figure(values[both], shares[both])
    say.caption(
        f"{name}: the attention that each word receives, averaged over the queries that can see it."
        if paid
        else f"{name}: each word's part in what the model makes of the sentence, in the method's own scale.",
        SINK_WORDS[ask.gaze.sink],
        f"Rank correlation with this reading {figure:.2f} over {both.sum()} words; one sentence says little."
        if np.isfinite(figure)
        else f"Fewer than {LEAST_WORDS} words, or all alike, so there is no correlation.",
        "A click on a word opens it in Explore.",
    )


def head_words(ask: Asked) -> None:
    """The words of the sentence that is looked at by the chosen head alone, for where `beside` is out of sight."""
    ask = replace(ask, gaze=ask.gaze.model_copy(update={"beside": HEAD}))
    try:
        found = scored(ask)
    except AttnvizError as error:
        say.problem(error)
        return
    st.markdown(say.plain(f"{ask.head} on sentence {ask.at + 1}"))
    _strip(ask, ask.sentence.by(ask.gaze.reader), found, key="gaze-head-strip")
    say.caption(
        "The attention that each word of this sentence receives from the head. It is one sentence; the map is of all "
        "that were compared.",
        SINK_WORDS[ask.gaze.sink],
    )


def _values(ask: Asked, found: Scored) -> tuple[str, Doubles]:
    """(what the words are scored by, [row])."""
    row = found.heads.index((ask.head.layer, ask.head.head)) if found.heads else 0
    name = str(ask.head) if found.heads else BESIDE_TITLES[ask.gaze.beside]
    return name, found.by_sink[ask.gaze.sink][row]


def _strip(ask: Asked, one: Reading, found: Scored, *, key: str) -> None:
    name, values = _values(ask, found)
    most = float(np.nanmax(values, initial=0.0))
    token_strip(
        one.words,
        values.astype(np.float32),
        key=key,
        kinds=[""] * len(one.words),
        breaks=[False] * len(one.words),
        starts_word=[True, *_spaced(one)[1:]],
        palettes=palette_of(selection().palette),
        high=round_up(most, limit=np.inf),
        # Beside one word that gets most, as in a causal model, the others would be all of one colour.
        scale="sqrt" if most > _OUTSTANDING * float(np.nanmedian(np.append(values, 0))) else "linear",
        selected=None,
        target=None,
        selected_word="key",
        picks="key",
        label=f"{name}, word by word. Pick a word to open it in Explore as the key.",
        value_name="attention received" if ask.gaze.beside in (HEAD, "mean", "last") else "score",
        unseen_word="faded: not compared",
        link="gaze",
        on_pick=lambda at: _open(ask, found.firsts[at]),
    )


def _figure(values: Doubles, shares: Doubles) -> float:
    """NaN for fewer words than are compared, and where either side is constant."""
    return float(correlation(values[None], shares)[0]) if len(shares) >= LEAST_WORDS else np.nan


def _open(ask: Asked, key: int | None) -> None:
    """Make this sentence and head what all pages look at, the word as the key, and go to Explore."""
    select(
        text=stores().texts.put(ask.sentence.text),
        other="",
        chat=False,
        layer=ask.head.layer,
        head=ask.head.head,
        key=key,
    )
    st.session_state[_GO] = True


def go() -> None:
    """To Explore, if a word was opened."""
    if st.session_state.pop(_GO, False):
        st.switch_page("pages/explore.py")
