"""Pruning curves, against one measurement a step, and heads that are really gone."""

from typing import Any

import numpy as np
import pytest
import tiny
import torch

import attnviz
from attnviz import Head, Model, ablation
from attnviz.ablation.pruning import knee_of, removable_parameters
from attnviz.edits import MeanHeads, ZeroHeads
from attnviz.errors import Cancelled, HeadError, InputError, Unsupported
from attnviz.metrics import LogitDiff, Loss

IDS, OTHER = tiny.ids(), tiny.ids(15)[::-1]
METRIC = LogitDiff(7, 9)


@pytest.mark.parametrize("references", [None, [OTHER, IDS[:9]]])
def test_a_step_is_the_metric_without_the_heads_that_have_left(references: Any) -> None:
    model, told = attnviz.wrap_model(tiny.grouped()), list[tuple[int, int]]()
    found = ablation.curve(
        model, [IDS, OTHER], METRIC, references=references, steps=4, progress=lambda *done: told.append(done)
    )
    assert found.removed.tolist() == [0, 2, 4, 6, 8]
    assert told == [(n, 12) for n in range(1, 13)]  # two for the order
    for step, n in enumerate(found.removed):
        heads = found.order[:n]
        edit = ZeroHeads(heads) if references is None and n else MeanHeads(heads, references or [IDS]) if n else None
        for at, ids in enumerate((IDS, OTHER)):
            expected = model.measure(METRIC, input_ids=ids, edits=[edit] if edit else [])
            assert found.values[step, at] == pytest.approx(expected, abs=1e-5)
    assert np.abs(found.mean - found.mean[0])[1:].min() > 1e-3


def test_the_least_important_heads_leave_first() -> None:
    model = attnviz.wrap_model(tiny.gpt2())
    sizes = np.mean(
        [np.abs(ablation.sweep(model, None, METRIC, input_ids=ids).effects) for ids in (IDS, OTHER)], axis=0
    )
    found = ablation.curve(model, [IDS, OTHER], METRIC, order="exact", steps=1)
    by_size = [sizes[head.layer, head.head] for head in found.order]
    assert by_size == sorted(by_size)
    assert len(set(found.order)) == 8
    estimated = ablation.curve(model, [IDS], METRIC, steps=1)
    screened = ablation.screen(model, None, METRIC, input_ids=IDS)
    assert list(estimated.order[::-1]) == screened.ranked()
    assert "estimated effects" in estimated.title
    assert "off-distribution" in estimated.title


def test_orders_of_ones_own_and_random_ones() -> None:
    model = attnviz.wrap_model(tiny.gpt2())
    mine = [Head(1, 0), Head(0, 3)]
    found = ablation.curve(model, [IDS], METRIC, order=mine)
    assert found.removed.tolist() == [0, 1, 2]
    assert found.frame()["last"].tolist() == ["", "L1H0", "L0H3"]
    assert found.order_frame().values.tolist() == [[1, "", 1, 0], [2, "", 0, 3]]
    first, again, other = (ablation.curve(model, [IDS], METRIC, order=seed, steps=1) for seed in (3, 3, 4))
    assert first.order == again.order != other.order
    assert "seed 3" in first.title


def test_what_is_removable_counts_shared_keys_once() -> None:
    model = attnviz.wrap_model(tiny.grouped())  # 4 heads, 2 key/value heads, d_head 8, d_model 32
    assert removable_parameters(model, []) == 0
    assert removable_parameters(model, [Head(0, 0)]) == 2 * 8 * 32
    assert removable_parameters(model, [Head(0, 0), Head(0, 1)]) == (2 * 2 + 2) * 8 * 32
    assert removable_parameters(model, [Head(0, 1), Head(0, 2)]) == 4 * 8 * 32
    everything = [Head(layer, head) for layer in range(2) for head in range(4)]
    blocks = [layer.self_attn for layer in model.hf_model.model.layers]
    assert removable_parameters(model, everything) == sum(p.numel() for block in blocks for p in block.parameters())


def test_the_knee_is_farthest_from_the_chord() -> None:
    removed = np.array([0, 2, 4, 6, 8, 10])
    # Shares removed 0, .2, .4, .6, .8, 1 less shares of the change 0, 0, .1, .1, .5, 1: largest at .6.
    assert knee_of(removed, np.array([5.0, 5.0, 4.0, 4.0, 0.0, -5.0])) == 3
    assert knee_of(removed, np.array([1.0, 1.0, 2.0, 2.0, 6.0, 11.0])) == 3
    assert knee_of(removed, np.array([0.0, 6.0, 7.0, 8.0, 9.0, 10.0])) is None
    assert knee_of(removed, np.full(6, 2.0)) is None
    assert knee_of(removed[:2], np.array([0.0, 1.0])) is None


