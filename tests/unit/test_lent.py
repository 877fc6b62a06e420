"""Makers of downloads hold nothing for a browser that has gone."""

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest

from attnviz.errors import InputError
from attnviz.ui import lent as lending
from attnviz.ui.lent import lent


class Session:
    """Who is there, which page is open, and what time it is."""

    def __init__(self) -> None:
        self.name, self.page, self.there, self.now = "a", "Explore", {"a", "b"}, 0.0


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    made = Session()
    monkeypatch.setattr(lending, "_LENT", {})
    monkeypatch.setattr(lending, "_GONE", {})
    monkeypatch.setattr(lending, "session_here", lambda: made.name)
    monkeypatch.setattr(lending, "page", lambda: made.page)
    monkeypatch.setattr(lending, "is_there", lambda name: name in made.there)
    monkeypatch.setattr(lending.time, "monotonic", lambda: made.now)
    return made


def _maker() -> tuple[Callable[[], bytes], weakref.ref[np.ndarray]]:
    heavy = np.zeros(1_000_000, np.uint8)
    return lambda: heavy[:3].tobytes(), weakref.ref(heavy)


def test_what_is_made_is_what_was_lent_last_on_this_page(session: Session) -> None:
    first, second = lent("map-csv", lambda: b"old"), lent("row-csv", lambda: b"row")
    assert (first(), second()) == (b"old", b"row")
    again = lent("map-csv", lambda: b"new")
    assert (first(), again(), second()) == (b"new", b"new", b"row")
    session.name = "b"
    other = lent("map-csv", lambda: b"theirs")
    assert (first(), other()) == (b"new", b"theirs")


def test_another_page_takes_back_what_the_last_one_lent(session: Session) -> None:
    make, held = _maker()
    took = lent("map-csv", make)
    del make
    assert took() == b"\0\0\0"
    session.page = "Flow"
    lent("flow-csv", lambda: b"flow")
    gc.collect()
    assert held() is None
    with pytest.raises(InputError, match="its page was left"):
        took()


def test_a_browser_that_has_gone_leaves_nothing_and_one_that_comes_back_finds_all(session: Session) -> None:
    make, held = _maker()
    took = lent("map-csv", make)
    del make
    session.name, session.there = "b", {"b"}
    lent("map-csv", lambda: b"theirs")
    session.now = 10.0  # less than away_seconds
    lent("map-csv", lambda: b"theirs")
    assert took() == b"\0\0\0"
    session.there = {"a", "b"}
    lent("map-csv", lambda: b"theirs")
    session.there, session.now = {"b"}, 20.0
    lent("map-csv", lambda: b"theirs")
    assert took() == b"\0\0\0", "it has been away for no time again"
    session.now = 36.0
    lent("map-csv", lambda: b"theirs")
    gc.collect()
    assert held() is None
