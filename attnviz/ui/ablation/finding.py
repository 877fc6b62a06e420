"""What the Ablation page computes: each thing as a job, kept for all who ask the same of the same run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from attnviz import ablation
from attnviz.ablation import Screened, Sweep
from attnviz.edits import Edit, Head
from attnviz.errors import AttnvizError, InputError, Unsupported
from attnviz.trace import Trace
from attnviz.ui import work
from attnviz.ui.ablation.subject import Subject
from attnviz.ui.jobs import Job
from attnviz.ui.session import stores

WRITTEN = 20  # tokens that the model writes, greedily
_ROWS = 32  # positions whose distributions are held at once


@dataclass(frozen=True)
class Refused:
    """An error without its traceback, whose frames may hold a model."""

    kind: type[AttnvizError]
    words: str


def kept(subject: Subject, key: tuple[Any, ...], title: str, make: Callable[[Job], Any]) -> Any:
    """What `make` gives, from the cache or as a job that is waited for in view.

    raises   what `make` refuses as Unsupported or InputError, so that a page can show the rest
    """
    found = stores().traces.get(key)
    if found is None:

        def run(job: Job) -> Any:
            try:
                made = make(job)
            except (InputError, Unsupported) as error:
                made = Refused(type(error), str(error))
            put(subject, key, made)
            return made

        found = work.finished(("ablation", *key), title, run)
    if isinstance(found, Refused):
        raise found.kind(found.words)
    return found


def put(subject: Subject, key: tuple[Any, ...], value: Any) -> None:
    """Keep a value for all, unless its model was let go meanwhile."""
    if stores().models.get(subject.name) is subject.model:
        stores().traces.put(key, value)


def screened(subject: Subject) -> Screened:
    """Every head's effect, estimated; Unsupported for an outcome without a slope."""

    def make(job: Job) -> Screened:
        job.report("one pass forward and one back", 0.0)
        return ablation.screen(subject.model, **subject.question)

    return cast(Screened, kept(subject, (*subject.asked, "screen"), "Estimating every head", make))


def swept(subject: Subject) -> Sweep | None:
    """What is known exactly so far; None before anything was measured."""
    return cast(Sweep | None, stores().traces.get((*subject.asked, "sweep")))


def sweep(subject: Subject, order: Sequence[Head], job: Job) -> None:
    """Measure every head, the first of `order` first, and keep what is known after every piece; goes on where it was.

    Runs in a job, and ends without an error where that is cancelled.
    """
    key, done = (*subject.asked, "sweep"), swept(subject)
    job.report("", 0.0)
    found = ablation.pieces(subject.model, **subject.question, order=order, progress=job.step, done=done)
    for part in found:
        other = stores().traces.get(key)  # of another session, which may be further
        if not isinstance(other, Sweep) or other.n_reached <= part.n_reached:
            put(subject, key, part)
        job.doing = f"{part.n_reached:,} of {part.n_units:,} heads"


@dataclass(frozen=True, eq=False)
class Run:
    """One run, clean or with heads taken out; never both.

    trace      compact, with the titles of its edits
    outcome    the metric
    written    the tokens that the model writes after the text, greedily; None for a model that writes nothing
    """

    trace: Trace
    outcome: float
    written: tuple[str, ...] | None

    @property
    def nbytes(self) -> int:
        return self.trace.nbytes + 4096


def clean_run(subject: Subject) -> Run:
    """The run without edits, with its own outcome and its own text."""
    key = (*subject.run, "clean", work.digest(repr(subject.metric)))
    return cast(Run, kept(subject, key, "Running the model", lambda job: _run(subject, (), job)))


def edited_run(subject: Subject) -> Run:
    """The run with the chosen heads taken out together."""
    key = (*subject.asked, "edited", subject.heads)

    def make(job: Job) -> Run:
        job.report("what stands in for the heads", 0.0)
        return _run(subject, (subject.edit(subject.heads),), job)

    return cast(Run, kept(subject, key, "Running with these heads taken out", make))


def _run(subject: Subject, edits: tuple[Edit, ...], job: Job) -> Run:
    model, given = subject.model, subject.given
    job.report("measuring", 0.1)
    outcome = model.measure(subject.metric, **given, edits=edits)
    job.report("tracing", 0.3)
    trace = model.trace(**given, edits=edits, compact=True)
    written = None
    if model.info.has_vocabulary and model.family != "encoder":

        def step(done: int, total: int) -> None:
            job.report("writing", 0.5 + 0.5 * done / total)

        prompt = {name: value for name, value in given.items() if name != "decoder_input_ids"}
        made = model.generate(**prompt, max_new_tokens=WRITTEN, edits=edits, compact=True, progress=step)
        written = tuple(token.text for token in made.tokens[made.prompt_length or 0 :])
    return Run(trace, outcome, written)


def moved(subject: Subject) -> npt.NDArray[np.float64] | None:
    """[position]: KL(clean || edited) of the predictions at each position, in nats; None without a vocabulary."""
    if not subject.model.has_vocabulary:
        return None

    def make(job: Job) -> npt.NDArray[np.float64]:
        model, given = subject.model, subject.given
        job.report("the clean run", 0.0)
        clean = model.trace(**given).logits
        job.report("the edited run", 0.5)
        edited = model.trace(**given, edits=(subject.edit(subject.heads),)).logits
        assert clean is not None
        assert edited is not None
        return divergences(clean, edited)

    key = (*subject.asked, "moved", subject.heads)
    return cast(npt.NDArray[np.float64], kept(subject, key, "Comparing predictions", make))


def divergences(clean: torch.Tensor, edited: torch.Tensor) -> npt.NDArray[np.float64]:
    """[position]: KL(clean || edited) in nats, of logits [position, vocab]."""
    parts = []
    for start in range(0, len(clean), _ROWS):
        expected, found = (x[start : start + _ROWS].float().log_softmax(-1) for x in (clean, edited))
        share = expected.exp()
        # A token that the model rules out adds nothing, where 0 * inf would be NaN.
        parts.append(torch.where(share > 0, share * (expected - found), 0.0).sum(-1).clamp(min=0))
    return torch.cat(parts).double().cpu().numpy()


def changed_patterns(clean: Trace, edited: Trace, site: str) -> npt.NDArray[np.float64]:
    """[layer, head]: how far each head's rows moved, the mean total variation (0 to 1); NaN where there is no head."""
    info = clean.info
    out = np.full((info.layers_of(site), info.heads_of(site)), np.nan)
    for layer in clean.layers(site):
        apart = (clean.layer(layer, site).pattern()[0] - edited.layer(layer, site).pattern()[0]).abs()
        found = apart.sum(-1).mean(-1) / 2
        out[layer, : len(found)] = found.double().cpu().numpy()
    return out
