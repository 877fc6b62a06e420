"""Two runs compared, against a loop over single numbers, cases that can be seen at once, and what must always hold."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import attnviz
from attnviz import Head, Model, Sinks, Trace, View, compare
from attnviz.alignment import Alignment, Axis, align
from attnviz.errors import Cancelled, HeadError, InputError, ShapeError
from attnviz.figures.comparison import difference_map, divergence_grid
from attnviz.text import words
from attnviz.tokens import Token
from attnviz.trace import Stored
from attnviz.units import units_of

FIRST = "When Mary and John went to the store, John gave a drink to"
SWAPPED = "When John and Mary went to the big store, Mary gave a drink to"
VIEWS = [
    View(),
    View(sinks=Sinks("hide")),
    View(sinks=Sinks("renormalise", ("first", "punctuation"))),
    View("word", Sinks("renormalise")),
]


def axis_of(*pieces: str, special: tuple[str, ...] = (), unit: str = "token") -> Axis:
    """Tokens as written, a leading space being part of them; those of `special` stand for no text."""
    text = "".join(piece for piece in pieces if piece not in special)
    spans, tokens, at = words(text), [], 0
    for n, piece in enumerate(pieces):
        stop = at + (0 if piece in special else len(piece))
        word = next((i for i, (a, b) in enumerate(spans) if a < stop and b > at), None)
        tokens.append(Token(piece, n, (at, stop), word, piece in special))
        at = stop
    return Axis(units_of(tokens, text, unit), tuple(tokens), text)  # type: ignore[arg-type]


def naive(first: Trace, second: Trace, ours: Head, theirs: Head, view: View) -> tuple[float, int]:
    """(mean Jensen-Shannon divergence, rows counted) of two heads, one number at a time."""
    rows, cols = compare.alignments(first, second, site=ours.site, other_site=theirs.site, view=view)
    a, b = view.pattern(first, ours), view.pattern(second, theirs)
    found = []
    for i, j in rows.pairs:
        p, q = a.weights[i].double().tolist(), b.weights[j].double().tolist()
        bins = [(p[k], q[m]) for k, m in cols.pairs]
        bins += [(sum(p[k] for k in cols.deleted), 0.0), (0.0, sum(q[m] for m in cols.inserted))]
        bins += [(max(0.0, 1 - sum(p)), max(0.0, 1 - sum(q)))]
        nats = 0.0
        for x, y in bins:
            nats += sum(z * math.log(2 * z / (x + y)) / 2 for z in (x, y) if z > 0)
        # A causal model's first units see one key, and one fewer where the first key was taken away.
        choices = [
            sum(1 for k in range(n + 1) if not seen.hidden[k]) if trace.info.family == "decoder" else len(seen.keys)
            for n, seen, trace in ((i, a, first), (j, b, second))
        ]
        if max(choices) > 1:
            found.append(nats)
    return sum(found) / len(found), len(found)


def test_equal_words_pair_and_others_stay_alone() -> None:
    found = align(axis_of("The", " old", " cat", " sat"), axis_of("The", " cat", " sat", " down"))
    assert found == Alignment(((0, 0), (2, 1), (3, 2)), frozenset(), (1,), (3,))


def test_words_that_change_places_pair_where_they_stand() -> None:
    found = align(axis_of("Mary", " and", " John"), axis_of("John", " and", " Mary"))
    assert found.pairs == ((0, 0), (1, 1), (2, 2))
    assert found.changed == {(0, 0), (2, 2)}


def test_a_word_replaced_by_two_pairs_with_neither() -> None:
    found = align(axis_of("a", " dog", " ran"), axis_of("a", " big", " cat", " ran"))
    assert found == Alignment(((0, 0), (2, 3)), frozenset(), (1,), (1, 2))


def test_case_is_told_apart_and_white_space_is_not_part_of_a_word() -> None:
    found = align(axis_of("the", " cat"), axis_of("The", " cat"))
    assert found.changed == {(0, 0)}
    assert align(axis_of("cat"), axis_of(" cat")).changed == frozenset()


def test_tokens_of_a_word_pair_in_order_where_there_are_equally_many() -> None:
    found = align(axis_of("un", "happy", " man"), axis_of("un", "lucky", " man"))
    assert found.pairs == ((0, 0), (1, 1), (2, 2))
    assert found.changed == {(0, 0), (1, 1)}
    assert align(axis_of("un", "happy", " man"), axis_of("sad", " man")).pairs == ((2, 1),)


def test_one_word_split_in_two_ways_pairs_by_its_characters() -> None:
    found = align(axis_of(" un", "happi", "ness"), axis_of("un", "happ", "i", "ness"))
    assert found == Alignment(((0, 0), (2, 3)), frozenset(), (1,), (1, 2))
    whole = align(axis_of(" un", "happi", "ness", unit="word"), axis_of("un", "happ", "i", "ness", unit="word"))
    assert whole == Alignment(((0, 0),), frozenset(), (), ())


def test_special_tokens_pair_with_equal_ones_alone() -> None:
    special = ("[CLS]", "[SEP]", "<s>")
    found = align(axis_of("[CLS]", "a", "[SEP]", special=special), axis_of("<s>", "b", "[SEP]", special=special))
    assert found == Alignment(((1, 1), (2, 2)), frozenset({(1, 1)}), (0,), (0,))


def test_labels_name_both_words_of_a_change() -> None:
    first, second = axis_of("Mary", " and", " John"), axis_of("John", " and", " John")
    assert align(first, second).labels(first.units, second.units) == ("Mary → John", " and", " John")


def test_words_do_not_align_with_tokens() -> None:
    with pytest.raises(InputError, match="like with like"):
        align(axis_of("a"), axis_of("a", unit="word"))


TEXTS = st.lists(st.sampled_from(["a", " b", " c", "d", ".", "[S]", " ", " a"]), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS)
def test_pairs_run_in_order_and_every_unit_stands_once(ours: list[str], theirs: list[str]) -> None:
    first, second = (axis_of(*pieces, special=("[S]",)) for pieces in (ours, theirs))
    found = align(first, second)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(found.pairs))
    for side, axis in enumerate((first, second)):
        assert sorted([*found.side(side), *found.alone(side)]) == list(range(len(axis.units)))
    assert found.changed <= set(found.pairs)
    back = align(second, first)
    assert back.pairs == tuple((j, i) for i, j in found.pairs)
    assert (back.deleted, back.inserted) == (found.inserted, found.deleted)


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_a_text_aligns_with_itself_whole(pieces: list[str]) -> None:
    axis = axis_of(*pieces, special=("[S]",))
    assert align(axis, axis) == Alignment(tuple((i, i) for i in range(len(pieces))), frozenset(), (), ())


@pytest.fixture(scope="module")
def runs(smollm2: Model) -> tuple[Trace, Trace]:
    return smollm2.trace(FIRST), smollm2.trace(SWAPPED)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: f"{view.unit}-{view.sinks.how}")
def test_divergence_equals_a_naive_loop(runs: tuple[Trace, Trace], view: View) -> None:
    scores = compare.divergence(*runs, view=view)
    assert scores.shape == (30, 9)
    for head in (Head(0, 6), Head(11, 1), Head(23, 3), Head(23, 4), Head(29, 8)):
        assert scores[head.layer, head.head] == pytest.approx(naive(*runs, head, head, view)[0], abs=1e-5)


def test_the_swapped_names_show_where_they_are_known_to(runs: tuple[Trace, Trace]) -> None:
    # These heads look at the name to come, so that a swap of the names moves what they look at.
    scores = compare.divergence(*runs)
    assert scores[23, 4] > 4 * np.median(scores)


def test_divergence_is_symmetric_bounded_and_nothing_from_a_text_to_itself(runs: tuple[Trace, Trace]) -> None:
    first, second = runs
    np.testing.assert_allclose(compare.divergence(first, second), compare.divergence(second, first), atol=1e-6)
    assert compare.divergence(first, second).min() >= 0
    assert compare.divergence(first, second).max() <= math.log(2)
    assert compare.divergence(first, first).tolist() == np.zeros((30, 9)).tolist()


def stored(*patterns: torch.Tensor, length: int = 3) -> Trace:
    """The tiny model's trace with these patterns in layer 0, one a head."""
    trace = attnviz.wrap_model(tiny.grouped(num_hidden_layers=1)).trace(input_ids=tiny.ids(length))
    return dataclasses.replace(trace, attention={"decoder": {0: Stored(torch.stack(patterns)[None])}})


