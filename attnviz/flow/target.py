"""What is explained: one number that a run comes to, at one position of its text.

Methods that follow attention or what it writes need the position alone; gradients, yardsticks and logit attribution
explain the number.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from attnviz.errors import InputError, MetricError
from attnviz.metrics import Subject
from attnviz.trace import Trace, checked_position


@dataclass(frozen=True)
class Target:
    """The outcome to explain.

    query    the position whose prediction it is, in the decoder's text of an encoder-decoder; negative from the end
    answer   the token that is predicted there, as an id or a text of one token; None: the likeliest one
    foil     a token to compare with: the outcome is then logit(answer) - logit(foil), else log p(answer) in nats
    other    for a model without a vocabulary: a second text, and the outcome is the cosine of both pooled embeddings
    """

    query: int = -1
    answer: int | str | None = None
    foil: int | str | None = None
    other: str | None = None

    def aim(self, model: Subject, trace: Trace) -> Aim:
        """Fix the target to one text; raises MetricError or InputError where the model or the text cannot give it."""
        if model.has_vocabulary:
            if self.other is not None:
                raise MetricError(f"{model.name} predicts tokens: give an answer, not a second text.")
            query = checked_position(self.query, len(trace.tokens), "query")
            answer = self.answer
            if answer is None:
                answer = int(trace.predictions(query, k=1).token_id[0])
            answer = _one(model, answer)
            foil = None if self.foil is None else _one(model, self.foil)
            if foil == answer:
                raise MetricError(
                    f"The answer and the token it is compared with are both {trace.decode(answer)!r}, so their logits "
                    "do not differ: compare with another token, or with none."
                )
            return Aim(query, answer, foil, None, *_words(trace, answer, foil, query))
        if self.answer is not None or self.foil is not None:
            raise MetricError(f"{model.name} has no vocabulary head: give another text to compare with, not an answer.")
        if self.other is None:
            raise MetricError(f"{model.name} predicts no tokens: give a second text, whose similarity is explained.")
        return Aim(None, None, None, model.embed(self.other), f"cosine similarity to {self.other!r}", "cosine")


@dataclass(frozen=True, eq=False)
class Aim:
    """A target that was fixed to one text.

    query        the position explained, 0-based; None for a pooled embedding, which reads all of them
    answer, foil token ids; None where there is none
    embedding    [d_model], of the second text; None where there is none
    title, unit  the outcome in words
    """

    query: int | None
    answer: int | None
    foil: int | None
    embedding: torch.Tensor | None
    title: str
    unit: str

    def of_logits(self, logits: torch.Tensor) -> torch.Tensor:
        """The outcome of each run: [batch, vocab] at the target's position -> [batch], float32."""
        if self.answer is None:
            raise InputError("This target is a similarity, so it is read off embeddings.")
        logits = logits.float()
        base = logits.logsumexp(-1) if self.foil is None else logits[:, self.foil]
        return logits[:, self.answer] - base

    def of_embeddings(self, embeddings: torch.Tensor) -> torch.Tensor:
        """The outcome of each run: [batch, d_model] -> [batch], float32."""
        if self.embedding is None:
            raise InputError("This target is a prediction, so it is read off logits.")
        embeddings = embeddings.float()
        return torch.cosine_similarity(embeddings, self.embedding.float().to(embeddings.device)[None], dim=-1)


def _one(model: Subject, token: int | str) -> int:
    ids = model.ids_of(token) if isinstance(token, str) else [token]
    if len(ids) != 1:
        raise MetricError(f"A target is one token, but {token!r} is {len(ids)} tokens for {model.name}.")
    if isinstance(ids[0], bool) or not isinstance(ids[0], int) or not 0 <= ids[0] < model.vocabulary:
        raise MetricError(f"A target is a text or a token id from 0 to {model.vocabulary - 1}; got {token!r}.")
    return ids[0]


def _words(trace: Trace, answer: int, foil: int | None, query: int) -> tuple[str, str]:
    said = trace.decode(answer)
    if foil is None:
        return f"log-probability of {said!r} at position {query} (nats)", "nats"
    return f"logit of {said!r} minus logit of {trace.decode(foil)!r} at position {query}", "logits"
