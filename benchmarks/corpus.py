"""Many texts: texts a second against a plain loop, peak memory, what a kill loses, and how many changes are false.

Run it as `python benchmarks/corpus.py`; `--batches` compares sizes of batches, `--memory`, `--kill` and `--changes` do
one part each.
The plain loop is what anybody would write: transformers' eager attention with `output_attentions=True`, one text
after the other, and the same detectors on all its layers at once. Both sides read the same texts, in turns, in one
process; the values are compared too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import psutil
import torch
from measuring import MB, in_fresh_process, plain_model, row, status_of
from scipy import stats

import attnviz
from attnviz.corpus import Item, Shelf, Summary, benjamini_hochberg, compare, compare_paired, run
from attnviz.corpus.changes import LEAST
from attnviz.corpus.running import BATCH_POSITIONS
from attnviz.heads.detectors import Masks, measured

SENTENCES = Path(__file__).parents[1] / "assets" / "sentences.txt"
LENGTHS = (16, 32, 64)
FEW, MANY = 100, 2_000
MEMORY = (FEW, 600, MANY, 6_000)
SIDES = ((20, 180), (10, 190), (50, 150), (100, 100), (20, 20))
SPLITS = 100
TEXTS = 64  # a turn of ours
PLAIN = 16  # a turn of the plain loop's
TURNS = 3
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))


def texts_of(model: attnviz.Model, length: int, n: int) -> list[str]:
    """Texts of exactly so many tokens, cut from the sentences one after the other."""
    lines = [line for line in SENTENCES.read_text("utf-8").splitlines() if line.strip() and not line.startswith("#")]
    ids = model.tokenizer(" ".join(lines))["input_ids"]
    found: list[str] = []
    at = 0
    while len(found) < n:
        text = model.tokenizer.decode([ids[(at + i) % len(ids)] for i in range(length)])
        at += 7
        if text.strip() and len(model.tokenizer(text)["input_ids"]) == length:
            found.append(text)
    return found


def plain_loop(model: attnviz.Model, eager: Any, texts: list[str]) -> list[np.ndarray]:
    found = []
    for text in texts:
        encoded = model.encode(text)
        ids = torch.tensor([encoded.ids])
        with torch.no_grad():
            given = eager(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, output_attentions=True)
        heads = torch.stack(given.attentions, 1)[0]  # layer head query key
        masks = Masks.of([(encoded.tokens, encoded.tokens)], "self", causal=True, key_texts=[text])
        everywhere = torch.ones(1, len(encoded.ids), len(encoded.ids), dtype=torch.bool)
        values = measured(heads.flatten(0, 1)[None], masks, everywhere)[0]
        found.append(values.unflatten(-1, heads.shape[:2]).numpy())
    return found


def ours(model: attnviz.Model, texts: list[str], positions: int = BATCH_POSITIONS) -> tuple[float, list[np.ndarray]]:
    """(seconds from the shelf to the shelf, values)."""
    with tempfile.TemporaryDirectory() as folder:
        shelf = Shelf(Path(folder) / "corpora.sqlite")
        key = shelf.add(map(Item, texts), "texts")
        start = time.perf_counter()
        ran = run(model, shelf, key, batch_positions=positions)
        seconds = time.perf_counter() - start
        return seconds, [result.values for result in shelf.results(key, ran.run)]


def speed() -> None:
    torch.set_num_threads(THREADS)
    model, eager = attnviz.load_model("smollm2", device="cpu", dtype="float32"), plain_model("eager")
    for length in LENGTHS:
        texts = texts_of(model, length, TEXTS)
        plain_loop(model, eager, texts[:4])
        rates: list[tuple[float, float]] = []
        gap = 0.0
        for _ in range(TURNS):
            start = time.perf_counter()
            expected = plain_loop(model, eager, texts[:PLAIN])
            plain = PLAIN / (time.perf_counter() - start)
            seconds, found = ours(model, texts)
            rates.append((plain, TEXTS / seconds))
            gap = max(gap, *(float(np.nanmax(abs(a - b))) for a, b in zip(expected, found, strict=False)))
        plain, batched = (float(np.median(side)) for side in zip(*rates, strict=True))
        ratio = float(np.median([b / a for a, b in rates]))
        row(f"{length} tokens: plain loop", f"{plain:.1f} texts/s")
        target = "3 times" if length == LENGTHS[0] else ""
        row(f"{length} tokens: corpus.run", f"{batched:.1f} texts/s", f"{ratio:.1f} times", target)
        row("   turn by turn", " ".join(f"{b / a:.1f}" for a, b in rates))
        row("   largest difference of a value", f"{gap:.1e}")


def batches() -> None:
    torch.set_num_threads(THREADS)
    model = attnviz.load_model("smollm2", device="cpu", dtype="float32")
    sizes = (64, 128, 256, 512, 1024)
    for length in LENGTHS[:2]:
        texts = texts_of(model, length, TEXTS)
        best = dict.fromkeys(sizes, float("inf"))
        for _ in range(TURNS):
            for size in sizes:
                best[size] = min(best[size], ours(model, texts, size)[0])
        for size, seconds in best.items():
            row(f"{length} tokens, {size} positions a batch", f"{TEXTS / seconds:.1f} texts/s")


def fill(folder: str, n: int) -> tuple[Shelf, str, attnviz.Model]:
    model = attnviz.load_model("minilm", device="cpu", dtype="float32")
    lines = [line for line in SENTENCES.read_text("utf-8").splitlines() if line.strip() and not line.startswith("#")]
    shelf = Shelf(Path(folder) / "corpora.sqlite")
    return shelf, shelf.add((Item(f"{i} {lines[i % len(lines)]}") for i in range(n)), "sentences"), model


def memory_of(n: str) -> None:
    """A fresh process's peak over what it took with the model in memory."""
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        shelf, key, model = fill(folder, int(n))
        model.trace("To warm up.")
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is the loading's
        before, start = psutil.Process().memory_info().rss, time.perf_counter()
        ran = run(model, shelf, key)
        seconds = time.perf_counter() - start
        summary = Summary.of(shelf.results(key, ran.run))
        peak = status_of("self", "VmHWM")
        print(json.dumps({"before": before, "peak": peak, "rate": int(n) / seconds, "n": summary.n}))


