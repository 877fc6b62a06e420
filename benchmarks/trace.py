"""What a trace costs beside a plain forward pass: time, memory, patterns, loading. One run prints it all.

    python benchmarks/trace.py

Times are medians of repetitions that take turns, so that whatever else the machine does falls on all of them alike.
Memory is measured in a fresh process for each case. "Peak" is the most memory that the process had resident (VmHWM)
from just before the measured run to its end, model, tokenizer and libraries included; "over the base" is that less what
was resident just before the run, with the model and its tokenizer loaded and one short run done.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers
from measuring import MB, embedded_smollm2, forward, in_fresh_process, plain_model, row, status_of, token_ids

import attnviz

REPETITIONS = 9
CASES = {
    "plain": "plain forward",
    "trace": "trace + 10 patterns",
    "eager": "eager output_attentions",
}


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def medians(*works: Callable[[], Any], repetitions: int = REPETITIONS) -> list[float]:
    """The median time of each, taken in turns after one round that is not counted."""
    rounds = [[seconds(work) for work in works] for _ in range(repetitions + 1)][1:]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def measure_memory(case: str, length: int) -> dict[str, int]:
    """The peak of one case in this process; the run itself is the only one of its length."""
    ids, short = token_ids(length), token_ids(8)
    if case == "trace":
        model = attnviz.load_model("smollm2", device="cpu", dtype="float32")
        tokenizer = model.tokenizer
        model.trace(input_ids=short)

        def work() -> Any:
            trace = model.trace(input_ids=ids)
            patterns = [trace.pattern(3 * i, i % 9) for i in range(10)]
            return trace, patterns
    else:
        hf_model = plain_model("eager" if case == "eager" else "sdpa")
        keywords = {"output_attentions": True} if case == "eager" else {}
        tokenizer = transformers.AutoTokenizer.from_pretrained(hf_model.name_or_path)  # as beside a traced model
        forward(hf_model, short, **keywords)

        def work() -> Any:
            return forward(hf_model, ids, **keywords)

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    base = status_of("self", "VmRSS")
    kept = work()
    peak = status_of("self", "VmHWM")
    del kept, tokenizer
    return {"base": base, "peak": peak}


def measure_loading() -> dict[str, float]:
    """Loading in this process, which has imported attnviz and done nothing with it."""
    return {turn: seconds(lambda: attnviz.load_model("smollm2")) for turn in ("first", "second")}


def report() -> None:
    embedded_smollm2()  # fills the cache, if it is empty
    load = " ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"AttnViz {attnviz.__version__}, SmolLM2-135M, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {sys.version.split()[0]}")
    print(f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads, load before {load}\n")

    report_times()

    found = {case: in_fresh_process(__file__, "--memory", case, "--length", "1024") for case in CASES}
    whole = {case: x["peak"] / found["plain"]["peak"] for case, x in found.items()}
    over = {case: x["peak"] - x["base"] for case, x in found.items()}
    for case, title in CASES.items():
        target = "at most 1.20" if case == "trace" else ""
        row(f"peak: {title}, 1,024", f"{found[case]['peak'] / MB:,.0f} MB", f"{whole[case]:.2f} of plain", target)
    for case, title in CASES.items():
        row(f"over the base: {title}", f"{over[case] / MB:,.0f} MB", f"{over[case] / over['plain']:.2f} of plain")

    loads = [in_fresh_process(__file__, "--loading") for _ in range(3)]
    first, second = (statistics.median(x[turn] for x in loads) for turn in ("first", "second"))
    row("load_model, first in a process", f"{first:.2f} s", "", "under 2 s")
    row("load_model, second in a process", f"{second:.2f} s", "", "under 2 s")


def report_times() -> None:
    model, plain = attnviz.load_model("smollm2", device="cpu", dtype="float32"), plain_model("sdpa")
    ids = token_ids(512)
    t_plain, t_trace = medians(lambda: forward(plain, ids), lambda: model.trace(input_ids=ids))
    row("plain forward, 512 tokens", f"{t_plain * 1e3:.0f} ms")
    row("trace, 512 tokens", f"{t_trace * 1e3:.0f} ms", f"{t_trace / t_plain:.2f} of plain", "at most 1.10")
    trace = model.trace(input_ids=token_ids(1_024)).compact()
    t_head, t_layer = medians(lambda: trace.pattern(15, 4), lambda: trace.pattern(15))
    row("one head's pattern, 1,024 tokens", f"{t_head * 1e3:.1f} ms")
    row("one layer's patterns, 1,024 tokens", f"{t_layer * 1e3:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--length", type=int, default=1_024, help=argparse.SUPPRESS)
    parser.add_argument("--loading", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        print(json.dumps(measure_memory(args.memory, args.length)))
    elif args.loading:
        print(json.dumps(measure_loading()))
    else:
        report()


if __name__ == "__main__":
    main()
