"""Work that may take longer than a click: in a thread of its own, with progress, an estimate, and a way to stop it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from attnviz.errors import AttnvizError, Cancelled


class Job:
    """One piece of work. `work(job)` runs in a thread and reports by `job.step`, which raises Cancelled on request."""

    def __init__(self, work: Callable[[Job], Any]) -> None:
        self.share, self.doing = 0.0, ""
        self._started = time.monotonic()
        self._cancel, self._done = threading.Event(), threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, args=(work,), name="attnviz-job", daemon=True).start()

    def _run(self, work: Callable[[Job], Any]) -> None:
        try:
            self._result = work(self)
        except BaseException as error:  # handed to whoever asks for the result
            self._error = error
        finally:
            self._done.set()

    def step(self, done: int, total: int) -> None:
        """Say how far the work is; raises Cancelled if somebody asked to stop."""
        self.report(self.doing, done / max(total, 1))

    def report(self, doing: str, share: float) -> None:
        if self._cancel.is_set():
            raise Cancelled("Stopped on request; nothing was changed.")
        self.doing, self.share = doing, min(max(share, 0.0), 1.0)

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
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    @property
    def seconds_left(self) -> float | None:
        """An estimate from the share done so far; None until there is something to go by."""
        return self.elapsed * (1 - self.share) / self.share if self.share > 0.02 and self.elapsed > 0.5 else None
