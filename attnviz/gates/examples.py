"""What gates are learned from: texts with the answer that was wanted, as runs of one model and how they are read.

decoder            text, then the answer; log p is summed over the answer's tokens
encoder            the answer stands at the text's first mask, and is one token
encoder-decoder    the answer is the whole target, its end token too where the tokenizer ends one

With a foil the outcome is log p(answer) - log p(foil), which for single tokens is the difference of their logits
(`metrics.LogitDiff`); without one it is log p(answer) (`metrics.LogProb`).
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from attnviz.ablation import Case
from attnviz.edits import Edit
from attnviz.errors import InputError, MetricError, Unsupported
from attnviz.layout import forward_inputs, main_output, start_token
from attnviz.metrics.base import Answer, ids_of
from attnviz.models import Model
from attnviz.tap import Call

_LOGITS = 2**24  # numbers that the logits of one forward pass may have


@dataclass(frozen=True)
class Example:
    """One correction.

    text     what the model reads, or its ids
    answer   what it should say: a text or ids
    foil     what it should not say; "" where there is none
    """

    text: str | Sequence[int]
    answer: Answer
    foil: Answer = ""


@dataclass(frozen=True)
class Reading:
    """`told` are the tokens whose probability is asked for, the first of them told by position `first`.

    decoder   what the decoder of an encoder-decoder reads
    """

    source: tuple[int, ...]
    decoder: tuple[int, ...] | None
    first: int
    told: tuple[int, ...]

    @property
    def run(self) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
        return self.source, self.decoder

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.source), len(self.decoder or ())


@dataclass(frozen=True)
class Asked:
    """An example, as one model reads it."""

    answer: Reading
    foil: Reading | None

    @property
    def text(self) -> tuple[int, ...]:
        """What examples must not share if one of them is to test what was learned from the other."""
        return self.answer.source if self.answer.decoder else self.answer.source[: self.answer.first + 1]


@dataclass(frozen=True)
class Scored:
    """[example]; `outcome` as in this module's docstring, in nats.

    loss    what is learned from: log(1 + exp(-outcome)) with a foil, -outcome without, in nats
    right   whether the outcome is above 0 with a foil; without, whether every token of the answer is the likeliest
    """

    outcome: torch.Tensor
    loss: torch.Tensor
    right: torch.Tensor


def asked(model: Model, examples: Iterable[Any]) -> list[Asked]:
    """Examples as the model reads them, the same one only once.

    examples   `Example`s, `ablation.Case`s (their clean text), or (text, answer) and (text, answer, foil)
    raises     InputError with the number of the example at fault; MetricError for a model that predicts no tokens;
               Unsupported for a view-only one
    """
    if not model.layout.exact:
        raise Unsupported(f"{model.name} is view-only, so its heads cannot be gated: {model.info.reason}.")
    if not model.has_vocabulary:
        raise MetricError(f"Gates are learned from tokens that a model predicts; {model.name} predicts none.")
    if isinstance(examples, str | Case | Example) or not isinstance(examples, Iterable):
        raise InputError(f"examples is a list, such as [('The keys', ' are', ' is')]; got {examples!r:.80}.")
    found: dict[Asked, None] = {}
    for number, given in enumerate(examples, 1):
        try:
            found[_asked(model, _example(given))] = None
        except InputError as error:
            raise type(error)(f"Example {number}: {error}") from error
    if not found:
        raise InputError("There is no example: give at least one, such as ('The keys', ' are', ' is').")
    return list(found)


def scored(model: Model, items: Sequence[Asked], edits: Sequence[Edit], *, grad: bool = False) -> Scored:
    """The examples' scores under edits, which are bound already or tied to nothing; in float32 on the CPU."""
    pairs = [(item.answer, item.foil) for item in items]
    readings = list(dict.fromkeys(reading for pair in pairs for reading in pair if reading is not None))
    logp, likeliest = _read(model, readings, edits, grad)
    at = {reading: n for n, reading in enumerate(readings)}
    answers = torch.tensor([at[answer] for answer, _ in pairs])
    foils = torch.tensor([at[foil or answer] for answer, foil in pairs])
    against = torch.tensor([foil is not None for _, foil in pairs])
    outcome = logp[answers] - torch.where(against, logp[foils], 0.0)
    loss = torch.where(against, functional.softplus(-outcome), -outcome)
    return Scored(outcome, loss, torch.where(against, outcome > 0, likeliest[answers]))