def test_three_tokens_by_hand() -> None:
    look_first = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 0, 0]])
    look_self = torch.eye(3)
    half = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0]])
    first, second = stored(half, half, half, half), stored(half, look_self, look_first, half)
    scores = compare.divergence(first, second)
    # [1/2, 1/2] against [1, 0]: their middle is [3/4, 1/4].
    one_of_two = 0.75 * math.log(4 / 3)
    expected = [0, (one_of_two + math.log(2)) / 2, one_of_two, 0]
    np.testing.assert_allclose(scores[0], expected, atol=1e-6)


def test_what_only_one_text_has_is_counted_together_and_stated() -> None:
    seen = [
        View().pattern(stored(*[weights] * 4), Head(0, 0))
        for weights in (torch.tensor([[0.2, 0.3, 0.5]] * 3), torch.tensor([[0.6, 0.4, 0.0]] * 3))
    ]
    cols = Alignment(((0, 0),), frozenset(), (1, 2), (1, 2))
    rows = Alignment(((0, 0), (1, 1), (2, 2)), frozenset(), (), ())
    found = compare.difference(*seen, rows, cols)
    np.testing.assert_allclose(found.weights, [[0.4]] * 3, atol=1e-6)
    np.testing.assert_allclose(found.only_first, [0.8] * 3, atol=1e-6)
    np.testing.assert_allclose(found.only_second, [0.4] * 3, atol=1e-6)
    # Bins (0.2, 0.6), (0.8, 0) and (0, 0.4).
    nats = (0.2 * math.log(0.5) + 0.6 * math.log(1.5) + 0.8 * math.log(2) + 0.4 * math.log(2)) / 2
    np.testing.assert_allclose(found.nats, [nats] * 3, atol=1e-6)
    with pytest.raises(ShapeError, match="alignments"):
        compare.difference(*seen, Alignment(((0, 0),), frozenset(), (), ()), cols)


