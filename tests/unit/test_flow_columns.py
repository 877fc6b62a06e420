"""Scores of one target as one row of columns: both texts, units and what is not known."""

import numpy as np
import pytest
import torch

from attnviz.flow.columns import columns
from attnviz.flow.mixing import Scores
from attnviz.units import Units

NAN = float("nan")


def scores(text: list[float], source: list[float] | None = None) -> Scores:
    own = None if source is None else torch.tensor(source, dtype=torch.float64)
    return Scores(torch.tensor(text, dtype=torch.float64), own)


def units(*starts: int) -> Units:
    """Units between these positions, the last being the number of tokens."""
    return Units("word", tuple(f"w{i}" for i in range(len(starts) - 1)), starts)


def test_one_text_is_its_own_row() -> None:
    assert columns(scores([0.5, 0.25, 0.25])).tolist() == [0.5, 0.25, 0.25]


def test_the_source_comes_first() -> None:
    assert columns(scores([1.0, 2.0], [3.0, 4.0, 5.0])).tolist() == [3, 4, 5, 1, 2]


def test_units_add_their_tokens_up_on_either_side() -> None:
    found = scores([1.0, 2.0, 4.0], [8.0, 16.0, 32.0])
    assert columns(found, units(0, 1, 3), units(0, 2, 3)).tolist() == [24, 32, 1, 6]
    assert columns(found, units(0, 1, 3)).tolist() == [8, 16, 32, 1, 6]
    assert columns(found, None, units(0, 3)).tolist() == [56, 1, 2, 4]


def test_a_unit_is_unknown_only_if_all_of_its_tokens_are() -> None:
    got = columns(scores([NAN, 2.0, NAN, NAN]), units(0, 2, 4))
    np.testing.assert_array_equal(got, [2.0, NAN])


@pytest.mark.parametrize("axis", [None, units(0, 1, 2, 3)])
def test_what_a_causal_model_has_not_seen_is_unknown_in_the_text_alone(axis: Units | None) -> None:
    found = scores([1.0, 2.0, 0.0], [3.0, 4.0])
    np.testing.assert_array_equal(columns(found, axis, until=1), [3.0, 4.0, 1.0, 2.0, NAN])
    assert found.text.tolist() == [1, 2, 0], "the caller's scores stay as they are"


def test_a_unit_that_was_seen_in_part_counts_with_that_part() -> None:
    np.testing.assert_array_equal(columns(scores([1.0, 2.0, 4.0]), units(0, 1, 3), until=1), [1.0, 2.0])
