"""Every head over many prompts: a sweep of each minimal pair in the background, their mean, and how sure it is.

Each prompt's sweep is kept by itself, so that a job which is stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import pandas as pd
import streamlit as st

from attnviz import ablation
from attnviz.ablation import Averaged, Case, Sweep
from attnviz.errors import AttnvizError, InputError
from attnviz.figures.many import LEAST_TEXTS, mean_map, q_values
from attnviz.ui import say, work
from attnviz.ui.ablation import background, chosen, finding, lines
from attnviz.ui.ablation.background import span
from attnviz.ui.ablation.overview import OFF
from attnviz.ui.ablation.running import seconds_of
from attnviz.ui.ablation.subject import MOST_TOKENS, ONE, PLURAL, Subject
from attnviz.ui.ablation.trial import MOST_SWEPT, pairs_field, uploaded
from attnviz.ui.export import export_bar
from attnviz.ui.flow.showing import show_figure
from attnviz.ui.jobs import Job
from attnviz.ui.session import selection, stores
from attnviz.ui.theme import theme

MANY = "many"  # the kind of the job
RATE = 0.05  # of false discoveries among those that are marked
_FEW = 10  # prompts below which an interval is a hint


def many_prompts(subject: Subject) -> None:
    """The file of prompts, the button that sweeps over them, and the mean as far as it is known."""
    st.markdown("**Over many prompts**")
    with st.popover("More prompts", icon=":material/playlist_add:"):
        pairs_field()
    file, cases = uploaded()
    asked = (subject.name, "ablation", "many", work.digest(repr((cases, _stands_in(subject)))))
    under_way = background.started(MANY, asked) and background.watch(MANY, "Sweeping over prompts")
    if not cases:
        say.caption(
            f"Upload minimal pairs to see what each {ONE[subject.parts]} does on average, and how sure that is."
        )
        return
    if subject.chat:
        say.caption("Minimal pairs are plain texts: switch the chat template off.")
        return
    found = _found(subject, cases)
    if not under_way and len(found) < len(cases):
        _offer(subject, cases, asked, len(found))
    if found:
        _shown(subject, Averaged.of(found, subject.site), len(cases), file)


def _stands_in(subject: Subject) -> tuple[Any, ...]:
    """What tells one way of sweeping over prompts from another; each prompt brings its own donor."""
    return subject.how, subject.texts, subject.parts


def _key(subject: Subject, case: Case) -> tuple[object, ...]:
    return (subject.name, "ablation", "case", work.digest(repr((case, _stands_in(subject)))))


def _found(subject: Subject, cases: Sequence[Case]) -> list[Sweep]:
    """The sweeps of those prompts that were measured."""
    kept = (stores().traces.get(_key(subject, case)) for case in cases)
    return [cast(Sweep, sweep) for sweep in kept if sweep is not None]


def _offer(subject: Subject, cases: tuple[Case, ...], asked: background.Asked, n_done: int) -> None:
    try:
        needed = seconds_of(subject, _n_tokens(subject, cases))
    except AttnvizError as error:
        say.problem(error)
        return
    reached = f"{n_done} of {len(cases)} prompts are measured. " if n_done else ""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Sweep over the rest" if n_done else "Sweep over these prompts",
            key="ablation-many",
            icon=":material/play_arrow:",
            on_click=background.asked_for,
            args=(partial(background.start, MANY, asked, partial(_measure, subject, cases)),),
        )
        st.markdown(say.plain(f"{reached}All {len(cases)} prompts take about {span(needed)}."))


def _n_tokens(subject: Subject, cases: Sequence[Case]) -> int:
    """Tokens of all prompts; InputError where one cannot be swept, with its number."""
    total = 0
    for number, case in enumerate(cases, 1):
        n = len(subject.model.encode(case.clean).ids)
        if n > MOST_TOKENS:
            raise InputError(f"Prompt {number} has {n:,} tokens; heads are taken out of {MOST_TOKENS} at most.")
        if subject.how == "resample" and not case.corrupted:
            raise InputError(f"Prompt {number} has no corrupted text to resample from: give one, or use Mean or Zero.")
        total += n
    if len({case.metric.unit for case in cases}) > 1:
        raise InputError("Some prompts have a foil and some have none, so their outcomes have no mean: give all one.")
    return total


def _measure(subject: Subject, cases: Sequence[Case], job: Job) -> None:
    """Sweep each prompt that was not swept before; ends where the job is cancelled, with the prompts that it has."""
    for number, case in enumerate(cases):
        if stores().traces.get(_key(subject, case)) is not None:
            continue
        job.report(f"prompt {number + 1} of {len(cases)}", number / len(cases))
        try:
            found = ablation.sweep(
                subject.model,
                case.clean,
                case.metric,
                **_options(subject, case),
                progress=partial(_step, job, number, len(cases)),
            )
        except InputError as error:
            raise InputError(f"Prompt {number + 1}: {error}") from error
        if not found.complete:  # cancelled
            return
        finding.put(subject, _key(subject, case), found)


def _step(job: Job, number: int, cases: int, done: int, total: int) -> None:
    job.step(number * total + done, cases * total)


def _options(subject: Subject, case: Case) -> dict[str, Any]:
    """How, and what stands in, as `ablation.sweep` takes it; a decoder reads its start alone before the answer."""
    options: dict[str, Any] = {"how": subject.how, "units": subject.parts, "site": subject.focus.head.site}
    if subject.how != "zero":
        options |= {"donor": case.corrupted} if subject.how == "resample" else {"texts": subject.texts}
    if subject.model.family == "encoder-decoder":
        options["decoder_input_ids"] = subject.trace.input_ids[:1]
    return options


def _shown(subject: Subject, mean: Averaged, n_cases: int, file: str) -> None:
    scheme, site, parts = theme(), subject.site, subject.parts
    title = mean.title[:1].upper() + mean.title[1:]
    st.markdown(f"**{say.plain(title)}**")

    def figure() -> Any:
        return mean_map(mean, site=site, rate=RATE, theme=scheme)

    table = frame(mean)
    here = table[(table["site"] == site) & (table["q"] < RATE)]
    here = here.iloc[(-here["effect"].abs()).argsort(kind="stable")]
    left, right = st.columns([3, 2], gap="medium")
    with left:
        show_figure(figure(), "ablation-many-map")
    with right:
        numbers = {name: st.column_config.NumberColumn(format="%.3f") for name in ("effect", "low", "high")}
        shown = here[["layer", *[parts] * (parts != "layer"), *numbers, "q"]]
        st.dataframe(
            shown,
            hide_index=True,
            key="ablation-many-table",
            column_config=numbers | {"q": st.column_config.NumberColumn(format="%.2g")},
        )
        columns = [0] * len(here) if parts == "layer" else here[parts]
        pairs = [pair for cell in zip(here["layer"], columns, strict=True) for pair in subject.heads_of(*cell)]
        st.button("Make these the set", key="ablation-many-use", on_click=chosen.use, args=(pairs,), disabled=not pairs)
    n = len(mean.baseline)
    say.caption(
        f"{n} of {n_cases} prompts, each counting once and measured by its own answer; clean, they average "
        f"{mean.baseline.mean():.4f}. Each cell: edited minus clean, the mean over prompts.",
        f"Dots and table: {len(here)} {PLURAL[parts]} of q < {RATE} (t-test over prompts, corrected for all "
        f"{int(table['q'].notna().sum())} by Benjamini and Hochberg); the 95% intervals are not corrected."
        if n >= LEAST_TEXTS
        else f"Fewer than {LEAST_TEXTS} prompts are not tested: no head is marked.",
        f"Fewer than {_FEW} prompts are a hint." if LEAST_TEXTS <= n < _FEW else "",
        "It is about prompts like these, and no verdict: other ways of taking heads out may disagree.",
        OFF if subject.how == "zero" else "",
    )
    export_bar(
        "over many prompts",
        figure,
        lambda: table,
        lines.many_lines(selection(), subject, file, MOST_SWEPT),
        about={"model": subject.model.info.name, "what": mean.title, "prompts": n, "how": subject.how, "units": parts},
        key="ablation-many",
    )


def frame(mean: Averaged) -> pd.DataFrame:
    """`Averaged.frame`, with the column q of `figures.many.q_values`."""
    there = [q[np.isfinite(mean.by_site[site].mean(0))] for site, q in q_values(mean).items()]
    return mean.frame().assign(q=np.concatenate(there))
