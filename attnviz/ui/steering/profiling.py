"""Which heads are worth steering: each one steered alone on a few examples, the app's own or those that are pasted."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import cast

import pandas as pd
import streamlit as st

from attnviz import feedback, steering
from attnviz.edits import Head
from attnviz.emphasis import Example, read_examples
from attnviz.errors import InputError
from attnviz.steering import Profile
from attnviz.ui import drafts, say, work
from attnviz.ui.feedback import given
from attnviz.ui.jobs import Job
from attnviz.ui.kept import kept
from attnviz.ui.session import act, model_name, selection, text_of
from attnviz.ui.steering.plan import MOST_BEST, MOST_CHARS, Plan
from attnviz.ui.steering.subject import Subject

STRENGTH = 0.01  # that heads are tried at, whatever the page's slider says: a profile takes many runs
MOST_EXAMPLES = 20
_REFUSED = "attnviz_steering_examples"


def _pair(first: str, second: str, ending: str, answers: tuple[str, str], emphasised: int) -> Example:
    """Two facts that contradict each other, and the beginning of a sentence that one of them completes."""
    facts = (first, second)
    answer, foil = answers[emphasised], answers[1 - emphasised]
    return Example(f"{first} {second} {ending}", facts[emphasised], f" {answer}", f" {foil}")


OWN = (
    _pair(
        "Lena says that the train leaves at seven.",
        "Omar says that the train leaves at eight.",
        "The train leaves at",
        ("seven", "eight"),
        1,
    ),
    _pair(
        "The map says that the lake is in the north.",
        "The guide says that the lake is in the south.",
        "The lake is in the",
        ("north", "south"),
        0,
    ),
    _pair(
        "The first letter says that the door is red.",
        "The second letter says that the door is blue.",
        "The colour of the door is",
        ("red", "blue"),
        1,
    ),
    _pair(
        "Tom wrote that the party is on Saturday.",
        "Ruth wrote that the party is on Sunday.",
        "The party is on",
        ("Saturday", "Sunday"),
        0,
    ),
    _pair(
        "The cook says that the soup is hot.",
        "The waiter says that the soup is cold.",
        "The soup is",
        ("hot", "cold"),
        1,
    ),
    _pair(
        "One paper says that the winner came from France.",
        "Another paper says that the winner came from Spain.",
        "The winner came from",
        ("France", "Spain"),
        0,
    ),
)


def best_field(plan: Plan) -> None:
    """How many heads, and the examples that they are found on."""
    st.session_state["steering-best"] = plan.best

    def moved() -> None:
        _replan(best=int(st.session_state["steering-best"]))

    st.slider("How many", 1, MOST_BEST, key="steering-best", on_change=moved, width=220)
    with st.popover("Examples", icon=":material/list:"):
        _examples_field(plan)


def _examples_field(plan: Plan) -> None:
    say.caption(
        "A head is good where steering it alone towards the emphasised part helps the answer over the foil.",
        f"One example a line, at most {MOST_EXAMPLES}: text, emphasis (a phrase of the text, or token positions), "
        "answer and, if there is one, foil, as the next words with their space. Left empty: six pairs of contradicting "
        "facts in English of the app's own.",
    )
    st.session_state["steering-examples"] = plan.examples

    def typed() -> None:
        _replan(examples=str(st.session_state["steering-examples"]))

    st.text_area(
        "Examples, JSON Lines",
        key="steering-examples",
        height=160,
        max_chars=MOST_CHARS,
        on_change=typed,
        placeholder='{"text": "Ann says … The door is", "emphasis": "Ann says …", "answer": " red", "foil": " blue"}',
    )
    st.button(
        "Add this text, with its marked words and your feedback",
        key="steering-add",
        on_click=_add,
        icon=":material/add:",
        help="What was wanted, and rather than what, is taken from your feedback on this text.",
    )
    if _REFUSED in st.session_state:
        say.problem(InputError(st.session_state.pop(_REFUSED)))


def _replan(**changes: object) -> None:
    act()
    drafts.keep("plan", drafts.read(Plan, "plan").model_copy(update=changes))


def _add() -> None:
    """The page's text as an example."""
    act()
    chosen, plan = selection(), drafts.read(Plan, "plan")
    text = text_of(chosen.text)
    case = next((case for case in reversed(feedback.examples(given(), model=model_name())) if case.clean == text), None)
    if case is None or not chosen.emphasised or chosen.chat:
        st.session_state[_REFUSED] = (
            "An example needs emphasised words, and feedback on this text, without a chat template, that says what was "
            "wanted: press “Wrong” or “Right” below its prediction first."
        )
        return
    row = {"text": text, "emphasis": chosen.emphasised, "answer": case.answer, "foil": case.foil}
    line = json.dumps(row, ensure_ascii=False)
    lines = "\n".join(filter(None, [plan.examples.rstrip("\n"), line]))
    if len(lines) > MOST_CHARS:
        st.session_state[_REFUSED] = f"All examples together have at most {MOST_CHARS:,} characters: take some away."
        return
    _replan(examples=lines)


def examples_of(plan: Plan) -> tuple[Example, ...]:
    """Those that are pasted, else the app's own; InputError naming the line that cannot be read."""
    if not plan.examples.strip():
        return OWN
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "examples.jsonl"
        file.write_text(plan.examples, "utf-8")
        found = tuple(read_examples(file))
    if len(found) > MOST_EXAMPLES:
        raise InputError(f"Heads are tried on at most {MOST_EXAMPLES} examples; these are {len(found)}.")
    return found


def profiled(subject: Subject) -> tuple[Head, ...]:
    """The heads that helped most, and which these are; InputError where none helped."""
    examples = examples_of(subject.plan)
    found = profile(subject, examples)
    best = found.best(subject.plan.best)
    if not best:
        raise InputError("Steering no head alone helped the wanted answers. Give other examples, or choose heads.")
    means = [float(found.mean[head.layer, head.head]) for head in best]
    with st.popover(f"The {len(best)} heads", icon=":material/format_list_numbered:"):
        table = pd.DataFrame({"head": list(map(str, best)), "helps by": means})
        st.dataframe(table, hide_index=True, key="steering-profile", height="content" if len(best) < 9 else 320)
        say.caption(f"{found.title[:1].upper()}{found.title[1:]}. How steered heads act together is not in it.")
    own = "the app's own pairs of contradicting facts" if examples is OWN else "your examples"
    say.caption(
        f"The best of {int(found.mean.size):,} heads on {len(examples)} examples ({own}): what is best of so many owes "
        "much to chance, so judge them on other texts."
    )
    return best


def profile(subject: Subject, examples: tuple[Example, ...]) -> Profile:
    """Every head steered alone on each example, once for a model and its examples."""

    def make(job: Job) -> Profile:
        for example in examples:
            work.check_length(subject.model, example.text, False)
        job.report("every head alone", 0.0)
        return steering.profile(subject.model, examples, strength=STRENGTH, progress=job.step)

    key = (subject.name, "steering", "profile", work.digest(repr(examples)))
    return cast(Profile, kept(subject, key, "Trying heads", make, lambda made: made.by_site["decoder"].nbytes))
