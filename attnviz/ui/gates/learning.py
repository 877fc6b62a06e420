"""Learning in view: a background job with a curve that grows, a way to stop it that keeps what it has, and more seeds.

What was learned is kept for all who ask the same; a session holds the curve of the job that it started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import pandas as pd
import streamlit as st

from attnviz import gates
from attnviz.errors import AttnvizError, Cancelled, InputError
from attnviz.figures.gates import learning_curve
from attnviz.gates import Gates
from attnviz.ui import say
from attnviz.ui.ablation import background
from attnviz.ui.flow.showing import show_figure
from attnviz.ui.gates.asking import Asked
from attnviz.ui.gates.course import Course, Row, change
from attnviz.ui.jobs import Job
from attnviz.ui.session import act, stores
from attnviz.ui.theme import theme

LEARN, SEEDS = "gates", "gates-seeds"  # kinds of jobs, of each of which a session has one
MORE_SEEDS = 4
_LIVE, _LAST = "attnviz_gates_live", "attnviz_gates_last"
_STEP_SECONDS = 20.0  # that a step which was stopped may still take


@dataclass(eq=False)
class Live:
    """A job of this session, its curve so far, (step, train, held_out) in nats, and the last gates that it learned."""

    key: tuple[object, ...]
    rows: list[tuple[int, float, float]] = field(default_factory=list)
    gates: Gates | None = None
    job: Job | None = None

    def over(self, seconds: float = 0.0) -> bool:
        return self.job is None or self.job.wait(seconds)


@dataclass(frozen=True, eq=False)
class Learned:
    """Gates as the cache holds them, with an estimate of their size."""

    gates: Gates
    nbytes: int


@dataclass(frozen=True, eq=False)
class _Last:
    """The last gates that a session saw learned, and from what; without the model, which may be let go."""

    name: str
    course: Course
    rows: tuple[Row, ...]
    gates: Gates


def known(ask: Asked, seed: int) -> Gates | None:
    """What was learned with this seed, by anybody; None where nothing was."""
    key = ask.key(seed)
    found = stores().traces.get(key)
    if found is not None:
        return cast(Learned, found).gates
    live, last = _live(LEARN), cast(_Last | None, st.session_state.get(_LAST))
    if live is not None and live.key == key and live.gates is not None:
        return live.gates
    again = last is not None and Asked(last.name, ask.model, last.course, last.rows).key(last.gates.seed) == key
    return last.gates if last is not None and again else None


def learned(ask: Asked) -> Gates | None:
    """What was learned; None before that. Shows the button, or the bar and the curve of a job that is under way."""
    if _under_way(LEARN, ask.key(ask.course.seed)):
        _learning(ask.course.steps)
        return None
    found = known(ask, ask.course.seed)
    if found is None or found.stopped == "on request":
        _offer(ask, found)
    if found is not None:
        st.session_state[_LAST] = _Last(ask.name, ask.course, ask.rows, found)
    return found


def earlier(ask: Asked) -> tuple[Asked, Gates] | None:
    """The last gates of this session with what they were learned from, where that is not what is asked for now.

    Says so. None where nothing was learned on this model, and while something is.
    """
    live, last = _live(LEARN), cast(_Last | None, st.session_state.get(_LAST))
    if last is None or last.name != ask.name or (live is not None and not live.over()):
        return None
    old, n = Asked(ask.name, ask.model, last.course, last.rows), len(last.rows)
    with st.container(horizontal=True, vertical_alignment="center", border=True):
        st.markdown(
            f"The gates learned with seed {last.gates.seed} from {n} examples are kept, and shown below. The examples "
            "or the settings have changed since."
        )
        parts = {name: getattr(last.course, name) for name in type(last.course).model_fields}
        st.button(
            "Back to what they were learned from",
            icon=":material/undo:",
            key="gates-earlier",
            on_click=change,
            kwargs=parts,
        )
    return old, last.gates


def _begin(kind: str, key: tuple[object, ...], make: Callable[[Live, Job], None]) -> None:
    live = Live(key)
    st.session_state[f"{_LIVE}_{kind}"] = live
    live.job = Job(lambda job: make(live, job))


def _live(kind: str) -> Live | None:
    return cast(Live | None, st.session_state.get(f"{_LIVE}_{kind}"))


def _under_way(kind: str, key: tuple[object, ...]) -> bool:
    """Whether a job for this goes on; one for something else is stopped, and what it has is kept."""
    live = _live(kind)
    if live is None or live.job is None:
        return False
    if live.key != key:
        live.job.cancel()
        del st.session_state[f"{_LIVE}_{kind}"]
        return False
    if not live.over():
        return True
    try:
        live.job.result()
    except Cancelled:
        return False
    except AttnvizError as error:
        say.problem(error)
    return False


def _goes_on(kind: str, title: str) -> bool:
    """The bar of the kind's job, with a way to stop it; where it is over, or ends with its step, the page is drawn."""
    live = _live(kind)
    job = None if live is None else live.job
    if live is None or job is None or job.cancelled or live.over():
        if live is not None:
            live.over(_STEP_SECONDS)
        st.rerun()

    def stop() -> None:
        act()
        job.cancel()

    with st.container(horizontal=True, vertical_alignment="center", border=True):
        left = job.seconds_left
        more = "" if left is None else f" · about {background.span(left)} left"
        st.progress(job.share, say.plain(f"{title}: {job.doing}{more}"), width="stretch")
        st.button("Cancel", on_click=stop, key=f"{kind}-cancel", icon=":material/stop_circle:")
    return True


