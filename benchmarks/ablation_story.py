"""What ablation says of SmolLM2, and what it says only until one looks twice: the figures of docs/ABLATION.md.

    python benchmarks/ablation_story.py                     all of it, some ten minutes on one core
    python benchmarks/ablation_story.py --only heads        or: errors, induction, pruning, taken

heads       The indirect-object prompt and five more name pairs: every head's effect by four methods; the table of
            three heads, how far methods agree, what passes `ablation.verdict`, and the set against the sum.
errors      How often `verdict` calls a head important that is drawn like its controls.
induction   Do induction heads matter? The five strongest by `heads.induction`, mean-ablated, against random fives of
            the same layers, on repeated random tokens: the table in docs/HEADS.md.
pruning     SmolLM2's heads removed in order of importance and at random.
taken       MiniLM's heads really taken out, and timed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import torch  # noqa: E402
from scipy.stats import spearmanr  # noqa: E402

import attnviz  # noqa: E402
from attnviz import Head, ablation, heads  # noqa: E402
from attnviz.ablation import Case, Table  # noqa: E402
from attnviz.ablation.held import Removal  # noqa: E402
from attnviz.heads.induction import random_texts  # noqa: E402
from attnviz.metrics import Loss, Similarity  # noqa: E402
from benchmarks.heads import intervals, sentences  # noqa: E402

PAIRS = Path(__file__).with_name("ablation_pairs.jsonl")
N_PAIRS = 6
SHOWN = (Head(23, 3), Head(1, 5), Head(29, 1))
METHODS = ("zero", "mean", "resample", "resample, all names new")
DRAWS, SAMPLES, LENGTH = 20, 40, 24
TRIALS = 1000


def measured(model: attnviz.Model, cases: list[Case]) -> tuple[dict[str, npt.NDArray[np.float64]], list[float]]:
    """(method -> [prompt, layer, head], the clean outcomes)."""
    texts = [text for case in cases for text in (case.clean, case.corrupted)]
    found: dict[str, list[npt.NDArray[np.float64]]] = {method: [] for method in METHODS}
    baselines = []
    for case in cases:
        other = ablation.propose_donor(case.clean, model)
        assert other is not None
        for method in METHODS:
            how = method.split(",")[0]
            donor = {"resample": case.corrupted, METHODS[3]: other.text}.get(method)
            sweep = ablation.sweep(
                model, case.clean, case.metric, how=how, donor=donor, texts=texts if how == "mean" else None
            )
            found[method].append(sweep.effects)
        baselines.append(sweep.baseline)
        print(f"{case.clean!r}: clean {sweep.baseline:.2f}; all names new: {other.title}", flush=True)
    return {method: np.stack(effects) for method, effects in found.items()}, baselines


def tell_heads(model: attnviz.Model) -> None:
    cases = ablation.read_cases(PAIRS)[:N_PAIRS]
    found, baselines = measured(model, cases)
    print("\n| head | method |" + "".join(f" {c.answer.strip()}, {c.foil.strip()} |" for c in cases) + " mean |")
    print("|---" * (N_PAIRS + 3) + "|")
    print("| none | clean |" + "".join(f" {b:.2f} |" for b in baselines) + f" {np.mean(baselines):.2f} |")
    for head in SHOWN:
        for method in METHODS:
            row = found[method][:, head.layer, head.head]
            print(f"| {head} | {method} |" + "".join(f" {x:+.2f} |" for x in row) + f" {row.mean():+.2f} |")
    print("\nTen strongest heads of each prompt, shared; Spearman over 270 heads:")
    for n, a in enumerate(METHODS):
        for b in METHODS[n + 1 :]:
            shared, ranks = [], []
            for one, other in zip(found[a], found[b], strict=True):
                tops = [set(np.abs(x).ravel().argsort()[-10:].tolist()) for x in (one, other)]
                shared.append(len(tops[0] & tops[1]))
                ranks.append(float(spearmanr(one.ravel(), other.ravel())[0]))
            print(f"  {a} and {b}: {', '.join(map(str, shared))} of 10; {min(ranks):.2f} to {max(ranks):.2f}")
    tell_verdicts(found, cases, baselines)
    several = [Head(23, 3), Head(29, 1)]
    for group in (several, [*several, Head(1, 5)]):
        print(f"\n{', '.join(map(str, group))}: {ablation.interaction(model, cases, group).title}")


def tell_verdicts(
    found: dict[str, npt.NDArray[np.float64]], cases: list[Case], baselines: list[float], n: int = 40
) -> None:
    methods = METHODS[:3]
    effects = np.stack([found[method] for method in methods])  # how prompt layer head
    n_layers, n_heads = effects.shape[2:]
    everything = [Head(layer, head) for layer in range(n_layers) for head in range(n_heads)]

    def table_of(which: list[Head]) -> Table:
        values = np.stack([effects[..., head.layer, head.head] for head in which])
        rows = tuple((head,) for head in which)
        prompts = tuple(case.clean for case in cases)
        return Table(rows, methods, prompts, values, np.array(baselines), np.nan, "logit difference")

    print("\nCalled important, of 270 heads:")
    for name, alike in (("40 random heads of the model", False), ("the 8 others of the layer", True)):
        chance = np.random.default_rng(0)
        passed = []
        for head in everything:
            pool = [other for other in everything if other != head and (other.layer == head.layer or not alike)]
            drawn = [pool[i] for i in chance.permutation(len(pool))[:n]]
            (said,) = ablation.verdict(table_of([head]), table_of(drawn))
            if said.important:
                passed.append((said, effects[..., head.layer, head.head].mean(1)))
            if head in SHOWN:
                print(f"  {said.name}, against {name}: {said.important}, {said.reason}")
        passed.sort(key=lambda one: -abs(one[1]).min())
        names = ", ".join(f"{s.name} ({' '.join(f'{x:+.2f}' for x in mean)})" for s, mean in passed)
        print(f"  against {name}: {len(passed)}: {names}")


def tell_errors() -> None:
    """Effects drawn from normal noise, a part of which a head has in common over prompts and methods."""
    print("| controls | shared 0 | .5 | .9 | all | bound |\n|---|---|---|---|---|---|")
    for n in (8, 20, 40):
        cells = []
        for shared in (0.0, 0.5, 0.9, 1.0):
            chance = np.random.default_rng(n)
            rate = 0
            for _ in range(TRIALS):
                own, rest = chance.normal(size=(n + 1, 1, 1)), chance.normal(size=(n + 1, 3, 6))
                values = np.sqrt(shared) * own + np.sqrt(1 - shared) * rest
                heads_, prompts = [(Head(0, i),) for i in range(n + 1)], tuple("abcdef")
                made = [
                    Table(tuple(heads_[s]), METHODS[:3], prompts, values[s], np.zeros(6), np.nan, "")
                    for s in (slice(1), slice(1, None))
                ]
                rate += ablation.verdict(*made)[0].important
            cells.append(f"{rate / TRIALS:.3f}")
        print(f"| {n} | {' | '.join(cells)} | {2 / (n + 1):.3f} |", flush=True)


def tell_induction(model: attnviz.Model) -> None:
    probed = heads.induction(model, length=LENGTH, samples=SAMPLES, seed=1)
    scores = np.nanmean(probed.scores["induction"][:, 0], 0)
    best = [Head(*map(int, np.unravel_index(i, scores.shape))) for i in np.argsort(-scores, axis=None)[:5]]
    print("Strongest:", ", ".join(f"{head} {scores[head.layer, head.head]:.3f}" for head in best))
    texts = random_texts(model, length=LENGTH, samples=SAMPLES, seed=2)
    removal = Removal.of(model, random_texts(model, length=LENGTH, samples=10, seed=3))
    metric = Loss(start=LENGTH + 1)
    sets = ablation.random_sets(model, best, DRAWS)
    clean = np.array([model.measure(metric, input_ids=ids) for ids in texts])
    values = {}
    for name, group in [("five", best), *((str(n), one) for n, one in enumerate(sets))]:
        edits = removal.edits(group)
        values[name] = np.array([model.measure(metric, input_ids=ids, edits=edits) for ids in texts]) - clean
    random = np.stack([values[str(n)] for n in range(len(sets))])  # set sample
    every = np.array([model.measure(Loss(), input_ids=ids) for ids in texts])
    first = ((2 * LENGTH - 1) * every - (LENGTH - 1) * clean) / LENGTH
    for name, row in (
        ("clean loss, before a repetition can be known", first),
        ("clean loss, after that", clean),
        ("five induction heads", values["five"]),
        ("random fives, mean of 20", random.mean(0)),
    ):
        mean, low, high = intervals(row[:, None])
        print(f"| {name} | {mean[0]:.2f} ({low[0]:.2f} to {high[0]:.2f}) |")
    means = np.sort(random.mean(1))
    print(f"| random fives, one by one | {means[0]:.2f} to {means[-1]:.2f}; median {np.median(means):.2f} |")
    worst = sets[int(random.mean(1).argmax())]
    print(f"The random five that costs most: {', '.join(map(str, worst))}")
    alone = [np.mean([model.measure(metric, input_ids=i, edits=removal.edits([h])) for i in texts]) for h in best]
    print("Each alone:", ", ".join(f"{h} {x - clean.mean():+.3f}" for h, x in zip(best, alone, strict=True)))


def tell_pruning(model: attnviz.Model) -> None:
    texts = sentences()[:20]
    orders = {"estimated": "screen", "random 0": 0, "random 1": 1, "random 2": 2}
    for references, how in ((texts, "mean"), (None, "zero")):
        print(f"\nSmolLM2, loss on 20 sentences (nats a token), heads removed by {how}:")
        for name, order in orders.items():
            found = ablation.curve(model, texts, Loss(), order=order, references=references, steps=10)
            knee = "none" if found.knee is None else f"{found.removed[found.knee]} heads"
            print(f"| {name} | " + " | ".join(f"{x:.2f}" for x in found.mean) + f" | {knee} |", flush=True)
    print(f"heads {found.removed.tolist()}, removable {[f'{x / found.n_parameters:.3f}' for x in found.removable]}")


def tell_taken() -> None:
    texts = [" ".join(sentences()[n : n + 10]) for n in range(0, 40, 10)]
    minilm = attnviz.load_model("minilm", device="cpu", dtype="float32")
    metric = Similarity(sentences()[100])
    order = ablation.curve(minilm, texts, metric, steps=1).order
    counts: dict[int, int] = {}
    kept: list[Head] = []
    for head in order:  # a layer keeps one head at least
        counts[head.layer] = counts.get(head.layer, 0) + 1
        if counts[head.layer] < 12:
            kept.append(head)
    found = ablation.curve(minilm, texts, metric, order=kept, steps=6, timed=True)
    print("\nMiniLM, heads really taken out, similarity to another sentence, 4 texts of 10 sentences:")
    print(found.frame()[["removed", "mean", "share", "ms", "ms_whole"]].round(3).to_string())


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--only", nargs="+", choices=("heads", "errors", "induction", "pruning", "taken"), default=None)
    only = reader.parse_args().only
    torch.set_num_threads(1)
    model = attnviz.load_model("smollm2", device="cpu", dtype="float32")
    for name, tell in (("heads", tell_heads), ("induction", tell_induction), ("pruning", tell_pruning)):
        if only is None or name in only:
            print(f"\n## {name}\n")
            tell(model)
    for name, tell_it in (("taken", tell_taken), ("errors", tell_errors)):
        if only is None or name in only:
            print(f"\n## {name}\n")
            tell_it()


if __name__ == "__main__":
    main()
