"""How well the shipped date model works, where its cross-attention looks, and what happens without those looks.

    python benchmarks/dates.py

1. Exact match of greedy generation on 2,000 dates that training never saw in any format.
2. For each cross-attention head the share of output digits whose strongest source token is the right character.
   Which one is right is known from the generator (`Example.right` in assets/dates/train.py), not from the model.
3. The same places knocked out: from one output position the right source characters are made invisible (-inf before the
   softmax) in one head, in one layer, or in every cross-attention head, against as many other characters at random, and
   against as many of the other characters that those heads attend to most. That the right place is strongest is a
   picture; that the digit is lost without it, and not without another, is the evidence.

Plain transformers and an attention function of its own, so that it can serve as a check on the library.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.bart.modeling_bart import eager_attention_forward

FOLDER = Path(__file__).resolve().parent.parent / "assets" / "dates"
BATCH = 250
LENGTH = 10  # characters of an ISO date
DIGITS = (0, 1, 2, 3, 5, 6, 8, 9)
PLACES = ("year 1", "year 2", "year 3", "year 4", "month 1", "month 2", "day 1", "day 2")
KINDS = ("copied", "zero", "spelled")
CONTROLS = ("right", "random", "strongest")
Heads = dict[int, list[int]]

# Added to the scores of each cross-attention layer: [batch, head, query, key], 0 or -inf.
_edit: ContextVar[dict[int, torch.Tensor] | None] = ContextVar("edit", default=None)


def load_generator() -> ModuleType:
    """The training script as a module: it knows the test dates and where each output character comes from."""
    spec = importlib.util.spec_from_file_location("dates_train", FOLDER / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def register(model: Any) -> None:
    """Puts the edit in front of the model's own eager attention; without an edit nothing differs."""
    layers = {layer.encoder_attn: n for n, layer in enumerate(model.model.decoder.layers)}

    def attend(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any) -> Any:
        change = (_edit.get() or {}).get(layers.get(module, -1))
        if change is not None:
            attention_mask = change if attention_mask is None else attention_mask + change
        return eager_attention_forward(module, query, key, value, attention_mask, **kwargs)

    AttentionInterface.register("dates_knock_out", attend)
    AttentionMaskInterface.register("dates_knock_out", ALL_MASK_ATTENTION_FUNCTIONS["eager"])
    model.set_attn_implementation("dates_knock_out")


@contextmanager
def editing(edit: dict[int, torch.Tensor]) -> Iterator[None]:
    """The edit holds for the forward passes inside, and no longer."""
    token = _edit.set(edit)
    try:
        yield
    finally:
        _edit.reset(token)


