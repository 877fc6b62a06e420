"""How fast findings are kept and found, and what a store survives, longer than the tests have time for.

    python benchmarks/store.py                        all of it, about five minutes
    python benchmarks/store.py --only kills --kills 500
    python benchmarks/store.py --only server          fifty kills of the real server, some ten minutes

speed     Save, get, find, label, export and import, with 100 and 10,000 findings in the store. Medians, and the 95th
          percentile where many people wait for it. Each call opens the file anew, as in the app.
kills     A process that saves, changes, removes and gives arrays for ever is killed by signal 9 at random moments;
          after each kill the store is opened, checked, and compared with what had been acknowledged.
server    The real server is killed by signal 9 while four visitors keep findings on its Notebook page as fast as it
          lets them; after each kill the store is compared with what their pages had said. Not among "all of it".
writers   Processes that write at once, each 100 findings and as many changes to one that they share.
full      A disk that is really full: a small tmpfs, where this user may mount one; else a limit on the size of files.
          1 to 8 MB by steps; then another file on it is removed, and the store goes on.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from attnviz.errors import Conflict, StoreError  # noqa: E402
from attnviz.findings import Finding, HeadAt  # noqa: E402
from attnviz.store import Store, open_store  # noqa: E402
from benchmarks import crashing  # noqa: E402
from benchmarks.crashing import Acknowledged, address, check, forked, kill_while_writing, said  # noqa: E402
from benchmarks.measuring import row  # noqa: E402


def timed(call: Callable[[], Any], times: int) -> tuple[float, float]:
    """Median and 95th percentile of a call, in milliseconds."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken), float(np.percentile(taken, 95))


def said_ms(what: str, found: tuple[float, float]) -> None:
    row(what, f"{found[0]:.1f} ms", f"95%: {found[1]:.1f} ms")


def many(n: int) -> list[Finding]:
    """Findings of heads here and there, each with a figure of some 20 kB."""
    draw = random.Random(0)
    figure = '{"data": [' + ", ".join(f"{draw.random():.6f}" for _ in range(2_000)) + "]}"
    return [
        crashing.finding(
            f"L{number % 30}H{number % 9} looks back by {number}",
            author="Ada",
            shared=False,  # as an import has it, so that an export of it is the same
            heads=(HeadAt(layer=number % 30, head=number % 9),),
            labels=(("sink", "copying", "induction")[number % 3],),
            note="It pays most of its weight to the token before. " * 4,
            figure=figure,
        )
        for number in range(n)
    ]


