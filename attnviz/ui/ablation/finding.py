"""What the Ablation page computes: each thing as a job, kept for all who ask the same of the same run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from attnviz import ablation
from attnviz.ablation import Screened, Sweep
from attnviz.ablation.asked import Asked
from attnviz.ablation.held import Removal
from attnviz.ablation.passes import Passes
from attnviz.edits import Edit, Head
from attnviz.errors import InputError, Unsupported
from attnviz.metrics.next_token import kl_nats
from attnviz.trace import Trace
from attnviz.ui import work
from attnviz.ui.ablation import generated
from attnviz.ui.ablation.subject import PLURAL, Subject
from attnviz.ui.jobs import Job
from attnviz.ui.kept import Refused
from attnviz.ui.session import stores

WRITTEN = 20  # tokens that the model writes, greedily
_ROWS = 32  # positions whose distributions are held at once


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

    if not subject.metric.batched:
        raise Unsupported("What a model writes moves in steps, so it has no slope and cannot be estimated.")

    def make(job: Job) -> Screened:
        job.report("one pass forward and one back", 0.0)
        return ablation.screen(subject.model, **question_of(subject, job))

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
    if subject.metric.batched:
        asked = question_of(subject, job)
        found = ablation.pieces(subject.model, **asked, order=order, progress=job.step, done=done)
    else:
        found = generated.pieces(subject, partial(edits_of, subject, job=job), progress=job.step, done=done)
    for part in found:
        other = stores().traces.get(key)  # of another session, which may be further
        if not isinstance(other, Sweep) or other.n_reached <= part.n_reached:
            put(subject, key, part)
        job.doing = f"{part.n_reached:,} of {part.n_units:,} {PLURAL[subject.parts]}"


def budget(subject: Subject) -> int:
    """How many bytes a sweep takes at most, worked out before it is run."""

    def make(job: Job) -> int:
        job.report("what the sweep takes", 0.0)
        asked = Asked.of(subject.model, **question_of(subject, job))
        return Passes.of(asked, None, None).budget.total

    return cast(int, kept(subject, (*subject.asked, "budget"), "Planning the sweep", make))


def one_generation(subject: Subject) -> float:
    """How many seconds one measurement of what the model writes takes, timed once."""

    def make(job: Job) -> float:
        job.report("writing once", 0.0)
        began = time.perf_counter()
        subject.model.measure(subject.metric, **subject.given)
        return time.perf_counter() - began

    return cast(float, kept(subject, (*subject.run, "one generation"), "Timing what is written", make))


class Counted(Sequence[Any]):
    """Texts that tell a job how far they are read, each time that they are; a cancelled job ends there."""

    def __init__(self, texts: Sequence[Any], job: Job) -> None:
        self._texts, self._job = texts, job

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, index: Any) -> Any:
        return self._texts[index]

    def __iter__(self) -> Iterator[Any]:
        for number, text in enumerate(self._texts):
            self._job.report(f"the mean, text {number + 1} of {len(self)}", 0.0)
            yield text


def question_of(subject: Subject, job: Job) -> dict[str, Any]:
    """`subject.question`, with the mean that is kept in place of its texts."""
    asked = subject.question
    return asked | {"texts": mean_of(subject, job)} if "texts" in asked else asked


@dataclass(frozen=True, eq=False)
class Held:
    """What heads are held at, with the bytes that it takes in the cache."""

    removal: Removal

    @property
    def nbytes(self) -> int:
        return sum(value.nbytes for value in self.removal.values.values())


def edits_of(subject: Subject, heads: Sequence[Head], job: Job) -> list[Edit]:
    """What takes these heads out together, in a job."""
    return mean_of(subject, job).edits(heads) if subject.how == "mean" else [subject.edit(heads)]


def mean_of(subject: Subject, job: Job) -> Removal:
    """What heads are held at: made once for a model and its texts, and kept."""
    key = (subject.name, "ablation", "mean", work.digest(repr((subject.texts, subject.chat))))
    held = stores().traces.get(key)
    if not isinstance(held, Held):
        held = Held(Removal.of(subject.model, Counted(subject.references, job)))
        put(subject, key, held)
    return held.removal


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
        return _run(subject, edits_of(subject, subject.heads, job), job)

    return cast(Run, kept(subject, key, "Running with these heads taken out", make))


def _run(subject: Subject, edits: Sequence[Edit], job: Job) -> Run:
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
        edited = model.trace(**given, edits=edits_of(subject, subject.heads, job)).logits
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
        parts.append(kl_nats(expected, found))
    return torch.cat(parts).double().cpu().numpy()


def changed(subject: Subject, clean: Trace, edited: Trace) -> npt.NDArray[np.float64]:
    """`changed_patterns` at the site that is looked at, kept with the runs."""

    def make(job: Job) -> npt.NDArray[np.float64]:
        job.report("every map, clean and edited", 0.0)
        return changed_patterns(clean, edited, subject.site)

    key = (*subject.asked, "changed", subject.site, subject.heads)
    return cast(npt.NDArray[np.float64], kept(subject, key, "Comparing maps", make))


def changed_patterns(clean: Trace, edited: Trace, site: str) -> npt.NDArray[np.float64]:
    """[layer, head]: how far each head's rows moved, the mean total variation (0 to 1); NaN where there is no head."""
    info = clean.info
    out = np.full((info.layers_of(site), info.heads_of(site)), np.nan)
    for layer in clean.layers(site):
        apart = (clean.layer(layer, site).pattern()[0] - edited.layer(layer, site).pattern()[0]).abs()
        found = apart.sum(-1).mean(-1) / 2
        out[layer, : len(found)] = found.double().cpu().numpy()
    return out
