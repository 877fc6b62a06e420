"""What gates learn from a few corrections, and what it costs: the figures of docs/GATES.md.

    python benchmarks/gates.py                    own pairs and the dates model
    python benchmarks/gates.py --blimp FOLDER     and the .jsonl files there, in BLiMP's layout (Warstadt et al. 2020)
    python benchmarks/gates.py --only dates       or: pairs

pairs   SmolLM2 and agreement: 24 examples, a part of them held out, teach it; 50 others, with other texts and the same
        for every seed, test it. Control: the same gates on other heads, at random.
dates   The date model with heads broken on purpose: 30 dates of the validation days teach it, 300 test dates test it.
Elsewhere: KL and loss on sentences that have nothing to do with the task. Every figure: mean over seeds (lowest to
highest).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402

import attnviz  # noqa: E402
from attnviz import Head, ablation, gates  # noqa: E402
from attnviz.gates import Gates, Tested  # noqa: E402
from attnviz.gates.examples import asked, scored  # noqa: E402
from attnviz.metrics import Loss  # noqa: E402
from benchmarks.dates import load_generator  # noqa: E402
from benchmarks.heads import sentences  # noqa: E402

PAIRS = Path(__file__).with_name("gate_pairs.jsonl")
SEEDS = range(5)
N_LEARN, N_TEST, N_ELSEWHERE = 24, 50, 6
N_DATES, N_DATES_TEST = 30, 300
PAIRS_BY: dict[str, Any] = {"penalty": "l1", "weight": 0.002, "lr": 0.1, "steps": 10, "batch": 8, "patience": 4}
DATES_BY: dict[str, Any] = {"penalty": "l1", "weight": 0.002, "lr": 0.1, "steps": 40}
BROKEN = {
    "cross L1H1 writes its opposite (x -1)": {Head(1, 1, "cross"): -1.0},
    "the four heads of cross layer 1 too loud (x 4)": {Head(1, head, "cross"): 4.0 for head in range(4)},
    "cross L1H0, L1H1, L1H2 silent (x 0)": {Head(1, head, "cross"): 0.0 for head in range(3)},
}
Triple = tuple[str, str, str]


def own_pairs() -> list[Triple]:
    return [(case.clean, case.answer, case.foil) for case in ablation.read_cases(PAIRS)]


def blimp(path: Path, model: attnviz.Model) -> list[Triple]:
    """The one-prefix pairs of a file whose two words are single tokens, each prefix once."""
    found: dict[str, Triple] = {}
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["one_prefix_method"]:
            words = (f" {row[f'one_prefix_word_{kind}']}" for kind in ("good", "bad"))
            found.setdefault(row["one_prefix_prefix"], (row["one_prefix_prefix"], *words))
    return [pair for pair in found.values() if all(len(model.ids_of(word)) == 1 for word in pair[1:])]


def shuffled(found: Gates, seed: int) -> Gates:
    """The same gates on other heads of the same site."""
    random = np.random.default_rng(seed)
    values = {}
    for site, each in found.values.items():
        there = np.isfinite(each)
        values[site] = each.copy()
        values[site][there] = random.permutation(each[there])
    return replace(found, values=values)


def spread(values: Sequence[float], form: str = ".2f") -> str:
    return f"{np.mean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def shares(tests: Sequence[Tested]) -> str:
    return spread([test.right[1] for test in tests], ".1%")


def tested(model: attnviz.Model, found: Sequence[Gates], test: Sequence[Any]) -> tuple[list[Tested], list[Tested]]:
    """(the test with each one's gates, with the same gates on other heads)."""
    items = asked(model, test)
    before = scored(model, items, ())

    def by(one: Gates) -> Tested:
        return Tested.of(before, scored(model, items, one.edits()), items)

    return [by(one) for one in found], [by(shuffled(one, one.seed)) for one in found]


def pairs_table(model: attnviz.Model, tasks: dict[str, list[Triple]]) -> None:
    texts = sentences()[:N_ELSEWHERE]
    clean = float(np.mean([model.measure(Loss(), text) for text in texts]))
    print(f"\n{PAIRS_BY}; loss on {len(texts)} unrelated sentences without gates: {clean:.2f} nats a token\n")
    head = "task | right before | after | same gates, other heads | change in log p(answer) - log p(foil)"
    print(f"| {head} | heads changed | closed | KL elsewhere | loss elsewhere |\n|" + "---|" * 9)
    for name, triples in tasks.items():
        order = np.random.default_rng(0).permutation(len(triples))
        test, pool = ([triples[n] for n in part] for part in (order[:N_TEST], order[N_TEST:]))
        learned = []
        for seed in SEEDS:
            drawn = np.random.default_rng(seed).permutation(len(pool))[:N_LEARN]
            learned.append(gates.learn(model, [pool[n] for n in drawn], seed=seed, **PAIRS_BY))
        tests, controls = tested(model, learned, test)
        losses = [float(np.mean([model.measure(Loss(), text, edits=one.edits()) for text in texts])) for one in learned]
        print(
            f"| {name} | {tests[0].right[0]:.1%} | {shares(tests)} | {shares(controls)} | "
            f"{spread([test.change.mean for test in tests], '+.2f')} | "
            f"{spread([len(one.changed()) for one in learned], '.0f')} | "
            f"{spread([len(one.closed()) for one in learned], '.0f')} | "
            f"{spread([one.elsewhere(model, texts).mean.mean for one in learned])} | {spread(losses)} |",
            flush=True,
        )


def dates_table() -> None:
    model, generator = attnviz.load_model("dates"), load_generator()
    test = [(example.source, example.target) for example in generator.test_examples()[:N_DATES_TEST]]
    days = generator.split()[1]
    shipped = float(scored(model, asked(model, test), ()).right.float().mean())
    print(f"\nexact match on {len(test)} test dates; as shipped {shipped:.1%}; {DATES_BY}\n")
    print("| broken | right before | after | same gates, other heads | closed in every run | changed |\n|" + "---|" * 6)
    for name, scales in BROKEN.items():
        broken = ablation.bake(model, scales).model
        learned = []
        for seed in SEEDS:
            mine = [(e.source, e.target) for e in generator.examples(days[seed * N_DATES : (seed + 1) * N_DATES], seed)]
            learned.append(gates.learn(broken, mine, seed=seed, **DATES_BY))
        tests, controls = tested(broken, learned, test)
        always = set.intersection(*(set(found.closed()) for found in learned))
        print(
            f"| {name} | {tests[0].right[0]:.1%} | {shares(tests)} | {shares(controls)} | "
            f"{', '.join(sorted(map(str, always))) or 'none'} | "
            f"{spread([len(found.changed()) for found in learned], '.0f')} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blimp", type=Path, help="a folder with BLiMP files")
    parser.add_argument("--only", choices=("pairs", "dates"))
    options = parser.parse_args()
    torch.set_num_threads(min(2, torch.get_num_threads()))
    if options.only != "dates":
        model = attnviz.load_model("smollm2", device="cpu", dtype="float32")
        tasks = {"own pairs": own_pairs()}
        for path in sorted(options.blimp.glob("*.jsonl")) if options.blimp else []:
            tasks[path.stem.replace("_", " ")] = blimp(path, model)
        pairs_table(model, tasks)
    if options.only != "pairs":
        dates_table()


if __name__ == "__main__":
    main()