def test_a_row_with_one_key_leaves_no_choice() -> None:
    trace = attnviz.wrap_model(tiny.grouped()).trace(input_ids=[5])
    assert np.isnan(compare.divergence(trace, trace)).all()


def test_nothing_that_corresponds_is_nothing_to_measure(smollm2: Model) -> None:
    first, second = smollm2.trace("one two three"), smollm2.trace("four")
    rows, _ = compare.alignments(first, second)
    assert rows.pairs == ()
    assert np.isnan(compare.divergence(first, second)).all()
    with pytest.raises(InputError, match="corresponds"):
        difference_map(first, second, Head(0, 0))


def test_the_difference_is_that_of_the_paired_cells(runs: tuple[Trace, Trace]) -> None:
    head = Head(23, 4)
    found = compare.head_difference(*runs, head)
    a, b = (trace.pattern(23, 4) for trace in runs)
    for p, (i, j) in enumerate(found.rows.pairs):
        for k, (m, n) in enumerate(found.cols.pairs):
            assert found.weights[p, k] == pytest.approx(float(b[j, n] - a[i, m]), abs=1e-6)
    counted = found.nats[1:]  # the first row of each sees itself alone
    assert float(counted.mean()) == pytest.approx(float(compare.divergence(*runs)[23, 4]), abs=1e-6)
    frame = found.frame()
    assert len(frame) == found.weights.size
    changed = frame[(frame.query_text == "␣Mary → ␣John") & (frame.key_text == "␣and")].iloc[0]
    assert (changed.query_first, changed.query_second, changed.key_first, changed.key_second) == (1, 1, 2, 2)