def test_a_curve_that_goes_up_and_down_or_nowhere_has_no_knee() -> None:
    there_and_back = np.array([4.63, 6, 7, 8, 8, 8, 8, 7, 6, 5, 4.6])
    assert knee_of(np.arange(11), there_and_back) is None
    assert "up and down" in curve_of(there_and_back[:, None]).no_knee
    assert curve_of(np.array([0.0, 5.0, 8.0, 9.0, 9.5])[:, None]).no_knee.startswith("it never lies")
    rising = np.array([0.0, 0.1, 0.2, 0.1, 0.4, 2.0, 4.0])[:, None]
    assert (curve_of(rising).knee, curve_of(rising).no_knee) == (4, "")
    chance, knees = np.random.default_rng(3), 0
    for _ in range(200):
        knees += curve_of(chance.normal(size=(11, 1))).knee is not None
        knees += curve_of(chance.normal(size=(11, 6))).knee is not None
    assert knees <= 2


def test_an_end_that_texts_do_not_agree_on_makes_no_knee() -> None:
    rising = np.array([0.0, 0.0, 0.1, 0.2, 1.0, 3.0])[:, None]
    agreed, split = curve_of(rising * [1.0, 1.2, 0.9] + [3.0, 50.0, -9.0]), curve_of(rising * [9.0, -5.0, 1.0])
    assert agreed.knee == 3  # texts may lie far apart as long as each one changes
    assert split.knee is None
    assert "cannot be told" in split.no_knee
    half = 4.303 * agreed.values.std(1, ddof=1) / np.sqrt(3)  # t(.975, 2)
    np.testing.assert_allclose(agreed.high - agreed.mean, half, rtol=1e-3)
    np.testing.assert_allclose(agreed.mean - agreed.low, half, rtol=1e-3)
    assert np.isnan(curve_of(rising).low).all()


def curve_of(values: np.ndarray) -> ablation.Curve:
    """Of [step, text] values; all else is made up."""
    n = len(values)
    nothing = np.zeros(n, int)
    order = tuple(Head(0, head) for head in range(n - 1))
    return ablation.Curve(order, np.arange(n), values, nothing, 1, np.full((n, 2), np.nan), "", "", "", "")


def test_ordering_and_timing_are_told_and_can_be_stopped() -> None:
    model, told = attnviz.wrap_model(tiny.bert_masked()), list[tuple[int, int]]()
    metric = LogitDiff(7, 9, position=3)
    asked: dict[str, Any] = {"order": "exact", "steps": 2, "timed": True}
    ablation.curve(model, [IDS, OTHER], metric, **asked, progress=lambda *done: told.append(done))
    total = 3 * 2 + 2 * 4 + 3 * 2 * 12  # steps, half a run for each of 8 heads, six rounds of two
    assert told == sorted(told)
    assert told[-1] == (total, total)
    assert {done for done, _ in told} > {1, 4, 8, 9, 14, 16}  # within a text's order, behind it, measured, timed

    for limit in (1, 9, 20):
        stopped: list[int] = []

        def stop(done: int, _: int, limit: int = limit, stopped: list[int] = stopped) -> None:
            stopped.append(done)
            if done >= limit:
                raise Cancelled("Enough.")

        with pytest.raises(Cancelled):
            ablation.curve(model, [IDS, OTHER], metric, **asked, progress=stop)
        assert limit <= stopped[-1] <= limit + 1


