"""Pruning curves as a figure: means, the interval over texts, the knee, random orders, and time where there is any."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from attnviz import Head
from attnviz.ablation import Curve
from attnviz.errors import InputError
from attnviz.figures.pruning import pruning_curve, was_timed

HEADS = tuple(Head(0, i) for i in range(4))


def made(values: Any, **changes: Any) -> Curve:
    found = Curve(
        order=HEADS,
        removed=np.arange(5),
        values=np.array(values, float),
        removable=np.arange(5) * 100,
        n_parameters=1_000,
        ms=np.full((5, 2), np.nan),
        metric="loss of <b>$x$</b>",
        unit="nats",
        by="in an order",
        how="set to zero (off-distribution)",
    )
    return dataclasses.replace(found, **changes)


BENT = made([[1.0, 3.0], [1.0, 3.0], [1.2, 3.2], [2.0, 4.0], [9.0, 11.0]])


def named(figure: Any, name: str) -> Any:
    (found,) = (trace for trace in figure.data if trace.name == name)
    return found


def test_the_mean_is_drawn_with_its_interval_and_the_knee_marked() -> None:
    figure, low, high = pruning_curve(BENT), BENT.low, BENT.high
    line = named(figure, "mean over texts")
    assert list(line.y) == pytest.approx([2.0, 2.0, 2.2, 3.0, 10.0])
    half = 12.706204736432095 * np.sqrt(2) / np.sqrt(2)  # Student's t of one degree, times the deviation over sqrt(n)
    assert low == pytest.approx(BENT.mean - half)
    assert high == pytest.approx(BENT.mean + half)
    band = next(trace for trace in figure.data if trace.fill == "toself")
    assert list(band.y) == pytest.approx([*high, *low[::-1]])
    assert figure.layout.shapes[0].x0 == BENT.removed[BENT.knee or 0] == 3
    assert "knee: 3 heads" in figure.layout.annotations[0].text
    assert "300 parameters removable (30.0%)" in line.hovertext[3]
    assert "last L0H2" in line.hovertext[3]
    assert "&lt;b&gt;" in figure.layout.title.text
    assert "$" not in figure.layout.title.text


def test_one_text_has_no_interval_and_a_straight_line_no_knee() -> None:
    one = made(np.arange(5.0)[:, None])
    figure = pruning_curve(one)
    assert np.isnan(one.low).all()
    assert not [trace for trace in figure.data if trace.fill == "toself"]
    assert not figure.layout.shapes
    assert "no interval" in figure.layout.title.subtitle.text
    assert "No knee" in figure.layout.title.subtitle.text


def test_random_orders_are_a_band_from_two_on() -> None:
    worse, better = (made(np.full((5, 2), value)) for value in (8.0, 4.0))
    both = pruning_curve(BENT, [worse, better])
    assert list(named(both, "2 random orders").y) == pytest.approx([6.0] * 5)
    band = both.data[0]
    assert sorted(set(band.y)) == [4.0, 8.0]
    alone = pruning_curve(BENT, [worse])
    assert list(named(alone, "random order").y) == pytest.approx([8.0] * 5)
    assert alone.data[0].fill is None


@pytest.mark.parametrize("changes", [{"metric": "another"}, {"removed": np.arange(5) * 2}])
def test_controls_of_something_else_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="outcome and steps"):
        pruning_curve(BENT, [dataclasses.replace(BENT, **changes)])


def test_time_is_drawn_only_where_heads_were_really_taken_out() -> None:
    times = np.array([[10.0, 10.0], [9.0, 10.5], [8.0, 9.5], [7.0, 10.0], [np.nan, np.nan]])
    gone, held = dataclasses.replace(BENT, ms=times), dataclasses.replace(BENT, ms=np.where(times == 10, times, np.nan))
    figure = pruning_curve(BENT, timed=gone)
    assert list(named(figure, "heads taken out").y)[:4] == [10.0, 9.0, 8.0, 7.0]
    assert list(named(figure, "whole model, in turn").y)[:4] == [10.0, 10.5, 9.5, 10.0]
    assert figure.layout.yaxis2.title.text == "ms"
    assert not was_timed(dataclasses.replace(held, ms=np.where(held.removed[:, None] > 0, np.nan, times)))
    without = pruning_curve(BENT, timed=dataclasses.replace(BENT, ms=np.full((5, 2), np.nan)))
    assert {trace.name for trace in without.data} == {trace.name for trace in pruning_curve(BENT).data}
