"""Progress of a long question that is made of several runs, told as one count."""

from __future__ import annotations

from attnviz.errors import Cancelled
from attnviz.tap import Progress


class Told:
    """Counts what is done of `total` for a caller's `progress`, which may be None and may raise to stop."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def add(self, n: int = 1) -> None:
        self._done += n
        self._tell(self._done)

    def within(self, n: int) -> Progress:
        """The progress of a part that counts n; `add(n)` says that it is over."""
        return lambda done, total: self._tell(self._done + n * done // max(1, total))

    def _tell(self, done: int) -> None:
        if self._progress is not None:
            self._progress(done, self._total)


def not_stopped(complete: bool) -> None:
    """A sweep that is cancelled gives what it has; a question that needs all of it is cancelled as a whole."""
    if not complete:
        raise Cancelled("Stopped on request.")
