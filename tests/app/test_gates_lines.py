"""Gates as lines of Python, as a curve and in a sentence, without the page."""

import ast
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from flow_page import MODELS

from attnviz import gates
from attnviz.errors import InputError
from attnviz.figures.gates import learning_curve
from attnviz.gates import Gates
from attnviz.ui.gates import asking, lines, results
from attnviz.ui.gates.course import Course, Row
from attnviz.ui.selection import Selection

DATES = [("3 May 1998", "1998-05-02"), ("17 March 1912", "1912-03-16")]
FEW = Course(steps=1)


@pytest.fixture(scope="module")
def learned(held_models: None) -> Gates:
    return gates.learn(MODELS["dates"], DATES, seed=0, **FEW.settings)


def test_long_examples_stand_in_the_lines_as_they_are(learned: Gates) -> None:
    long = Row(text="On a day that nobody forgets, the third of May, it “rained”.\n" * 3, answer=' "no" ' * 20)
    rows = (long, Row(text="It is " * 14, answer=" wet" * 6, foil=" dry" * 6))
    ask = asking.Asked("dates", MODELS["dates"], FEW, rows)
    made = lines.curve_lines(Selection(model="dates"), ask, learned)
    assert all(len(line) <= 100 for line in made.split("\n"))
    tree = ast.parse(made)
    names = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]
    given_ = [
        tuple(ast.literal_eval(names[one.id] if isinstance(one, ast.Name) else one) for one in each.elts)
        for each in names["examples"].elts  # type: ignore[attr-defined]
    ]
    assert given_ == [(long.text, long.answer), (rows[1].text, rows[1].answer, rows[1].foil)]


def test_a_curve_marks_the_step_with_the_lowest_held_out_loss(learned: Gates) -> None:
    history = pd.DataFrame({"step": [0, 1, 2], "train": [float("nan"), 2.0, 1.0], "held_out": [3.0, 1.0, 2.0]})
    figure = learning_curve(history, steps=9)
    assert figure.data[1].marker.size == (5, 11, 5)
    assert figure.layout.annotations[0].text == "best step: 1"
    assert figure.layout.xaxis.range[1] > 9
    assert learned.title[1:] in learning_curve(learned).layout.title.text
    with pytest.raises(InputError, match="needs the columns"):
        learning_curve(history.iloc[:0])


@pytest.mark.parametrize(
    ("stopped", "penalty", "turned_down", "expected"),
    [
        ("early", "l1", 13, True),
        ("early", "l1", 12, False),
        ("early", "l2", 13, False),
        ("after all steps", "l1", 13, False),
    ],
)
def test_few_heads_that_stopped_with_most_turned_down_says_why(
    learned: Gates, monkeypatch: pytest.MonkeyPatch, stopped: str, penalty: str, turned_down: int, expected: bool
) -> None:
    told: list[str] = []
    monkeypatch.setattr(results.st, "info", lambda words, icon: told.append(words))
    values, left = {}, turned_down
    for site, gates_ in learned.values.items():
        n = min(left, gates_.size)
        values[site], left = np.repeat([0.5, 1.0], [n, gates_.size - n]).reshape(gates_.shape), left - n
    settings = {**learned.settings, "penalty": penalty, "weight": 0.002}
    results.verdict(None, replace(learned, values=values, stopped=stopped, settings=settings))  # type: ignore[arg-type]
    assert f"{turned_down} of 24 heads are turned down" in told[0]
    assert ("Stopped early: the cost had not yet brought most gates back to 1" in told[0].replace("\\", "")) == expected


def test_a_model_that_is_right_already_is_said_to_be(learned: Gates, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(results.st, "info", lambda words, icon: told.append(words))
    ones = replace(learned.held_out, right_before=np.ones(1, bool), right_after=np.ones(1, bool))
    results.verdict(None, replace(learned, best=0, held_out=ones))  # type: ignore[arg-type]
    assert "has all of them right already" in told[0]