@st.fragment(run_every=background.LOOK_SECONDS)
def _learning(steps: int) -> None:
    """The bar and the curve, drawn anew by themselves: the rest of the page stays as it is, and can be used."""
    live = _live(LEARN)
    if _goes_on(LEARN, "Learning") and live is not None and live.rows:
        history = pd.DataFrame(list(live.rows), columns=["step", "train", "held_out"])
        show_figure(learning_curve(history, steps=steps, theme=theme()), "gates-curve-so-far")
        say.caption(
            "The loss so far, step by step. The loss on the held-out examples is the one that counts: the step where "
            "it is lowest is kept, and step 0 is the model as it is. You can cancel and keep what was learned."
        )


def _offer(ask: Asked, found: Gates | None) -> None:
    few = ask.texts < 2
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Learn" if found is None else "Learn again, to the end",
            type="primary" if found is None else "secondary",
            icon=":material/school:",
            key="gates-learn",
            disabled=few,
            on_click=background.asked_for,
            args=(partial(_start, ask),),
        )
        n = len(ask.rows)
        words = (
            "Give examples of at least two different texts: one to learn from, and one that is held out."
            if few
            else f"{n} example{'s' * (n != 1)}, at most {ask.course.steps} steps. You can stop at any time and keep "
            "what was learned."
        )
        st.markdown(say.plain(words))


def _start(ask: Asked) -> None:
    _begin(LEARN, ask.key(ask.course.seed), partial(_learn, ask, ask.course.seed))


def _learn(ask: Asked, seed: int, live: Live, job: Job, *, first: float = 0.0, last: float = 1.0) -> None:
    """The job, or the part of it from share `first` to `last`. One that is stopped ends with its best step so far."""

    def told(step: int, steps: int, losses: Mapping[str, float]) -> None:
        live.rows.append((step, losses["train"], losses["held_out"]))
        try:
            job.report(f"seed {seed}, step {step} of {steps}", first + (last - first) * step / steps)
        except InputError as error:  # the server gives one question no more time
            raise Cancelled(str(error)) from error

    made = gates.learn(ask.model, ask.examples, **ask.course.settings, seed=seed, progress=told)
    live.gates = made
    if stores().models.get(ask.name) is ask.model:  # else it was let go meanwhile
        heads = sum(values.nbytes for values in made.values.values())
        stores().traces.put(ask.key(seed), Learned(made, 16_384 + heads))


def seeds(ask: Asked, found: Gates) -> None:
    """The same with other seeds, on request: how much of it is the luck of the draw."""
    others = [ask.course.seed + i for i in range(1, MORE_SEEDS + 1)]
    key = (*ask.key(ask.course.seed), "seeds")
    if _under_way(SEEDS, key):
        _learning_more(ask, found, others)
        return
    left = [seed for seed in others if known(ask, seed) is None]
    if left:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button(
                f"Learn with {len(left)} more seed{'s' * (len(left) != 1)}",
                icon=":material/casino:",
                key="gates-seeds",
                on_click=background.asked_for,
                args=(partial(_begin, SEEDS, key, partial(_learn_all, ask, left)),),
            )
            say.caption("Another seed holds out other examples: what differs between seeds is luck.")
    _spread(ask, found, others)


@st.fragment(run_every=background.LOOK_SECONDS)
def _learning_more(ask: Asked, found: Gates, others: Sequence[int]) -> None:
    if _goes_on(SEEDS, "Other seeds"):
        _spread(ask, found, others)


def _learn_all(ask: Asked, left: Sequence[int], live: Live, job: Job) -> None:
    n = len(left)
    for number, seed in enumerate(left):
        job.report(f"seed {seed}", number / n)
        _learn(ask, seed, live, job, first=number / n, last=(number + 1) / n)


def _spread(ask: Asked, found: Gates, others: Sequence[int]) -> None:
    """A row for each seed, as far as they are learned."""
    runs = [found, *filter(None, (known(ask, seed) for seed in others))]
    if len(runs) < 2:
        return
    table = pd.DataFrame([spread_row(one) for one in runs])
    percent = st.column_config.NumberColumn(format="percent")
    config: dict[str, Any] = {"right before": percent, "right after": percent}
    config["change, nats"] = st.column_config.NumberColumn(format="%+.2f")
    st.dataframe(table, hide_index=True, key="gates-spread", column_config=config, height="content")
    after, same = table["right after"], set(runs[0].changed())
    for one in runs[1:]:
        same &= set(one.changed())
    n = len(same)
    say.caption(
        f"Each row: its own held-out examples, before and after. Right after: {after.mean():.0%} in the mean, from "
        f"{after.min():.0%} to {after.max():.0%}.",
        f"{n} head{'s are' if n != 1 else ' is'} turned down with every seed. The runs share examples, so they are no "
        "independent trials.",
        "Some were stopped before their end." if any(one.stopped == "on request" for one in runs) else "",
    )


def spread_row(found: Gates) -> dict[str, Any]:
    """One seed's row of the table."""
    before, after = found.held_out.right
    return {
        "seed": found.seed,
        "right before": before,
        "right after": after,
        "change, nats": found.held_out.change.mean,
        "turned down": len(found.changed()),
        "closed": len(found.closed()),
        "best step": found.best,
    }
