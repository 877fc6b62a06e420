"""The server killed in the middle of saving, a few times; `benchmarks/store.py --only server` does it fifty times."""

import random
from pathlib import Path

from benchmarks.killing import check_kept, kill_while_keeping


def test_what_a_page_said_was_kept_is_there_after_a_kill(tmp_path: Path) -> None:
    draw, rounds = random.Random(3), []
    for name in ("Ada", "Bo"):
        rounds.append(kill_while_keeping(tmp_path, name, visitors=3, seconds=draw.uniform(0.0, 0.5)))
        check_kept(tmp_path, rounds)
    assert all(told.acknowledged for told in rounds)
    assert any(told.underway for told in rounds)
