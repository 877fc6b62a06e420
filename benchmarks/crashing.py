"""Processes that write to a store and are killed, or meet a full disk, and what must hold afterwards.

A child is forked, so that it starts at once. It says on a pipe what was acknowledged, a line each, and nothing else.
"""

import os
import random
import resource
import signal
import sqlite3
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import sqlalchemy as sa

from attnviz.errors import StoreError
from attnviz.findings import Finding, ModelRecord
from attnviz.store import Store, open_store

MODEL = ModelRecord(name="m")
Acknowledged = dict[str, int]  # finding -> version, 0 once removed


def finding(claim: str, **keywords: Any) -> Finding:
    return Finding.model_validate({"claim": claim, "model": MODEL, "shared": True, **keywords})


def address(folder: Path) -> str:
    return f"sqlite:///{folder}/findings.sqlite"


def forked(work: Callable[[int], None]) -> tuple[int, int]:
    """(process, pipe to read from) of a child that does the work, given the pipe to write to, and ends."""
    reads, writes = os.pipe()
    process = os.fork()
    if process == 0:
        _be_the_child(work, writes)
    os.close(writes)
    return process, reads


def _be_the_child(work: Callable[[int], None], pipe: int) -> NoReturn:
    code = 1
    try:
        work(pipe)
        code = 0
    except BaseException:
        os.write(pipe, ("! " + traceback.format_exc().replace("\n", " | ") + "\n").encode())
    finally:
        os._exit(code)


def said(pipe: int, begun: bytes = b"") -> list[str]:
    """The whole lines that came out of a pipe, after what was read already, once its writer has ended."""
    with open(pipe, "rb") as file:
        data = begun + file.read()
    return data[: data.rfind(b"\n") + 1].decode().splitlines()


def write_until_killed(folder: Path, seed: int, known: list[str]) -> Callable[[int], None]:
    """Save, change, remove and give arrays, at random, for ever; a line "id version" for each that was acknowledged."""

    def work(pipe: int) -> None:
        draw, store, ids = random.Random(seed), open_store(address(folder)), list(known)
        while True:
            act = draw.random() if ids else 0.0
            if act < 0.5:
                kept = store.save(finding("claim", note="x" * draw.randrange(50_000)), by="Ada")
                ids.append(kept.id)
            elif act < 0.8:
                old = store.get(draw.choice(ids), by="Ada")
                kept = store.save(old.model_copy(update={"note": f"note {draw.random()}"}), by="Ada")
            elif act < 0.95:
                kept = store.get(draw.choice(ids), by="Ada")
                store.save_arrays(kept.id, {"v": np.full(20_000, kept.version)}, by="Ada")
            else:
                gone = ids.pop(draw.randrange(len(ids)))
                os.write(pipe, f"{gone} -1\n".encode())  # from here on it may be here or not
                store.delete(gone, by="Ada")
                os.write(pipe, f"{gone} 0\n".encode())
                continue
            os.write(pipe, f"{kept.id} {kept.version}\n".encode())

    return work


def kill_while_writing(folder: Path, acknowledged: Acknowledged, *, seed: int, seconds: float) -> int:
    """Kill -9 a writer, so long after its first call; returns how many calls it acknowledged, and notes them."""
    process, pipe = forked(write_until_killed(folder, seed, [one for one, n in acknowledged.items() if n > 0]))
    begun = os.read(pipe, 1)  # its first call was acknowledged: from here on it is always in the middle of one
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    lines = said(pipe, begun)
    for line in lines:
        assert not line.startswith("!"), line
        one, version = line.split()
        acknowledged[one] = int(version)
    return len(lines)


def check(folder: Path, acknowledged: Acknowledged) -> Store:
    """That the store opens, is whole, and holds all that was acknowledged; what was never acknowledged may be there."""
    store = open_store(address(folder))
    with sqlite3.connect(folder / "findings.sqlite") as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        here = dict(db.execute("SELECT id, version FROM attnviz_findings"))
        with_arrays = [one for (one,) in db.execute("SELECT finding FROM attnviz_arrays")]
    db.close()
    for one, version in acknowledged.items():
        if version > 0:
            assert here[one] >= version
            assert store.get(one, by="Ada").version == here[one]
        elif version == 0:
            assert one not in here
    for one in with_arrays:
        values = store.arrays(one, by="Ada")["v"]
        assert (values == values[0]).all()
        assert 1 <= values[0] <= here[one]
    return store


def fill_up(folder: Path, room: int) -> tuple[list[str], str]:
    """Save in a child whose files may grow to `room` bytes only; returns what was acknowledged, and the error."""

    def work(pipe: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        store = open_store(address(folder))
        try:
            while True:
                os.write(pipe, (store.save(finding("claim", note="x" * 20_000), by="Ada").id + "\n").encode())
        except StoreError as error:
            os.write(pipe, f"error {error}\n".encode())

    process, pipe = forked(work)
    lines = said(pipe)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0, lines[-1]
    return lines[:-1], lines[-1].removeprefix("error ")


def limit_pages(store: Store, more: int) -> Callable[[], None]:
    """Let the database grow by some pages only, as on a full disk; returns what undoes it."""
    with store._reading() as db:
        pages = db.exec_driver_sql("PRAGMA page_count").scalar_one() + more

    def limit(connection: Any, record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    sa.event.listen(store._engine, "connect", limit)
    return lambda: sa.event.remove(store._engine, "connect", limit)
