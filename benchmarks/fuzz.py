"""Ten thousand made-up inputs: does anything but a result or an AttnvizError come out?

    python benchmarks/fuzz.py --inputs 10000 [--only figures] [--seed 0]

The inputs are spread evenly over the entry points of tests/fuzzed.py. Anything else that comes out is told with the
shortest call that brought it, and ends the command with 1.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: a made-up name must ask no one
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "unit")]

import fuzzed  # noqa: E402
import hypothesis  # noqa: E402
import torch  # noqa: E402
from odd import Call  # noqa: E402

import attnviz  # noqa: E402


@dataclass
class Tally:
    """What came of the calls of one entry point; `else_` has the shortest call by where in the library it ended."""

    results: int = 0
    errors: int = 0
    n_else: int = 0
    else_: dict[str, str] = field(default_factory=dict)

    @property
    def inputs(self) -> int:
        return self.results + self.errors + self.n_else

    def add(self, name: str, call: Call) -> None:
        try:
            came = fuzzed.came_of(name, call)
        except Exception as error:
            self.n_else += 1
            place, told = _place(error), repr(call)
            if place not in self.else_ or len(told) < len(self.else_[place]):
                self.else_[place] = told
        else:
            self.results += came == "result"
            self.errors += came == "error"


def _place(error: Exception) -> str:
    inner = [each for each in traceback.extract_tb(error.__traceback__) if "attnviz/" in each.filename] or [None]
    line = f"{Path(inner[-1].filename).name}:{inner[-1].lineno}" if inner[-1] else "outside"
    return f"{type(error).__name__} at {line}: {error!s:.120}".replace("\n", " ") if inner[-1] else f"{error!r:.160}"


def tally(name: str, inputs: int, seed: int) -> Tally:
    found = Tally()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(fuzzed.ENTRIES[name])
    def each(call: Call) -> None:
        found.add(name, call)

    each()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--only", default="", help="entry points with this in their name")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    names = [name for name in fuzzed.ENTRIES if asked.only in name]
    began, told = time.monotonic(), datetime.datetime.now(datetime.UTC)
    print(f"AttnViz {attnviz.__version__}, {told:%Y-%m-%d %H:%M} UTC, seed {asked.seed}\n")
    print(f"{'entry point':<32}{'inputs':>8}{'results':>9}{'AttnvizErrors':>15}{'anything else':>15}")
    found: dict[str, Tally] = {}
    for left, name in zip(range(len(names), 0, -1), names, strict=True):  # some have few inputs, and others get theirs
        done = sum(one.inputs for one in found.values())
        found[name] = one = tally(name, max(1, -(-(asked.inputs - done) // left)), asked.seed)
        print(f"{name:<32}{one.inputs:>8,}{one.results:>9,}{one.errors:>15,}{one.n_else:>15,}", flush=True)
        for place, call in one.else_.items():
            print(f"    {place}\n        {call:.700}")
    sums = [sum(getattr(one, part) for one in found.values()) for part in ("inputs", "results", "errors", "n_else")]
    print(f"{f'{len(found)} entry points':<32}{sums[0]:>8,}{sums[1]:>9,}{sums[2]:>15,}{sums[3]:>15,}")
    print(f"{time.monotonic() - began:.0f} s")
    return int(sums[3] > 0)


if __name__ == "__main__":
    sys.exit(main())
