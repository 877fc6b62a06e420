"""Thumbnails of every head, against a loop over single cells of the real patterns."""

import dataclasses
import math
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from hand_made import LENGTH, recorded, trace_of

import attnviz
from attnviz import Head, Model, Trace, figures, heads
from attnviz.errors import InputError, Unsupported
from attnviz.overview import overview
from attnviz.trace import Stored
from attnviz.view import Sinks, View

TEXT = "Mary met John. He, a friend, gave her a book! Did she read it? Yes, on the same day, and she liked it."
SINKS = [Sinks(), Sinks("hide"), Sinks("renormalise", ("special", "punctuation")), Sinks("value-norm")]
VIEWS = [View(unit, sinks) for unit in ("token", "word", "sentence") for sinks in SINKS]


@pytest.fixture(scope="module")
def dates() -> Model:
    return attnviz.load_model("dates", device="cpu", dtype="float32")


def naive(weights: list[list[float]], side: int) -> np.ndarray:
    """The picture of one pattern, one cell at a time."""
    rows, cols = len(weights), len(weights[0])
    largest = np.zeros((min(side, rows), min(side, cols)))
    for q, row in enumerate(weights):
        for k, weight in enumerate(row):
            at = (q * side // rows if rows > side else q, k * side // cols if cols > side else k)
            largest[at] = max(largest[at], weight)
    return 255 * np.sqrt(np.minimum(largest, 1))


def assert_pictures(trace: Trace, view: View, side: int, site: str | None = None) -> None:
    found = overview(trace, site=site, view=view, side=side)
    assert found.thumbnails.dtype == np.uint8
    for layer in trace.layers(site):
        for head in range(trace.layer(layer, site).n_heads):
            seen = view.pattern(trace, Head(layer, head, site))
            expected = naive(seen.weights.double().tolist(), side)
            # Rounded to a byte: half a step, and a hair for float32.
            np.testing.assert_allclose(found.thumbnails[layer, head], expected, atol=0.51)
            assert found.taken[layer, head] == pytest.approx(float(seen.taken.mean()), abs=1e-5)
    for name, score in heads.scores(trace, site=site, view=view).items():
        np.testing.assert_array_equal(found.scores[name], score)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: f"{view.unit}-{view.sinks.how}")
@pytest.mark.parametrize("side", [7, 48])
def test_thumbnails_equal_a_naive_loop_over_an_encoder(minilm: Model, view: View, side: int) -> None:
    assert_pictures(minilm.trace(TEXT), view, side)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: f"{view.unit}-{view.sinks.how}")
def test_thumbnails_equal_a_naive_loop_over_a_decoder(smollm2: Model, view: View) -> None:
    whole = smollm2.trace(TEXT)
    some = {n: layer for n, layer in whole.attention["decoder"].items() if n in (0, 13, 29)}
    assert_pictures(dataclasses.replace(whole, attention={"decoder": some}), view, 10)


@pytest.mark.parametrize("site", ["encoder", "decoder", "cross"])
@pytest.mark.parametrize("view", VIEWS[:4], ids=lambda view: view.sinks.how)
def test_thumbnails_equal_a_naive_loop_at_every_site(dates: Model, view: View, site: str) -> None:
    assert_pictures(dates.trace("Monday, 11 November 1918"), view, 6, site)


@pytest.mark.parametrize("length", [1, 2, 47, 48, 49, 95, 97, 300, 700])
def test_no_block_is_lost_at_any_length(length: int) -> None:
    # Longer than a piece of rows, and with blocks that go on from one piece to the next.
    pattern = torch.rand(1, 4, length, length, generator=torch.Generator().manual_seed(length))
    stored = Stored(pattern / pattern.sum(-1, keepdim=True))
    whole = trace_of(recorded(torch.zeros(LENGTH, LENGTH)))
    tokens = tuple(dataclasses.replace(whole.tokens[0], id=i) for i in range(length))
    trace = dataclasses.replace(whole, tokens=tokens, attention={"decoder": {0: stored}})
    found = overview(trace)
    assert found.thumbnails.shape == (1, 4, min(48, length), min(48, length))
    np.testing.assert_allclose(found.thumbnails[0, 2], naive(stored.weights[0, 2].tolist(), 48), atol=0.51)


def test_a_text_shorter_than_the_side_has_a_pixel_a_token() -> None:
    scores = torch.full((LENGTH, LENGTH), -1e4).fill_diagonal_(0)
    pixels = overview(trace_of(recorded(scores))).thumbnails
    np.testing.assert_array_equal(pixels[0, 3], 255 * np.eye(LENGTH))


def test_even_causal_attention_fades_down_the_rows() -> None:
    pixels = overview(trace_of(recorded(torch.zeros(LENGTH, LENGTH)))).thumbnails[0, 0]
    for q in range(LENGTH):
        assert pixels[q].tolist() == [round(255 * math.sqrt(1 / (q + 1)))] * (q + 1) + [0] * (LENGTH - q - 1)


def test_heads_that_do_not_exist_are_black_and_have_no_score() -> None:
    fewer = Stored(torch.full((1, 2, LENGTH, LENGTH), 1 / LENGTH))
    trace = trace_of(recorded(torch.zeros(LENGTH, LENGTH)), fewer)
    found = overview(trace)
    there = [[True] * 4, [True, True, False, False]]
    assert found.thumbnails.any((2, 3)).tolist() == there
    for score in (*found.scores.values(), found.taken):
        assert np.isfinite(score).tolist() == there


