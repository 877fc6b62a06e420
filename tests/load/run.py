"""python tests/load/run.py --visitors 30 --seconds 120: the figures of docs/SERVER.md. Ends with 1 if a bound fails."""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

_GROWTH = 1.1  # of memory, from the end of the first wave to the end of the second


def main() -> int:
    sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))
    from crowd import SERVER, TRACE, addresses, alone, wave
    from serving import running_app

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visitors", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--at-once", type=int, default=1, help="ATTNVIZ_WORK_AT_ONCE")
    given = parser.parse_args()
    rounds = [addresses(number) for number in range(given.visitors)]
    with running_app(**SERVER, ATTNVIZ_WORK_AT_ONCE=str(given.at_once)) as url:
        alone(url, rounds[:1])  # the model is read, the pages are compiled
        expected = alone(url, rounds)
        single = [seen.seconds for address, seen in expected.items() if address.page == TRACE]
        print(f"alone: median {statistics.median(single):.2f} s, 95% {_share(single, 0.95):.2f} s")
        waves = [wave(url, rounds, expected, given.seconds) for _ in range(2)]
    for number, one in enumerate(waves, start=1):
        print(
            f"wave {number}: {one.opened} addresses, {len(one.wrong)} wrong, {len(one.said)} errors; a trace: median "
            f"{statistics.median(one.seconds):.2f} s, 95% {_share(one.seconds, 0.95):.2f} s; {one.rss / 1e6:,.0f} MB"
        )
        for said in one.said[:3]:
            print(f"  {said}")
    growth = waves[1].rss / waves[0].rss
    print(f"memory of the second wave: {growth:.3f} of the first's")
    fine = all(not one.wrong and not one.said for one in waves) and growth <= _GROWTH
    return 0 if fine else 1


def _share(values: list[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


if __name__ == "__main__":
    raise SystemExit(main())
