"""The figure of heads that agree with marks: dots, the chance line, and a line for every baseline."""

import numpy as np
import pytest

import attnviz
from attnviz import human
from attnviz.errors import InputError
from attnviz.figures.highlights import agreement_dots

TEXT = "The keeper painted the door red, then he walked down to buy fresh bread."


@pytest.fixture(scope="module")
def ranking(minilm: attnviz.Model) -> human.Ranking:
    return human.rank(minilm, [human.Marked(TEXT, {4: 1.0, 5: 0.5})], methods=())


def test_dots_are_the_best_heads_and_lines_are_chance_and_the_baselines(ranking: human.Ranking) -> None:
    figure = agreement_dots(ranking, most=7)
    heads = ranking.frame[ranking.frame["kind"] == "head"].head(7)
    dots, chance, *lines = figure.data
    np.testing.assert_allclose(dots.x, heads["auroc"])
    assert list(figure.layout.yaxis.ticktext) == heads["name"].tolist()
    assert set(dots.marker.symbol) == {"circle-open"}, "with one text none is named"
    assert set(chance.x) == {float(ranking.bands["head"].quantiles((0.95,))[0])}
    baselines = ranking.frame[ranking.frame["kind"] == "baseline"]
    assert [line.x[0] for line in lines] == baselines["auroc"].tolist()


def test_a_measure_without_numbers_is_refused(ranking: human.Ranking) -> None:
    empty = ranking.frame.assign(auroc=np.nan)
    with pytest.raises(InputError, match="nothing to draw"):
        agreement_dots(human.Ranking(**{**vars(ranking), "frame": empty}))
