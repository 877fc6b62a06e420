"""What the Ablation page asks: which run, what of it is measured, and what stands in for heads that are taken out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from attnviz.ablation.swapping import propose_foil
from attnviz.edits import Edit, Head, MeanHeads, ResampleHeads, ZeroHeads
from attnviz.metrics import (
    KL,
    ClassProb,
    ExactMatch,
    LogitDiff,
    LogProb,
    Loss,
    Metric,
    Similarity,
    SimilarityRank,
    default_for,
)
from attnviz.models import Model
from attnviz.trace import Trace
from attnviz.ui import work
from attnviz.ui.focus import Focus
from attnviz.ui.selection import PARTS, Selection
from attnviz.writing import without_end

MOST_TOKENS = 512  # of a text whose heads are taken out: a sweep of more takes minutes
How = Literal["zero", "mean", "resample"]
Part = Literal["head", "group", "layer"]
ONE: dict[Part, str] = {"head": "head", "group": "key/value group", "layer": "layer"}
PLURAL: dict[Part, str] = {part: f"{words}s" for part, words in ONE.items()}
KIND_OF = {
    LogitDiff: "difference",
    LogProb: "continuation",
    KL: "kl",
    Loss: "loss",
    ExactMatch: "match",
    Similarity: "similarity",
    SimilarityRank: "similarity",
    ClassProb: "class",
}


@dataclass(frozen=True, eq=False)
class Subject:
    """One run, one outcome, and one way of taking heads out.

    name     of the model in the pool; with `run` it is the start of every cache key
    donor    the text resampled from; texts: those whose mean stands in
    chat     whether text and donor stand in the model's chat template
    heads    those chosen together; () for none
    parts    what is taken out one by one: heads, those that share a key/value head, or whole layers
    """

    name: str
    model: Model
    trace: Trace
    focus: Focus
    metric: Metric
    how: How
    donor: str
    texts: tuple[str, ...]
    chat: bool
    heads: tuple[Head, ...]
    parts: Part = "head"

    @property
    def site(self) -> str:
        return self.model.info.site(self.focus.head.site)

    @property
    def run(self) -> tuple[object, ...]:
        """What tells this run from others: the model, its text and what its decoder reads."""
        ids = tuple(token.id for token in (*self.trace.source_tokens, *self.trace.tokens))
        return (self.name, "ablation", work.digest(repr(ids)), len(self.trace.source_tokens), self.chat)

    @property
    def asked(self) -> tuple[object, ...]:
        """What tells this question from others."""
        stands_in = work.digest(repr((self.donor, self.texts)))
        return (*self.run, work.digest(repr(self.metric)), self.how, stands_in, self.parts)

    @property
    def given(self) -> dict[str, Any]:
        """The very run, as `attnviz.ablation` and `Model.trace` take it."""
        if self.model.family == "encoder-decoder":
            return {"text": self.trace.source_text, "decoder_input_ids": self.trace.input_ids}
        return {"text": None, "input_ids": self.trace.input_ids} if self.chat else {"text": self.trace.text}

    @property
    def question(self) -> dict[str, Any]:
        """The arguments of `attnviz.ablation.sweep`, model and order aside."""
        stands_in: dict[str, Any] = {}
        if self.how == "resample":
            stands_in["donor"] = as_given(self.model, self.donor, self.chat)
        elif self.how == "mean":
            stands_in["texts"] = self.references
        asked = {"metric": self.metric, "how": self.how, "site": self.focus.head.site, "units": self.parts}
        return {**self.given, **asked, **stands_in}

    @property
    def references(self) -> tuple[str | list[int], ...]:
        """The reference texts as the library takes them, in the chat template where the run is."""
        return tuple(as_given(self.model, text, self.chat) for text in self.texts)

    @property
    def units(self) -> tuple[tuple[Head, ...], ...]:
        """The heads of every unit that is taken out one by one, at all sites: what a sweep has effects of."""
        info = self.model.info
        several = info.family == "encoder-decoder"
        return tuple(
            tuple(Head(layer, head, site if several else None) for head in range(first, first + size))
            for site in info.sites
            for layer, n in zip(info.layers[site], info.layer_heads[site], strict=True)
            for size in [size_of(self.model, site, n, self.parts)]
            for first in range(0, n, size)
        )

    def heads_of(self, layer: int, column: int) -> tuple[tuple[int, int], ...]:
        """(layer, head) of all heads that one cell of the grid stands for."""
        info = self.model.info
        n = info.layer_heads[self.site][info.layers[self.site].index(layer)]
        size = size_of(self.model, self.site, n, self.parts)
        return tuple((layer, head) for head in range(column * size, (column + 1) * size))

    def edit(self, heads: Sequence[Head]) -> Edit:
        """What takes these heads out together."""
        if self.how == "resample":
            return ResampleHeads(heads, as_given(self.model, self.donor, self.chat))
        return MeanHeads(heads, self.references) if self.how == "mean" else ZeroHeads(heads)


def as_given(model: Model, text: str, chat: bool) -> str | list[int]:
    """A donor or reference text as the library takes it: in a chat template as ids, since the run is ids there."""
    return list(model.encode(text, chat_template=True).ids) if chat else text


def kinds_of(model: Model, trace: Trace) -> tuple[str, ...]:
    """The outcomes that can be measured here, the proposed one first."""
    kinds = []
    if model.has_vocabulary:
        masked = model.family == "encoder"
        continued = ["continuation"] if model.family == "decoder" else []
        kinds += ["difference"] if not masked or model.mask_id in trace.input_ids else []
        kinds += [*continued, "kl", *["loss"] * (not masked and len(trace.tokens) > 1)]
        kinds += ["match"] * (model.family == "encoder-decoder" and len(trace.tokens) > 1)
    elif len(model.labels) > 1 and trace.class_logits is not None:
        kinds.append("class")
    elif trace.embedding is not None:
        kinds.append("similarity")
    first = KIND_OF[type(default_for(model, trace))]
    return tuple(dict.fromkeys([first, *kinds]))


def size_of(model: Model, site: str, n_heads: int, parts: Part) -> int:
    """How many heads of a layer of `n_heads` go together."""
    return {"head": 1, "layer": n_heads, "group": n_heads // model.layout.n_kv_heads[site] or 1}[parts]


def parts_of(model: Model, site: str) -> tuple[Part, ...]:
    """What can be taken out one by one: groups only where several heads share keys and values, in every layer alike."""
    counts = model.info.layer_heads[site]
    shared = len(set(counts)) == 1 and size_of(model, site, counts[0], "group") > 1
    return tuple(part for part in PARTS if part != "group" or shared)  # type: ignore[misc]


def position_of(model: Model, trace: Trace) -> int:
    """Where next tokens are compared: the first mask of a masked encoder, else the last token."""
    return trace.input_ids.index(model.mask_id) if model.family == "encoder" and model.mask_id is not None else -1


def metric_of(model: Model, trace: Trace, chosen: Selection, other: str) -> Metric:
    """The chosen outcome; the model's own where it has no such, or its words are missing.

    other   the text to continue with, or to be similar to; several, one a line, to be ranked by that
    """
    kind = chosen.metric if chosen.metric in kinds_of(model, trace) else ""
    if kind in ("", "difference") and model.has_vocabulary and "difference" in kinds_of(model, trace):
        position = position_of(model, trace)
        proposed = default_for(model, trace)
        if kind == "difference" or isinstance(proposed, LogitDiff):
            answer = int(trace.predictions(position, 1)["token_id"][0]) if chosen.answer is None else chosen.answer
            foil = chosen.foil
            if foil is None or foil == answer:
                foil, _ = foil_of(model, trace, answer)
            return LogitDiff(_word(model, trace, answer), _word(model, trace, foil), position)
    if kind == "continuation" and other:
        return LogProb(other)
    if kind == "kl":
        return KL(position=-1 if model.family == "decoder" else None)
    if kind == "loss":
        return Loss()
    if kind == "match":
        ids = without_end(model.hf_model, trace.input_ids[1:])  # the first one is given to every decoder
        said = "".join(map(trace.decode, ids))
        return ExactMatch(said if model.ids_of(said) == ids else tuple(ids))
    if kind == "class" and chosen.answer is not None and chosen.answer < len(model.labels):
        label = model.labels[chosen.answer]
        return ClassProb(label if model.labels.count(label) == 1 else chosen.answer)
    if kind == "similarity" or (not kind and other and not model.has_vocabulary and not model.labels):
        several = ranked_texts(other)
        return SimilarityRank(several, 0) if len(several) > 1 else Similarity(several[0] if several else None)
    return default_for(model, trace)


def ranked_texts(other: str) -> tuple[str, ...]:
    """The different texts, one a line, that embeddings are compared with; the first is the wanted one."""
    return tuple(dict.fromkeys(line.strip() for line in other.splitlines() if line.strip()))


def foil_of(model: Model, trace: Trace, answer: int) -> tuple[int, bool]:
    """(a token to compare the answer with, whether the text names it).

    Another name or place of the text, where the answer is one; else the likeliest token that is not the answer.
    """
    named = propose_foil(trace.text, trace.decode(answer), model)
    if named is not None:
        return model.ids_of(named)[0], True
    likely = trace.predictions(position_of(model, trace), 2)["token_id"]
    return next(int(i) for i in likely if i != answer), False


def _word(model: Model, trace: Trace, token: int) -> str | int:
    """The token as a text where that is this very token, so that titles can be read; else its id."""
    said = trace.decode(token)
    return said if model.ids_of(said) == [token] else token
