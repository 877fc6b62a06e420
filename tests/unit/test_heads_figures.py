"""Figures of what heads do over many texts: values, colours that part at chance, orders, trees and places."""

import math

import numpy as np
import pytest

from attnviz.errors import InputError, ShapeError
from attnviz.figures.heads import (
    MOST_HEADS,
    detector_map,
    family_map,
    family_places,
    of_layer,
    parted,
    plane_share,
    span,
    straight,
)
from attnviz.figures.palette import DIVERGING
from attnviz.heads import Pairs

SCORES = np.array([[0.1, 0.9], [0.3, np.nan]], np.float32)
HEADS = ((0, 0), (0, 1), (1, 0), (1, 1))


def pairs(values: list[list[float]]) -> Pairs:
    return Pairs(HEADS[: len(values)], np.array(values, np.float32), 30, 2)


NEAR = pairs([[0, 0.6, 0.1, 0.5], [0.6, 0, 0.5, 0.1], [0.1, 0.5, 0, 0.6], [0.5, 0.1, 0.6, 0]])
COSINES = pairs([[1, 0.2, 0.9], [0.2, 1, -0.1], [0.9, -0.1, 1]])


def lightness(stop: str) -> int:
    return sum(int(stop[i : i + 2], 16) for i in (1, 3, 5))


def test_a_map_of_heads_has_every_value_at_its_layer_and_head() -> None:
    figure = detector_map(SCORES, name="previous", title="<b>x</b>", note="of $x$")
    np.testing.assert_array_equal(np.array(figure.data[0].z, np.float32), SCORES)
    assert (figure.data[0].zmin, figure.data[0].zmax) == (0.0, pytest.approx(0.9))
    assert figure.layout.title.text == "&lt;b&gt;x&lt;/b&gt;"
    assert "$" not in figure.layout.title.subtitle.text
    assert figure.layout.yaxis.autorange == "reversed"


def test_colours_part_at_chance_and_say_so() -> None:
    figure = detector_map(SCORES, chance=0.25)
    assert "Even attention scores 0.250" in figure.layout.title.subtitle.text
    (low, high), scale = span(SCORES, 0.25), figure.data[0].colorscale
    middle = min(scale, key=lambda stop: abs(low + stop[0] * (high - low) - 0.25))
    assert middle[1] == max((colour for _, colour in scale), key=lightness)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_same_distance_from_chance_has_the_same_strength_on_both_sides(theme: str) -> None:
    whole = parted(theme, -1.0, 0.0, 1.0)  # type: ignore[arg-type]
    assert (whole[0], whole[32], whole[-1]) == (DIVERGING[theme][0], DIVERGING[theme][3], DIVERGING[theme][-1])
    half = parted(theme, -0.5, 0.0, 1.0)  # type: ignore[arg-type]
    assert half[-1] == whole[-1]
    assert half[0] == whole[16]  # the orange of -0.5, not of the end


def test_values_all_near_chance_stay_pale() -> None:
    near = parted("light", 0.0, 0.02, 0.03)
    assert min(map(lightness, near)) > min(map(lightness, parted("light", 0.0, 0.02, 0.2)))
    assert near[-1] not in DIVERGING["light"][-2:]


@pytest.mark.parametrize("chance", [None, 0.0, 0.4])
def test_a_scale_holds_zero_chance_and_all_values_and_is_never_empty(chance: float | None) -> None:
    for scores in ([[0.0, 0.0]], [[-0.3, 0.2]], [[np.nan, 0.7]]):
        low, high = span(scores, chance)
        assert low <= min(0.0, np.nanmin(scores)) < high
        assert high >= max(np.nanmax(scores), chance or 0.0)


def test_maps_of_nothing_or_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match="nothing to draw"):
        detector_map(np.full((2, 2), np.nan))
    with pytest.raises(ShapeError, match=r"\[layer, head\]; got \[2\]"):
        detector_map([0.1, 0.2])


def test_like_heads_stand_together_and_the_tree_joins_them_first() -> None:
    figure = family_map(NEAR, measure="nats")
    names = list(figure.layout.xaxis2.ticktext)
    assert {frozenset(names[:2]), frozenset(names[2:])} == {frozenset(("L0H0", "L1H0")), frozenset(("L0H1", "L1H1"))}
    order = [HEADS.index((int(name[1]), int(name[3]))) for name in names]
    tree, cells = figure.data
    np.testing.assert_array_equal(cells.z, NEAR.values[np.ix_(order, order)])
    heights = {y for y in tree.y if y}
    assert sorted(heights) == pytest.approx([0.1, 0.55])  # 0.1 twice, then the mean of 0.6, 0.5, 0.5, 0.6
    leaves = {x for x, y in zip(tree.x, tree.y, strict=True) if y == 0}
    assert leaves == {0, 1, 2, 3}
    assert cells.zmax == pytest.approx(math.log(2))
    assert "30 rows of 2 texts" in figure.layout.title.subtitle.text


def test_alike_is_strong_for_divergence_and_signed_for_cosine() -> None:
    scale = family_map(NEAR, measure="nats").data[1].colorscale
    assert lightness(scale[0][1]) < lightness(scale[-1][1])
    cells = family_map(COSINES, measure="cosine").data[1]
    assert (cells.zmin, cells.zmax) == (-1, 1)


def test_one_layer_holds_its_own_heads_only() -> None:
    own = of_layer(NEAR, 1)
    assert own.heads == ((1, 0), (1, 1))
    np.testing.assert_array_equal(own.values, NEAR.values[2:, 2:])
    assert list(family_map(NEAR, measure="nats", layer=1).layout.xaxis2.ticktext) in (
        ["L1H0", "L1H1"],
        ["L1H1", "L1H0"],
    )
    with pytest.raises(InputError, match="layer 1 has 1"):
        of_layer(COSINES, 1)


def test_more_heads_than_can_be_drawn_are_refused_with_a_remedy() -> None:
    n = MOST_HEADS + 1
    many = Pairs(tuple((0, i) for i in range(n)), np.zeros((n, n), np.float32), 1, 1)
    with pytest.raises(InputError, match=f"the model has {n}. Choose one layer"):
        family_map(many, measure="nats")


def test_places_keep_distances_that_fit_a_plane_and_ring_the_selected_head() -> None:
    figure = family_places(COSINES, measure="cosine", selected=(0, 1))
    marks = figure.data[0]
    assert list(marks.hovertext) == ["L0H0", "L0H1", "L1H0"]
    assert [width > 0 for width in marks.marker.line.width] == [False, True, False]
    points = np.stack([marks.x, marks.y], -1)
    found = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.testing.assert_allclose(found, np.sqrt(2 - 2 * COSINES.values), atol=1e-5)  # three points fit a plane
    assert plane_share(COSINES, "cosine") == pytest.approx(1.0, abs=1e-6)
    assert "100% of the variance" in figure.layout.title.subtitle.text


def test_a_head_that_wrote_nothing_somewhere_is_at_no_distance_from_itself() -> None:
    silent = pairs([[0.5, 0.2], [0.2, 1.0]])
    np.testing.assert_array_equal(np.diag(straight(silent, "cosine")), [0, 0])
    assert silent.values[0, 0] == 0.5  # and the given numbers stay
    assert len(family_map(silent, measure="cosine").data) == 2
