"""Many changed runs of one text, in few forward calls.

1. Variants of one length share a batch, so nothing is padded and no mask differs from a single run's.
2. In a causal decoder all that stands before the first change is the clean run's: a batch of variants sorted by their
   first change begins there, and takes what is before from one clean run's keys and values.
3. Only the position that is read goes through the output projection, where the model's forward offers that.

The kept keys and values are used only if two copies of the clean text, continued from them at the middle and at the
end, come to the clean run's logits; a model with a state of another kind, or a cache of its own, runs in whole batches.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from transformers import DynamicCache

from attnviz.edits import Edit
from attnviz.layout import forward_inputs
from attnviz.models import Model
from attnviz.outputs import results
from attnviz.tap import Call, Progress

_POSITIONS = 4096  # of a whole batch
_CONTINUED = 256  # of a batch that continues the clean run: fewer would idle the cores, more would read more twice
_LOGITS = 2**26  # float32 numbers that a batch's logits may hold
_CLOSE = 1e-4  # of the clean run's largest logit

_Kept = list[tuple[torch.Tensor, torch.Tensor]]  # by layer, keys and values, [1, head, position, d_head]


@dataclass(frozen=True)
class Variant:
    """One input to run.

    ids        the text; of an encoder-decoder, the decoder's
    position   where its logits are read; models without a vocabulary give one embedding and ignore it
    changed    the first place where `ids` differ from the clean ones
    source     the encoder's text of an encoder-decoder, else ()
    """

    ids: tuple[int, ...]
    position: int
    changed: int = 0
    source: tuple[int, ...] = ()


class Variants:
    """Runs variants of one clean text on a shared model, which stays as it is.

    shared   whether keys and values of the clean run were kept, and checked
    """

    def __init__(self, model: Model, clean: Variant, edits: Sequence[Edit] = (), *, share: bool = True) -> None:
        model.check_edits(edits)
        self._model, self._edits, self._clean = model, tuple(edits), clean
        self._accepted = inspect.signature(model.hf_model.forward).parameters
        self.outcome = self._whole([clean])
        possible = share and model.family == "decoder" and model.has_vocabulary and len(clean.ids) > 2
        self._kept = self._checked() if possible and clean.position == len(clean.ids) - 1 else None

    @property
    def shared(self) -> bool:
        return self._kept is not None

    def run(self, variants: Sequence[Variant], progress: Progress | None = None) -> Iterator[tuple[int, torch.Tensor]]:
        """(which variant, its logits [vocab] or embedding [d_model]) batch by batch; not in the order given.

        progress   called with (variants done, variants in all) after each batch; raise from it to stop
        """
        done = 0
        for start, chosen in self._batches(variants):
            batch = [variants[i] for i in chosen]
            yield from zip(chosen, self._continued(start, batch) if start else self._whole(batch), strict=True)
            done += len(batch)
            if progress is not None:
                progress(done, len(variants))

    def _batches(self, variants: Sequence[Variant]) -> Iterator[tuple[int, list[int]]]:
        """(how many clean positions are taken over, variants), each batch of one length."""

        def shape(i: int) -> tuple[int, int]:
            return len(variants[i].ids), len(variants[i].source)

        def begins(i: int) -> int:
            # At least one position has to run, also where only the last token was deleted.
            return min(variants[i].changed, len(variants[i].ids) - 1) if self.shared else 0

        for (length, source), alike in groupby(sorted(range(len(variants)), key=shape), key=shape):
            left = sorted(alike, key=begins)
            while left:
                start = begins(left[0])
                rows = self._rows(length - start, source, _CONTINUED if start else _POSITIONS)
                if self.shared and not start:  # what begins later is cheaper to continue
                    rows = min(rows, max(1, _CONTINUED // length))
                yield start, left[:rows]
                left = left[rows:]

    def _rows(self, length: int, source: int, positions: int) -> int:
        last_alone = "logits_to_keep" in self._accepted and self._model.family != "encoder"
        scored = 1 if last_alone or not self._model.has_vocabulary else length
        return max(1, min(positions // (length + source), _LOGITS // (scored * self._model.vocabulary)))

    def _whole(self, batch: Sequence[Variant]) -> torch.Tensor:
        """[variant, vocab] or [variant, d_model], of whole runs."""
        ids = [v.ids for v in batch]
        sides = {"input_ids": ids}
        if batch[0].source:
            sides = {"input_ids": [v.source for v in batch], "decoder_input_ids": ids}
        device = self._model.hf_model.device
        inputs = {name: torch.tensor(side, device=device) for name, side in sides.items()}
        return self._read(self._forward(forward_inputs(self._model.hf_model, inputs), batch), batch)

    def _continued(self, start: int, batch: Sequence[Variant]) -> torch.Tensor:
        """[variant, vocab], of runs that take the first `start` positions from the clean run."""
        assert self._kept is not None
        return self._continue(self._kept, start, batch)

    def _continue(self, kept: _Kept, start: int, batch: Sequence[Variant]) -> torch.Tensor:
        device = self._model.hf_model.device
        shape = (len(batch), -1, -1, -1)
        # The cache copies what it is given, so the kept tensors stay as they are.
        before = [(keys[:, :, :start].expand(shape), values[:, :, :start].expand(shape)) for keys, values in kept]
        inputs = {
            "input_ids": torch.tensor([v.ids[start:] for v in batch], device=device),
            "attention_mask": torch.ones(len(batch), len(batch[0].ids), dtype=torch.long, device=device),
            "past_key_values": DynamicCache(before),
            "use_cache": True,
        }
        return self._read(self._forward(inputs, batch, start), batch)

    def _checked(self) -> _Kept | None:
        """The clean run's keys and values, where runs that continue them equal whole ones."""
        length = len(self._clean.ids)
        ids = torch.tensor([self._clean.ids], device=self._model.hf_model.device)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "past_key_values": DynamicCache()}
        try:
            outputs = self._forward({**inputs, "use_cache": True}, [self._clean])
            kept = [(keys, values) for keys, values, *_ in outputs.past_key_values]
            near = _CLOSE * max(1.0, float(self.outcome.abs().max()))
            for start in (length // 2, length - 1):
                found = self._continue(kept, start, [self._clean] * 2)
                if not float((found - self.outcome).abs().max()) <= near:
                    return None
        # What a cache that is not meant for this model raises is the modelling file's own affair.
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError):
            return None
        return kept if all(keys.shape[2] == length for keys, _ in kept) else None

    def _forward(self, inputs: dict[str, Any], batch: Sequence[Variant], start: int = 0) -> Any:
        at_end = all(v.position == len(v.ids) - 1 for v in batch)
        if at_end and self._model.has_vocabulary and "logits_to_keep" in self._accepted:
            inputs["logits_to_keep"] = 1
        with self._model.running(Call(self._model.layout.places, self._edits, keep=False, start=start)):
            return self._model.hf_model(**inputs)

    def _read(self, outputs: Any, batch: Sequence[Variant]) -> torch.Tensor:
        if self._model.has_vocabulary:
            # Counted from the end, since the logits may be of the last positions alone.
            places = torch.tensor([v.position - len(v.ids) for v in batch])
            return outputs.logits[torch.arange(len(batch)), places].float()
        info, pooling = self._model.info, self._model.origin.pooling
        embeddings = [results(outputs, row, info, pooling)[2] for row in range(len(batch))]
        return torch.stack([embedding for embedding in embeddings if embedding is not None])
