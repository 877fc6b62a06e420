"""Logit attribution and the lens as figures: every cell is the number of its table, and tokens are only text."""

import numpy as np
import pandas as pd
import pytest

from attnviz.errors import InputError
from attnviz.figures.attribution import attribution_bars, attribution_map, head_scores, lens_map

HOSTILE = '<b onclick="x">$y$'
PARTS = pd.DataFrame(
    [
        ("embedding", "", -1, -1, 1.0),
        ("head", "decoder", 0, 0, 2.0),
        ("head", "decoder", 0, 1, -3.0),
        ("mlp", "decoder", 0, -1, 0.5),
        ("bias", "decoder", 0, -1, 0.25),
        ("head", "decoder", 1, 0, 4.0),
        ("head", "cross", 1, 0, -8.0),
        ("bias", "", -1, -1, 0.125),
    ],
    columns=["part", "site", "layer", "head", "logits"],
)


def lens(*rows: tuple[int, int, int, str, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["layer", "rank", "token_id", "token", "probability"])


EVERYWHERE = lens((-1, 1, 5, " a", 0.5), (-1, 2, 7, " b", 0.25), (0, 1, 7, " b", 0.75), (0, 2, 9, HOSTILE, 0.125))


def test_heads_stand_by_layer_and_head() -> None:
    np.testing.assert_array_equal(head_scores(PARTS, "decoder"), [[2.0, -3.0], [4.0, np.nan]])
    np.testing.assert_array_equal(head_scores(PARTS), [[np.nan], [-8.0]])  # the last site that has heads


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_map_of_heads_is_the_table_with_0_in_the_middle_of_its_colours(theme) -> None:
    figure = attribution_map(PARTS, site="decoder", theme=theme, title=f"Of {HOSTILE}")
    (cells,) = figure.data
    np.testing.assert_array_equal(np.array(cells.z, float), head_scores(PARTS, "decoder"))
    assert (cells.zmin, cells.zmax) == (-4, 4)
    assert "decoder" in figure.layout.title.subtitle.text
    assert "<b" not in figure.layout.title.text


def test_a_map_of_nothing_but_zeros_has_a_scale() -> None:
    (cells,) = attribution_map(PARTS.assign(logits=0.0), site="decoder").data
    assert cells.zmin < 0 < cells.zmax


def test_the_bars_of_all_layers_sum_to_the_outcome() -> None:
    figure = attribution_bars(PARTS)
    bars = {bar.name: list(bar.y) for bar in figure.data}
    assert bars == {"heads": [0, -1, -4], "feed-forward": [0, 0.5, 0], "other": [1.125, 0.25, 0]}
    assert sum(map(sum, bars.values())) == pytest.approx(PARTS.logits.sum())
    assert figure.layout.xaxis.ticktext[0] == "emb."


def test_the_lens_shows_ranks_across_and_layers_up() -> None:
    figure = lens_map(EVERYWHERE)
    (cells,) = figure.data
    np.testing.assert_array_equal(cells.z, [[0.5, 0.25], [0.75, 0.125]])
    assert cells.text[0].tolist() == ["␣a", "␣b"]
    assert list(figure.layout.xaxis.ticktext) == ["1", "2"]
    assert list(figure.layout.yaxis.ticktext) == ["embeddings", "after layer 0"]
    assert "follows" not in figure.layout.title.subtitle.text


def test_an_answer_beyond_the_likeliest_has_a_column_of_its_own() -> None:
    beyond = pd.concat([EVERYWHERE, lens((-1, 40, 9, HOSTILE, 1e-4))])
    figure = lens_map(beyond)
    (cells,) = figure.data
    np.testing.assert_array_equal(cells.z, [[0.5, 0.25, 1e-4], [0.75, 0.125, 0.125]])
    assert [row[2] for row in cells.text] == ["rank 40", "rank 2"]
    assert len(figure.layout.xaxis.ticktext) == 3
    subtitle = figure.layout.title.subtitle.text
    assert "not everywhere among the likeliest 2" in subtitle
    for words in (subtitle, figure.layout.xaxis.ticktext[2], *cells.text.ravel(), *np.ravel(cells.customdata)):
        assert "<b " not in words
        assert "$" not in words


def test_an_answer_beyond_the_likeliest_everywhere_is_drawn_in_every_layer() -> None:
    rows = lens((-1, 40, 3, " z", 1e-4), (0, 30, 3, " z", 1e-3))
    figure = lens_map(pd.concat([EVERYWHERE, rows]))
    (cells,) = figure.data
    assert figure.layout.xaxis.ticktext[2] == "␣z"
    assert [row[2] for row in cells.z] == [1e-4, 1e-3]
    assert [row[2] for row in cells.text] == ["rank 40", "rank 30"]


def test_a_layer_that_does_not_say_where_the_answer_is_has_an_empty_cell() -> None:
    (cells,) = lens_map(pd.concat([EVERYWHERE, lens((0, 30, 3, " z", 1e-3))])).data
    assert np.isnan(cells.z[0][2])
    assert cells.text[0][2] == ""
    assert cells.z[1][2] == 1e-3


def test_ties_in_rank_leave_one_token_a_cell() -> None:
    (cells,) = lens_map(pd.concat([EVERYWHERE, lens((0, 2, 3, " z", 0.125))])).data
    assert cells.text[1].tolist()[0] == "␣b"
    assert np.shape(cells.z) == (2, 2)


def test_tables_that_are_something_else_are_refused() -> None:
    for draw in (attribution_map, attribution_bars):
        with pytest.raises(InputError, match="no column logits"):
            draw(PARTS.drop(columns="logits"))
        with pytest.raises(InputError, match="has no rows"):
            draw(PARTS[:0])
    with pytest.raises(InputError, match="no heads at 'encoder'"):
        attribution_map(PARTS, site="encoder")
    with pytest.raises(InputError, match="no column token_id"):
        lens_map(EVERYWHERE.drop(columns="token_id"))
    with pytest.raises(InputError, match="of rank 1"):
        lens_map(EVERYWHERE[1:])
