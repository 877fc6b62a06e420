"""Continuing a text: the ids that a model writes next, greedily or sampled with a seed of the call's own.

transformers' `generate` does the work, so that caches, forced tokens and end tokens are the model's own. Sampling adds
Gumbel noise from a generator of this call to the scores and takes the largest, which draws from the softmax exactly
(arXiv 1411.0030) and leaves torch's global random state alone.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

from attnviz.checks import MOST_SEED, whole
from attnviz.errors import InputError
from attnviz.tap import Progress


@dataclass(frozen=True)
class Writing:
    """How to write: at most so many tokens, greedily, or sampled at a temperature where there is a seed."""

    most: int
    seed: int | None = None
    temperature: float = 1.0
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if isinstance(self.most, bool) or not isinstance(self.most, int) or self.most < 1:
            raise InputError(f"max_new_tokens counts from 1; got {self.most!r}.")
        if self.seed is not None:
            whole(self.seed, "A seed, where it is not None,", least=-MOST_SEED, most=MOST_SEED)
        number = isinstance(self.temperature, int | float) and not isinstance(self.temperature, bool)
        if not number or not 0 < self.temperature < float("inf"):
            raise InputError(
                f"temperature is above 0; got {self.temperature!r}. Give no seed for the likeliest tokens."
            )


class GumbelNoise(LogitsProcessor):
    """Scores at a temperature plus Gumbel noise: their argmax is a sample."""

    def __init__(self, seed: int, temperature: float) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._temperature = temperature

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        # On the CPU, so that a seed means the same on every device.
        uniform = torch.rand(scores.shape, generator=self._generator).clamp_min(torch.finfo(torch.float32).tiny)
        return scores.float() / self._temperature - (-uniform.log()).log().to(scores.device)


class Steps(StoppingCriteria):
    """Never stops by itself; tells how many tokens there are, and lets the listener raise."""

    def __init__(self, progress: Progress, given: int, most: int) -> None:
        self._progress, self._given, self._most = progress, given, most

    def __call__(self, input_ids: torch.Tensor, scores: Any, **keywords: Any) -> torch.Tensor:
        self._progress(input_ids.shape[1] - self._given, self._most)
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def continued(hf_model: Any, inputs: dict[str, torch.Tensor], writing: Writing) -> list[int]:
    """The ids of the whole sequence that the model writes: prompt and continuation, or the decoder's side.

    Stops at the model's end token, which is kept.
    """
    given = 1 if hf_model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    settings = copy.deepcopy(hf_model.generation_config)
    plain = {"do_sample": False, "num_beams": 1, "temperature": None, "top_p": None, "top_k": None, "max_length": None}
    settings.update(**plain, max_new_tokens=writing.most, return_dict_in_generate=False)
    if settings.pad_token_id is None:
        end = settings.eos_token_id
        settings.pad_token_id = end[0] if isinstance(end, list) else end
    noise = [] if writing.seed is None else [GumbelNoise(writing.seed, writing.temperature)]
    steps = [] if writing.progress is None else [Steps(writing.progress, given, writing.most)]
    written = hf_model.generate(**inputs, generation_config=settings, logits_processor=noise, stopping_criteria=steps)
    return [int(i) for i in written[0]]