def speed(folder: Path) -> None:
    head, arrays = HeadAt(layer=5, head=5), {"pattern": np.zeros((30, 9, 64, 64), np.float32)}
    for n in (100, 10_000):
        made = many(n)
        text = "".join(one.model_dump_json() + "\n" for one in made)
        store = open_store(address(folder / str(n)), findings_each=20_000)
        row(f"{n:,} findings, {len(text) / 1e6:,.0f} MB", "")
        row(
            "  import",
            f"{timed(lambda text=text, store=store: store.import_findings(text, by='Ada'), 1)[0] / 1e3:.2f} s",
        )
        said_ms("  save a new one", timed(lambda store=store: store.save(many(1)[0], by="Ada"), 100))
        old = store.get(made[7].id, by="Ada")
        notes = iter(range(10_000))

        def change(store: Store = store, seen: list[Finding] = [old]) -> None:  # noqa: B006
            seen[0] = store.save(seen[0].model_copy(update={"note": str(next(notes))}), by="Ada")  # noqa: B023

        said_ms("  save a change", timed(change, 100))
        said_ms("  get", timed(lambda store=store, one=made[n // 2].id: store.get(one, by="Ada"), 100))
        said_ms("  all in brief", timed(lambda store=store, n=n: store.briefs(by="Ada", limit=n), 5))
        said_ms("  find the last 20", timed(lambda store=store: store.find(by="Ada", limit=20), 50))
        said_ms("  find 20 of a head", timed(lambda store=store: store.find(by="Ada", head=head, limit=20), 50))
        said_ms("  find 20 with words", timed(lambda store=store: store.find(by="Ada", text="BACK 77", limit=20), 20))
        said_ms("  label", timed(lambda store=store, one=made[3].id: store.label(one, ["sink"], by="Ada"), 50))
        said_ms(
            "  save 4 MB of arrays",
            timed(lambda store=store, one=made[3].id: store.save_arrays(one, arrays, by="Ada"), 20),
        )
        said_ms("  open the store", timed(lambda n=n: open_store(address(folder / str(n))), 30))
        row("  agreement", f"{timed(lambda store=store: store.agreement(by='Ada'), 3)[0]:.1f} ms")
        for as_csv in (False, True):
            start = time.perf_counter()
            ids = [one.id for one in made]
            export = store.export_findings(by="Ada", ids=ids, as_csv=as_csv)
            row(f"  export {'CSV' if as_csv else 'JSON Lines'}", f"{time.perf_counter() - start:.2f} s")
            other = open_store(address(folder / f"{n}-{as_csv}"), findings_each=20_000)
            assert other.import_findings(export, by="Ada", as_csv=as_csv).imported
            assert other.export_findings(by="Ada", as_csv=as_csv) == export


def kills(folder: Path, n: int) -> None:
    draw, acknowledged, calls, opening = random.Random(1), Acknowledged(), [], []
    for number in range(n):
        if number % 50 == 0:  # a store of fifty kills, then a new one, so that checking all of it stays quick
            acknowledged, place = Acknowledged(), folder / f"kills-{number}"
            place.mkdir()
        calls.append(kill_while_writing(place, acknowledged, seed=number, seconds=draw.uniform(0, 0.3)))
        start = time.perf_counter()
        open_store(address(place))
        opening.append(1e3 * (time.perf_counter() - start))
        check(place, acknowledged)
    row("kills in the middle of writing", str(n))
    row("calls acknowledged before them", f"{sum(calls):,}", f"{max(calls)} at most")
    row("of these lost", "0", target="0")
    row("opening after a kill, median", f"{statistics.median(opening):.1f} ms", f"at most {max(opening):.0f} ms")


def server(folder: Path, n: int) -> None:
    from benchmarks.killing import Killed, check_kept, kill_while_keeping

    draw, rounds, more, opening = random.Random(2), list[Killed](), 0, []
    for number in range(n):
        rounds.append(kill_while_keeping(folder, f"Ada {number}", visitors=4, seconds=draw.uniform(0, 1.0)))
        start = time.perf_counter()
        open_store(address(folder))
        opening.append(1e3 * (time.perf_counter() - start))
        more = check_kept(folder, rounds)
    row("kills of the server while pages save", str(n))
    row("findings acknowledged before them", f"{sum(len(told.acknowledged) for told in rounds):,}")
    row("of these lost", "0", target="0")
    row("sent, not answered before the kill", f"{sum(len(told.underway) for told in rounds):,}", f"{more} were kept")
    row("opening after a kill, median", f"{statistics.median(opening):.1f} ms", f"at most {max(opening):.0f} ms")
    row("start of a server, median", f"{statistics.median(told.start for told in rounds):.1f} s")


def writers(folder: Path) -> None:
    for n in (1, 2, 8):
        place = folder / f"writers-{n}"
        store = open_store(address(place))
        shared = store.save(crashing.finding("of all"), by="Ada")

        def work(pipe: int, place: Path = place, shared: Finding = shared) -> None:
            store, clashes = open_store(address(place)), 0
            for number in range(100):
                store.save(crashing.finding(f"claim {number}"), by="Ada")
                seen = store.get(shared.id, by="Ada")
                while True:
                    try:
                        store.save(seen.model_copy(update={"note": f"{seen.note} {os.getpid()}/{number}"}), by="Ada")
                        break
                    except Conflict as conflict:
                        seen, clashes = cast(Finding, conflict.theirs), clashes + 1
            os.write(pipe, f"{clashes}\n".encode())

        start = time.perf_counter()
        children = [forked(work) for _ in range(n)]
        clashes = sum(int(line) for _, pipe in children for line in said(pipe))
        taken = time.perf_counter() - start
        assert all(os.waitpid(process, 0)[1] == 0 for process, _ in children)
        assert len(store.get(shared.id, by="Ada").note.split()) == 100 * n
        with store._reading() as db:
            kept = db.exec_driver_sql("SELECT count(*) FROM attnviz_findings").scalar_one()
        assert kept == 100 * n + 1
        row(f"{n} writers: saves a second", f"{200 * n / taken:,.0f}", f"  {clashes} conflicts")


def full(folder: Path) -> None:
    said_so = set()
    for megabytes in range(1, 9):
        place = folder / f"full-{megabytes}"
        place.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "attnviz", str(place)]
        mounted = bool(shutil.which("mount")) and subprocess.run(mount, capture_output=True).returncode == 0
        try:
            ballast = place / "ballast"
            ballast.write_bytes(os.urandom(400_000))
            acknowledged, error = crashing.fill_up(place, (1 << 40) if mounted else megabytes << 20)
            store = check(place, dict.fromkeys(acknowledged, 1))
            said_so.add(error)
            try:
                store.save_arrays(acknowledged[0], {"v": np.zeros(megabytes << 18)}, by="Ada")
            except StoreError as failed:
                said_so.add(str(failed))
            assert not list(store._folder.glob("*.partial"))
            ballast.unlink()
            for one in acknowledged[::2]:
                store.delete(one, by="Ada")
            store.save(crashing.finding("again"), by="Ada")
            check(place, dict.fromkeys(acknowledged[::2], 0) | dict.fromkeys(acknowledged[1::2], 1))
        finally:
            if mounted:
                subprocess.run(["umount", str(place)], check=True)
        how = "tmpfs" if mounted else "limit on files"
        row(f"full at {megabytes} MB ({how})", f"{len(acknowledged)} kept", "  0 lost, and whole")
    for error in sorted(said_so):
        print(f"  said: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"speed": speed, "kills": kills, "writers": writers, "full": full}
    parser.add_argument("--only", nargs="+", choices=[*parts, "server"], default=list(parts))
    parser.add_argument("--kills", type=int, help="200 of a writer, 50 of the server")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for part in asked.only:
            print(f"\n## {part}\n", flush=True)
            if part == "kills":
                kills(Path(folder), asked.kills or 200)
            elif part == "server":
                server(Path(folder), asked.kills or 50)
            else:
                parts[part](Path(folder))  # type: ignore[operator]


if __name__ == "__main__":
    main()
