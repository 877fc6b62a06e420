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
from attnviz import Head, Model, Sinks, Trace, View, figures
from attnviz.edits import ScaleHeads, ZeroHeads
from attnviz.errors import HeadError, InputError, ShapeError
from attnviz.figures.labels import sink_words, ticks, unit_words
from attnviz.heads import entropy
from attnviz.trace import Stored

HOSTILE = "<script>alert(1)</script> <b>x</b> <img src=x onerror=alert(1)> &lt; </title> a<i>b"


def title(figure: Any) -> str:
    return f"{figure.layout.title.text} | {figure.layout.title.subtitle.text}"


def handmade(weights: torch.Tensor) -> Trace:
    """A trace of one head whose pattern is `weights`, [query, key], with tokens t0, t1, ..."""
    trace = attnviz.wrap_model(tiny.grouped()).trace(input_ids=tiny.ids())
    tokens = tuple(dataclasses.replace(trace.tokens[0], text=f"t{i}") for i in range(len(weights)))
    return dataclasses.replace(trace, tokens=tokens, attention={"decoder": {0: Stored(weights[None, None])}})


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


@pytest.mark.parametrize("unit", ["token", "word", "sentence"])
@pytest.mark.parametrize("how", ["hide", "renormalise", "value-norm"])
def test_the_map_obeys_the_view(smollm2: Model, unit: Any, how: Any) -> None:
    trace = smollm2.trace("Mary went home. John did not, for he had lost the key.")
    view = View(unit, Sinks(how, ("first", "punctuation")))
    figure = figures.attention_map(trace, Head(23, 3), view=view, scale="linear")
    seen = view.pattern(trace, Head(23, 3))
    np.testing.assert_array_equal(figure.data[0].z, seen.shown())
    assert list(figure.layout.xaxis.ticktext) == [label[:15] + "…" * (len(label) > 16) for label in seen.keys.labels]
    assert f"{float(seen.taken.mean()):.0%} of the attention" in title(figure)
    assert (f"By {unit}" in title(figure)) == (unit != "token")


def test_what_was_taken_away_is_grey_and_said_to_be(smollm2: Model) -> None:
    trace = smollm2.trace("When Mary and John went")
    for theme in ("light", "dark"):
        shown = figures.attention_map(trace, Head(23, 3), theme=theme)
        hidden = figures.attention_map(trace, Head(23, 3), theme=theme, view=View(sinks=Sinks("hide")))
        assert np.isnan(hidden.data[0].z[:, 0]).all()
        assert not np.isnan(hidden.data[0].z[:, 1:]).any()
        assert hidden.layout.plot_bgcolor != shown.layout.plot_bgcolor
        assert hidden.layout.plot_bgcolor not in [colour for _, colour in hidden.data[0].colorscale]
        assert "Grey: taken away." in title(hidden)
        assert "taken away" not in title(shown)


def test_the_map_draws_a_window_of_the_whole(smollm2: Model) -> None:
    trace = smollm2.trace("When Mary and John went to the store")
    figure = figures.attention_map(trace, Head(23, 3), window=(2, 6, 1, 4), scale="linear")
    (heatmap,) = figure.data
    np.testing.assert_array_equal(heatmap.z, trace.pattern(23, 3)[2:6, 1:4])
    assert (list(heatmap.y), list(heatmap.x)) == ([2, 3, 4, 5], [1, 2, 3])
    assert list(figure.layout.yaxis.ticktext) == [token.text for token in trace.tokens[2:6]]
    for outside in [(0, 9, 0, 1), (3, 3, 0, 1), (-1, 2, 0, 1), (0, 1, 2, 1)]:
        with pytest.raises(InputError, match="8 × 8"):
            figures.attention_map(trace, Head(23, 3), window=outside)


def test_the_stated_mass_is_that_of_the_rows_that_are_drawn(smollm2: Model) -> None:
    trace, view = smollm2.trace("When Mary and John went to the store"), View(sinks=Sinks("hide"))
    figure = figures.attention_map(trace, Head(23, 3), view=view, window=(0, 1, 0, 8))
    assert "100% of the attention" in title(figure)  # the first token sees itself alone
    assert "100%" not in title(figures.attention_map(trace, Head(23, 3), view=view))


