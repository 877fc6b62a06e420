"""Sweeps that are stopped, resumed, cut to some heads, made of layers and groups, and what they leave behind."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tiny
import torch

import attnviz
from attnviz import Head, Model, ablation, edits
from attnviz.ablation.growing import stand_in
from attnviz.ablation.passes import Passes
from attnviz.errors import Cancelled, HeadError, InputError, Unsupported
from attnviz.metrics import ExactMatch, LogitDiff, LogProb, Similarity
from attnviz.tap import Place

TEXT, OTHER = "John saw Mary with John", "The cat sat on the mat"
METRIC = LogitDiff(7, 9)


@pytest.fixture(scope="module")
def grouped() -> Model:
    return attnviz.wrap_model(tiny.grouped(num_hidden_layers=3))


def swept(model: Model, **options: Any) -> ablation.Sweep:
    return ablation.sweep(model, None, METRIC, input_ids=tiny.ids(), **options)


def test_stopping_keeps_what_there_is_and_going_on_does_not_run_it_again(grouped: Model) -> None:
    whole = swept(grouped)
    calls: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        calls.append((done, total))
        if done > total // 2:
            raise Cancelled("enough")

    part = swept(grouped, piece=40, progress=stop)
    assert 0 < part.n_reached < 12
    assert not part.complete
    there = np.isfinite(part.effects)
    np.testing.assert_allclose(part.effects[there], whole.effects[there], atol=1e-5)
    again: list[tuple[int, int]] = []
    rest = swept(grouped, piece=40, done=part, progress=lambda done, total: again.append((done, total)))
    np.testing.assert_allclose(rest.effects, whole.effects, atol=1e-5)
    assert rest.complete
    assert again[-1][0] == again[-1][1] < calls[0][1]
    assert (rest.effects[there] == part.effects[there]).all()


def test_pieces_come_bit_by_bit_and_end_with_all(grouped: Model) -> None:
    parts = list(ablation.pieces(grouped, None, METRIC, input_ids=tiny.ids(), piece=40, seconds=0.0))
    reached = [part.n_reached for part in parts]
    assert reached == sorted(reached)
    assert reached[0] == 0
    assert reached[-1] == 12
    assert len(set(reached)) > 4
    assert parts[-1].noise < 1e-4
    assert all(np.isnan(part.effects).sum() == 12 - part.n_reached for part in parts)


def test_nothing_stays_set_while_a_piece_is_looked_at(grouped: Model) -> None:
    clean = grouped.measure(METRIC, input_ids=tiny.ids())
    for _ in ablation.pieces(grouped, None, METRIC, input_ids=tiny.ids(), piece=40, seconds=0.0):
        assert grouped.measure(METRIC, input_ids=tiny.ids()) == clean
        assert torch.is_grad_enabled()


def test_another_runs_part_is_refused(grouped: Model) -> None:
    part = swept(grouped, heads=[Head(0, 0)])
    for options in (
        {"how": "mean", "texts": [tiny.ids()]},
        {"units": "layer"},
        {"edits": [edits.ZeroHeads([Head(0, 1)])]},
    ):
        with pytest.raises(InputError, match="sweep of another run"):
            swept(grouped, done=part, **options)


def test_an_order_is_followed(grouped: Model) -> None:
    order = [Head(2, 3), Head(0, 1), Head(1, 2)]
    parts = ablation.pieces(grouped, None, METRIC, input_ids=tiny.ids(), piece=1, seconds=0.0, order=order)
    seen: list[str] = []
    for part in parts:
        seen += sorted({str(head) for head in part.ranked()} - set(seen))
    assert seen[:3] == ["L2H3", "L0H1", "L1H2"]
    assert len(seen) == 12


def test_an_unedited_copy_starts_at_the_lowest_place_whatever_the_order(
    grouped: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, given = Passes.run, list[Any]()

    def seen(self: Passes, units: Any) -> Any:
        given.extend(units)
        return run(self, units)

    monkeypatch.setattr(Passes, "run", seen)
    swept(grouped, order=[Head(2, 3), Head(2, 1)])
    assert [unit.place.layer for unit in given if not unit.heads] == [0, 1]
    assert [unit.place.layer for unit in given if unit.heads][:2] == [2, 2]


@pytest.mark.parametrize("units", ["layer", "group"])
def test_heads_are_ablated_together(grouped: Model, units: Any) -> None:
    found = swept(grouped, units=units)
    size = 4 if units == "layer" else 2
    assert found.effects.shape == (3, 4 // size)
    for layer, column in np.ndindex(found.effects.shape):
        together = [edits.ZeroHeads([Head(layer, column * size + head) for head in range(size)])]
        expected = grouped.measure(METRIC, input_ids=tiny.ids(), edits=together) - found.baseline
        assert found.effects[layer, column] == pytest.approx(expected, abs=1e-4)
    assert len(found.frame()) == found.effects.size
    assert ("head" in found.frame()) is False
    with pytest.raises(InputError, match="no heads"):
        found.ranked()


def test_an_edited_model_is_swept_from_where_it_stands(grouped: Model) -> None:
    before = (edits.ZeroHeads([Head(0, 2)]), edits.KnockOut(query=-1, key=3, heads=[Head(1, 1)]))
    found = swept(grouped, edits=before)
    assert found.baseline == pytest.approx(grouped.measure(METRIC, input_ids=tiny.ids(), edits=before), abs=1e-5)
    both = grouped.measure(METRIC, input_ids=tiny.ids(), edits=(*before, edits.ZeroHeads([Head(1, 3)])))
    assert found.effects[1, 3] == pytest.approx(both - found.baseline, abs=1e-4)
    assert found.effects[0, 2] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("how", ["mean", "resample"])
def test_a_longer_run_is_replaced_as_the_edits_do_it(grouped: Model, how: Any) -> None:
    metric, donor, head = LogProb([5, 6, 7]), tiny.ids()[::-1], Head(1, 2)
    if how == "mean":
        edit: edits.Edit = edits.MeanHeads([head], texts=[donor])
        options: dict[str, Any] = {"texts": [donor]}
    else:
        edit, options = edits.ResampleHeads([head], donor=donor), {"donor": donor}
    found = ablation.sweep(grouped, None, metric, input_ids=tiny.ids(), how=how, **options)
    expected = grouped.measure(metric, input_ids=tiny.ids(), edits=[edit]) - found.baseline
    assert found.effects[1, 2] == pytest.approx(expected, abs=1e-4)
    assert abs(expected) > 1e-3


def test_a_sweep_leaves_the_model_as_it_was(grouped: Model) -> None:
    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in grouped.hf_model.modules())

    before, n_hooks = {name: value.clone() for name, value in grouped.hf_model.state_dict().items()}, hooks()
    swept(grouped)
    ablation.screen(grouped, None, METRIC, input_ids=tiny.ids())
    assert all(torch.equal(value, before[name]) for name, value in grouped.hf_model.state_dict().items())
    assert all(p.grad is None for p in grouped.hf_model.parameters())
    assert hooks() == n_hooks


def test_two_threads_sweep_one_model_at_the_same_time(minilm: Model) -> None:
    texts = (TEXT, OTHER)
    alone = [ablation.sweep(minilm, text, Similarity("A dog.")).effects for text in texts]

    def work(text: str) -> list[np.ndarray]:
        return [ablation.sweep(minilm, text, Similarity("A dog."), piece=64).effects for _ in range(2)]

    with ThreadPoolExecutor(2) as threads:
        for found, expected in zip(threads.map(work, texts), alone, strict=True):
            for effects in found:
                np.testing.assert_allclose(effects, expected, atol=1e-5)


def test_half_precision_is_noted() -> None:
    model = attnviz.wrap_model(tiny.grouped().bfloat16())
    assert "half precision" in swept(model).note


def test_wrong_choices_are_refused(grouped: Model, minilm: Model) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"how": "noise"}, "how is 'zero'"),
        ({"how": "resample"}, "needs one"),
        ({"how": "mean"}, "needs them"),
        ({"donor": tiny.ids()}, "goes with how='resample'"),
        ({"texts": [tiny.ids()]}, "go with how='mean'"),
        ({"how": "resample", "donor": tiny.ids(7)}, "7 tokens"),
        ({"units": "row"}, "units is"),
        ({"memory": 1000}, "memory allows"),
        ({"memory": 0}, "at least 1"),
        ({"piece": 1.5}, "piece is a whole number"),
    ]
    for options, said in wrong:
        with pytest.raises(InputError, match=said):
            swept(grouped, **options)
    with pytest.raises(HeadError, match="layers 0 to 2"):
        swept(grouped, heads=[Head(3, 0)])
    with pytest.raises(HeadError, match="Head"):
        swept(grouped, heads=[(0, 0)])
    with pytest.raises(InputError, match="metric is"):
        ablation.sweep(minilm, TEXT, "similarity")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="generate"):
        ablation.sweep(grouped, None, ExactMatch([4]), input_ids=tiny.ids())
    with pytest.raises(Unsupported, match="view-only"):
        swept(attnviz.wrap_model(tiny.bloom()))


def test_what_stands_in_for_more_queries_than_a_run_has_is_refused() -> None:
    values = {Place("decoder", 3): torch.zeros(20, 4, 8)}
    assert stand_in(values, Place("decoder", 3), (21, 4, 8)).shape == (20, 4, 8)
    for shape in ((1, 4, 8), (20, 2, 8)):
        with pytest.raises(Unsupported, match="how='zero' alone"):
            stand_in(values, Place("decoder", 3), shape)