def _read(
    model: Model, readings: Sequence[Reading], edits: Sequence[Edit], grad: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """(log p of what each reading tells, whether all its tokens are the likeliest), [reading]."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for n, reading in enumerate(readings):
        groups[reading.shape].append(n)
    found = [
        (part, *_one_length(model, [readings[n] for n in part], edits, grad))
        for group in groups.values()
        for part in _parts(model, readings, group)
    ]
    order = torch.tensor([n for part, *_ in found for n in part]).argsort()
    return torch.cat([logp for _, logp, _ in found])[order], torch.cat([likeliest for *_, likeliest in found])[order]


def _parts(model: Model, readings: Sequence[Reading], group: list[int]) -> Iterable[list[int]]:
    """A group of one length, in pieces whose logits fit."""
    length = max(readings[group[0]].shape)
    size = max(1, _LOGITS // (length * model.vocabulary))
    return (group[first : first + size] for first in range(0, len(group), size))


def _one_length(
    model: Model, readings: Sequence[Reading], edits: Sequence[Edit], grad: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """`_read`, for readings whose runs are all of one length: nothing is padded."""
    rows = {run: row for row, run in enumerate(dict.fromkeys(reading.run for reading in readings))}
    device = model.hf_model.device
    sides = {"input_ids": torch.tensor([source for source, _ in rows], device=device)}
    length = len(readings[0].source)
    if readings[0].decoder is not None:
        sides["decoder_input_ids"] = torch.tensor([decoder for _, decoder in rows], device=device)
        length = len(readings[0].decoder)
    inputs, first = forward_inputs(model.hf_model, sides), 0
    if "logits_to_keep" in inspect.signature(model.hf_model.forward).parameters:
        first = min(reading.first for reading in readings)
        inputs["logits_to_keep"] = length - first
    with model.running(Call(model.layout.places, edits, keep=False), grad=grad):
        logits = main_output(model.hf_model(**inputs))
        owner, row, position, token = torch.tensor(
            [
                (n, rows[reading.run], reading.first - first + step, token)
                for n, reading in enumerate(readings)
                for step, token in enumerate(reading.told)
            ],
            device=device,
        ).T
        told = logits[row, position].float()
        each = told.gather(-1, token[:, None])[:, 0] - told.logsumexp(-1)
        logp = torch.zeros(len(readings), device=device).index_add(0, owner, each)
        misses = torch.zeros(len(readings), device=device).index_add(0, owner, (told.argmax(-1) != token).float())
    return logp.cpu(), (misses == 0).cpu()


def _example(given: Any) -> Example:
    if isinstance(given, Case):
        return Example(given.clean, given.answer, given.foil)
    if isinstance(given, Example):
        return given
    if isinstance(given, tuple | list) and len(given) in (2, 3):
        return Example(*given)
    raise InputError(f"expected an Example, a Case, (text, answer) or (text, answer, foil); got {given!r:.80}.")


def _asked(model: Model, example: Example) -> Asked:
    source = _ids(model, example.text)
    answer = _reading(model, source, example.answer, "answer")
    has_foil = not (isinstance(example.foil, str | Sequence) and not len(example.foil))
    foil = _reading(model, source, example.foil, "foil") if has_foil else None
    if foil == answer:
        raise InputError(f"the answer and the foil are the same tokens for {model.name}; got {example.answer!r:.80}.")
    return Asked(answer, foil)


def _ids(model: Model, text: str | Sequence[int]) -> tuple[int, ...]:
    return (model.encode(text) if isinstance(text, str) else model.reader.encode_ids(text)).ids


def _reading(model: Model, source: tuple[int, ...], answer: Answer, what: str) -> Reading:
    if model.family == "encoder-decoder":
        start, told = start_token(model.hf_model), ids_of(model, answer)
        if isinstance(answer, str):
            told = [*model.reader.encode_target(answer, start).ids[1:], *_end(model, answer)]
        decoder = model.reader.encode_ids([start, *told[:-1]]).ids
        return Reading(source, decoder, 0, _some(told, what))
    told = ids_of(model, answer)
    if model.family == "decoder":
        run = model.reader.encode_ids([*source, *told[:-1]]).ids
        return Reading(run, None, len(source) - 1, _some(told, what))
    if model.mask_id is None or model.mask_id not in source:
        mark = getattr(model.tokenizer, "mask_token", None) or "a mask"
        raise InputError(f"{model.name} fills in masks, and the text has none: write {mark} where the {what} belongs.")
    if len(told) != 1:
        raise InputError(f"at a mask stands one token, but the {what} {answer!r:.80} is {len(told)} for {model.name}.")
    return Reading(source, None, source.index(model.mask_id), tuple(told))


def _end(model: Model, target: str) -> list[int]:
    """The end token, where the tokenizer puts one behind a target."""
    ids, end = model.tokenizer(text_target=target)["input_ids"], model.tokenizer.eos_token_id
    return [int(end)] if ids and ids[-1] == end else []


def _some(told: Sequence[int], what: str) -> tuple[int, ...]:
    if not told:
        raise InputError(f"the {what} is empty: it needs at least one token.")
    return tuple(told)