def killed(folder: str) -> None:
    """Run until somebody kills this process, saying how many texts were reported as done."""
    torch.set_num_threads(THREADS)
    shelf, key, model = fill(folder, MANY)
    print(key, flush=True)
    run(model, shelf, key, progress=lambda done, total: print(done, flush=True))


def kill_and_restart() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "killed", folder]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        key, told = process.stdout.readline().strip(), 0
        for line in process.stdout:
            told = int(line)
            if told >= MANY // 4:
                os.kill(process.pid, signal.SIGKILL)
                break
        told = max([told, *(int(line) for line in process.stdout if line.endswith("\n"))])
        process.wait()
        model = attnviz.load_model("minilm", device="cpu", dtype="float32")
        shelf = Shelf(Path(folder) / "corpora.sqlite")
        kept = {result.number for result in shelf.results(key, shelf.runs(key)[0].run)}
        row("kill -9: reported done, and on the shelf", f"{told}, {len(kept)}")
        starts: list[int] = []
        again = run(model, shelf, key, progress=lambda done, total: starts.append(done))
        row("   restarted: began at, came to", f"{starts[0]}, {again.done}", "", f"{MANY}")
        row("   reported and lost", f"{max(0, told - len(kept))}")
        row("   in hand at most (computed anew)", f"{BATCH_POSITIONS} positions")


def memory() -> None:
    for n in MEMORY:
        found = in_fresh_process(__file__, "memory", str(n))
        over = f"+{(found['peak'] - found['before']) / MB:,.0f} MB"
        row(f"peak memory, {n:,} texts (MiniLM, statistics)", f"{found['peak'] / MB:,.0f} MB", over)
        row("   texts a second, sentences", f"{found['rate']:.0f}")


def false_changes() -> None:
    """Our sentences divided by chance, every head, detector and variant: in how many tables something passes."""
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        model = attnviz.load_model("smollm2", device="cpu", dtype="float32")
        lines = [line for line in SENTENCES.read_text("utf-8").splitlines() if line.strip()]
        shelf = Shelf(Path(folder) / "corpora.sqlite")
        key = shelf.add(map(Item, lines), "sentences")
        results = list(shelf.results(key, run(model, shelf, key).run))
    for few, many in SIDES:
        both = by_t = 0
        for seed in range(SPLITS):
            order = np.random.default_rng(seed).permutation(len(results))
            sides = [results[i] for i in order[:few]], [results[i] for i in order[few : few + many]]
            found = compare(*sides)
            both += bool(found.changed().any())
            t = stats.t.sf(np.abs(found.difference) / found.error, found.freedom) * 2
            by_t += bool(((benjamini_hochberg(t) <= 0.05) & (np.abs(found.difference) >= LEAST)).any())
        row(f"{few} and {many} texts of one kind: tables with a change", f"{both} of {SPLITS}", f"by t alone {by_t}")
    for n in (10, 20, 100):  # two texts as if one text's, in two models: which is whose is chance
        passed = 0
        for seed in range(SPLITS):
            order = np.random.default_rng(seed).permutation(len(results))
            sides = [[results[i]._replace(number=k) for k, i in enumerate(part)] for part in (order[:n], order[-n:])]
            passed += bool(compare_paired(*sides).changed().any())
        row(f"{n} pairs: tables with a change", f"{passed} of {SPLITS}")


def main() -> None:
    parts = {"batches": batches, "memory": memory, "kill": kill_and_restart, "changes": false_changes}
    chosen = [parts[name.removeprefix("--")] for name in sys.argv[1:]]
    for part in chosen or [speed, memory, kill_and_restart, false_changes]:
        part()


if __name__ == "__main__":
    ways = {"memory": memory_of, "killed": killed}
    ways[sys.argv[1]](sys.argv[2]) if sys.argv[1:2] in (["memory"], ["killed"]) else main()