def wilson(hits: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95% interval of a proportion; unlike the plain one it holds near 100%."""
    p, n = hits / total, total
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return middle - half, middle + half


def ratio(top: np.ndarray, bottom: np.ndarray) -> tuple[float, float]:
    """Sum over sum and half its 95% interval, the date being the unit: digits of one date are not independent."""
    value = top.sum() / bottom.sum()
    errors = top - value * bottom
    return float(value), float(1.96 * math.sqrt((errors**2).sum()) / bottom.sum())


@dataclass(frozen=True)
class Batch:
    """Some dates the model answers correctly, encoded once, with the right source characters of each output digit."""

    mask: torch.Tensor  # [date, key], 1 for source tokens
    letters: torch.Tensor  # [date, key], source characters without </s> and padding
    right: torch.Tensor  # [date, LENGTH, key]
    kinds: np.ndarray  # [date, LENGTH]
    encoded: BaseModelOutput
    inputs: torch.Tensor  # [date, LENGTH + 1]: <s> and the date
    answers: torch.Tensor  # [date, LENGTH + 1]: the date and </s>
    attention: torch.Tensor  # [layer, date, head, query, key] of the clean run
    probability: torch.Tensor  # [date, LENGTH + 1] of the right character, clean


def forward(model: Any, batch_inputs: torch.Tensor, encoded: Any, mask: torch.Tensor, **kwargs: Any) -> Any:
    """One pass of the decoder over given characters."""
    with torch.no_grad():
        return model(
            encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=batch_inputs, use_cache=False, **kwargs
        )


def batches(model: Any, tokenizer: Any, examples: list[Any]) -> list[Batch]:
    """The clean run of all examples."""
    found = []
    for start in range(0, len(examples), BATCH):
        some = examples[start : start + BATCH]
        source = tokenizer([e.source for e in some], padding=True, return_tensors="pt")
        answers = tokenizer([e.target for e in some], return_tensors="pt").input_ids
        begin = torch.full((len(some), 1), model.config.decoder_start_token_id)
        inputs = torch.cat([begin, answers[:, :-1]], dim=1)
        right = torch.zeros(len(some), LENGTH, source.input_ids.shape[1], dtype=torch.bool)
        for row, example in enumerate(some):
            for place, (_, characters) in enumerate(example.right()):
                right[row, place, list(characters)] = True
        with torch.no_grad():
            encoded = model.get_encoder()(**source)
        out = forward(model, inputs, encoded, source.attention_mask, output_attentions=True)
        kinds = np.array([[kind for kind, _ in example.right()] for example in some])
        probability = out.logits.softmax(-1).gather(-1, answers[..., None])[..., 0]
        letters = source.attention_mask.bool() & (source.input_ids != tokenizer.eos_token_id)
        attention = torch.stack(out.cross_attentions)
        found.append(
            Batch(source.attention_mask, letters, right, kinds, encoded, inputs, answers, attention, probability)
        )
    return found


def alignment(given: list[Batch], layer: int, head: int | None) -> dict[str, np.ndarray]:
    """One row a date: hits, chance and cases by kind of digit; hits at </s>; weight on the right characters."""
    rows: dict[str, list[np.ndarray]] = {}
    for batch in given:
        weights = batch.attention[layer].mean(1) if head is None else batch.attention[layer][:, head]
        weights = weights[:, :LENGTH]
        best = weights.argmax(-1, keepdim=True)
        hit = batch.right.gather(-1, best)[..., 0].numpy()
        end = ~batch.letters[:, None].expand_as(weights).gather(-1, best)[..., 0].numpy()
        chance = (batch.right.sum(-1) / batch.letters.sum(-1, keepdim=True)).numpy()
        mass = (weights * batch.right).sum(-1).numpy()
        for kind in ("all", *KINDS):
            cases = batch.kinds != "hyphen" if kind == "all" else batch.kinds == kind
            rows.setdefault(f"{kind} cases", []).append(cases.sum(1))
            for name, values in (("hits", hit), ("chance", chance), ("end", end), ("mass", mass)):
                rows.setdefault(f"{kind} {name}", []).append((values * cases).sum(1))
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def print_alignment(given: list[Batch], n_layers: int, n_heads: int) -> None:
    """The table of part 2."""
    print("\nShare of output digits whose strongest source token is the right one (95% interval, dates as the unit)")
    print("layer head   all digits      copied          padded zero     spelled         weight on right   on </s>")
    table: dict[str, np.ndarray] = {}
    for layer in range(n_layers):
        for head in (*range(n_heads), None):
            table = alignment(given, layer, head)
            cells = []
            for kind in ("all", *KINDS):
                share, half = ratio(table[f"{kind} hits"], table[f"{kind} cases"])
                cells.append(f"{share:6.1%} ± {half:4.1%} ")
            mass, end = (ratio(table[f"all {name}"], table["all cases"])[0] for name in ("mass", "end"))
            name = "mean" if head is None else str(head)
            print(f"{layer:5} {name:>4}  {' '.join(cells)} {mass:15.1%} {end:9.1%}")
    cells = [f"{ratio(table[f'{kind} chance'], table[f'{kind} cases'])[0]:6.1%}         " for kind in ("all", *KINDS)]
    print(f"   chance   {' '.join(cells)}  (uniform over the source's characters)")
    counts = ", ".join(f"{kind} {table[f'{kind} cases'].sum()}" for kind in KINDS)
    print(f"digits: {counts}; 'mean' is the mean of the layer's heads; </s> as the strongest counts as wrong")


def print_places(given: list[Batch], n_layers: int, n_heads: int) -> None:
    """The same share by output digit: a head may serve one field and not another."""
    print("\nThe same share by output digit")
    print(f"layer head {' '.join(f'{place:>8}' for place in PLACES)}")
    for layer in range(n_layers):
        for head in (*range(n_heads), None):
            hits = []
            for batch in given:
                weights = batch.attention[layer].mean(1) if head is None else batch.attention[layer][:, head]
                best = weights[:, :LENGTH].argmax(-1, keepdim=True)
                hits.append(batch.right.gather(-1, best)[:, DIGITS, 0])
            shares = torch.cat(hits).float().mean(0)
            cells = " ".join(f"{share:8.1%}" for share in shares.tolist())
            print(f"{layer:5} {'mean' if head is None else head:>4} {cells}")


def chosen(batch: Batch, place: int, heads: Heads, control: str, generator: torch.Generator) -> torch.Tensor:
    """The source characters to make invisible, [date, key]: the right ones, or as many others."""
    right = batch.right[:, place]
    if control == "right":
        return right
    if control == "random":
        score = torch.rand(right.shape, generator=generator)
    else:
        score = torch.stack([batch.attention[n][:, h, place] for n, hs in heads.items() for h in hs]).mean(0)
    score = score.masked_fill(right | ~batch.letters, -1.0)
    ranks = score.argsort(dim=-1, descending=True).argsort(dim=-1)
    return ranks < right.sum(-1, keepdim=True)


def knock_out(heads: Heads, keys: torch.Tensor, place: int, n_heads: int) -> dict[int, torch.Tensor]:
    """-inf from one output position to some source characters, in the given heads of the given layers."""
    found = {}
    for layer, some in heads.items():
        change = torch.zeros(keys.shape[0], n_heads, LENGTH + 1, keys.shape[1])
        change[:, some, place] = torch.zeros(keys.shape).masked_fill(keys, -math.inf)[:, None]
        found[layer] = change
    return found


@dataclass(frozen=True)
class Effects:
    """What one knock-out did, one row a date and one column a digit: NaN where the control has too few characters."""

    drop: np.ndarray  # clean minus edited probability of the right character
    flipped: np.ndarray  # this digit is now another
    changed: np.ndarray  # the written date is now another


def measure(model: Any, given: list[Batch], heads: Heads, control: str, n_heads: int) -> Effects:
    """One digit at a time, on its own copy of the run.

    The decoder reads the clean answer. Greedy generation under the edit writes that same answer exactly as long as
    every position's first choice stays, so "the written date changes" is read off one pass (checked in `verify`).
    """
    generator = torch.Generator().manual_seed(0)
    parts: list[list[np.ndarray]] = [[], [], []]
    for batch in given:
        columns: list[list[np.ndarray]] = [[], [], []]
        for place in DIGITS:
            keys = chosen(batch, place, heads, control, generator)
            with editing(knock_out(heads, keys, place, n_heads)):
                logits = forward(model, batch.inputs, batch.encoded, batch.mask).logits
            right = batch.right[:, place]
            usable = ((batch.letters & ~right).sum(-1) >= right.sum(-1)).numpy()
            after = logits[:, place].softmax(-1).gather(-1, batch.answers[:, place, None])[:, 0]
            other = logits.argmax(-1) != batch.answers
            for column, values in zip(
                columns,
                (batch.probability[:, place] - after, other[:, place].float(), other.any(-1).float()),
                strict=True,
            ):
                column.append(np.where(usable, values.numpy(), np.nan))
        for part, column in zip(parts, columns, strict=True):
            part.append(np.stack(column, axis=1))
    return Effects(*(np.concatenate(part) for part in parts))


def summary(values: np.ndarray, which: np.ndarray) -> tuple[float, float]:
    """Mean over the usable digits among `which`, and half its interval."""
    use = which & ~np.isnan(values)
    return ratio(np.where(use, values, 0.0).sum(1), use.sum(1))


def print_row(name: str, effects: dict[str, Effects], which: np.ndarray) -> None:
    """One line of the knock-out table, over the digits among `which`."""
    drops = [summary(effects[control].drop, which) for control in CONTROLS]
    drops.append(summary(effects["right"].drop - effects["random"].drop, which))
    flips = [summary(effects[control].flipped, which)[0] for control in CONTROLS]
    dates = [summary(effects[control].changed, which)[0] for control in ("right", "random")]
    cells = " ".join(f"{mean:6.3f} ± {half:.3f}" for mean, half in drops)
    shares = f"{flips[0]:6.1%} {flips[1]:6.1%} {flips[2]:10.1%} | {dates[0]:6.1%} {dates[1]:6.1%}"
    print(f"{name:10} {cells} | {shares}")


def print_knock_outs(model: Any, given: list[Batch], n_layers: int, n_heads: int) -> None:
    """The tables of part 3."""
    everywhere = {layer: list(range(n_heads)) for layer in range(n_layers)}
    sets: dict[str, Heads] = {f"L{n}H{h}": {n: [h]} for n in range(n_layers) for h in range(n_heads)}
    sets |= {f"layer {layer}": {layer: heads} for layer, heads in everywhere.items()} | {"all": everywhere}
    kinds = np.concatenate([batch.kinds for batch in given])[:, DIGITS]
    anything = np.ones(kinds.shape, dtype=bool)
    print("\nKnocking out the edge from an output digit to its source (95% interval, dates as the unit)")
    print("Right: the right characters. Random: as many others. Strongest: the others these heads attend to most.")
    print(f"{'':10} {'drop in probability of the right digit':59} | {'this digit changes':24} | date changes")
    header = " ".join(f"{text:14}" for text in (*CONTROLS, "right-random"))
    print(f"{'heads':10} {header} | {'right':>6} {'random':>6} {'strongest':>10} | {'right':>6} {'random':>6}")
    for name, heads in sets.items():
        effects = {control: measure(model, given, heads, control, n_heads) for control in CONTROLS}
        print_row(name, effects, anything)
        if name == "all":
            for kind in KINDS:
                print_row(f"  {kind}", effects, kinds == kind)
            for column, place in enumerate(PLACES):
                here = np.zeros(kinds.shape, dtype=bool)
                here[:, column] = True
                print_row(f"  {place}", effects, here)
            left_out = int(np.isnan(effects["right"].drop).sum())
            print(f"{left_out} of {kinds.size} digits left out: a long month name leaves too few other characters.")


def verify(model: Any, batch: Batch, n_heads: int) -> None:
    """One date by hand: the attention computed from the projections, and the answer written one character at a time."""
    place, layer = 9, len(model.model.decoder.layers) - 1
    heads = {layer: list(range(n_heads))}
    edit = knock_out(heads, batch.right[:, place], place, n_heads)
    module = model.model.decoder.layers[layer].encoder_attn
    seen: list[torch.Tensor] = []
    hook = module.q_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with editing(edit):
        out = forward(model, batch.inputs, batch.encoded, batch.mask, output_attentions=True)
    hook.remove()
    hidden, source = seen[0][0], batch.encoded.last_hidden_state[0]
    width = module.head_dim
    worst = 0.0
    for head in range(n_heads):
        own = slice(head * width, (head + 1) * width)
        with torch.no_grad():
            query, key = module.q_proj(hidden)[place, own], module.k_proj(source)[:, own]
        weights = [
            0.0 if batch.right[0, place, n] or not batch.mask[0, n] else math.exp(float(query @ key[n]) / width**0.5)
            for n in range(len(source))
        ]
        expected = np.array(weights) / sum(weights)
        worst = max(worst, float(np.abs(expected - out.cross_attentions[layer][0, head, place].numpy()).max()))
    edge = float(out.cross_attentions[layer][0, :, place][:, batch.right[0, place]].abs().max())
    before = float(batch.attention[layer][0, :, place][:, batch.right[0, place]].max())
    others = [n for n in range(LENGTH + 1) if n != place]
    apart = float((out.cross_attentions[layer] - batch.attention[layer])[:, :, others].abs().max())
    print(f"\nOne case by hand: the edge's weight was {before:.3f} and is {edge}; largest difference from the softmax")
    print(f"computed one key at a time {worst:.1e}; largest change of any other position's weights {apart:.1e}")

    everywhere = {n: list(range(n_heads)) for n in range(layer + 1)}
    full = knock_out(everywhere, batch.right[:, 6], 6, n_heads)
    with editing(full):
        read = (forward(model, batch.inputs, batch.encoded, batch.mask).logits.argmax(-1) != batch.answers).any(-1)
    ids = batch.inputs[:, :1]
    for step in range(LENGTH + 1):
        rows = slice(0, step + 1)
        with editing({n: change[:, :, rows] for n, change in full.items()}):
            ids = torch.cat([ids, forward(model, ids, batch.encoded, batch.mask).logits[:, -1:].argmax(-1)], dim=1)
    written = (ids[:, 1:] != batch.answers).any(-1)
    agree = int((read == written).sum())
    print(f"'date changes' read off one pass agrees with writing it character by character: {agree}/{len(read)} dates")


def main() -> None:
    """All three parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--dates", type=int, default=2_000, help="how many of the test dates")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dates = load_generator()
    tokenizer = AutoTokenizer.from_pretrained(options.folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(options.folder, attn_implementation="eager").eval()
    n_layers, n_heads = model.config.decoder_layers, model.config.decoder_attention_heads

    examples = dates.test_examples()[: options.dates]
    correct = dates.correct(model, tokenizer, examples)
    low, high = wilson(sum(correct), len(correct))
    print(f"exact match on {len(correct)} unseen dates: {sum(correct)} = {sum(correct) / len(correct):.2%}", end=" ")
    print(f"(Wilson 95%: {low:.2%} to {high:.2%})")
    for example, good in zip(examples, correct, strict=True):
        if not good:
            print(f"  wrong: {example.source!r}, not {example.target}")

    register(model)
    given = batches(model, tokenizer, [e for e, good in zip(examples, correct, strict=True) if good])
    print(f"what follows is on the {sum(correct)} dates answered correctly")
    print_alignment(given, n_layers, n_heads)
    print_places(given, n_layers, n_heads)
    print_knock_outs(model, given, n_layers, n_heads)
    verify(model, given[0], n_heads)


if __name__ == "__main__":
    main()
