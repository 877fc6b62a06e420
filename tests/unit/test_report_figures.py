"""Figures that findings bring to a report: their numbers, and what is taken out of them."""

import json
from typing import Any

import plotly.io
import pytest
from reported import DATES, dates, ten

from attnviz import report
from attnviz.findings import Finding, ModelRecord
from attnviz.report.drawing import safe_figure, values_of


def test_the_numbers_of_a_kept_map_are_its_weights_and_not_its_colours() -> None:
    table = values_of(plotly.io.from_json(ten()[8].figure))
    assert table is not None
    pattern = dates().trace(*DATES[0]).pattern(1, 1, "cross").numpy()
    assert [row[-1] for row in table.rows] == [f"{value:.4g}" for value in pattern.ravel()]
    assert table.columns == ("trace", "key", "query", "value")
    assert table.rows[0][1:3] == ("0: 1", "0: <s>")


@pytest.mark.parametrize(
    "figure",
    [
        "{",
        "[]",
        "null",
        "{}",
        '{"data": [{"type": "nope"}], "layout": {}}',
        '{"data": [{"type": "scattergeo"}], "layout": {}}',
        '{"data": [{"type": "choroplethmap"}], "layout": {}}',
        "[" * 50_000,
        '{"data": 3, "layout": []}',
    ],
)
def test_what_is_no_figure_is_left_out_with_its_reason(figure: str) -> None:
    finding = Finding(claim="x", model=ModelRecord(name="m"), figure=figure)
    text = report.markdown([finding])
    assert "Its figure is left out. " in text
    assert 'id="figure-1"' not in report.html([finding])


def test_a_figure_leads_nowhere_and_is_not_endless() -> None:
    told: dict[str, Any] = {
        "data": [{"type": "scatter", "x": [1], "y": [2], "text": ["<A href='https://evil.test'>x</a>"]}],
        "layout": {
            "title": {"text": "< a href='https://evil.test'>y"},
            "images": [{"source": "https://evil.test/a.png"}, {"source": "data:image/png;base64,AAAA"}],
            "width": 1e9,
        },
    }
    figure = safe_figure(json.dumps(told))
    assert figure.data[0].text == ("&lt;A href='https://evil.test'>x&lt;/a>",)
    assert figure.layout.title.text == "&lt; a href='https://evil.test'>y"
    assert [one.source for one in figure.layout.images] == ["data:image/png;base64,AAAA"]
    assert figure.layout.width == 2_000


def test_no_picture_of_a_figure_lies_elsewhere_in_a_template_either() -> None:
    away, here = {"source": "https://evil.test/a.png"}, {"source": "data:image/png;base64,AAAA"}
    told = {
        "data": [{"type": "image", **away}, {"type": "image", **here}, {"type": "scatter", "y": [1]}],
        "layout": {"template": {"layout": {"images": [away]}, "data": {"image": [{"type": "image", **away}]}}},
    }
    finding = Finding(claim="x", model=ModelRecord(name="m"), figure=json.dumps(told))
    assert "evil.test" not in report.html([finding])
    assert safe_figure(json.dumps(told)).data[1].source == here["source"]
