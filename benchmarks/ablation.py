"""What a sweep over all heads costs, how far that is from what the machine can do, and how good the estimates are.

    python benchmarks/ablation.py                       all of it, on two cores about ten minutes
    python benchmarks/ablation.py --only speed --tokens 14 53
    python benchmarks/ablation.py --only screen memory

speed    All 270 heads of SmolLM2: `ablation.sweep` against one forward a head of the plain model with a hook on the
         projection's input, and against the matrix products and the attention of the sweep's own shapes timed alone,
         with the model's own weights. Interleaved rounds, medians. One forward a head is timed on 27 heads and scaled.
screen   `ablation.screen` against exact zero ablation on 20 prompts of our own (ablation_pairs.jsonl).
memory   What a sweep of 512 tokens takes beyond the model, against the budget that it worked out beforehand, each in a
         process of its own; and the longest time between two of its pieces.
On a GPU, if there is one, `speed` and `screen` run there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from scipy.stats import spearmanr  # noqa: E402
from torch.nn.functional import linear, scaled_dot_product_attention  # noqa: E402

import attnviz  # noqa: E402
from attnviz import Head, ablation  # noqa: E402
from attnviz.ablation.asked import Asked  # noqa: E402
from attnviz.ablation.passes import Passes  # noqa: E402
from attnviz.metrics import LogitDiff  # noqa: E402
from benchmarks.measuring import MB, in_fresh_process, row, status_of, token_ids  # noqa: E402

PAIRS = Path(__file__).with_name("ablation_pairs.jsonl")
METRIC = LogitDiff(20, 30)
GOALS = {14: "5", 53: "2", 209: "1.3"}
SHARE = 27  # heads that one forward a head is timed on, of 270


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


@contextmanager
def without(hf_model: Any, head: Head, width: int) -> Iterator[None]:
    """A head set to zero at the projection's input, as a notebook would do it."""

    def zero(module: Any, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        changed = args[0].clone()
        changed[..., head.head * width : (head.head + 1) * width] = 0
        return (changed,)

    handle = hf_model.model.layers[head.layer].self_attn.o_proj.register_forward_pre_hook(zero)
    try:
        yield
    finally:
        handle.remove()


def one_by_one(model: attnviz.Model, ids: list[int], heads: list[Head]) -> None:
    tensor = torch.tensor([ids], device=model.hf_model.device)
    with torch.no_grad():
        for head in heads:
            with without(model.hf_model, head, model.info.d_head):
                model.hf_model(input_ids=tensor, use_cache=False)


def shapes(model: attnviz.Model, ids: list[int]) -> list[list[tuple[int, int]]]:
    """By batch, (layer, rows) of every layer call of a sweep."""
    asked = Asked.of(model, None, METRIC, input_ids=ids)
    passes = Passes.of(asked, None, None)
    units = asked.all_units(None)
    n_batches = -(-len(units) // passes.budget.rows)
    size = -(-len(units) // n_batches)
    batches = []
    for first in range(0, len(units), size):
        layers = [unit.place.layer for unit in units[first : first + size]]
        batches.append([(n, sum(layer <= n for layer in layers)) for n in range(layers[0], 30)])
    return batches


@torch.no_grad()
def limit(model: attnviz.Model, n_tokens: int, batches: list[list[tuple[int, int]]]) -> None:
    """The matrix products and the attention of these layer calls, and nothing else."""
    hf_model, info = model.hf_model, model.info
    for batch in batches:
        rows = batch[-1][1]
        states = torch.randn(rows, n_tokens, info.d_model, device=hf_model.device, dtype=hf_model.dtype)
        wide = torch.randn(rows, n_tokens, 1536, device=hf_model.device, dtype=hf_model.dtype)
        for layer, n in batch:
            attention, mlp = hf_model.model.layers[layer].self_attn, hf_model.model.layers[layer].mlp
            projected = [
                linear(states[:n], p.weight).view(n, n_tokens, -1, info.d_head).transpose(1, 2)
                for p in (attention.q_proj, attention.k_proj, attention.v_proj)
            ]
            scaled_dot_product_attention(*projected, is_causal=True, enable_gqa=True)
            linear(states[:n], attention.o_proj.weight)
            linear(states[:n], mlp.gate_proj.weight)
            linear(states[:n], mlp.up_proj.weight)
            linear(wide[:n], mlp.down_proj.weight)
        hf_model.lm_head(states[:, -1])


def report_speed(model: attnviz.Model, lengths: list[int], rounds: int) -> None:
    device = model.hf_model.device
    every = [Head(layer, head) for layer in range(30) for head in range(9)]
    share = every[:: len(every) // SHARE]
    for n_tokens in lengths:
        ids = token_ids(n_tokens)
        batches = shapes(model, ids)
        ablation.sweep(model, None, METRIC, input_ids=ids, heads=every[-3:])
        took: dict[str, list[float]] = {"naive": [], "sweep": [], "limit": []}
        found = None
        for _ in range(rounds):
            took["naive"].append(seconds(lambda ids=ids: one_by_one(model, ids, share), device) * 270 / len(share))
            start = time.perf_counter()
            found = ablation.sweep(model, None, METRIC, input_ids=ids)
            took["sweep"].append(time.perf_counter() - start)
            took["limit"].append(seconds(lambda n=n_tokens, batches=batches: limit(model, n, batches), device))
        naive, sweep, least = (statistics.median(took[name]) for name in took)
        assert found is not None
        assert found.complete
        row(f"{n_tokens} tokens: one forward a head", f"{naive:.1f} s")
        row("  sweep", f"{sweep:.1f} s", f"{naive / sweep:.1f} times faster", GOALS.get(n_tokens, ""))
        row("  its products and attention alone", f"{least:.1f} s", f"{sweep / least:.2f} times that", "at most 1.5")
        row("  noise of unedited copies", f"{found.noise:.1e}")


def report_screen(model: attnviz.Model) -> None:
    rhos, hits, times = [], [], []
    for case in ablation.read_cases(PAIRS):
        start = time.perf_counter()
        guess = ablation.screen(model, case.clean, case.metric)
        middle = time.perf_counter()
        exact = ablation.sweep(model, case.clean, case.metric)
        times.append((middle - start, time.perf_counter() - middle))
        rhos.append(float(spearmanr(guess.effects.ravel(), exact.effects.ravel())[0]))
        first = set(guess.ranked()[:30])
        hits.append(sum(head in first for head in exact.ranked()[:10]))
    row(f"screen, zero, {len(rhos)} prompts: Spearman", f"{np.median(rhos):.2f}", f"{min(rhos):.2f} to {max(rhos):.2f}")
    row("  of the 10 strongest, in its first 30", f"{np.median(hits):.0f}", f"{min(hits)} to {max(hits)}")
    screened, swept = np.median(times, axis=0)
    row("  screen against sweep", f"{screened:.2f} s", f"{swept:.1f} s")


def measure_memory(piece: int, n_heads: int) -> dict[str, Any]:
    """Peak of this process beyond what it held before a sweep of 512 tokens, and the longest time between pieces."""
    model = attnviz.load_model("smollm2", device="cpu")
    ids = token_ids(512)
    last = [Head(layer, head) for layer in range(29, -1, -1) for head in range(9)][:n_heads]
    ablation.sweep(model, None, METRIC, input_ids=ids[:8], heads=last[:1])
    before = status_of("self", "VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    gaps, budgets, start = [], set(), time.perf_counter()
    for part in ablation.pieces(model, None, METRIC, input_ids=ids, heads=last, piece=piece):
        gaps.append(time.perf_counter() - start)
        budgets.add(part.budget)
        start = time.perf_counter()
    # The first piece holds the clean run.
    return {"peak": status_of("self", "VmHWM") - before, "budget": max(budgets), "gap": max(gaps[1:] or gaps)}


def report_memory() -> None:
    for piece, n_heads in ((1024, 12), (8192, 32)):
        found = in_fresh_process(__file__, "--memory", str(piece), str(n_heads))
        peak, budget = found["peak"] / MB, found["budget"] / MB
        row(f"512 tokens, batches of {piece} positions: peak", f"{peak:.0f} MB", f"budget {budget:.0f} MB", "below it")
        row("  longest time between pieces", f"{found['gap']:.2f} s", "", "0.5 s")


def main() -> None:
    warnings.simplefilter("ignore")
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="+", choices=("speed", "screen", "memory"))
    options.add_argument("--tokens", nargs="+", type=int, default=list(GOALS))
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--memory", nargs=2, type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.memory:
        print(json.dumps(measure_memory(*given.memory)))
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = attnviz.load_model("smollm2", device=device, dtype="float32")
    load = " ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"AttnViz {attnviz.__version__}, {model.name} on {device}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    print(f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads, load before {load}\n")
    only = given.only or ("speed", "screen", "memory")
    if "speed" in only:
        report_speed(model, given.tokens, given.rounds)
    if "screen" in only:
        report_screen(model)
    if "memory" in only:
        report_memory()


if __name__ == "__main__":
    main()
