"""A model's line: how much work runs on it at once, who comes next, and how many may wait.

1. Work waits until fewer than `at_once` others have a turn.
2. Work that has had SLICE seconds goes behind what has had less, and gives its turn up at its next step: a trace does
   not wait for a sweep. So nobody has to say beforehand what is short. Among long work turns of SLICE go round.
3. Long work that has waited for PATIENCE seconds counts as short for one turn: it goes on, however many come.

(The feedback queue of Corbato, Merwin-Daggett and Daley 1962, with two levels.) Nothing of Streamlit is known here.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from attnviz.errors import AttnvizError

SLICE, PATIENCE = 2.0, 10.0  # seconds
_LOOK_SECONDS = 0.2  # between two looks at whether somebody who waits has left
_RECENT, _FIRST_GUESS = 32, 0.5  # turns that tell how long one takes; seconds before there was any
_MOST_LINES = 64  # of models that nobody works with

Check = Callable[[], None]


class Busy(AttnvizError):
    """More people wait for the model than the server lets wait."""


@dataclass(frozen=True)
class LineState:
    """How many work, how many wait, and how long a turn took of late, in seconds."""

    working: int
    waiting: int
    turn_seconds: float


class Line:
    """The line of one model; safe across threads."""

    def __init__(self, at_once: int = 1, most_waiting: int = 64, clock: Callable[[], float] = time.monotonic) -> None:
        self._at_once, self._most, self._clock = at_once, most_waiting, clock
        self._changed = threading.Condition()
        self._working: list[Place] = []
        self._waiting: list[Place] = []
        self._lengths: deque[float] = deque(maxlen=_RECENT)

    def enter(self) -> Place:
        """A place at the end; Busy if too many wait who had no turn yet."""
        with self._changed:
            n = sum(not place.ran for place in self._waiting)
            if n >= self._most:
                raise Busy(
                    f"This model is busy: {n:,} pieces of work wait for it already, about {self._wait_for(n):.0f} s. "
                    "Nothing of yours is lost; try again in a moment."
                )
            place = Place(self, self._clock())
            self._waiting.append(place)
            self._grant()
            return place

    def state(self) -> LineState:
        with self._changed:
            return LineState(len(self._working), len(self._waiting), self._turn_seconds())

    def _grant(self) -> None:
        """Give the turns that are free to those who come next. All that starts with an underscore wants the lock."""
        now = self._clock()
        while self._waiting and len(self._working) < self._at_once:
            place = min(self._waiting, key=lambda place: place.rank(now))
            self._waiting.remove(place)
            place.level, place.since, place.has_turn = place.rank(now)[0], now, True
            self._working.append(place)
        self._changed.notify_all()

    def _end_turn(self, place: Place) -> None:
        now = self._clock()
        if place.has_turn:
            self._working.remove(place)
            self._lengths.append(now - place.since)
            place.ran += now - place.since
        elif place in self._waiting:
            self._waiting.remove(place)
        place.has_turn, place.since = False, now

    def _turn_seconds(self) -> float:
        return sum(self._lengths) / len(self._lengths) if self._lengths else _FIRST_GUESS

    def _wait_for(self, ahead: int) -> float:
        """About how many seconds it takes until `ahead` who wait and those who work have had their turn."""
        now, turn = self._clock(), self._turn_seconds()
        working = [min(place.left() or turn, max(SLICE - (now - place.since), 0.0)) for place in self._working]
        return (sum(working) + ahead * turn) / self._at_once


class Place:
    """One piece of work in a line: waits for its turn, gives way at its steps, and leaves.

    ran     seconds of its turns before this one
    since   when it began to wait, or its turn
    left    about how many seconds its work still takes; None where nobody knows
    """

    def __init__(self, line: Line, now: float) -> None:
        self._line = line
        self.ran, self.since, self.level, self.has_turn = 0.0, now, 0, False
        self.left: Callable[[], float | None] = lambda: None

    def rank(self, now: float) -> tuple[int, float]:
        """Who comes first: the smaller one."""
        if self.ran < SLICE:
            return 0, self.since
        patient = self.since + PATIENCE
        return (0, patient) if now >= patient else (1, self.since)

    def wait(self, check: Check) -> None:
        """Wait for the turn; `check` is called again and again, and raises to stop waiting."""
        while True:
            check()
            with self._line._changed:
                if self.has_turn or self._line._changed.wait_for(lambda: self.has_turn, _LOOK_SECONDS):
                    return

    def give_way(self, check: Check) -> None:
        """At a step: let those go first who come before, and wait for the next turn."""
        line = self._line
        with line._changed:
            now = line._clock()
            over = now - self.since >= SLICE
            if not any(over or other.rank(now)[0] < self.level for other in line._waiting):
                return
            line._end_turn(self)
            line._waiting.append(self)
            line._grant()
        self.wait(check)

    def leave(self) -> None:
        """Leave for good; does nothing the second time."""
        with self._line._changed:
            self._line._end_turn(self)
            self._line._grant()

    @property
    def seconds(self) -> float:
        """Of its turns, this one included."""
        with self._line._changed:
            return self.ran + (self._line._clock() - self.since if self.has_turn else 0.0)

    @property
    def ahead(self) -> tuple[int, float] | None:
        """How many who wait come before it, and about how many seconds it still waits; None once it has its turn."""
        line = self._line
        with line._changed:
            if self.has_turn or self not in line._waiting:
                return None
            now = line._clock()
            before = sum(other.rank(now) < self.rank(now) for other in line._waiting)
            return before, line._wait_for(before)


class Lines:
    """A line for each model, made when it is first asked for."""

    def __init__(self, make: Callable[[], Line]) -> None:
        self._make = make
        self._lines: dict[str, Line] = {}
        self._lock = threading.Lock()

    def enter(self, model: str) -> Place:
        """A place at the end of a model's line; raises Busy."""
        with self._lock:
            for idle in [name for name, line in self._lines.items() if name != model and not line.state().working]:
                if len(self._lines) < _MOST_LINES:
                    break
                del self._lines[idle]
            return self._lines.setdefault(model, self._make()).enter()

    def states(self) -> dict[str, LineState]:
        """The state of every line, by model."""
        with self._lock:
            return {name: line.state() for name, line in self._lines.items()}
