"""What a View does to a pattern, against loops over the pattern itself; and what it leaves alone."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import TEXTS

import attnviz
from attnviz import Head, Sinks, View
from attnviz.errors import HeadError, InputError, Unsupported
from attnviz.trace import Stored, Trace
from attnviz.view import SINKING, _chunks, _is_punctuation

TEXT = "Mr. Smith went to the U.S. in 1998. He said, understandably: no! 北京是中国的首都。东京是日本的首都！"
ALL = ("first", "special", "punctuation")
UNITS = ("token", "word", "sentence")


@pytest.fixture(scope="module")
def traces(smollm2: attnviz.Model, minilm: attnviz.Model) -> dict[str, Trace]:
    dates = attnviz.load_model("dates", device="cpu")
    return {
        "smollm2": smollm2.trace(TEXT),
        "minilm": minilm.trace(TEXT),
        "dates": dates.trace("the 3rd of May 1998"),
    }


HEADS = {"smollm2": Head(23, 3), "minilm": Head(2, 5), "dates": Head(1, 1, "cross")}


def by_loop(trace: Trace, head: Head, view: View) -> tuple[torch.Tensor, torch.Tensor]:
    """(weights, taken) a cell at a time, from the pattern."""
    pattern = trace.pattern(head.layer, head.head, head.site)
    keys = trace.axes(head.site)[1]
    text = trace.texts(head.site)[1]
    removed = [
        (("first" in view.sinks.kinds and j == 0) or ("special" in view.sinks.kinds and key.special))
        or ("punctuation" in view.sinks.kinds and _is_punctuation(key, text))
        or j in view.sinks.tokens
        for j, key in enumerate(keys)
    ]
    if view.sinks.how == "value-norm":
        layer: Any = trace.layer(head.layer, head.site)
        values = layer.value[0, head.head // layer.group]
    rows, taken = [], []
    for row in pattern.tolist():
        if view.sinks.how in ("hide", "renormalise"):
            kept = [0.0 if gone else w for w, gone in zip(row, removed, strict=True)]
            taken.append(sum(w for w, gone in zip(row, removed, strict=True) if gone))
            if view.sinks.how == "renormalise" and sum(kept) > 0:
                kept = [w / sum(kept) for w in kept]
        elif view.sinks.how == "value-norm":
            kept = [w * float(v.norm()) for w, v in zip(row, values, strict=True)]
            kept = [w * sum(row) / sum(kept) for w in kept]
            taken.append(sum(abs(a - b) for a, b in zip(kept, row, strict=True)) / 2)
        else:
            kept = row
            taken.append(0.0)
        rows.append(kept)
    q_units, k_units = view.axes(trace, head.site)
    weights = [
        [sum(rows[i][j] for i in range(*q) for j in range(*k)) / (q[1] - q[0]) for k in k_units.spans]
        for q in q_units.spans
    ]
    return torch.tensor(weights), torch.tensor([sum(taken[a:b]) / (b - a) for a, b in q_units.spans])


@pytest.mark.parametrize("how", SINKING)
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("name", HEADS)
def test_every_view_is_what_a_loop_makes_of_the_pattern(
    traces: dict[str, Trace], name: str, unit: Any, how: Any
) -> None:
    view = View(unit, Sinks(how, ALL, (3,)))
    seen = view.pattern(traces[name], HEADS[name])
    weights, taken = by_loop(traces[name], HEADS[name], view)
    assert torch.allclose(seen.weights, weights, atol=2e-6)
    assert torch.allclose(seen.taken, taken, atol=2e-6)


@pytest.mark.parametrize("name", HEADS)
def test_the_plain_view_is_the_pattern_itself(traces: dict[str, Trace], name: str) -> None:
    head = HEADS[name]
    seen = View().pattern(traces[name], head)
    assert torch.equal(seen.weights, traces[name].pattern(head.layer, head.head, head.site))
    assert not seen.taken.any()
    assert not seen.hidden.any()


@pytest.mark.parametrize("unit", UNITS)
def test_rows_still_sum_to_one_where_nothing_is_hidden(traces: dict[str, Trace], unit: Any) -> None:
    for how in ("show", "value-norm"):
        seen = View(unit, Sinks(how)).pattern(traces["smollm2"], HEADS["smollm2"])
        assert torch.allclose(seen.weights.sum(-1), torch.ones(len(seen.queries)), atol=1e-5)


def test_what_is_hidden_and_what_is_left_are_the_whole(traces: dict[str, Trace]) -> None:
    seen = View("token", Sinks("hide", ALL)).pattern(traces["smollm2"], HEADS["smollm2"])
    assert torch.allclose(seen.weights.sum(-1) + seen.taken, torch.ones(len(seen.queries)), atol=1e-5)
    shown = seen.shown()
    assert torch.equal(torch.tensor(shown).isnan().all(0), seen.hidden)
    assert bool(seen.hidden[0])


def test_a_query_that_sees_only_the_sink_is_left_without_attention(traces: dict[str, Trace]) -> None:
    seen = View("token", Sinks("renormalise")).pattern(traces["smollm2"], HEADS["smollm2"])
    assert seen.taken[0] == 1
    assert not seen.weights[0].any()
    assert torch.allclose(seen.weights[1:].sum(-1), torch.ones(len(seen.queries) - 1), atol=1e-5)


@pytest.mark.parametrize("how", SINKING)
@pytest.mark.parametrize("unit", UNITS)
def test_a_row_is_that_row_of_the_pattern(traces: dict[str, Trace], unit: Any, how: Any) -> None:
    view, trace = View(unit, Sinks(how, ALL)), traces["smollm2"]
    whole = view.pattern(trace, HEADS["smollm2"])
    for query in (0, 7, len(trace.tokens) - 1):
        row = view.row(trace, HEADS["smollm2"], query)
        at = whole.queries.at(query)
        assert torch.allclose(row.weights[0], whole.weights[at], atol=1e-6)
        assert torch.allclose(row.taken[0], whole.taken[at], atol=1e-6)
        assert row.queries.labels == whole.queries.labels[at : at + 1]


@pytest.mark.parametrize("unit", UNITS)
def test_rows_of_all_heads_are_those_of_each(traces: dict[str, Trace], unit: Any) -> None:
    view, trace = View(unit, Sinks("hide", ALL)), traces["minilm"]
    parts = list(view.rows(trace, 2))
    for head in range(12):
        seen = view.pattern(trace, Head(2, head))
        assert torch.allclose(torch.cat([rows.weights[head] for rows in parts]), seen.weights, atol=1e-6)


def test_visible_units_are_counted(traces: dict[str, Trace]) -> None:
    (rows,) = View().rows(traces["smollm2"], 0)
    n = len(traces["smollm2"].tokens)
    assert rows.visible[0].tolist() == list(range(1, n + 1))
    (rows,) = View("token", Sinks("hide")).rows(traces["smollm2"], 0)
    assert rows.visible[0].tolist() == list(range(n))
    (rows,) = View("sentence").rows(traces["smollm2"], 0)
    assert rows.visible[0].tolist() == [1, 2, 3, 4]
    (rows,) = View("word").rows(traces["minilm"], 0)
    assert set(rows.visible[0].tolist()) == {rows.weights.shape[-1]}


@settings(deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=12))
def test_chunks_are_whole_units_in_order(sizes: list[int]) -> None:
    edges = [0]
    for size in sizes:
        edges.append(edges[-1] + size)
    units = attnviz.view.Units("word", tuple("x" * len(sizes)), tuple(edges))
    parts = list(_chunks(units, None, 256))
    assert [i for part in parts for i in part] == list(range(len(sizes)))
    assert all(edges[part.stop - 1] - edges[part.start] < 256 for part in parts)


@pytest.mark.parametrize("name", ["smollm2", "minilm"])
def test_long_and_strange_texts_can_be_read_in_every_view(
    name: str, smollm2: attnviz.Model, minilm: attnviz.Model
) -> None:
    model = smollm2 if name == "smollm2" else minilm
    for text in list(TEXTS.values())[::3]:
        trace = model.trace(text)
        for unit in UNITS:
            view = View(unit, Sinks("renormalise", ALL))  # type: ignore[arg-type]
            seen = view.pattern(trace, Head(1, 1))
            assert seen.weights.isfinite().all()
            assert float(seen.weights.sum(-1).max()) <= 1 + 1e-4


def test_a_frame_has_a_row_for_each_cell(traces: dict[str, Trace]) -> None:
    seen = View("word", Sinks("hide")).pattern(traces["smollm2"], HEADS["smollm2"])
    frame = seen.frame()
    assert len(frame) == len(seen.queries) * len(seen.keys)
    cell = frame.iloc[5 * len(seen.keys) + 2]
    assert (cell["query_text"], cell["key_text"]) == (seen.queries.labels[5], seen.keys.labels[2])
    assert cell["attention"] == pytest.approx(float(seen.weights[5, 2]))
    assert frame[frame["key"] == 0]["attention"].isna().all() == bool(seen.hidden[0])


def test_reading_changes_nothing_in_the_trace(traces: dict[str, Trace]) -> None:
    trace, head = traces["smollm2"], HEADS["smollm2"]
    before = trace.pattern(head.layer, head.head)
    for how in SINKING:
        View("word", Sinks(how, ALL)).pattern(trace, head).weights.zero_()
    assert torch.equal(trace.pattern(head.layer, head.head), before)
    stored = Stored(torch.rand(1, 2, 3, 3))
    stored.pattern().zero_()
    assert stored.weights.any()


def test_bad_input_is_named(traces: dict[str, Trace]) -> None:
    with pytest.raises(InputError, match="show, hide, renormalise, value-norm"):
        Sinks("remove")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="tuple"):
        Sinks("hide", "first")  # type: ignore[arg-type]
    with pytest.raises(HeadError):
        View().pattern(traces["smollm2"], Head(99, 0))


def test_value_norms_need_values(traces: dict[str, Trace]) -> None:
    from dataclasses import replace

    trace = traces["minilm"]
    bare = replace(trace, attention={"encoder": {0: Stored(trace.pattern(0)[None])}})
    with pytest.raises(Unsupported, match="values were not recorded"):
        View(sinks=Sinks("value-norm")).pattern(bare, Head(0, 0))
    assert View(sinks=Sinks("hide")).pattern(bare, Head(0, 0)).taken.any()
