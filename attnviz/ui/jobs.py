"""Work that may take longer than a click: in a thread of its own, with progress, an estimate, and a way to stop it.

A job waits in its model's line (`line.py`) and gives way there at its steps. It ends by itself once every session that
waits for it is gone. Sessions that ask for the same at the same time share one job (`shared`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any

import streamlit as st

from attnviz import logs
from attnviz.errors import AttnvizError, Cancelled, InputError
from attnviz.settings import settings
from attnviz.ui.line import Busy, Line, Lines, Place
from attnviz.ui.presence import is_there, session_hash, session_here
from attnviz.ui.session import model_name

_LOOK_SECONDS = 1.0  # between two looks at whether anybody is still there


@st.cache_resource(show_spinner=False)
def lines() -> Lines:
    """The lines of the server's models, one for each."""
    limits = settings()
    return Lines(lambda: Line(limits.work_at_once, limits.work_waiting))


class Job:
    """One piece of work. `work(job)` runs in a thread and reports by `job.step`, which raises Cancelled on request.

    model   whose line it waits in; None: that of the model that the session looks at; outside of a session none
    kind    what the log calls it; "": the module that the work is from
    tokens  how many the work read, for the log; to be set by the work
    """

    def __init__(self, work: Callable[[Job], Any], *, model: str | None = None, kind: str = "") -> None:
        self.share = 0.0
        self.tokens: int | None = None
        self._doing = ""
        self._started = time.monotonic()
        self._cancel, self._done = threading.Event(), threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None
        self._session = session_here()
        self._model = (model or model_name()) if self._session else model
        self._kind = kind or kind_of(work)
        self._seen = {self._session: self._started}  # the sessions that wait for it, and when they were last there
        self._looked = self._started
        self._lock = threading.Lock()
        self._place: Place | None = None
        self._waited = 0.0
        try:
            if self._model is not None:
                self._place = lines().enter(self._model)
                self._place.left = lambda: self.seconds_left
        except Busy as busy:
            self._error = busy
            self._done.set()
            self._log("job refused")
            return
        threading.Thread(target=self._run, args=(work,), name="attnviz-job", daemon=True).start()

    def _run(self, work: Callable[[Job], Any]) -> None:
        try:
            if self._place is not None:
                self._place.wait(self._check)
                self._waited = self.elapsed
                self._log("job started")
            self._result = work(self)
        except BaseException as error:  # handed to whoever asks for the result
            self._error = error
        finally:
            if self._place is not None:
                self._place.leave()
                self._log_end()
            self._done.set()

    def step(self, done: int, total: int) -> None:
        """Say how far the work is; raises Cancelled if somebody asked to stop."""
        self.report(self._doing, done / max(total, 1))

    def report(self, doing: str, share: float) -> None:
        """Say what is done and how far it is; here the work gives way to what is shorter, and here it is stopped."""
        self._check()
        self._doing, self.share = doing, min(max(share, 0.0), 1.0)
        if self._place is not None:
            self._place.give_way(self._check)

    def _check(self) -> None:
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            if not self._awaited(now):
                self._cancel.set()
        if self._cancel.is_set():
            raise Cancelled("Stopped on request; nothing was changed.")
        most = settings().work_seconds
        if self._place is not None and self._worked > most:
            raise InputError(
                f"This takes more than the {most:,.0f} s of work that this server gives one question; what was kept "
                "until now stays. Ask for less, or have the operator raise ATTNVIZ_WORK_SECONDS."
            )

    def _awaited(self, now: float) -> bool:
        """Whether any of its sessions is there, or was until a moment ago: a connection may come back."""
        with self._lock:
            for session in self._seen:
                if is_there(session):
                    self._seen[session] = now
            return any(now - seen < settings().away_seconds for seen in self._seen.values())

    def join(self, session: str) -> bool:
        """Have one more session wait for it; False if it is too late for that."""
        with self._lock:
            if self._cancel.is_set() or self._done.is_set():
                return False
            self._seen[session] = time.monotonic()
            return True

    def part(self, session: str) -> None:
        """A session does not wait for it any more; the last one cancels it."""
        with self._lock:
            self._seen.pop(session, None)
            if not self._seen:
                self._cancel.set()

    def cancel(self) -> None:
        self._cancel.set()

    @property
    def cancelled(self) -> bool:
        return self._cancel.is_set()

    def wait(self, seconds: float) -> bool:
        """Whether the work is over, after waiting at most so long."""
        return self._done.wait(seconds)

    def result(self) -> Any:
        """What the work came to; raises what it raised, anything unforeseen as an AttnvizError."""
        if isinstance(self._error, AttnvizError):
            raise self._error
        if self._error is not None:
            raise AttnvizError(
                f"Something went wrong here ({type(self._error).__name__}: {self._error}). Try again; if it stays, "
                "report it with the model and the text."
            ) from self._error
        return self._result

    @property
    def doing(self) -> str:
        """What is done now, or which place in the line the work has."""
        waits = None if self._place is None else self._place.ahead
        if waits is None:
            return self._doing
        before, seconds = waits
        if self._place is not None and self._place.ran:
            return f"{self._doing} (lets others go first)".strip()
        return f"place {before + 1} in line, about {max(1, round(seconds))} s until its turn"

    @doing.setter
    def doing(self, words: str) -> None:
        self._doing = words

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    @property
    def _worked(self) -> float:
        """Seconds of work, without those in the line."""
        return self.elapsed if self._place is None else self._place.seconds

    @property
    def seconds_left(self) -> float | None:
        """An estimate from the share done so far; None until there is something to go by."""
        worked = self._worked
        return worked * (1 - self.share) / self.share if self.share > 0.02 and worked > 0.5 else None

    def _log_end(self) -> None:
        error = self._error
        if error is None:
            self._log("job ended")
        elif isinstance(error, Cancelled):
            self._log("job cancelled")
        else:
            self._log("job failed", type(error).__name__)

    def _log(self, event: logs.Event, error: str | None = None) -> None:
        ended = event not in ("job started", "job refused")
        logs.record(
            event,
            model=self._model,
            kind=self._kind,
            seconds=self._worked if ended else None,
            waited_seconds=self._waited,
            tokens=self.tokens if ended else None,
            session=session_hash(self._session),
            error=error,
        )


