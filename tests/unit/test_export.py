"""What is taken along holds the numbers and texts that it was given, says which run, and asks nobody for anything."""

import csv
import html.parser
import io
import json
import math
import re
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnviz import Head, Model, Sinks, View, export, figures
from attnviz.edits import ZeroHeads
from attnviz.errors import ShapeError

HOSTILE = '</script><img src=x onerror="window.__pwned=1">'


class Reader(html.parser.HTMLParser):
    """What a browser makes of a page: its elements, their attributes and what stands in them."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.elements[-1][0], data))

    def data(self, name: str) -> Any:
        """The JSON block of this id."""
        inside = [x for x in self.elements if x[0] == "script"]
        number = next(i for i, (_, attributes) in enumerate(inside) if attributes.get("id") == name)
        return json.loads([text for tag, text in self.texts if tag == "script"][number])


def a_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "query": [0, 1, 2],
            "query_text": ["=1+1", 'a "b", c\n', "␣Mary"],
            "attention": np.array([0.1, np.nan, 1 / 3], np.float32),
            "seen": [True, False, True],
            "nats": [0.1, math.pi, -1e-300],
        },
        index=[7, 8, 9],
    )


def cells(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


def test_csv_holds_the_table_and_no_index() -> None:
    again = pd.read_csv(io.BytesIO(export.csv(a_frame())), dtype={"attention": np.float32})
    assert list(again.columns) == list(a_frame().columns)
    np.testing.assert_array_equal(again["attention"], a_frame()["attention"])
    np.testing.assert_array_equal(again["nats"], a_frame()["nats"])
    assert again["seen"].tolist() == [True, False, True]
    assert again["query_text"].tolist() == ["'=1+1", 'a "b", c\n', "␣Mary"]


def test_json_holds_the_table_and_the_run() -> None:
    read = json.loads(export.json(a_frame(), {"model": "m", "head": "L5H1"}))
    assert read["about"] == {"model": "m", "head": "L5H1"}
    assert [row["query_text"] for row in read["rows"]] == a_frame()["query_text"].tolist()
    assert read["rows"][1] == {
        "query": 1,
        "query_text": 'a "b", c\n',
        "attention": None,
        "seen": False,
        "nats": math.pi,
    }
    assert np.float32(read["rows"][2]["attention"]) == np.float32(1 / 3)


def test_parquet_holds_the_table_its_types_and_the_run() -> None:
    frame = a_frame()
    again = pd.read_parquet(io.BytesIO(export.parquet(frame, {"model": "m", "sink_kinds": ["first"]})))
    pd.testing.assert_frame_equal(again, frame.reset_index(drop=True))
    assert again.attrs == {"model": "m", "sink_kinds": ["first"]}
    assert (frame.attrs, frame.index.tolist()) == ({}, [7, 8, 9])


def test_an_empty_table_still_has_its_names() -> None:
    empty = a_frame().iloc[:0]
    assert cells(export.csv(empty)) == [list(empty.columns)]
    assert json.loads(export.json(empty)) == {"about": {}, "rows": []}
    assert pd.read_parquet(io.BytesIO(export.parquet(empty))).columns.tolist() == list(empty.columns)


def test_what_is_missing_is_empty_or_null_in_every_type() -> None:
    frame = pd.DataFrame(
        {
            "rank": pd.array([1, None], "Int64"),
            "text": ["a", None],
            "share": [math.inf, 0.5],
        }
    )
    assert cells(export.csv(frame)) == [["rank", "text", "share"], ["1", "a", ""], ["", "", "0.5"]]
    assert json.loads(export.json(frame))["rows"] == [
        {"rank": 1, "text": "a", "share": None},
        {"rank": None, "text": None, "share": 0.5},
    ]


@settings(deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_float32_comes_back_bit_for_bit(values: list[float]) -> None:
    frame = pd.DataFrame({"x": np.array(values, np.float32)})
    bits = frame["x"].to_numpy().view(np.int32)
    read = [np.float32(row["x"]) for row in json.loads(export.json(frame))["rows"]]
    assert np.array(read, np.float32).view(np.int32).tolist() == bits.tolist()
    read = [np.float32(row[0]) for row in cells(export.csv(frame))[1:]]
    assert np.array(read, np.float32).view(np.int32).tolist() == bits.tolist()
    again = pd.read_parquet(io.BytesIO(export.parquet(frame)))["x"].to_numpy()
    assert again.view(np.int32).tolist() == bits.tolist()


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "'=1", "＝1", '=HYPERLINK("http://x")']
)
def test_a_spreadsheet_runs_no_text(text: str) -> None:
    ((name,), (cell,)) = cells(export.csv(pd.DataFrame({"text": [text]})))
    assert (name, cell) == ("text", "'" + text)
    assert json.loads(export.json(pd.DataFrame({"text": [text]})))["rows"] == [{"text": text}]


@pytest.mark.parametrize("text", ["'s", "␣=", "a=b", "1-2", "", "-".join("ab")])
def test_other_texts_are_left_alone(text: str) -> None:
    assert cells(export.csv(pd.DataFrame({"text": [text], "n": [-1]})))[1] == [text, "-1"]


def test_the_facts_name_run_head_view_and_text(smollm2: Model) -> None:
    edit = ZeroHeads([Head(1, 1)])
    trace = smollm2.trace("Hello world", edits=[edit])
    facts = export.about(trace, head=Head(5, 1), view=View("word", Sinks("hide", ("special",), (3,))))
    assert (facts["model"], facts["head"], facts["unit"]) == ("SmolLM2-135M-Instruct", "L5H1", "word")
    assert edit.title in facts["run"]
    assert (facts["sinks"], facts["sink_kinds"], facts["sink_tokens"]) == ("hide", ["special"], [3])
    assert re.fullmatch("[0-9a-f]{64}", facts["text_sha256"])
    assert facts["text_sha256"] != export.about(smollm2.trace("Hello worlds"))["text_sha256"]
    assert not {"head", "site", "sink_kinds", "source_sha256"} & set(export.about(trace))
    assert json.loads(json.dumps(facts)) == facts


def test_the_numbers_of_a_map_come_back_from_every_file(smollm2: Model) -> None:
    trace, view = smollm2.trace("When Mary and John went"), View(sinks=Sinks("hide"))
    seen = view.pattern(trace, Head(23, 3))
    frame, shape = seen.frame(), seen.shown().shape
    read = [
        pd.read_csv(io.BytesIO(export.csv(frame))),
        pd.DataFrame(json.loads(export.json(frame))["rows"]),
        pd.read_parquet(io.BytesIO(export.parquet(frame))),
    ]
    for again in read:
        values = again["attention"].to_numpy(np.float32).reshape(shape)
        np.testing.assert_array_equal(values, seen.shown())
        assert again["key_text"].tolist() == list(seen.keys.labels) * shape[0]


def test_scores_become_a_row_for_each_head_there_is() -> None:
    scores = {"entropy": np.array([[0.5, np.nan], [0.25, 1]]), "sink": np.array([[0, np.nan], [np.nan, 1]])}
    frame = export.heads_frame(scores)
    assert frame[["layer", "head"]].to_numpy().tolist() == [[0, 0], [1, 0], [1, 1]]
    assert frame["entropy"].tolist() == [0.5, 0.25, 1]
    assert frame["sink"].isna().tolist() == [False, True, False]
    for wrong in ({}, {"x": np.zeros(3)}, {"x": np.zeros((1, 2)), "y": np.zeros((2, 1))}):
        with pytest.raises(ShapeError, match=r"\[layer, head\]"):
            export.heads_frame(wrong)


def test_the_page_holds_the_figure_and_needs_nothing_else() -> None:
    figure = go.Figure(go.Heatmap(z=np.eye(2, dtype=np.float32)), {"title": {"text": "A &lt;b&gt; map"}})
    page = Reader(export.html(figure, caption="What it shows & what not."))
    assert page.data("figure") == json.loads(figure.to_json())
    assert ("title", "A <b> map") in page.texts
    assert ("p", "What it shows & what not.") in page.texts
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert not re.search(r"https?:|\*|unsafe-eval|connect-src", policy)
    for tag, attributes in page.elements:
        assert not {"src", "href", "onload", "onerror"} & set(attributes), tag


def test_hostile_words_are_words_in_the_page() -> None:
    figure = go.Figure(go.Bar(x=[HOSTILE, "<!--<script>", "a\u2028b"], y=[1, 2, 3]), {"title": {"text": HOSTILE}})
    data = export.html(figure, caption=HOSTILE)
    page = Reader(data)
    assert page.data("figure")["data"][0]["x"] == [HOSTILE, "<!--<script>", "a\u2028b"]
    assert ("p", HOSTILE) in page.texts
    assert ("title", HOSTILE) in page.texts
    assert "img" not in {tag for tag, _ in page.elements}
    harmless = Reader(export.html(go.Figure(go.Bar(x=["a"], y=[1])), caption="a"))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in harmless.elements]


def test_the_page_is_as_light_or_dark_as_its_figure(smollm2: Model) -> None:
    trace = smollm2.trace("Hello")
    pages = [export.html(figures.attention_map(trace, Head(0, 0), theme=theme)) for theme in ("light", "dark")]
    styles = [next(text for tag, text in Reader(page).texts if tag == "style") for page in pages]
    assert "background: #ffffff" in styles[0]
    assert "background: #0e1117" in styles[1]