def test_keys_that_were_taken_away_have_no_difference(runs: tuple[Trace, Trace]) -> None:
    found = compare.head_difference(*runs, Head(23, 4), view=View(sinks=Sinks("hide")))
    assert np.isnan(found.weights[:, 0]).all()
    assert not np.isnan(found.weights[:, 1:]).any()


@pytest.mark.parametrize("view", [View(), View("word")], ids=lambda view: view.unit)
def test_nearest_heads_equal_a_naive_loop_across_models(smollm2: Model, minilm: Model, view: View) -> None:
    first, second = smollm2.trace(FIRST), minilm.trace(SWAPPED)
    scores = compare.nearest_heads(first, Head(23, 3), second, view=view)
    assert scores.shape == (6, 12)
    for head in (Head(0, 0), Head(2, 10), Head(5, 11)):
        assert scores[head.layer, head.head] == pytest.approx(
            naive(first, second, Head(23, 3), head, view)[0], abs=1e-5
        )


def test_the_nearest_head_of_a_run_to_one_of_its_own_is_itself(runs: tuple[Trace, Trace]) -> None:
    scores = compare.nearest_heads(runs[0], Head(23, 3), runs[0])
    assert np.unravel_index(scores.argmin(), scores.shape) == (23, 3)
    assert scores[23, 3] == 0


def test_words_of_two_tokenizers_all_pair(smollm2: Model, minilm: Model) -> None:
    text = "Unbelievably, transformers tokenise antidisestablishmentarianism."
    first, second = smollm2.trace(text), minilm.trace(text)
    rows, _ = compare.alignments(first, second, view=View("word"))
    assert rows.deleted == ()
    assert rows.changed == frozenset()
    assert [second.tokens[View("word").axes(second)[0].edges[j]].text for j in rows.inserted] == ["[CLS]", "[SEP]"]


def test_models_of_two_shapes_leave_heads_without_a_like_empty(smollm2: Model, minilm: Model) -> None:
    scores = compare.divergence(smollm2.trace("Hello there"), minilm.trace("Hello there"))
    assert scores.shape == (30, 12)
    assert np.isfinite(scores).tolist() == [[i < 6 and j < 9 for j in range(12)] for i in range(30)]


def test_long_texts_are_compared_in_parts(smollm2: Model) -> None:
    # More rows than one part holds, with words put in before, between and after.
    words = [f"w{i % 37}" for i in range(130)]
    other = ["oh", *words[:60], "and", "then", *words[60:], "end"]
    first, second = smollm2.trace(" ".join(words)), smollm2.trace(" ".join(other))
    rows, _ = compare.alignments(first, second)
    assert len(rows.pairs) > 256
    scores = compare.divergence(first, second)
    assert scores[23, 3] == pytest.approx(naive(first, second, Head(23, 3), Head(23, 3), View())[0], abs=1e-5)


def test_models_with_sinks_have_a_bin_for_what_is_missing() -> None:
    model = attnviz.wrap_model(tiny.sinks())
    first, second = model.trace(input_ids=tiny.ids()), model.trace(input_ids=[*tiny.ids()[:-1], 7])
    assert float(first.pattern(0).sum(-1).max()) < 0.999
    scores = compare.divergence(first, second)
    assert scores[1, 2] == pytest.approx(naive_plain(first, second, 1, 2), abs=1e-5)


def naive_plain(first: Trace, second: Trace, layer: int, head: int) -> float:
    """Two texts of one length whose tokens all pair; only the first row sees a single key."""
    total = 0.0
    a, b = (trace.pattern(layer, head).double() for trace in (first, second))
    for p, q in zip(a[1:].tolist(), b[1:].tolist(), strict=True):
        for x, y in [*zip(p, q, strict=True), (1 - sum(p), 1 - sum(q))]:
            total += sum(z * math.log(2 * z / (x + y)) / 2 for z in (x, y) if z > 0)
    return total / (len(a) - 1)


