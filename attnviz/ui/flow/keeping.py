"""A run of the Flow page taken apart, as a job with progress, kept for all who look; and which runs can be."""

from __future__ import annotations

from typing import Any, cast

from attnviz.errors import InputError
from attnviz.flow.run import Run, take_apart
from attnviz.trace import Trace
from attnviz.ui.flow.target import Subject
from attnviz.ui.jobs import Job
from attnviz.ui.kept import kept

MOST_TOKENS = 512  # of a text whose run is taken apart, drawn as a graph, or changed token by token


def ids_of(trace: Trace) -> dict[str, Any]:
    """The very ids of a run, as the library's functions take them; a template's tokens are among them."""
    if trace.info.family == "encoder-decoder":
        return {"input_ids": [token.id for token in trace.source_tokens], "decoder_input_ids": trace.input_ids}
    return {"input_ids": trace.input_ids}


def too_long(trace: Trace) -> str:
    """Why a text is too long for all but rollout; "" where it is not."""
    longest = max(len(trace.tokens), len(trace.source_tokens))
    if longest <= MOST_TOKENS:
        return ""
    return (
        f"The text has {longest:,} tokens. Beyond {MOST_TOKENS} only rollout and the two baselines are offered; "
        "shorten the text for the rest."
    )


def run_of(subject: Subject) -> Run:
    """The subject's run taken apart; raises Unsupported where the model's parts cannot be told."""
    model, trace = subject.model, subject.trace
    if model is None:
        raise InputError("This needs the model, and a saved trace comes without it. Choose the model and run the text.")
    if too_long(trace):
        raise InputError(too_long(trace))

    def make(job: Job) -> Run:
        job.report("taking the run apart", 0.0)
        return take_apart(model, **ids_of(trace), progress=job.step)

    return cast(Run, kept(subject, (*subject.run, "run"), "Running the model", make, lambda run: run.nbytes))