def test_one_token_has_one_pixel_and_no_scores(smollm2: Model) -> None:
    found = overview(smollm2.trace(input_ids=[5]))
    assert found.thumbnails.shape == (30, 9, 1, 1)
    assert (found.thumbnails == 255).all()
    assert all(np.isnan(score).all() for score in found.scores.values())


def test_what_was_taken_is_what_the_sink_had() -> None:
    trace = trace_of(recorded(torch.zeros(LENGTH, LENGTH)))
    found = overview(trace, view=View(sinks=Sinks("hide")))
    np.testing.assert_allclose(found.taken, np.full((1, 4), np.mean([1 / (q + 1) for q in range(LENGTH)])), atol=1e-6)
    assert not found.thumbnails[..., 0].any()


def test_value_norms_of_a_stored_pattern_are_refused() -> None:
    trace = trace_of(Stored(torch.full((1, 4, LENGTH, LENGTH), 1 / LENGTH)))
    with pytest.raises(Unsupported, match="view-only"):
        overview(trace, view=View(sinks=Sinks("value-norm")))


@pytest.mark.parametrize("side", [0, -3, 257, True, 4.5])
def test_a_side_out_of_range_is_refused(minilm: Model, side: Any) -> None:
    with pytest.raises(InputError, match="side"):
        overview(minilm.trace("Hello world"), side=side)


def test_progress_runs_from_none_to_all(minilm: Model) -> None:
    seen: list[tuple[int, int]] = []
    overview(minilm.trace("Hello world"), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 6) for i in range(7)]


def test_bytes_are_counted(minilm: Model) -> None:
    found = overview(minilm.trace("Hello world"))
    assert found.nbytes == 6 * 12 * (found.thumbnails.shape[2] * found.thumbnails.shape[3] + 5 * 4)


def test_the_table_has_a_row_for_each_head_that_exists() -> None:
    fewer = Stored(torch.full((1, 2, LENGTH, LENGTH), 1 / LENGTH))
    found = overview(trace_of(recorded(torch.zeros(LENGTH, LENGTH)), fewer))
    table = found.frame()
    assert list(table.columns) == ["layer", "head", *heads.NAMES, "taken"]
    assert list(zip(table["layer"], table["head"], strict=True)) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]
    for row in table.itertuples():
        assert row.distance == found.scores["distance"][row.layer, row.head]


# The figure.


def cells(figure: go.Figure) -> np.ndarray:
    return np.asarray(figure.data[0].customdata)


def test_the_figure_holds_each_thumbnail_in_its_place_and_nothing_between(dates: Model) -> None:
    trace = dates.trace("11 November 1918")
    found = overview(trace, site="cross")
    figure = figures.head_gallery(found, trace, site="cross")
    _, n_heads, height, width = found.thumbnails.shape
    values, x, y = cells(figure), np.asarray(figure.data[0].x), np.asarray(figure.data[0].y)
    for layer in range(2):
        for head in range(n_heads):
            rows = slice(layer * (height + 1), layer * (height + 1) + height)
            cols = slice(head * (width + 1), head * (width + 1) + width)
            expected = (found.thumbnails[layer, head] / 255.0) ** 2
            np.testing.assert_allclose(values[rows, cols], expected, atol=1e-6)
            assert set(np.round(y[rows])) == {layer}
            assert set(np.round(x[cols])) == {head}
    assert np.isnan(values[height :: height + 1]).all()
    assert np.isnan(values[:, width :: width + 1]).all()
    assert "cross-attention" in figure.layout.title.text


def test_the_figure_leaves_heads_that_do_not_exist_empty() -> None:
    fewer = Stored(torch.full((1, 2, LENGTH, LENGTH), 1 / LENGTH))
    trace = trace_of(recorded(torch.zeros(LENGTH, LENGTH)), fewer)
    values = cells(figures.head_gallery(overview(trace), trace))
    assert np.isnan(values[LENGTH + 1 :, 2 * (LENGTH + 1) :]).all()
    assert np.isfinite(values[:LENGTH, 2 * (LENGTH + 1) : 3 * (LENGTH + 1) - 1]).all()


def test_the_figure_says_what_was_taken_and_what_a_pixel_is(minilm: Model) -> None:
    trace, view = minilm.trace(TEXT), View(sinks=Sinks("hide", ("special",)))
    found = overview(trace, view=view, side=9)
    subtitle = figures.head_gallery(found, trace, view=view).layout.title.subtitle.text
    n = len(trace.tokens)
    assert f"{n} × {n} tokens in 9 × 9 pixels" in subtitle
    assert f"{found.taken.mean():.0%} of the attention was taken away" in subtitle


def test_the_figures_colours_run_as_they_are_told(minilm: Model) -> None:
    trace = minilm.trace("Hello world")
    found = overview(trace)
    linear, root = (figures.head_gallery(found, trace, scale=scale) for scale in ("linear", "sqrt"))
    np.testing.assert_allclose(np.asarray(root.data[0].z) ** 2, np.asarray(linear.data[0].z), atol=1e-6)
    with pytest.raises(InputError, match="scale"):
        figures.head_gallery(found, trace, scale="loud")  # type: ignore[arg-type]