def test_progress_runs_from_none_to_all_and_can_stop(minilm: Model) -> None:
    first, second = minilm.trace("Hello world"), minilm.trace("Hello there")
    for measure in (
        lambda progress: compare.divergence(first, second, progress=progress),
        lambda progress: compare.nearest_heads(first, Head(0, 0), second, progress=progress),
    ):
        seen: list[tuple[int, int]] = []
        measure(lambda done, total, seen=seen: seen.append((done, total)))
        assert seen == [(i, 6) for i in range(7)]

        def stop(done: int, total: int) -> None:
            raise Cancelled("Stopped.")

        with pytest.raises(Cancelled):
            measure(stop)


def test_a_site_or_head_that_is_not_there_is_refused(runs: tuple[Trace, Trace]) -> None:
    with pytest.raises(HeadError, match="cross"):
        compare.divergence(*runs, site="cross")
    with pytest.raises(HeadError):
        compare.nearest_heads(runs[0], Head(99, 0), runs[1])
    with pytest.raises(HeadError):
        compare.head_difference(*runs, Head(0, 0), other=Head(99, 0))


def test_attention_between_two_texts_aligns_queries_and_keys_apart() -> None:
    model = attnviz.load_model("dates", device="cpu", dtype="float32")
    first, second = model.trace("the 3rd of May 1998"), model.trace("the 4th of May 1998")
    rows, cols = compare.alignments(first, second, site="cross")
    assert (rows.size(0), cols.size(0)) == (len(first.tokens), len(first.source_tokens))
    scores = compare.divergence(first, second, site="cross")
    head = Head(1, 1, "cross")
    a, b = View().pattern(first, head), View().pattern(second, head)
    found = compare.difference(a, b, rows, cols)
    assert scores[1, 1] == pytest.approx(float(found.nats.mean()), abs=1e-6)
    assert np.isfinite(scores).all()


def test_figures_show_the_numbers_under_the_runs_own_names(runs: tuple[Trace, Trace]) -> None:
    found = compare.head_difference(*runs, Head(23, 4))
    figure = difference_map(*runs, Head(23, 4))
    (heatmap,) = figure.data
    np.testing.assert_array_equal(heatmap.customdata, found.weights)
    np.testing.assert_allclose(np.sign(heatmap.z) * np.square(heatmap.z), found.weights, atol=1e-6)
    assert heatmap.zmin == -heatmap.zmax
    assert "L23H4" in figure.layout.title.text
    assert runs[0].info.name in figure.layout.title.subtitle.text
    assert "␣Mary → ␣John" in figure.layout.xaxis.ticktext
    grid = divergence_grid(compare.divergence(*runs), *runs)
    np.testing.assert_array_equal(grid.data[0].z, compare.divergence(*runs))
    assert "nats" in grid.layout.title.text


@pytest.mark.parametrize("scale", ["linear", "sqrt", "log"])
def test_every_scale_runs_the_same_on_both_sides_of_zero(runs: tuple[Trace, Trace], scale: str) -> None:
    forth, back = (
        difference_map(*pair, Head(23, 4), scale=scale).data[0]  # type: ignore[arg-type]
        for pair in (runs, runs[::-1])
    )
    np.testing.assert_allclose(forth.z, -back.z, atol=1e-6)
    with pytest.raises(InputError, match="scale"):
        difference_map(*runs, Head(23, 4), scale="cubic")  # type: ignore[arg-type]


def test_a_hostile_text_stays_text_in_figures(smollm2: Model) -> None:
    first, second = smollm2.trace("a <b>x</b> c"), smollm2.trace("a <i>x</i> c")
    figure = difference_map(first, second, Head(0, 0))
    assert all("<" not in label for axis in (figure.layout.xaxis, figure.layout.yaxis) for label in axis.ticktext)
