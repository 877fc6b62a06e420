"""The real server, killed by signal 9 while people keep findings on its Notebook page, and what must hold afterwards.

Visitors speak Streamlit's own messages over its websocket, as a browser does: they type a claim and press "Keep it" as
fast as the page lets them. A finding is acknowledged once its page has said that it was kept.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "load"))

from streamlit.proto.BackMsg_pb2 import BackMsg  # noqa: E402
from visitor import Visitor  # noqa: E402
from websockets.exceptions import ConnectionClosed  # noqa: E402

from attnviz.store import open_store  # noqa: E402
from benchmarks.crashing import address  # noqa: E402

_START_SECONDS, _PAGE_SECONDS = 120.0, 120.0
_PAGE, _KEPT, _GUEST = "notebook", "Kept in your Notebook", "You are a guest here"


@dataclass
class Killed:
    """What visitors were told before a server was killed.

    name           that they keep findings under
    acknowledged   claims that a page said were kept
    underway       claims that were sent, and not answered when the server was killed
    start          seconds from its start to its first answer
    """

    name: str
    acknowledged: set[str] = field(default_factory=set)
    underway: set[str] = field(default_factory=set)
    start: float = 0.0
    said: list[str] = field(default_factory=list)


class Keeper(Visitor):
    """A visitor of the Notebook who writes findings down."""

    def call_me(self, name: str) -> None:
        """Type a name into the sidebar; again where the page came anew meanwhile, and did not hear it."""
        self.open(_PAGE)
        while any(_GUEST in e.html.body for e in self._elements.values() if e.WhichOneof("type") == "html"):
            self._send({self._found("text_input", "Your name").id: name})
            while not self._take(_PAGE_SECONDS):
                pass

    def keep(self, claim: str, told: Killed) -> None:
        """Write one finding down; noted as acknowledged as soon as its page says so."""
        words, press = self._found("text_area", "Claim"), self._found("button", "Keep it")
        labels, sure = self._found("multiselect", "Labels"), self._found("slider", "Confidence")
        told.underway.add(claim)
        self._send({words.id: claim, labels.id: [], sure.id: list(sure.default), press.id: True})
        ended = False
        while not ended:
            ended = self._take(_PAGE_SECONDS)
            bodies = [e.markdown.body for e in self._elements.values() if e.WhichOneof("type") == "markdown"]
            if claim in told.underway and any(_KEPT in body for body in bodies):
                told.acknowledged.add(claim)
                told.underway.discard(claim)
        told.said += self._seen(0.0).said

    def _found(self, kind: str, label: str) -> Any:
        """The one element of a kind with a label, as the page has it now."""
        found = [getattr(e, kind) for e in self._elements.values() if e.WhichOneof("type") == kind]
        return next(one for one in found if one.label == label)

    def _send(self, values: dict[str, str | bool | list[float]]) -> None:
        """Run the page with these values of its widgets; an empty list is of words."""
        asked = BackMsg()
        asked.rerun_script.page_name = _PAGE
        for key, value in values.items():
            state = asked.rerun_script.widget_states.widgets.add(id=key)
            if isinstance(value, bool):
                state.trigger_value = value
            elif isinstance(value, list):
                array = state.double_array_value if value else state.string_array_value
                array.SetInParent()
                array.data.extend(value)
            else:
                state.string_value = value
        self._elements.clear()  # what stands there is of the run before
        self._socket.send(asked.SerializeToString())


def kill_while_keeping(folder: Path, name: str, *, visitors: int, seconds: float) -> Killed:
    """Start the app on a data folder, let visitors keep findings, and kill it so long after the first was kept."""
    told, first = Killed(name), threading.Event()
    with _served(folder, told) as (url, server):
        threads = [threading.Thread(target=_visit, args=(url, number, told, first)) for number in range(visitors)]
        for thread in threads:
            thread.start()
        kept = first.wait(_PAGE_SECONDS)
        time.sleep(seconds)
        server.send_signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        for thread in threads:
            thread.join()
    assert kept, told.said
    assert told.said == [], told.said
    return told


def _visit(url: str, number: int, told: Killed, first: threading.Event) -> None:
    try:
        with Keeper(url) as keeper:
            keeper.call_me(told.name)
            turn = 0
            while True:
                keeper.keep(f"{told.name}: finding {turn} of visitor {number}" + "x" * random.randrange(1_500), told)
                first.set()
                turn += 1
    except (ConnectionClosed, OSError):
        return  # the server was killed
    except Exception as error:  # a thread that dies unseen would be a visitor without errors
        told.said.append(f"{type(error).__name__}: {error}")


def check_kept(folder: Path, rounds: list[Killed]) -> int:
    """That the store opens and is whole, and holds all that was acknowledged and nothing that nobody sent.

    returns   how many of the findings that were underway had been kept
    """
    store = open_store(address(folder))
    with sqlite3.connect(folder / "findings.sqlite") as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    db.close()
    more = 0
    for told in rounds:
        kept = [one.claim for one in store.find(by=told.name, limit=1_000)]
        assert len(kept) == len(set(kept))
        lost = told.acknowledged - set(kept)
        assert not lost, f"{told.name}: {sorted(one[:60] for one in lost)}, of {len(told.acknowledged)}"
        assert set(kept) <= told.acknowledged | told.underway, told.name
        more += len(kept) - len(told.acknowledged)
    return more


@contextmanager
def _served(folder: Path, told: Killed) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless", "true"]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port), "--server.fileWatcherType", "none"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "ATTNVIZ_DATA_DIR": str(folder), "ATTNVIZ_LOG_LEVEL": "warning"}
    began = time.monotonic()
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        while not _answers(url):
            if server.poll() is not None or time.monotonic() - began > _START_SECONDS:
                raise RuntimeError(f"The app did not start; its code is {server.poll()}.")
            time.sleep(0.05)
        told.start = time.monotonic() - began
        yield url, server
    finally:
        server.kill()
        server.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False
