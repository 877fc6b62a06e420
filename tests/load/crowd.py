"""Many visitors at once, each with texts, heads and edits of its own, against what one alone sees.

The server keeps few results for all (ATTNVIZ_TRACE_CACHE_BYTES holds two of these traces), and thirty visitors push
each other's out, so that one who goes round three texts has one traced at nearly every address.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil
from visitor import Seen, Visitor

SERVER = {"ATTNVIZ_TRACE_CACHE_BYTES": str(16 << 20), "ATTNVIZ_WORK_WAITING": "200", "ATTNVIZ_LOG_LEVEL": "warning"}
TRACE = ""  # the page whose addresses are timed: Explore
_NOUNS = ("key", "cat", "lamp", "letter", "boat", "drum", "clock", "hat", "coin", "map")
_PLACES = ("in the old house", "near the quiet river", "on the second floor", "behind the green door", "at the station")


@dataclass(frozen=True)
class Address:
    page: str
    parameters: tuple[tuple[str, object], ...]

    def open(self, visitor: Visitor) -> Seen:
        return visitor.open(self.page, **dict(self.parameters))


@dataclass
class Wave:
    """What one wave of visitors saw.

    wrong     addresses whose pictures differ from those that one visitor alone saw
    said      errors on pages, and what ended a visitor
    seconds   of every address of `TRACE`
    rss       bytes of the server when the wave ended, its visitors still there
    """

    opened: int = 0
    wrong: list[Address] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    rss: int = 0


def addresses(visitor: int) -> list[Address]:
    """A visitor's round: three texts with a head each, and one of them with attention steered."""
    found = []
    for turn in range(3):
        noun, place = _NOUNS[(visitor + turn) % len(_NOUNS)], _PLACES[(visitor + 2 * turn) % len(_PLACES)]
        text = f"Visitor {visitor} has lost a {noun} {place}. When the visitor came back {turn + 2} days later, the"
        head = {"layer": (7 * visitor + turn) % 30, "head": (visitor + turn) % 9}
        found.append(Address(TRACE, (("with_text", text), *head.items())))
    steered = dict(found[-1].parameters) | {"emphasised": 3 + visitor % 5, "strength": "0.1"}
    return [*found, Address("steering", tuple(steered.items()))]


def alone(url: str, rounds: Sequence[Sequence[Address]]) -> dict[Address, Seen]:
    """What each address shows to one visitor at a time."""
    found = {}
    for mine in rounds:
        with Visitor(url) as visitor:
            found |= {address: address.open(visitor) for address in mine}
    return found


def wave(url: str, rounds: Sequence[Sequence[Address]], expected: dict[Address, Seen], seconds: float) -> Wave:
    """As many visitors as there are rounds, at once: each opens its addresses again and again for so long."""
    result, lock = Wave(), threading.Lock()
    ended, leave = threading.Semaphore(0), threading.Event()

    def visit(mine: Sequence[Address]) -> None:
        try:
            with Visitor(url) as visitor:
                try:
                    _go_round(visitor, mine)
                finally:
                    ended.release()
                leave.wait()
        except Exception as error:  # a thread that dies unseen would be a visitor without errors
            with lock:
                result.said.append(f"{type(error).__name__}: {error}")

    def _go_round(visitor: Visitor, mine: Sequence[Address]) -> None:
        until, turn = time.monotonic() + seconds, 0
        while turn < 1 or time.monotonic() < until:
            address = mine[turn % len(mine)]
            seen = address.open(visitor)
            turn += 1
            with lock:
                result.opened += 1
                result.said += seen.said
                if (seen.data, seen.n) != (expected[address].data, expected[address].n):
                    result.wrong.append(address)
                if address.page == TRACE:
                    result.seconds.append(seen.seconds)

    threads = [threading.Thread(target=visit, args=(mine,)) for mine in rounds]
    for thread in threads:
        thread.start()
    for _ in threads:
        ended.acquire()
    result.rss = server().memory_info().rss
    leave.set()
    for thread in threads:
        thread.join()
    return result


def server() -> psutil.Process:
    """The app that this process has started."""
    return next(child for child in psutil.Process().children() if "streamlit" in child.cmdline())
