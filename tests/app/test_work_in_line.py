"""Work of many sessions: it waits in line, is shared, ends when nobody waits for it, and is logged without its text."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from attnviz import logs
from attnviz.errors import Cancelled, InputError
from attnviz.settings import settings
from attnviz.ui import jobs, presence
from attnviz.ui.jobs import Job, shared
from attnviz.ui.line import Busy

SECONDS = 10
SECRET = "the text that nobody else may read"


class Gate:
    """Work that goes on until it is let go; how often it was begun."""

    def __init__(self) -> None:
        self.go, self.begun, self.calls = threading.Event(), threading.Event(), 0

    def __call__(self, job: Job) -> str:
        self.calls += 1
        self.begun.set()
        while not self.go.wait(0.01):
            job.report(SECRET, 0.5)
        return SECRET


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.go.set()


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """limits(work_waiting=1): other settings, and lines that follow them."""

    def put(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"ATTNVIZ_{name.upper()}", str(value))
        settings.cache_clear()
        jobs.lines.clear()

    put()
    yield put
    settings.cache_clear()
    jobs.lines.clear()


@pytest.fixture
def sitting(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """sitting("ann"): from now on this thread is that session's."""
    return lambda session: monkeypatch.setattr(jobs, "session_here", lambda: session)


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Sessions whose browser is gone; looked at without a pause."""
    found: set[str] = set()
    monkeypatch.setattr(jobs, "is_there", lambda session: session not in found)
    monkeypatch.setattr(jobs, "_LOOK_SECONDS", 0.0)
    return found


def test_one_works_and_the_next_is_told_its_place(limits: Callable[..., None], gate: Gate) -> None:
    first, second, third = (Job(work, model="m") for work in (gate, lambda job: 2, lambda job: 3))
    assert gate.begun.wait(SECONDS)
    assert not second.wait(0.05)
    assert second.doing.startswith("place 1 in line, about ")
    assert third.doing.startswith("place 2 in line, about ")
    assert second.seconds_left is None
    second.cancel()
    assert second.wait(SECONDS)
    with pytest.raises(Cancelled):
        second.result()
    assert third.doing.startswith("place 1 in line, about ")
    gate.go.set()
    assert third.wait(SECONDS)
    assert (first.result(), third.result()) == (SECRET, 3)


def test_a_full_line_is_a_sentence_and_not_a_traceback(limits: Callable[..., None], gate: Gate) -> None:
    limits(work_waiting=1)
    Job(gate, model="m")
    Job(lambda job: 2, model="m")
    refused = Job(lambda job: 3, model="m")
    assert refused.wait(0)
    with pytest.raises(Busy, match="try again"):
        refused.result()
    assert Job(lambda job: 4, model="another").wait(SECONDS)


def test_sessions_that_ask_the_same_have_it_made_once(
    limits: Callable[..., None], sitting: Callable[[str], None], gate: Gate
) -> None:
    parts = []
    for name in ("ann", "ben", "cay"):
        sitting(name)
        parts.append(shared(("trace", "m", "same"), gate, model="m"))
    assert len({id(part.job) for part in parts}) == 1
    parts[0].cancel()
    assert parts[0].cancelled
    assert not parts[1].cancelled
    gate.go.set()
    assert parts[1].job.wait(SECONDS)
    assert parts[2].job.result() == SECRET
    assert gate.calls == 1


def test_the_last_who_leaves_ends_shared_work_and_the_next_gets_new(
    limits: Callable[..., None], sitting: Callable[[str], None], gate: Gate
) -> None:
    parts = []
    for name in ("ann", "ben"):
        sitting(name)
        parts.append(shared(("trace", "m", "left"), gate, model="m"))
    for part in parts:
        part.cancel()
    assert parts[0].job.wait(SECONDS)
    again = shared(("trace", "m", "left"), lambda job: "new", model="m")
    assert again.job.wait(SECONDS)
    assert again.job.result() == "new"


def test_work_ends_once_every_session_is_gone(
    limits: Callable[..., None], sitting: Callable[[str], None], gone: set[str], gate: Gate
) -> None:
    limits(away_seconds=0.2)
    parts = []
    for name in ("ann", "ben"):
        sitting(name)
        parts.append(shared(("trace", "m", "gone"), gate, model="m"))
    sitting("dan")
    waiting = shared(("trace", "m", "other"), lambda job: "his", model="m")
    gone.add("ann")
    assert not parts[0].job.wait(0.5)
    gone.add("ben")
    assert parts[0].job.wait(SECONDS)
    with pytest.raises(Cancelled):
        parts[0].job.result()
    assert waiting.job.wait(SECONDS)
    assert waiting.job.result() == "his"


def test_work_that_waits_in_line_ends_too_when_its_session_goes(
    limits: Callable[..., None], sitting: Callable[[str], None], gone: set[str], gate: Gate
) -> None:
    limits(away_seconds=0.2)
    sitting("ann")
    Job(gate, model="m")
    sitting("ben")
    waiting = Job(lambda job: 2, model="m")
    gone.add("ben")
    assert waiting.wait(SECONDS)
    with pytest.raises(Cancelled):
        waiting.result()


def test_work_ends_at_the_most_seconds_with_a_sentence(limits: Callable[..., None], gate: Gate) -> None:
    limits(work_seconds=0.2)
    job = Job(gate, model="m")
    assert job.wait(SECONDS)
    with pytest.raises(InputError, match="ATTNVIZ_WORK_SECONDS"):
        job.result()


def test_the_log_has_what_was_done_and_nothing_of_what_it_said(
    limits: Callable[..., None],
    sitting: Callable[[str], None],
    gate: Gate,
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs._logger.cache_clear()
    sitting("the session's own id")

    def fails(job: Job) -> None:
        job.tokens = 7
        raise ValueError(SECRET)

    gate.go.set()
    for work in (gate, fails):
        assert Job(work, model="/home/ann/models/mine", kind="trace").wait(SECONDS)
    lines: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    logs._logger.cache_clear()
    assert [line["event"] for line in lines] == ["job started", "job ended", "job started", "job failed"]
    assert lines[-1] | {"timestamp": "", "seconds": 0, "waited_seconds": 0, "session": ""} == {
        "event": "job failed",
        "level": "warning",
        "timestamp": "",
        "model": "mine",
        "kind": "trace",
        "seconds": 0,
        "waited_seconds": 0,
        "tokens": 7,
        "session": "",
        "error": "ValueError",
    }
    assert lines[0]["session"] == presence.session_hash("the session's own id")
    assert not any(word in json.dumps(lines) for word in (SECRET, "session's own", "/home", "ann"))


def test_a_log_takes_no_other_fields() -> None:
    with pytest.raises(TypeError, match="text"):
        logs.record("job ended", text=SECRET)


def _names() -> None:
    import streamlit as st

    from attnviz.ui.person import is_known, person, person_control

    person_control()
    st.text(f"{person()}|{is_known()}")


def test_a_name_is_typed_once_and_a_guest_has_one_nobody_else_has() -> None:
    ann, ben = (AppTest.from_function(_names).run() for _ in range(2))
    assert ann.text[0].value.startswith("guest ")
    assert ann.text[0].value != ben.text[0].value
    assert ann.run().text[0].value == ann.text[0].value
    ann.text_input(key="person-name").set_value("  Ann\u202e  <b>Lee</b> ").run()
    assert ann.text[0].value == "Ann <b>Lee</b>|True"
    assert ann.query_params == {}
    ann.text_input(key="person-name").set_value("Guest 1234").run()
    assert ann.text[0].value.startswith("guest ")
    assert ann.text[0].value.endswith("|False")
