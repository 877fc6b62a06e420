"""What SmolLM2's heads do over 200 sentences, with the sink and without it: the table in docs/HEADS.md.

    python benchmarks/heads.py            some minutes on one core, most of them forward passes

Sentences are this project's own (assets/sentences.txt, each of 12 tokens or more). Intervals are
of the mean: texts drawn again with replacement, 2,000 times, 2.5 to 97.5 per cent; for induction, random samples in
their place.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

import attnviz
from attnviz import Sinks, View, flow, heads
from attnviz.figures.heads import straight
from attnviz.heads import DETECTORS, VARIANTS

SENTENCES = Path(__file__).parents[1] / "assets" / "sentences.txt"
LEAST_TOKENS = 12
DRAWS = 2_000
SAMPLES = 40
MOST = 4  # heads a table shows
Array = npt.NDArray[np.float64]


def sentences() -> list[str]:
    """200 of them, one a line."""
    return SENTENCES.read_text("utf-8").splitlines()


def mean_of(values: Array, weights: Array | None = None) -> Array:
    """The mean over the first axis, of what is there; `weights` [draw, text] give [draw, ...] means."""
    there = np.isfinite(values)
    flat, counted = np.where(there, values, 0).reshape(len(values), -1), there.reshape(len(values), -1)
    weights = np.ones((1, len(values))) if weights is None else weights
    sums, counts = weights @ flat, weights @ counted
    found = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return found.reshape(len(weights), *values.shape[1:])


def intervals(values: Array, seed: int = 0) -> tuple[Array, Array, Array]:
    """(mean, low, high) over the first axis."""
    draws = np.random.default_rng(seed).multinomial(len(values), np.full(len(values), 1 / len(values)), size=DRAWS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all NaN where there is nothing
        low, high = np.nanquantile(mean_of(values, draws.astype(float)), (0.025, 0.975), axis=0)
    return mean_of(values)[0], low, high


def table(title: str, values: Array, chance: npt.NDArray[np.floating]) -> None:
    """The heads with the highest means, each variant beside the other; values [text, variant, layer, head]."""
    found, low, high = intervals(values)
    even = " and ".join(f"{c:.3f} {v}" for c, v in zip(chance, VARIANTS, strict=True) if np.isfinite(c))
    print(f"\n{title}: {len(values)} texts; even attention scores {even}\n")
    print("| head | with sink | without sink |\n|---|---|---|")
    order = found[1] if np.isfinite(found[1]).any() else found[0]
    for at in np.argsort(-order, axis=None)[:MOST]:
        layer, head = np.unravel_index(at, order.shape)
        cells = [
            "none"
            if np.isnan(found[v, layer, head])
            else f"{found[v, layer, head]:.3f} ({low[v, layer, head]:.3f} to {high[v, layer, head]:.3f})"
            for v in range(2)
        ]
        print(f"| L{layer}H{head} | {' | '.join(cells)} |")


def main() -> None:
    torch.set_num_threads(1)  # a second one waits for the first more than it helps on texts so short
    model = attnviz.load_model("smollm2", device="cpu", dtype="float32")
    texts = sentences()
    lengths = [len(model.encode(text).tokens) for text in texts]
    assert min(lengths) >= LEAST_TOKENS
    print(f"{len(texts)} sentences of {min(lengths)} to {max(lengths)} tokens, mean {np.mean(lengths):.1f}")
    start = time.perf_counter()
    found = [heads.detect(model.trace(text, compact=True)) for text in texts]
    print(f"detectors: {time.perf_counter() - start:.1f} s")
    values = np.stack([one.values for one in found]).astype(float)
    chance = mean_of(np.stack([one.chance for one in found]).astype(float))[0].mean(-1)  # no windows: layers are alike
    start = time.perf_counter()
    probed = heads.induction(model, samples=SAMPLES)
    print(f"induction: {time.perf_counter() - start:.1f} s")
    for name in ("previous", "duplicate", "sink", "same_word", "punctuation"):
        at = list(DETECTORS).index(name)
        table(f"**{DETECTORS[name].title}**", values[:, :, at], chance[:, at])
    for name in ("induction", "position"):
        table(f"**{name.capitalize()}**, random tokens", probed.scores[name].astype(float), probed.chance[name])
    copy = probed.scores["copy"].astype(float)
    table("**Copy score**, random tokens", copy, probed.chance["copy"])
    with_induction = mean_of(probed.scores["induction"].astype(float))[0]
    strong = with_induction[1] > 0.5
    print(f"\ncopy score of the {strong.sum()} heads over .5 in induction: {mean_of(copy)[0, 0][strong].mean():.3f}; ")
    print(f"of all others {mean_of(copy)[0, 0][~strong].mean():.3f}")
    sink = mean_of(values)[0, 0, list(DETECTORS).index("sink")]
    print(f"\nheads with more than .3 on the first token: {(sink > 0.3).mean():.1%}; mean {sink.mean():.3f}")
    middle, low, high = intervals(values)
    for threshold in (0.1, 0.25, 0.5):
        said = heads.labels(middle, chance, (low, high), threshold=threshold)
        print(f"\nthreshold {threshold}: label changes without the sink in {said.changed:.1%} of heads; ", end="")
        others = said.rows[said.rows[VARIANTS[0]] != "sink"]
        print(f"labelled 'sink' with it: {said.of_sink:.1%}; ", end="")
        print(f"of the {len(others)} others {others.changed.mean():.1%} change")
        for variant in VARIANTS:
            print(f"  {variant}: " + ", ".join(f"{n} {name}" for name, n in said.rows[variant].value_counts().items()))

    families(model, texts[::5])


def families(model: attnviz.Model, texts: list[str]) -> None:
    """The nearest pairs of heads, with the sink and without it, and how long comparing takes."""
    traces = [model.trace(text, compact=True) for text in texts]
    wrote = heads.output_similarity(flow.take_apart(model, text) for text in texts[:10])
    for variant, sinks in zip(VARIANTS, (Sinks(), Sinks("renormalise")), strict=True):
        start = time.perf_counter()
        apart = heads.pattern_distance(traces, view=View(sinks=sinks))
        took = time.perf_counter() - start
        plane = heads.places(straight(apart, "nats"))
        upper = apart.values[np.triu_indices(len(apart.heads), 1)]
        print(f"\n**Nearest heads**, {variant}: {apart.texts} texts, {apart.rows} rows, {took:.1f} s; ", end="")
        print(f"median pair {np.median(upper):.3f} nats; a plane holds {plane.share:.0%}\n")
        print("| head | nearest | nats | cosine of what they write |\n|---|---|---|---|")
        for row in heads.redundant(apart, wrote).drop_duplicates("nats").head(6).itertuples():
            print(
                f"| L{row.layer}H{row.head} | L{row.near_layer}H{row.near_head} | {row.nats:.4f} | {row.cosine:.2f} |"
            )


if __name__ == "__main__":
    main()
