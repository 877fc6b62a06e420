"""Many texts in the app: the shelf that holds them, and what a model's heads do on them, measured once and kept."""

from __future__ import annotations

import csv
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import streamlit as st

from attnviz import corpus
from attnviz.corpus import Choice, Item, Shelf, Summary
from attnviz.models import Model
from attnviz.ui import work
from attnviz.ui.jobs import Job
from attnviz.ui.selection import Selection
from attnviz.view import Sinks

_ASSETS = Path(__file__).resolve().parents[2] / "assets"
OWN_NAME = "200 sentences of AttnViz"
OWN_DATES = "200 dates of AttnViz"
_ENOUGH_TEXTS, _ENOUGH_SECONDS = 16, 2.0
_LOOK_SECONDS = 0.3
_UNDER_WAY = set[tuple[str, str]]()  # (corpus, run) that some session of this process measures
_LOCK = threading.Lock()


@st.cache_resource(show_spinner=False)
def shelf() -> Shelf:
    """The server's corpora; made once, shared by all sessions."""
    return Shelf()


def corpus_of(chosen: Selection, model: Model) -> str:
    """The key of the Selection's corpus; of the embedded texts that fit the model where none is chosen."""
    return chosen.corpus or own_corpus(pairs=model.family == "encoder-decoder")


def own_corpus(*, pairs: bool) -> str:
    """The key of an embedded corpus, put on the shelf when it is first needed, and again if it had to make room."""
    if pairs:
        rows = csv.reader((_ASSETS / "dates" / "dates.tsv").read_text("utf-8").splitlines(), delimiter="\t")
        name, items = OWN_DATES, [Item(written, "", iso) for written, iso in rows]
    else:
        lines = (_ASSETS / "sentences.txt").read_text("utf-8").splitlines()
        name, items = OWN_NAME, [Item(line) for line in lines]
    key = "own-" + hashlib.sha256(repr(items).encode()).hexdigest()[:24]
    if not shelf().holds(key):
        shelf().add(items, name, key=key)
    return key


def measured(model: Model, key: str, chosen: Selection, *, site: str | None = None) -> str:
    """The name of the run of a corpus by a model, after what is still to be measured was measured, in view.

    The page stops where it is cancelled; every text measured until then is kept, and the next call goes on from there.
    """
    sinks = resting(chosen)
    name = corpus.run_key(model, site=site, sinks=sinks)
    if shelf().done(key, name) < shelf().about(key).n:
        work.finished(
            of_run(key, name),
            "Measuring every head",
            lambda job: measure(job, model, key, site=site, sinks=sinks),
            stopped="Stopped. What was measured is kept: go on.",
        )
    return name


def of_run(key: str, run: str) -> tuple[str, str, str]:
    """The key of the job that measures a run of a corpus: whoever asks for it, on any page, waits for the same one."""
    return "corpus", key, run


class _Enough(Exception):
    """What was measured says how long the rest takes."""


def measure(job: Job, model: Model, key: str, *, site: str | None, sinks: Sinks, first: bool = False) -> None:
    """Measure what is still to be measured, in a job; its share is of that, so that its estimate holds after a stop.

    first   end after the batch with which there is enough to go by
    Where another session measures the same, this one waits for its texts, and goes on where it stops.
    """
    start: int | None = None
    began = time.monotonic()

    def step(done: int, total: int) -> None:
        nonlocal start
        start = done if start is None else start
        job.report(f"{done:,} of {total:,} texts", (done - start) / max(total - start, 1))
        if first and (done - start >= _ENOUGH_TEXTS or (done > start and time.monotonic() - began > _ENOUGH_SECONDS)):
            raise _Enough

    job.report("reading texts", 0.0)
    name, n = corpus.run_key(model, site=site, sinks=sinks), shelf().about(key).n
    with suppress(_Enough), _turn(key, name, lambda: step(shelf().done(key, name), n)):
        corpus.run(model, shelf(), key, site=site, sinks=sinks, progress=step)


@contextmanager
def _turn(key: str, run: str, waiting: Callable[[], None]) -> Iterator[None]:
    """A block that one thread at a time is in for a run; `waiting` is called while it is another's turn."""
    mine = False
    try:
        while not mine:
            with _LOCK:
                mine = (key, run) not in _UNDER_WAY
                _UNDER_WAY.add((key, run))
            if not mine:
                waiting()
                time.sleep(_LOOK_SECONDS)
        yield
    finally:
        if mine:
            with _LOCK:
                _UNDER_WAY.discard((key, run))


def resting(chosen: Selection) -> Sinks:
    """Which keys "without the sink" takes away: those of the sink policy that many texts can share."""
    return Sinks(kinds=chosen.kinds or ("first",))  # type: ignore[arg-type]


def summary(model_name: str, key: str, run: str, choice: Choice, *, label: str | None = None) -> Summary:
    """Means over a corpus's texts, or over those of one label, with intervals; kept with the model's other results."""
    of = (model_name, "corpus-summary", key, run, shelf().done(key, run), choice, label)

    def make(job: Job) -> Summary:
        job.report("drawing texts again and again", 0.0)
        results = (r for r in shelf().results(key, run) if label is None or r.label == label)
        return Summary.of(results, choice)

    return cast(Summary, work.once(of, "Intervals over texts", make))
