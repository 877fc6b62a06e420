"""Outcomes of a text as a whole: its class, or what it is similar to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from attnviz.errors import MetricError
from attnviz.metrics.base import Metric, Outputs, Plan, Subject, need_clean

RankIn = Literal["margin", "rank"]


@dataclass(frozen=True)
class ClassProb(Metric):
    """Probability of one class, by name or number: a softmax over all classes of a sequence-classification model.

    Not how sure one may be: a classifier's probabilities are as calibrated as its training left them.
    """

    label: str | int
    unit = "probability"

    @property
    def title(self) -> str:
        return f"probability of class {self.label!r}"

    def plan(self, model: Subject, ids: Sequence[int], clean: Outputs | None = None) -> Plan:
        labels = model.labels
        if len(labels) < 2:
            what = "one number" if labels else "no classes"
            raise MetricError(
                f"ClassProb needs a model that sorts texts into classes; {model.name} gives {what}. Use "
                f"{'LogProb or LogitDiff' if model.has_vocabulary else 'Similarity'}."
            )
        number = self._number(labels, model.name)

        def score(outputs: Outputs) -> torch.Tensor:
            if outputs.class_logits is None or outputs.class_logits.dim() != 2:
                raise MetricError("This run gave no class logits, [batch, class].")
            return outputs.class_logits.float().softmax(-1)[:, number]

        return Plan(tuple(ids), score)

    def _number(self, labels: tuple[str, ...], name: str) -> int:
        if isinstance(self.label, str):
            found = [number for number, label in enumerate(labels) if label == self.label]
            if len(found) == 1:
                return found[0]
        elif isinstance(self.label, int) and not isinstance(self.label, bool) and 0 <= self.label < len(labels):
            return self.label
        raise MetricError(
            f"{name} has the classes {', '.join(f'{n}: {label!r}' for n, label in enumerate(labels))}; got "
            f"{self.label!r}."
        )


@dataclass(frozen=True)
class Similarity(Metric):
    """Cosine of the pooled embedding with that of a second text, which is never edited; in [-1, 1].

    other   the second text; None: the text itself, unedited, so that a clean run has 1
    """

    other: str | None = None
    unit = "cosine"

    @property
    def title(self) -> str:
        return f"cosine similarity to {'itself, unedited' if self.other is None else repr(self.other)}"

    @property
    def needs_clean(self) -> bool:
        return self.other is None

    def plan(self, model: Subject, ids: Sequence[int], clean: Outputs | None = None) -> Plan:
        if self.other is None:
            other = _embeddings(need_clean(self, clean), self, model)
        else:
            other = model.embed(self.other)[None]

        def score(outputs: Outputs) -> torch.Tensor:
            return _cosines(_embeddings(outputs, self, model), other)[:, 0]

        return Plan(tuple(ids), score)


@dataclass(frozen=True)
class SimilarityRank(Metric):
    """How the wanted text fares among several, by cosine of pooled embeddings; the texts are never edited.

    texts   two or more different texts
    best    the wanted one of them, by number or as it stands there
    by      "margin": cosine to the wanted one minus the largest to another, above 0 where it comes first
            "rank": its rank, from 1; equals go before it, since a tie is no find
    A rank moves in steps, so that most small effects are 0.
    """

    texts: tuple[str, ...]
    best: str | int
    by: RankIn = "margin"

    def __init__(self, texts: Iterable[str], best: str | int, *, by: RankIn = "margin") -> None:
        if isinstance(texts, str) or not isinstance(texts, Iterable):
            raise MetricError(f"SimilarityRank takes several texts, e.g. ['one', 'another']; got {texts!r:.80}.")
        kept = tuple(texts)
        if len(kept) < 2 or len(set(kept)) < len(kept) or not all(isinstance(text, str) for text in kept):
            raise MetricError(f"SimilarityRank takes two or more different texts; got {kept!r:.80}.")
        if best not in (range(len(kept)) if isinstance(best, int) and not isinstance(best, bool) else kept):
            raise MetricError(f"best is one of the {len(kept)} texts, or its number from 0; got {best!r:.80}.")
        if by not in get_args(RankIn):
            raise MetricError(f"SimilarityRank goes by 'margin' or by 'rank'; got {by!r}.")
        object.__setattr__(self, "texts", kept)
        object.__setattr__(self, "best", best)
        object.__setattr__(self, "by", by)

    @property
    def unit(self) -> str:  # type: ignore[override]
        return "cosine" if self.by == "margin" else "rank"

    @property
    def wanted(self) -> int:
        return self.texts.index(self.best) if isinstance(self.best, str) else self.best

    @property
    def title(self) -> str:
        text, others = self.texts[self.wanted], len(self.texts) - 1
        if self.by == "rank":
            return f"rank of {text!r} among {others + 1} texts by cosine similarity"
        return f"cosine similarity to {text!r} minus the largest to {others} other{'s' * (others > 1)}"

    def plan(self, model: Subject, ids: Sequence[int], clean: Outputs | None = None) -> Plan:
        known = torch.stack([model.embed(text) for text in self.texts])

        def score(outputs: Outputs) -> torch.Tensor:
            cosines = _cosines(_embeddings(outputs, self, model), known)
            mine = cosines[:, self.wanted]
            others = torch.cat([cosines[:, : self.wanted], cosines[:, self.wanted + 1 :]], dim=1)
            if self.by == "margin":
                return mine - others.max(-1).values
            return 1.0 + (others >= mine[:, None]).sum(-1)

        return Plan(tuple(ids), score)


def _embeddings(outputs: Outputs, metric: Metric, model: Subject) -> torch.Tensor:
    if outputs.embedding is None:
        raise MetricError(
            f"{type(metric).__name__} needs a model that turns a text into a vector, such as 'minilm'; {model.name} "
            f"does not. Use {'LogProb or LogitDiff' if model.has_vocabulary else 'ClassProb'}."
        )
    return outputs.embedding.float()


def _cosines(embeddings: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """[batch, other]."""
    return torch.cosine_similarity(embeddings[:, None], others.float().to(embeddings.device)[None], dim=-1)