def kind_of(work: Callable[[Job], Any]) -> str:
    """What the log calls a piece of work: the module that it is from."""
    return work.__module__.removeprefix("attnviz.ui.")


class Joined:
    """A session's part in a job that others may wait for, too: `cancel` ends the job only if nobody else does."""

    def __init__(self, job: Job, session: str) -> None:
        self.job, self._session, self._left = job, session, False

    def cancel(self) -> None:
        self._left = True
        self.job.part(self._session)

    @property
    def cancelled(self) -> bool:
        return self._left or self.job.cancelled


_UNDER_WAY: dict[tuple[Hashable, ...], Job] = {}  # by key: what is now asked for by some session
_LOCK = threading.Lock()


def shared(
    key: tuple[Hashable, ...], work: Callable[[Job], Any], *, model: str | None = None, kind: str = ""
) -> Joined:
    """The job for `key` that is under way, or a new one: thirty people who click on one link have it made once.

    key   all that the result depends on
    """
    session = session_here()

    def run(job: Job) -> Any:
        try:
            return work(job)
        finally:  # who waits holds the job; nobody else keeps its result
            with _LOCK:
                if _UNDER_WAY.get(key) is job:
                    del _UNDER_WAY[key]

    with _LOCK:
        for over in [other for other, job in _UNDER_WAY.items() if job.wait(0)]:  # cancelled in the line
            del _UNDER_WAY[over]
        job = _UNDER_WAY.get(key)
        if job is None or not job.join(session):
            job = Job(run, model=model, kind=kind or kind_of(work))
            if not job.wait(0):  # else it was refused
                _UNDER_WAY[key] = job
        return Joined(job, session)
