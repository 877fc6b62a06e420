"""What the Steering page is asked: a run, the weights of its words, and the heads that are brought to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attnviz.edits import Edit, ExternalAttention, Head, Steer
from attnviz.models import Model
from attnviz.trace import Trace
from attnviz.ui import work
from attnviz.ui.focus import Focus
from attnviz.ui.selection import Selection
from attnviz.ui.steering.plan import Kind, Plan

MOST_TOKENS = 512  # of a text that is run twice with all of its predictions, and written on


@dataclass(frozen=True, eq=False)
class Subject:
    """One run, and what attention is to do in it.

    name       of the model in the pool; with `run` it is the start of every cache key
    trace      the clean run
    chat       whether the text stands in the model's chat template
    weights    [key], -1 for what is ignored, else 0 to 1
    strength   what a key that loses weighs, for `Steer`
    heads      None: all of the site
    """

    name: str
    model: Model
    trace: Trace
    focus: Focus
    chat: bool
    plan: Plan
    weights: tuple[float, ...]
    strength: float
    heads: tuple[Head, ...] | None

    @property
    def kind(self) -> Kind:
        return self.plan.kind

    @property
    def site(self) -> str:
        return self.model.info.site(self.focus.head.site)

    @property
    def position(self) -> int:
        """Where tokens are predicted and compared: after the last one; of an encoder at its first mask, or where there
        is none at the selected query; of an encoder-decoder at the selected step."""
        family, mask = self.model.family, self.model.mask_id
        if family == "encoder" and mask is not None and mask in self.trace.input_ids:
            return self.trace.input_ids.index(mask)
        stepped = family == "encoder-decoder" and self.site != "encoder"
        return self.focus.query if stepped or family == "encoder" else -1

    @property
    def meant(self) -> tuple[int, ...]:
        """The keys that attention is to go to; where there are none, those that it is to turn from."""
        return self.at(lambda weight: weight > 0) or self.at(lambda weight: weight < 0)

    def at(self, holds: Callable[[float], bool]) -> tuple[int, ...]:
        return tuple(i for i, weight in enumerate(self.weights) if holds(weight))

    @property
    def turned_from(self) -> bool:
        """Whether words are ignored and none is emphasised."""
        return max(self.weights, default=0) <= 0

    @property
    def edits(self) -> tuple[Edit, ...]:
        """What brings attention there; () while no word is marked."""
        where: dict[str, Any] = {"heads": self.heads, "site": self.focus.head.site if self.heads is None else None}
        if self.kind == "steer":
            sides = ((self.at(lambda weight: weight > 0), False), (self.at(lambda weight: weight < 0), True))
            return tuple(Steer(keys, strength=self.strength, ignore=away, **where) for keys, away in sides if keys)
        if not any(self.weights):
            return ()
        beta, alpha = (self.plan.beta, None) if self.kind == "beta" else (None, self.plan.alpha)
        return (ExternalAttention(self.weights, beta, alpha, **where),)

    @property
    def steered(self) -> tuple[Head, ...]:
        """Every head that is steered."""
        if self.heads is not None:
            return self.heads
        info, named = self.model.info, self.focus.head.site
        return tuple(
            Head(layer, head, named)
            for layer, n in zip(info.layers[self.site], info.layer_heads[self.site], strict=True)
            for head in range(n)
        )

    @property
    def run(self) -> tuple[object, ...]:
        """What tells this run from others: the model, its text and what its decoder reads."""
        ids = tuple(token.id for token in (*self.trace.source_tokens, *self.trace.tokens))
        return (self.name, "steering", work.digest(repr(ids)), len(self.trace.source_tokens), self.chat)

    @property
    def asked(self) -> tuple[object, ...]:
        """What tells this question from others."""
        return (*self.run, self.site, work.digest(repr((self.edits, self.meant, self.position))))

    @property
    def given(self) -> dict[str, Any]:
        """The very run, as `Model.trace` takes it."""
        if self.model.family == "encoder-decoder":
            return {"text": self.trace.source_text, "decoder_input_ids": self.trace.input_ids}
        return {"text": None, "input_ids": self.trace.input_ids} if self.chat else {"text": self.trace.text}


def weights_of(chosen: Selection, plan: Plan, n: int) -> tuple[float, ...]:
    """[key]: what is marked, as far as this kind knows it: ignored words under Steer, fainter ones under the others."""
    weights = [0.0] * n
    mine = plan.text == chosen.text
    graded = ((plan.quarter, 0.25), (plan.half, 0.5)) if mine and plan.kind != "steer" else ()
    away = ((chosen.ignored, -1.0),) if plan.kind == "steer" else ()
    for positions, weight in (*away, *graded, (chosen.emphasised, 1.0)):
        for i in positions:
            if i < n:
                weights[i] = weight
    return tuple(weights)
