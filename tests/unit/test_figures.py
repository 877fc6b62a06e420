"""Figures show the numbers they were given, under titles that cannot belong to another run."""

import dataclasses
import json
import re
from typing import Any

import numpy as np
import pytest
import tiny
import torch

import attnviz
from attnviz import Head, Model, figures
from attnviz.edits import ScaleHeads, ZeroHeads
from attnviz.errors import HeadError, ShapeError
from attnviz.heads import entropy

HOSTILE = "<script>alert(1)</script> <b>x</b> <img src=x onerror=alert(1)> &lt; </title> a<i>b"


def title(figure: Any) -> str:
    return f"{figure.layout.title.text} | {figure.layout.title.subtitle.text}"


def markup(text: str) -> list[str]:
    """What of a label Plotly would read as a tag; entities are text."""
    return re.findall(r"<[^>]*>?", text)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_map_shows_the_pattern(smollm2: Model, theme: Any) -> None:
    trace = smollm2.trace("When Mary and John went to the store")
    figure = figures.attention_map(trace, Head(23, 3), theme=theme)
    (heatmap,) = figure.data
    pattern = trace.pattern(23, 3).numpy()
    np.testing.assert_array_equal(heatmap.customdata, pattern)
    np.testing.assert_allclose(np.square(heatmap.z), pattern, atol=1e-6)
    assert (heatmap.zmin, heatmap.zmax) == (0, 1)
    # Queries run downwards as the text does.
    assert figure.layout.yaxis.autorange == "reversed"
    assert figure.layout.xaxis.title.text == "key"
    assert figure.layout.yaxis.title.text == "query"


def test_the_axes_carry_the_tokens(smollm2: Model) -> None:
    trace = smollm2.trace("When Mary and John went")
    figure = figures.attention_map(trace, Head(0, 0))
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        assert list(axis.tickvals) == list(range(len(trace.tokens)))
        assert list(axis.ticktext) == [token.text for token in trace.tokens]


def test_long_axes_are_thinned_with_labels_at_their_own_places(minilm: Model) -> None:
    trace = minilm.trace("one two three four five six seven eight nine ten " * 20)
    axis = figures.attention_map(trace, Head(0, 0)).layout.xaxis
    assert 20 < len(axis.tickvals) <= 60
    assert list(axis.ticktext) == [trace.tokens[i].text for i in axis.tickvals]


def test_the_colour_bar_tells_weights_and_not_their_roots(smollm2: Model) -> None:
    bar = figures.attention_map(smollm2.trace("Hello world"), Head(0, 0)).data[0].colorbar
    np.testing.assert_allclose(np.square(bar.tickvals), [float(text) for text in bar.ticktext], atol=1e-6)


def test_the_title_names_head_run_and_model(smollm2: Model) -> None:
    clean = title(figures.attention_map(smollm2.trace("Hello world"), Head(23, 3)))
    edit = ScaleHeads({Head(5, 1): 0.25})
    edited = title(figures.attention_map(smollm2.trace("Hello world", edits=[edit]), Head(2, 8)))
    assert "L23H3" in clean
    assert "clean run" in clean
    assert "L2H8" in edited
    assert edit.title in edited
    assert "clean" not in edited
    for words in (clean, edited):
        assert all(part in words for part in ("SmolLM2-135M-Instruct", "float32", "4-bit", smollm2.info.revision))


def test_the_title_of_an_opened_file_still_says_that_the_run_was_edited(minilm: Model, tmp_path: Any) -> None:
    edit = ZeroHeads([Head(1, 1)])
    again = attnviz.load_trace(minilm.trace("Hello", edits=[edit]).save(tmp_path / "run"))
    assert edit.title in title(figures.attention_map(again, Head(0, 0)))


@pytest.mark.parametrize("name", ["smollm2", "minilm"])
def test_hostile_texts_stay_texts(request: pytest.FixtureRequest, name: str) -> None:
    model = request.getfixturevalue(name)
    trace = model.trace(HOSTILE)
    assert any("<" in token.text for token in trace.tokens)
    figure = figures.attention_map(trace, Head(0, 0))
    for label in (*figure.layout.xaxis.ticktext, *figure.layout.yaxis.ticktext, title(figure)):
        assert markup(label) == []


def test_hostile_names_and_tokens_stay_texts() -> None:
    trace = attnviz.wrap_model(tiny.grouped(), name="<b onclick=x>model</b>", note="<i>").trace(input_ids=tiny.ids())
    tokens = tuple(dataclasses.replace(token, text="<img src=x>") for token in trace.tokens)
    trace = dataclasses.replace(trace, tokens=tokens, edit_titles=("<script>",))
    pictures = [
        figures.attention_map(trace, Head(0, 0)),
        figures.head_grid(np.zeros((2, 4)), trace.info, "<u>entropy</u>"),
    ]
    for figure in pictures:
        labels = [title(figure), *figure.layout.xaxis.ticktext, *figure.layout.yaxis.ticktext]
        labels.append(figure.data[0].colorbar.title.text)
        assert [markup(label) for label in labels] == [[]] * len(labels)
    assert "&lt;img src=x&gt;" in pictures[0].layout.xaxis.ticktext[0]


def test_a_long_token_does_not_take_the_whole_figure() -> None:
    trace = attnviz.wrap_model(tiny.grouped()).trace(input_ids=tiny.ids())
    tokens = tuple(dataclasses.replace(token, text="<" * 500) for token in trace.tokens)
    labels = figures.attention_map(dataclasses.replace(trace, tokens=tokens), Head(0, 0)).layout.xaxis.ticktext
    assert {label.replace("&lt;", "<") for label in labels} == {"<" * 15 + "…"}


def test_a_head_that_is_not_there_has_no_picture(smollm2: Model) -> None:
    with pytest.raises(HeadError, match="SmolLM2"):
        figures.attention_map(smollm2.trace("Hello"), Head(30, 0))


def test_one_token_makes_a_picture(smollm2: Model) -> None:
    figure = figures.attention_map(smollm2.trace("a"), Head(0, 0))
    assert np.asarray(figure.data[0].customdata).tolist() == [[1.0]]


def test_the_grid_shows_the_scores(smollm2: Model) -> None:
    trace = smollm2.trace("When Mary and John went to the store")
    scores = entropy(trace)
    scores[3, 4] = np.nan
    figure = figures.head_grid(scores, trace.info, "entropy (share of 1)")
    (heatmap,) = figure.data
    np.testing.assert_array_equal(heatmap.z, scores)
    assert np.asarray(heatmap.z).shape == (30, 9)
    assert "entropy (share of 1)" in title(figure)
    assert "SmolLM2-135M-Instruct" in title(figure)
    assert heatmap.colorbar.title.text == "entropy (share of 1)"
    assert list(figure.layout.yaxis.ticktext) == [str(i) for i in range(30)]


def test_the_grid_takes_layers_by_heads(smollm2: Model) -> None:
    for shape in ((9,), (1, 30, 9), ()):
        with pytest.raises(ShapeError, match=r"\[layer, head\]"):
            figures.head_grid(np.zeros(shape), smollm2.info, "score")


def test_figures_are_plain_json_and_leave_the_trace_alone(smollm2: Model) -> None:
    trace = smollm2.trace("Hello world")
    before = trace.pattern(0)
    figure = figures.attention_map(trace, Head(0, 0))
    figure.data[0].customdata[:] = 0
    assert json.loads(figure.to_json())["data"][0]["type"] == "heatmap"
    assert torch.equal(trace.pattern(0), before)
