"""Does a model answer from the fact that a person emphasises? The figures of docs/STEERING.md.

    python benchmarks/steering.py                  some twenty minutes on one core
    python benchmarks/steering.py --examples 4     heads chosen on fewer prompts: faster, and worse

Each of 50 prompts states two facts that contradict each other, then begins a sentence that one of them completes. The
emphasised fact is the first one in every other prompt. A prompt is answered from it where its word is likelier than the
other fact's; `first word` is where it is also the likeliest word of all, and `either` where one of the two words is.

Heads are chosen by `steering.profile` in two halves: those chosen on one half steer the prompts of the other. Other
heads are drawn, as many of those not chosen. `first, second` are the prompts whose first and whose second fact is
emphasised; `attention to it` is that of the heads steered, before and after.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402

import attnviz  # noqa: E402
from attnviz import Head, edits, steering  # noqa: E402
from attnviz.steering import Example  # noqa: E402
from benchmarks.dates import wilson  # noqa: E402

PROMPTS = Path(__file__).with_name("steering_prompts.jsonl")
DRAWS = 2

Heads = tuple[Head, ...] | None


@dataclass
class Counts:
    """What became of the prompts, one entry each, in the order of the file: first fact emphasised, second, first ..."""

    preferred: list[bool] = field(default_factory=list)
    first_word: list[bool] = field(default_factory=list)
    either: list[bool] = field(default_factory=list)
    nats: list[float] = field(default_factory=list)
    went: list[tuple[float, float]] = field(default_factory=list)

    def row(self, name: str) -> str:
        shares = []
        for hits in (self.preferred, self.first_word, self.either):
            low, high = wilson(sum(hits), len(hits))
            shares.append(f"{np.mean(hits):.0%} ({low:.0%} to {high:.0%})")
        shares.insert(1, ", ".join(f"{np.mean(self.preferred[which::2]):.0%}" for which in (0, 1)))
        before, after = np.mean(self.went, axis=0)
        went = f"{before:.0%}" if not self.nats else f"{before:.0%}, {after:.0%}"
        return f"| {' | '.join([name, *shares, f'{np.mean(self.nats):.2f}' if self.nats else '', went])} |"


def marked(example: Example) -> Example:
    """The same prompt with asterisks around what is emphasised."""
    assert isinstance(example.emphasis, str)
    return replace(example, text=example.text.replace(example.emphasis, f"*{example.emphasis}*"))


@cache
def unsteered(model: attnviz.Model, text: str) -> attnviz.Trace:
    return model.trace(text)


def ask(model: attnviz.Model, example: Example, heads: Heads, strength: float, counts: Counts) -> None:
    """One prompt, steered in some heads (None: all) unless strength is 1."""
    clean = unsteered(model, example.text)
    tokens, trace = example.tokens(clean), clean
    if strength < 1:
        trace = model.trace(example.text, edits=[edits.Steer(tokens, heads, strength)])
        counts.nats.append(steering.moved(clean, trace))
    counts.went.append(steering.went(clean, trace, tokens, heads).means)
    assert trace.logits is not None
    logits = trace.logits[-1]
    (answer,), (foil,) = model.ids_of(example.answer), model.ids_of(example.foil)
    counts.preferred.append(bool(logits[answer] > logits[foil]))
    counts.first_word.append(int(logits.argmax()) == answer)
    counts.either.append(int(logits.argmax()) in (answer, foil))


def tell(
    model: attnviz.Model,
    name: str,
    halves: Sequence[Sequence[Example]],
    heads: Callable[[int], Heads] = lambda half: None,
    strength: float = 1.0,
) -> None:
    """A row of the table: `heads` chosen without each half, which they then steer."""
    counts = Counts()
    for number, half in enumerate(halves):
        for example in half:
            ask(model, example, heads(number), strength, counts)
    print(counts.row(name), flush=True)


def others(model: attnviz.Model, chosen: tuple[Head, ...], seed: int, *, alike: bool) -> tuple[Head, ...]:
    """As many heads that were not chosen, of the whole model or (`alike`) of the same layers, where these have them."""
    chance, n = np.random.default_rng(seed), model.info.n_heads
    assert isinstance(n, int)
    free = [Head(n_layer, head) for n_layer in range(len(model.layout.layers["decoder"])) for head in range(n)]
    free = [free[i] for i in chance.permutation(len(free)) if free[i] not in chosen]
    if not alike:
        return tuple(free[: len(chosen)])
    wanted = Counter(head.layer for head in chosen)
    drawn = []
    for head in free:
        if wanted[head.layer] > 0:
            wanted[head.layer] -= 1
            drawn.append(head)
    return tuple(drawn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10, help="prompts of each half that heads are chosen on")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = attnviz.load_model("smollm2", device="cpu", dtype="float32")
    prompts = steering.read_examples(PROMPTS)
    halves = [prompts[:25], prompts[25:]]
    profiles = [steering.profile(model, half[: given.examples]) for half in reversed(halves)]
    for number, found in enumerate(profiles, 1):
        best = ", ".join(f"{h} {found.mean[h.layer, h.head]:+.2f}" for h in found.best(10))
        surely = int((found.low > 0).sum())
        print(f"Half {number} is steered in heads chosen on the other: {best}; {found.n_runs} runs, {surely} heads > 0")
    shared = [len(set(profiles[0].best(k)) & set(profiles[1].best(k))) for k in (10, 25, 50)]
    print(f"Shared by both choices: {shared[0]} of 10, {shared[1]} of 25, {shared[2]} of 50\n")
    print(
        "| | answered from the emphasised fact | first, second | first word | either | moved (nats) | attention to it |"
    )
    print("|---|---|---|---|---|---|---|")
    tell(model, "unsteered", halves)
    tell(model, "asterisks", [[marked(example) for example in half] for half in halves])
    for strength in (0.3, 0.01):
        tell(model, f"all 270 heads, {strength:g}", halves, strength=strength)
    for k in (10, 25, 50):
        chosen = [found.best(k) for found in profiles]
        sizes = " and ".join(map(str, dict.fromkeys(map(len, chosen))))
        tell(model, f"{sizes} profiled heads, 0.01", halves, lambda half: chosen[half], 0.01)  # noqa: B023
        if k == 25:
            tell(model, f"{sizes} profiled heads, 0.3", halves, lambda half: chosen[half], 0.3)  # noqa: B023
            for alike in (False, True):
                for seed in range(DRAWS):
                    drawn = [others(model, one, seed, alike=alike) for one in chosen]
                    sizes = " and ".join(map(str, dict.fromkeys(map(len, drawn))))
                    name = f"{sizes} other heads{' of these layers' * alike}, 0.01"
                    tell(model, name, halves, lambda half: drawn[half], 0.01)  # noqa: B023


if __name__ == "__main__":
    main()
