"""Outcomes: one number for what a run came to, so that an edit's effect can be measured.

    LogitDiff(" Mary", " John")       how much the model prefers one next token to another, in logits
    LogProb(" Mary Ann")              log-probability of a continuation, in nats
    KL()                              how far the next-token distribution moved from the clean run's, in nats
    Loss()                            how badly the model predicts the text itself, in nats a token
    ClassProb("positive")             probability of a class
    Similarity("other text")          cosine of two texts' embeddings; Similarity(): to the text itself, unedited
    SimilarityRank([...], best=0)     how far the wanted text is ahead of several others
    ExactMatch("1998-05-03")          whether the model writes this answer

A metric is a value, like an edit. `plan` turns it into token ids for one text; `Plan.score` reads the number off a
batch of outputs, so that many edited runs are scored at once (ExactMatch writes a text instead, run by run). A metric
is not an explanation: it only says how far an outcome moved.
"""

from attnviz.metrics.base import Answer, Metric, Outputs, Plan, Subject
from attnviz.metrics.choice import default_for
from attnviz.metrics.next_token import KL, LogitDiff, LogProb, Loss
from attnviz.metrics.whole_text import ClassProb, Similarity, SimilarityRank
from attnviz.metrics.written import ExactMatch

__all__ = [
    "KL",
    "Answer",
    "ClassProb",
    "ExactMatch",
    "LogProb",
    "LogitDiff",
    "Loss",
    "Metric",
    "Outputs",
    "Plan",
    "Similarity",
    "SimilarityRank",
    "Subject",
    "default_for",
]
