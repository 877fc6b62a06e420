"""What the Steering page computes: the clean run beside the steered one, as jobs, kept for all who ask the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import torch

from attnviz import steering
from attnviz.edits import Edit
from attnviz.heads import Scores
from attnviz.models import Model
from attnviz.steering import Went
from attnviz.text import visible
from attnviz.trace import Trace
from attnviz.ui.jobs import Job
from attnviz.ui.kept import kept
from attnviz.ui.steering.subject import Subject

WRITTEN = 20  # tokens that the model writes, greedily
PREDICTED = 10


@dataclass(frozen=True, eq=False)
class Steered:
    """The steered run, beside the clean one.

    trace       compact, with the titles of its edits
    predicted   columns token, token_id, before, after, change: the likeliest of both runs; None without a vocabulary
    moved       KL(before || after) at that position, in nats; None likewise
    turned      cosine of both embeddings; None where there are none
    went        attention to the words in every head of the site
    left        to the ignored ones, where others are emphasised; else None
    """

    trace: Trace
    predicted: pd.DataFrame | None
    moved: float | None
    turned: float | None
    went: Went
    left: Went | None = None


def steered_run(subject: Subject) -> Steered:
    """The run with attention brought to the marked words."""

    def make(job: Job) -> Steered:
        model = subject.model
        job.report("the clean run", 0.0)
        clean = model.trace(**subject.given)
        job.report("the steered run", 0.3)
        trace = model.trace(**subject.given, edits=subject.edits)
        job.report("where attention went", 0.6)
        went = steering.went(clean, trace, subject.meant, site=subject.focus.head.site)
        ignored = subject.at(lambda weight: weight < 0)
        both = bool(ignored) and ignored != subject.meant
        left = steering.went(clean, trace, ignored, site=subject.focus.head.site) if both else None
        predicted, moved, turned = None, None, None
        if model.has_vocabulary:
            at = subject.position
            predicted, moved = likeliest(clean, trace, at), steering.moved(clean, trace, at)
        elif clean.embedding is not None and trace.embedding is not None:
            turned = float(torch.nn.functional.cosine_similarity(clean.embedding, trace.embedding, dim=-1))
        return Steered(trace.compact(), predicted, moved, turned, went, left)

    key = (*subject.asked, "steered")
    return cast(Steered, kept(subject, key, "Running the model twice", make, lambda made: made.trace.nbytes))


def likeliest(before: Trace, after: Trace, position: int, k: int = PREDICTED) -> pd.DataFrame:
    """The k likeliest tokens of either run at a position, with their probabilities in both."""
    assert before.logits is not None
    assert after.logits is not None
    shares = [trace.logits[position].float().softmax(-1).cpu() for trace in (before, after) if trace.logits is not None]
    ids = list(dict.fromkeys(i for share in shares for i in share.topk(min(k, len(share))).indices.tolist()))
    table = pd.DataFrame(
        {
            "token": [visible(before.decode(i)) or "␣" for i in ids],
            "token_id": ids,
            "before": shares[0][ids].double().numpy(),
            "after": shares[1][ids].double().numpy(),
        }
    )
    return table.assign(change=table["after"] - table["before"])


def writes(model: Model) -> bool:
    return model.info.has_vocabulary and model.family != "encoder"


def written(subject: Subject, *, steered: bool) -> tuple[str, ...]:
    """What one of the runs writes, greedily."""
    edits: Sequence[Edit] = subject.edits if steered else ()

    def make(job: Job) -> tuple[str, ...]:
        job.report("writing", 0.0)
        prompt = {name: value for name, value in subject.given.items() if name != "decoder_input_ids"}
        made = subject.model.generate(**prompt, max_new_tokens=WRITTEN, edits=edits, compact=True, progress=job.step)
        return tuple(token.text for token in made.tokens[made.prompt_length or 0 :])

    key = (*(subject.asked if steered else subject.run), "written", steered)
    return cast(tuple[str, ...], kept(subject, key, f"Writing {'steered' if steered else 'as it is'}", make))


def by_head(went: Went, subject: Subject, which: str) -> Scores:
    """[layer, head]: the share of attention "before" or "after"; NaN where there is no head."""
    info = subject.model.info
    out = np.full((info.layers_of(subject.site), info.heads_of(subject.site)), np.nan, np.float32)
    for head, share in zip(went.heads, getattr(went, which), strict=True):
        out[head.layer, head.head] = share
    return out


def means(went: Went, subject: Subject) -> tuple[float, float]:
    """Before and after, over the heads that are steered."""
    mine = set(subject.steered)
    at = [i for i, head in enumerate(went.heads) if head in mine]
    return float(went.before[at].mean()), float(went.after[at].mean())