@pytest.mark.parametrize(
    ("build", "heads"),
    [
        (tiny.bert, [Head(0, 1), Head(0, 3), Head(1, 0)]),
        (tiny.bert_masked, [Head(1, 0), Head(1, 1), Head(1, 2)]),
        (tiny.grouped, [Head(0, 2), Head(0, 3)]),
        (tiny.opt, [Head(0, 0), Head(1, 3)]),
    ],
)
def test_a_model_without_heads_is_the_one_with_them_at_zero(build: Any, heads: list[Head]) -> None:
    model = attnviz.wrap_model(build())
    before = {name: value.clone() for name, value in model.hf_model.state_dict().items()}
    smaller = ablation.take_out(model, heads)
    zeroed = model.trace(input_ids=IDS, edits=[ZeroHeads(heads)])
    plain = tiny.main_output(tiny.plain_run(smaller.hf_model, IDS))[0]
    edited = tiny.main_output(model.forward(model.encoded(None, IDS, False), (ZeroHeads(heads),)))[0]
    assert (plain - edited).abs().max() < 1e-5
    assert smaller.info.n_parameters == model.info.n_parameters - removable_parameters(model, heads) - biases(
        model, heads
    )
    staying = [head for head in range(4) if Head(0, head) not in heads]
    new = smaller.trace(input_ids=IDS)
    for number, old in enumerate(staying):
        assert (new.pattern(0, number) - zeroed.pattern(0, old)).abs().max() < 1e-5
    assert all(torch.equal(value, before[name]) for name, value in model.hf_model.state_dict().items())


def biases(model: Model, heads: list[Head]) -> int:
    """Of queries, keys and values; none of these models with biases shares keys."""
    has = any("bias" in name and ("query" in name or "q_proj" in name) for name in model.hf_model.state_dict())
    return 3 * model.info.d_head * len(heads) if has else 0


def test_an_embedder_and_an_encoder_decoder_lose_heads(minilm: Model) -> None:
    heads = [Head(2, 0), Head(2, 5), Head(4, 11)]
    smaller, text = ablation.take_out(minilm, heads), minilm.encode("A dog slept on the sofa")
    got, expected = smaller.forward(text, ()), minilm.forward(text, (ZeroHeads(heads),))
    assert (got.last_hidden_state - expected.last_hidden_state).abs().max() < 1e-5
    assert smaller.info.layer_heads["encoder"] == (12, 12, 10, 12, 11, 12)
    dates = attnviz.load_model("dates", device="cpu")
    lost = [Head(0, 0, "cross"), Head(1, 1, "encoder")]
    less = ablation.take_out(dates, lost)
    metric, given = LogitDiff("3", "5", position=2), {"text": "the 3rd of May 1998", "target": "1998-05-03"}
    assert less.measure(metric, **given) == pytest.approx(
        dates.measure(metric, **given, edits=[ZeroHeads(lost)]), abs=1e-4
    )


def test_what_cannot_be_taken_out_is_refused() -> None:
    grouped, gpt2 = attnviz.wrap_model(tiny.grouped()), attnviz.wrap_model(tiny.gpt2())
    with pytest.raises(Unsupported, match="leave together"):
        ablation.take_out(grouped, [Head(0, 0)])
    with pytest.raises(Unsupported, match="keeps one at least"):
        ablation.take_out(grouped, [Head(0, head) for head in range(4)])
    with pytest.raises(Unsupported, match="hold more than its heads"):
        ablation.take_out(gpt2, [Head(0, 0)])
    with pytest.raises(Unsupported, match="share their weights"):
        ablation.take_out(attnviz.wrap_model(tiny.shared_layer()), [Head(0, 0)])
    with pytest.raises(HeadError):
        ablation.take_out(grouped, [Head(7, 0)])


def test_time_is_measured_only_where_heads_are_gone() -> None:
    timed = ablation.curve(
        attnviz.wrap_model(tiny.bert_masked()), [IDS], LogitDiff(7, 9, position=3), steps=4, timed=True
    )
    assert (timed.ms[0] > 0).all()
    assert np.isnan(timed.ms[-1]).all()  # a layer keeps one head at least
    assert timed.frame().ms_whole.tolist()[0] == timed.ms[0, 1]
    fixed = ablation.curve(attnviz.wrap_model(tiny.gpt2()), [IDS], Loss(), steps=2, timed=True)
    assert np.isnan(fixed.ms[1:]).all()


def test_a_curve_of_nothing_is_refused() -> None:
    model = attnviz.wrap_model(tiny.gpt2())
    for options, said in (
        ({"texts": []}, "at least one text"),
        ({"steps": 0}, "at least 1 step"),
        ({"metric": None}, "metric is needed"),
        ({"order": "size"}, "order is"),
        ({"order": [Head(0, 0), Head(0, 0)]}, "each once"),
        ({"references": []}, "one or more texts"),
    ):
        given: dict[str, Any] = {"texts": [IDS], "metric": METRIC, **options}
        with pytest.raises(InputError, match=said):
            ablation.curve(model, **given)
