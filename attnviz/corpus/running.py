"""The detectors on every text of a corpus, batch by batch.

1. Texts that have no result yet are read some hundred at a time and sorted by length, so that a batch holds texts of
   about one length; what is padded stands at the right, under the attention mask, and counts for nothing.
2. Inside the forward pass each layer's pattern is made, reduced to one number a text, head and detector, and let go. It
   ends at the last layer's pattern: no logits, and nothing is kept of a batch but its numbers.
3. They are put on the shelf as soon as the batch is through: a stop, or a kill, loses the texts in hand and no others.

Memory does not depend on the number of texts. The numbers are those of `heads.detect(model.trace(text))` to 1e-5.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from attnviz.corpus.quicker import quick_products
from attnviz.corpus.records import Array, Item
from attnviz.corpus.shelf import Shelf
from attnviz.edits import Head
from attnviz.encoding import Encoded
from attnviz.errors import ContextError, OutOfMemory, TextError, Unsupported
from attnviz.fingerprint import fingerprint
from attnviz.heads.detecting import detect
from attnviz.heads.detectors import DETECTORS, VARIANTS, Kind, Masks, Measure, mean
from attnviz.layout import forward_inputs, start_token
from attnviz.models import Model
from attnviz.recorded import Recorded
from attnviz.settings import settings
from attnviz.tap import Call, Progress
from attnviz.view import Sinks

DETECTORS_VERSION = 1  # to be raised when a detector's definition changes: old results are then another run's
BATCH_POSITIONS = 512  # measured, docs/CORPUS.md: larger batches are no faster on a CPU, and a kill loses more
_WINDOW = 512  # texts sorted by length together
_PADDED_SHARE = 0.25  # of a batch's positions, at most

TOO_LONG = "more tokens than the limit"
NO_TOKENS = "no tokens of it"
NO_PAIR = "no second text for the decoder"


@dataclass(frozen=True)
class Ran:
    """What came of a run.

    run     its name on the shelf
    done    texts that have values now, those of earlier calls included
    left    texts that the model could not take, by reason; what reading left out stands in `Reading.skipped`
    """

    run: str
    done: int
    left: dict[str, int]


@dataclass(frozen=True)
class _Text:
    number: int
    source: Encoded
    target: Encoded | None

    @property
    def length(self) -> int:
        return len(self.source.ids) + (len(self.target.ids) if self.target else 0)


class _Through(Exception):
    """The last pattern that is asked for was made: the rest of the forward pass has nothing to add."""


def run_key(
    model: Model, *, site: str | None = None, sinks: Sinks | None = None, most_tokens: int | None = None
) -> str:
    """The name of a measurement: the same for the same weights, precision, kernel, site, sinks, limit and detectors."""
    return _name(_about(model, site, sinks, most_tokens))


def run(
    model: Model,
    shelf: Shelf,
    key: str,
    *,
    site: str | None = None,
    sinks: Sinks | None = None,
    progress: Progress | None = None,
    most_tokens: int | None = None,
    batch_positions: int = BATCH_POSITIONS,
) -> Ran:
    """Measure every text of a corpus that has no values yet.

    site              where; None: the model's only one, or its first
    sinks             which keys rest in "without sink"; None: the first token
    progress          called with (texts done, texts in all), several times a batch; raise from it to stop: what was
                      measured stays, and the next call goes on from there
    most_tokens       longer texts are left out, and counted: another limit is another run, which begins anew; None: as
                      the settings say. Never more than the model reads
    batch_positions   tokens of a batch, padding included; a longer text runs alone
    raises            HeadError, InputError, OutOfMemory
    """
    site = model.info.site(site)
    about = _about(model, site, sinks, most_tokens)
    key_of_run, limit = _name(about), about["most_tokens"]
    shape = (len(VARIANTS), len(DETECTORS), model.info.layers_of(site), model.info.heads_of(site))
    shelf.begin(key, key_of_run, shape, about)
    reducer = _Reducer(model, site, sinks)
    done, total = shelf.done(key, key_of_run), shelf.about(key).n

    def step(*_: int) -> None:
        if progress is not None:
            progress(done, total)

    step()
    while waiting := shelf.waiting(key, key_of_run, _WINDOW):
        texts, left = _encoded(model, site, waiting, limit, step)
        shelf.leave_out(key, key_of_run, left)
        done += len(left)
        for batch in _batches(texts, batch_positions, reducer.pads):
            found = reducer(batch, step)
            shelf.put(key, key_of_run, [(t.number, *one) for t, one in zip(batch, found, strict=True)])
            done += len(batch)
            step()
    known = shelf.one_run(key, key_of_run)
    return Ran(key_of_run, known.done, known.left)


class _Reducer:
    """Runs batches of texts, and gives each text's (values [variant, detector, layer, head], chance [.., layer])."""

    def __init__(self, model: Model, site: str, sinks: Sinks | None) -> None:
        self._model, self._site, self._sinks = model, site, sinks
        self._kind: Kind = "cross" if site == "cross" else "self"
        self._accepted = inspect.signature(model.hf_model.forward).parameters
        # Without a mask a model cannot be told what is padding: its batches are of one length.
        self.pads = model.layout.exact and "attention_mask" in self._accepted
        pad = getattr(model.tokenizer, "pad_token_id", None)
        self._pad = pad if isinstance(pad, int) and 0 <= pad < model.vocabulary else 0

    def __call__(self, batch: Sequence[_Text], step: Progress) -> list[tuple[Array, Array]]:
        if not self._model.layout.exact:
            return [self._alone(text, step) for text in batch]
        try:
            return self._together(batch, step)
        except OutOfMemory:
            if len(batch) == 1:
                raise
        half = len(batch) // 2
        return [*self(batch[:half], step), *self(batch[half:], step)]

    def _alone(self, text: _Text, step: Progress) -> tuple[Array, Array]:
        """A view-only model's: of the attentions that it returns."""
        decoder = text.target.ids if text.target else None
        trace = self._model.trace(input_ids=text.source.ids, decoder_input_ids=decoder)
        found = detect(trace, site=self._site, sinks=self._sinks, progress=step)
        return found.values, found.chance

    def _together(self, batch: Sequence[_Text], step: Progress) -> list[tuple[Array, Array]]:
        info, site = self._model.info, self._site
        masks = self._masks(batch)
        shape = (len(batch), len(VARIANTS), len(DETECTORS), info.layers_of(site), info.heads_of(site))
        values, even = np.full(shape, np.nan, np.float32), np.full(shape[:-1], np.nan, np.float32)
        made: list[tuple[torch.Tensor, Measure, Array]] = []
        waiting = set(info.layers[site])

        def reduced(*layers_done: int) -> None:
            step(0, 0)
            _, place, recorded = call.recorded.pop()
            if place is None or place.site != site:
                return
            measure, expected = self._measure(masks, recorded, made)
            n_heads = recorded.n_heads
            values[..., place.layer, :n_heads] = mean(*measure.sums(recorded.pattern())).cpu().numpy()
            even[..., place.layer] = expected
            waiting.discard(place.layer)
            if not waiting:
                raise _Through

        call = Call(places=self._model.layout.places, progress=reduced)
        try:
            with self._model.running(call), quick_products(self._model.hf_model.device):
                self._model.hf_model(**self._inputs(batch))
        except _Through:
            return list(zip(values, even, strict=True))
        missing = [str(Head(layer, 0, site)) for layer in sorted(waiting)]
        raise Unsupported(f"The forward pass of {info.name} never reached {', '.join(missing)}, so nothing was kept.")

    def _measure(
        self, masks: Masks, recorded: Recorded, made: list[tuple[torch.Tensor, Measure, Array]]
    ) -> tuple[Measure, Array]:
        """The detectors' columns and chance levels for what this layer sees; layers differ by their windows alone."""
        visible = recorded.visible().any(1)
        known = next((one for one in made if torch.equal(one[0], visible)), None)
        if known is None:
            measure = Measure.of(masks, visible)
            known = (visible, measure, mean(*measure.sums(measure.even()))[..., 0].cpu().numpy())
            made.append(known)
        return known[1:]

    def _masks(self, batch: Sequence[_Text]) -> Masks:
        sides = []
        for text in batch:
            main = text.target or text.source
            queries = text.source if self._site == "encoder" else main
            sides.append((queries, main if self._site == "decoder" else text.source))
        # What is causal, the recorded masks tell.
        return Masks.of(
            [(q.tokens, k.tokens) for q, k in sides],
            self._kind,
            causal=False,
            key_texts=[k.text for _, k in sides],
            sinks=self._sinks,
            device=self._model.hf_model.device,
        )

    def _inputs(self, batch: Sequence[_Text]) -> dict[str, Any]:
        inputs = self._padded([text.source.ids for text in batch], "")
        if batch[0].target is not None:
            inputs |= self._padded([text.target.ids for text in batch if text.target], "decoder_")
        return forward_inputs(self._model.hf_model, inputs)

    def _padded(self, ids: Sequence[tuple[int, ...]], side: str) -> dict[str, torch.Tensor]:
        longest, device = max(map(len, ids)), self._model.hf_model.device
        rows = [[*one, *[self._pad] * (longest - len(one))] for one in ids]
        out = {f"{side}input_ids": torch.tensor(rows, device=device)}
        if f"{side}attention_mask" in self._accepted:
            there = [[1] * len(one) + [0] * (longest - len(one)) for one in ids]
            out[f"{side}attention_mask"] = torch.tensor(there, device=device)
        return out