@pytest.mark.parametrize("side", [512, 513, 1200])
def test_a_map_of_too_many_cells_is_made_of_blocks_and_says_so(side: int) -> None:
    weights = torch.rand(side, side, generator=torch.Generator().manual_seed(side)).softmax(-1)
    figure = figures.attention_map(handmade(weights), Head(0, 0), scale="linear")
    (heatmap,) = figure.data
    block = -(-side // 512)
    assert max(np.shape(heatmap.z)) <= 512
    for i, j in [(0, 0), (3, 100), (len(heatmap.z) - 1, len(heatmap.z) - 1)]:
        largest = weights[i * block : (i + 1) * block, j * block : (j + 1) * block].max()
        assert heatmap.z[i][j] == pytest.approx(float(largest))
        assert heatmap.x[j] == j * block + (block - 1) / 2
    words = f"largest weight of {block} queries × {block} keys"
    assert (words in title(figure)) == (block > 1)
    assert heatmap.colorbar.title.text == ("largest attention" if block > 1 else "attention")
    # The labels stand at their own tokens, not at their blocks.
    assert list(figure.layout.xaxis.ticktext) == [f"t{i}" for i in figure.layout.xaxis.tickvals]


@pytest.mark.parametrize("scale", ["linear", "sqrt", "log"])
def test_ticks_of_the_colour_bar_stand_where_their_weights_are_drawn(scale: Any) -> None:
    weights = torch.tensor([[1.0, 0.0], [0.25, 0.01]])
    (heatmap,) = figures.attention_map(handmade(weights), Head(0, 0), scale=scale).data
    bar = heatmap.colorbar
    drawn = dict(zip([text.removeprefix("≤ ") for text in bar.ticktext], bar.tickvals, strict=True))
    cells = np.asarray(heatmap.z)
    assert (heatmap.zmin, heatmap.zmax) == (pytest.approx(cells.min()), pytest.approx(cells.max()))
    assert drawn["1"] == pytest.approx(cells[0, 0])
    assert drawn["0.0001" if scale == "log" else "0"] == pytest.approx(cells[0, 1])
    tick, cell = ("0.25", cells[1, 0]) if scale != "log" else ("0.01", cells[1, 1])
    assert drawn[tick] == pytest.approx(cell)


def test_a_scale_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="sqrt, linear, log"):
        figures.attention_map(handmade(torch.ones(1, 1)), Head(0, 0), scale="cubic")  # type: ignore[arg-type]


def test_palettes_change_colours_and_nothing_else(smollm2: Model) -> None:
    trace = smollm2.trace("Hello world")
    made = [figures.attention_map(trace, Head(0, 0), palette=name).data[0] for name in ("indigo", "viridis")]
    assert made[0].colorscale != made[1].colorscale
    np.testing.assert_array_equal(made[0].z, made[1].z)
    grids = [figures.head_grid(np.eye(2), trace.info, "x", palette=name) for name in ("indigo", "viridis")]
    assert [grid.data[0].colorscale for grid in grids] == [heatmap.colorscale for heatmap in made]


@pytest.mark.parametrize("view", [View(), View("word", Sinks("hide")), View("token", Sinks("renormalise"))])
def test_the_row_shows_what_the_query_pays(smollm2: Model, view: View) -> None:
    trace = smollm2.trace("When Mary and John went to the store.")
    seen = view.pattern(trace, Head(23, 3))
    figure = figures.attention_row(trace, Head(23, 3), -2, view=view)
    row = seen.queries.at(len(trace.tokens) - 2)
    np.testing.assert_allclose(figure.data[0].y, seen.shown()[row], atol=1e-6)
    assert f"{view.unit} {row} “{seen.queries.labels[row]}”" in title(figure)
    assert list(figure.layout.xaxis.ticktext) == list(seen.keys.labels)
    assert (sink_words(view, trace, None, seen.taken[row]) or "clean run") in title(figure)


def test_a_row_outside_the_text_has_no_picture(smollm2: Model) -> None:
    with pytest.raises(InputError, match="query"):
        figures.attention_row(smollm2.trace("Hello"), Head(0, 0), 1)


def test_colours_of_the_grid_end_at_the_largest_score_if_asked(smollm2: Model) -> None:
    scores = np.array([[0.5, np.nan], [7.5, 2.0]])
    assert figures.head_grid(scores, smollm2.info, "distance (tokens)", high=None).data[0].zmax == 7.5
    assert figures.head_grid(scores, smollm2.info, "distance (tokens)").data[0].zmax == 1
    assert figures.head_grid(np.full((1, 1), np.nan), smollm2.info, "x", high=None).data[0].zmax == 1


def test_words_for_views_say_what_was_done_to_how_many_keys(smollm2: Model) -> None:
    trace = smollm2.trace("Mary, John.")
    taken = torch.tensor([0.25, 0.75])
    assert (sink_words(View(), trace, None, taken), unit_words(View())) == ("", "")
    view = View("word", Sinks("hide", ("first", "punctuation"), (2,)))
    said = sink_words(view, trace, None, taken)
    assert said.startswith("Sinks (first token, punctuation, 1 chosen: 4 keys) are hidden; 50% of the attention")
    assert sink_words(view, trace, None, None).endswith("are hidden.")
    assert "averaged" in unit_words(view)


@pytest.mark.parametrize("length", [0, 1, 60, 61, 119, 2048])
def test_ticks_are_thinned_evenly(length: int) -> None:
    positions, labels = ticks([str(i) for i in range(length)])
    assert labels == [str(i) for i in positions]
    assert len(positions) <= 60
    assert positions[:1] == [0][:length]
    assert len(set(np.diff(positions))) <= 1
