"""How alike heads are on some of the texts, as a job that can be stopped, kept for all who look at the same texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from attnviz import flow, heads
from attnviz.corpus import Item
from attnviz.errors import ContextError, InputError
from attnviz.figures import heads as figures
from attnviz.heads import Pairs
from attnviz.heads.rows import evenly
from attnviz.models import Model
from attnviz.settings import settings
from attnviz.ui import measuring
from attnviz.ui.heads.asking import Asked
from attnviz.ui.jobs import Job
from attnviz.ui.kept import kept

FAMILY_TEXTS = 16


@dataclass(frozen=True, eq=False)
class Compared:
    """How alike heads are, and the numbers of the texts that were read for it."""

    pairs: Pairs
    numbers: tuple[int, ...]


def family(ask: Asked, likeness: str, layer: int | None) -> Compared:
    """How alike heads attend, or what they write; of a model too large for one picture only the heads of `layer`.

    raises   Unsupported where what heads write cannot be told; InputError without a text that can be read, or for all
             heads of a model that has too many
    """
    writes = likeness == "writes"
    info, site = ask.model.info, ask.head.site
    whole = sum(info.layer_heads[ask.site])
    if layer is None:
        figures.check_drawn(whole, None)
    alone = layer if whole > figures.MOST_HEADS else None

    def make(job: Job) -> Compared:
        job.report("comparing heads, text by text", 0.0)
        texts = evenly(ask.about.n, FAMILY_TEXTS)
        were: list[int] = []
        refused: list[InputError] = []

        def step(*_: int) -> None:
            job.step(max(0, len(were) + len(refused) - 1), len(texts))

        def read(one: Callable[[Model, Item], Any]) -> Iterator[Any]:
            for number in texts:
                step()
                item = measuring.shelf().text(ask.about.key, number)
                try:
                    _check_length(ask.model, item)
                    made = one(ask.model, item)
                except InputError as error:  # too long, or without a token: the run says so
                    refused.append(error)
                    continue
                were.append(number)
                yield made
            if len(refused) == len(texts):
                raise refused[0]

        if writes:
            ran = read(lambda model, item: flow.take_apart(model, item.text, item.pair or None))
            pairs = heads.output_similarity(ran, site=site, layer=alone, progress=step)
        else:
            traces = read(lambda model, item: model.trace(item.text, item.pair or None, compact=True))
            pairs = heads.pattern_distance(traces, site=site, layer=alone, view=ask.view, progress=step)
        return Compared(pairs, tuple(were))

    key = (*ask.of, "family", likeness, ask.about.key, site, alone, None if writes else ask.view)
    size = 4 * min(whole, figures.MOST_HEADS) ** 2
    title = "What heads write" if writes else "What heads attend to"
    return cast(Compared, kept(ask, key, title, make, lambda made: size))


def _check_length(model: Model, item: Item) -> None:
    """ContextError for a text longer than those that a corpus is measured on."""
    most = settings().corpus_tokens
    sides = [model.encode(item.text), *([model.reader.encode_target(item.pair, 0)] if item.pair else [])]
    longest = max(len(side.ids) for side in sides)
    if longest > most:
        raise ContextError(
            f"Texts of a corpus have at most {most:,} tokens here; got one of {longest:,}. Choose others."
        )