def _encoded(
    model: Model, site: str, waiting: Sequence[tuple[int, Item]], limit: int, step: Progress
) -> tuple[list[_Text], list[tuple[int, str]]]:
    """The texts as the model reads them, and those that it does not, with the reason."""
    texts, left = [], []
    for number, item in waiting:
        step(0, 0)
        try:
            source, target = model.encode(item.text), None
            if model.family == "encoder-decoder":
                start = start_token(model.hf_model)
                if item.pair:
                    target = model.reader.encode_target(item.pair, start)
                elif site == "encoder":  # which ends before the decoder begins
                    target = model.reader.encode_ids([start])
                else:
                    left.append((number, NO_PAIR))
                    continue
            if max(len(source.ids), len(target.ids) if target else 0) > limit:
                left.append((number, TOO_LONG))
            else:
                texts.append(_Text(number, source, target))
        except ContextError:
            left.append((number, TOO_LONG))
        except TextError:
            left.append((number, NO_TOKENS))
    return texts, left


def _batches(texts: Sequence[_Text], positions: int, pads: bool) -> Iterator[list[_Text]]:
    """Batches of texts of about one length, the longest first: what does not fit shows at once."""
    batch: list[_Text] = []
    for text in sorted(texts, key=lambda t: (-t.length, t.number)):
        if batch:
            longest = batch[0].length
            padding = sum(longest - t.length for t in [*batch, text])
            full = (len(batch) + 1) * longest > positions
            if full or (padding if not pads else padding > _PADDED_SHARE * longest * (len(batch) + 1)):
                yield batch
                batch = []
        batch.append(text)
    if batch:
        yield batch


def _name(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


def _about(model: Model, site: str | None, sinks: Sinks | None, most_tokens: int | None) -> dict[str, Any]:
    """What was measured, with which weights."""
    info, limit = model.info, settings().corpus_tokens if most_tokens is None else most_tokens
    return {
        "model": info.name,
        "revision": info.revision,
        "dtype": info.dtype,
        "kernel": info.kernel,
        "weights": fingerprint(model),
        "site": info.site(site),
        "sinks": {"kinds": list((sinks or Sinks()).kinds), "tokens": list((sinks or Sinks()).tokens)},
        "most_tokens": limit if info.max_tokens is None else min(limit, info.max_tokens),
        "detectors": list(DETECTORS),
        "version": DETECTORS_VERSION,
    }
