"""Gates: what a step computes, against metrics and finite differences, and what is learned on planted cases."""

import copy
import math
import threading
from typing import Any

import numpy as np
import pytest
import tiny
import torch

import attnviz
from attnviz import Head, Model, ablation, edits, gates
from attnviz.ablation import Case
from attnviz.errors import Cancelled, HeadError, InputError, MetricError, Unsupported
from attnviz.gates import Example
from attnviz.gates.examples import asked, scored
from attnviz.gates.learning import Gated, penalty_of
from attnviz.metrics import ExactMatch, LogitDiff, LogProb, Loss

DATES = [("3 May 1998", "1998-05-03"), ("17 March 1912", "1912-03-17"), ("1.2.2003", "2003-02-01")]
MANY_DATES = [
    *DATES,
    ("May 9, 1907", "1907-05-09"),
    ("28 October 2044", "2044-10-28"),
    ("January 30 1975", "1975-01-30"),
    ("the 11th of June 1969", "1969-06-11"),
    ("2088-12-24", "2088-12-24"),
    ("14 August 1999", "1999-08-14"),
    ("4/5/1926", "1926-04-05"),
]
HARMFUL = Head(1, 2)
QUICK: dict[str, Any] = {"lr": 0.2, "weight": 0.05, "steps": 20, "penalty": "l1"}


def texts(n: int, length: int = 9) -> list[list[int]]:
    random = np.random.default_rng(5)
    return [random.integers(3, 99, length + i % 3).tolist() for i in range(n)]


def spoiled(factor: float = -8.0) -> tuple[Model, list[Example]]:
    """A model one of whose heads writes too much, or the opposite; and corrections: what the sound one says, against
    what it says itself."""
    sound, hf_model = attnviz.wrap_model(tiny.grouped(), name="sound"), tiny.grouped()
    with torch.no_grad():
        width = hf_model.config.hidden_size // hf_model.config.num_attention_heads
        projection = hf_model.model.layers[HARMFUL.layer].self_attn.o_proj.weight
        projection[:, HARMFUL.head * width : (HARMFUL.head + 1) * width] *= factor
    model, examples = attnviz.wrap_model(hf_model, name="spoiled"), []
    for ids in texts(40):
        answer, foil = (int(one.trace(input_ids=ids).predictions(-1, 1)["token_id"][0]) for one in (sound, model))
        examples += [Example(ids, answer, foil)] if answer != foil else []
    return model, examples


@pytest.fixture(scope="module")
def taught() -> tuple[Model, list[Example], gates.Gates]:
    model, examples = spoiled()
    return model, examples, gates.learn(model, examples, **QUICK)


@pytest.fixture(scope="module")
def dates() -> Model:
    return attnviz.load_model("dates")


def test_outcomes_are_those_of_the_metrics_and_batches_do_not_matter() -> None:
    model = attnviz.wrap_model(tiny.grouped())
    examples = [Example(ids, 5 + n, 40 + n) for n, ids in enumerate(texts(7))]
    examples += [Example(ids, [7, 9, 11]) for ids in texts(3)]
    found = scored(model, asked(model, examples), ())
    for n, example in enumerate(examples):
        metric = LogitDiff(example.answer, example.foil) if example.foil else LogProb(example.answer)
        assert float(found.outcome[n]) == pytest.approx(model.measure(metric, input_ids=example.text), abs=1e-4)
    losses = [math.log1p(math.exp(-x)) if n < 7 else -x for n, x in enumerate(found.outcome.tolist())]
    assert found.loss.tolist() == pytest.approx(losses, abs=1e-5)
    assert found.right[:7].tolist() == (found.outcome[:7] > 0).tolist()


def test_a_foil_of_several_tokens_is_weighed_as_a_whole() -> None:
    model, ids = attnviz.wrap_model(tiny.gpt2()), tiny.ids(6)
    found = scored(model, asked(model, [Example(ids, [7, 8], [9, 10, 11])]), ())
    wanted, foil = (model.measure(LogProb(answer), input_ids=ids) for answer in ([7, 8], [9, 10, 11]))
    assert float(found.outcome[0]) == pytest.approx(wanted - foil, abs=1e-4)


def test_an_answer_is_right_where_it_would_be_written() -> None:
    model = attnviz.wrap_model(tiny.grouped())
    written = [list(model.generate(input_ids=ids, max_new_tokens=3).input_ids[len(ids) :]) for ids in texts(4)]
    right = [Example(ids, told) for ids, told in zip(texts(4), written, strict=True)]
    wrong = [Example(ids, [*told[:-1], (told[-1] + 1) % 96]) for ids, told in zip(texts(4), written, strict=True)]
    assert scored(model, asked(model, [*right, *wrong]), ()).right.tolist() == [True] * 4 + [False] * 4


def test_targets_of_an_encoder_decoder_count_their_end(dates: Model) -> None:
    (item, *_), found = asked(dates, DATES), scored(dates, asked(dates, DATES), ())
    assert item.answer.told[-1] == dates.tokenizer.eos_token_id
    assert found.right.all()
    loss = dates.measure(Loss(), DATES[0][0], target=DATES[0][1])
    without_end = -float(found.outcome[0]) / len(item.answer.told)
    assert without_end == pytest.approx(loss * 10 / 11, abs=1e-3)


def test_an_encoder_answers_at_its_mask() -> None:
    class Tokens:
        mask_token_id, mask_token = 4, "[MASK]"

    model = attnviz.wrap_model(tiny.bert_masked())
    with pytest.raises(InputError, match=r"Example 1: .* fills in masks, and the text has none"):
        asked(model, [Example(tiny.ids(), 7)])
    object.__setattr__(model, "tokenizer", Tokens())
    ids = [*tiny.ids(5), 4, *tiny.ids(3)]
    (item,) = asked(model, [Example(ids, 7, 9)])
    assert item.answer.first == 5
    expected = model.measure(LogitDiff(7, 9, position=5), input_ids=ids)
    assert float(scored(model, [item], ()).outcome[0]) == pytest.approx(expected, abs=1e-4)
    with pytest.raises(InputError, match="one token, but the answer"):
        asked(model, [Example(ids, [7, 8])])


@pytest.mark.parametrize("build", [tiny.grouped, tiny.gpt2, tiny.soft_capped, tiny.shared_layer])
def test_gates_of_one_change_nothing_and_of_zero_zero_the_head(build: Any) -> None:
    model = attnviz.wrap_model(build())
    gated, ids = Gated.of(model, None, [Head(1, 2), Head(0, 1)]), tiny.ids()

    def output(*held: edits.Edit) -> torch.Tensor:
        return tiny.main_output(model.forward(model.encoded(None, ids, False), held))

    assert torch.equal(output(gated.edit(torch.ones(2))), output())
    gate = gated.edit(torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(output(gate), output(edits.ZeroHeads([Head(1, 2)])), atol=1e-6, rtol=0)
    gate = gated.edit(torch.tensor([0.25, 1.0]))
    torch.testing.assert_close(output(gate), output(edits.ScaleHeads({Head(0, 1): 0.25})), atol=1e-6, rtol=0)
    assert (output(gate) - output()).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["grouped", "gpt2", "dates"])
def test_slopes_are_finite_differences(kind: str, dates: Model) -> None:
    model = dates if kind == "dates" else attnviz.wrap_model(getattr(tiny, kind)())
    given = DATES if kind == "dates" else [Example(ids, 5, [40, 41]) for ids in texts(4)]
    gated, items, step = Gated.of(model, None, None), asked(model, given), 2e-2
    at = torch.linspace(0.3, 0.9, len(gated)).requires_grad_()
    (slopes,) = torch.autograd.grad(scored(model, items, [gated.edit(at)], grad=True).loss.sum(), [at])

    def loss(n: int, change: float) -> float:
        moved = at.detach().clone()
        moved[n] += change
        return float(scored(model, items, [gated.edit(moved)]).loss.sum())

    for n in range(0, len(gated), 3):
        assert float(slopes[n]) == pytest.approx((loss(n, step) - loss(n, -step)) / (2 * step), rel=0.03, abs=0.02)
    assert slopes.abs().max() > 0.1


def test_the_planted_head_is_closed_and_others_come_out_right(taught: Any) -> None:
    model, examples, found = taught
    assert found.closed()[0] == HARMFUL
    assert found.held_out.change.low > 0
    before, after = found.test(model, examples).right
    assert before == 0
    assert after > 0.9
    assert found.history.held_out[found.best] == found.history.held_out.min()
    assert found.held_out.loss_after.mean() == pytest.approx(found.history.held_out.min(), abs=1e-6)
    assert f"{len(found.changed())} changed" in found.title


def test_a_head_that_writes_the_opposite_is_closed_and_dates_come_out_right_again(dates: Model) -> None:
    wrong = Head(1, 1, "cross")
    broken = ablation.bake(dates, {wrong: -1.0}).model
    found = gates.learn(broken, MANY_DATES, heads=[wrong], lr=0.2, steps=8)
    assert found.closed() == [wrong]
    assert list(found.changed()) == [wrong]
    assert found.held_out.right == (0, 1)
    day, iso = "6 September 2010", "2010-09-06"
    assert broken.measure(ExactMatch(iso), day) == 0
    assert broken.measure(ExactMatch(iso), day, edits=found.edits()) == 1


def test_the_held_out_part_is_as_the_model_measures_it(taught: Any) -> None:
    model, examples, found = taught
    measured = np.array(
        [model.measure(LogitDiff(e.answer, e.foil), input_ids=e.text, edits=found.edits()) for e in examples]
    )
    assert all(np.abs(measured - x).min() < 1e-3 for x in found.held_out.outcome_after)
    assert (found.n_train, len(found.held_out.outcome_after)) == (25, 11)


def test_a_seed_says_it_all_and_nobody_elses_random_numbers_are_drawn(taught: Any) -> None:
    model, examples, found = taught
    state = torch.random.get_rng_state()
    again = gates.learn(model, examples, **QUICK)
    other = gates.learn(model, examples, **{**QUICK, "steps": 2}, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert again.values["decoder"].tolist() == found.values["decoder"].tolist()
    assert again.history.equals(found.history)
    assert other.history.held_out[0] != found.history.held_out[0]


def test_the_shared_model_stays_as_it_was_while_others_use_it() -> None:
    model, examples = spoiled()
    before = copy.deepcopy(model.hf_model.state_dict())
    clean = model.trace(input_ids=tiny.ids()).logits
    seen: list[torch.Tensor] = []

    def told(*_: Any) -> None:
        thread = threading.Thread(target=lambda: seen.append(model.trace(input_ids=tiny.ids()).logits))
        thread.start()
        thread.join()

    gates.learn(model, examples, lr=0.2, steps=3, progress=told)
    assert len(seen) == 4
    assert all(torch.equal(logits, clean) for logits in seen)
    assert all(torch.equal(value, before[name]) for name, value in model.hf_model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.hf_model.parameters())


def test_stopping_keeps_what_was_learned(taught: Any) -> None:
    model, examples, whole = taught
    told: list[tuple[int, int, float, float]] = []

    def progress(step: int, steps: int, curve: Any) -> None:
        told.append((step, steps, curve["train"], curve["held_out"]))
        if step == 4:
            raise Cancelled("enough")

    found = gates.learn(model, examples, **QUICK, progress=progress)
    assert found.stopped == "on request"
    assert found.history.step.tolist() == [0, 1, 2, 3, 4]
    assert found.history.equals(whole.history[:5])
    assert 0 < found.best <= 4
    assert [row[:2] for row in told] == [(step, 20) for step in range(5)]
    assert math.isnan(told[0][2])
    assert told[4][2:] == tuple(found.history.loc[4, ["train", "held_out"]])
    with pytest.raises(ZeroDivisionError):
        gates.learn(model, examples, progress=lambda *_: 1 / 0)


def test_learning_stops_early_and_falls_back_on_the_untouched_model() -> None:
    sound = attnviz.wrap_model(tiny.grouped())
    # Wanted is what the model is sure of already: nothing is to be gained.
    examples = [Example(ids, int(sound.trace(input_ids=ids).predictions()["token_id"][0])) for ids in texts(6)]
    found = gates.learn(sound, examples, weight=100.0, lr=0.5, steps=30, patience=3, heads=[HARMFUL])
    assert (found.stopped, found.best) == ("early", 0)
    assert len(found.history) == 4
    assert found.edits() == ()
    assert found.held_out.change.mean == 0
    with pytest.raises(InputError, match="All gates are 1"):
        found.edit()


def test_penalties_pull_towards_no_change(taught: Any) -> None:
    model, examples, _ = taught
    for penalty, power in (("l2", 2), ("l1", 1)):
        loose, tight = (
            gates.learn(model, examples, **{**QUICK, "penalty": penalty, "weight": weight, "steps": 8})
            for weight in (0.0, 1.0)
        )
        distance = [float(((1 - found.values["decoder"]) ** power).sum()) for found in (loose, tight)]
        assert distance[1] < distance[0] - 0.1
    assert len(tight.changed()) < len(loose.changed())
    each = torch.tensor([0.5, 1.0, 0.0])
    assert (float(penalty_of(each, "l2")), float(penalty_of(each, "l1"))) == (1.25, 1.5)


def test_examples_of_one_text_stay_on_one_side(taught: Any) -> None:
    model, *_ = taught
    examples = [Example(ids, answer, foil) for ids in texts(4) for answer, foil in ((5, 6), (7, 8), (5, 6))]
    found = gates.learn(model, examples, steps=1, held_out=0.5)
    assert (found.n_train, len(found.held_out.outcome_before)) == (4, 4)  # the third is the first again


def test_sites_and_heads_that_are_left_alone(dates: Model) -> None:
    found = gates.learn(dates, [*DATES, ("May 9, 1907", "1907-05-08")], site="cross", steps=2, lr=0.3, weight=0.0)
    assert found.settings["n_gates"] == 8
    assert all((found.values[site] == 1).all() for site in ("encoder", "decoder"))
    with pytest.raises(HeadError, match="give L0H0 a site"):
        gates.learn(dates, DATES, heads=[Head(0, 0)])
    with pytest.raises(HeadError, match="does not belong to the site"):
        gates.learn(dates, DATES, site="cross", heads=[Head(0, 0, "encoder")])


def test_cases_and_tuples_are_examples_too(smollm2: Model) -> None:
    mine = asked(smollm2, [Case("The keys", "", " are", " is"), ("The keys", " are", " is"), ("The key", " is")])
    assert len(mine) == 2
    assert mine[0].foil is not None
    assert mine[1].foil is None
    outcome = smollm2.measure(LogitDiff(" are", " is"), "The keys")
    assert float(scored(smollm2, mine, ()).outcome[0]) == pytest.approx(outcome, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"penalty": "l3"}, "penalty is 'l2' or 'l1'"),
        ({"weight": -1}, "weight is a number"),
        ({"weight": math.nan}, "weight is a number"),
        ({"lr": 0}, "lr is a number above 0"),
        ({"lr": "fast"}, "lr is a number"),
        ({"held_out": 1.0}, "held_out is a number between"),
        ({"steps": 0}, "steps is a whole number from 1"),
        ({"patience": 2.5}, "patience is a whole number"),
        ({"seed": -1}, "seed is a whole number from 0"),
        ({"batch": True}, "batch is a whole number"),
        ({"heads": []}, "at least one"),
        ({"heads": [Head(9, 0)]}, "has layers 0 to 1"),
        ({"site": "cross"}, "has attention at decoder"),
        ({"examples": []}, "There is no example"),
        ({"examples": "The keys"}, "examples is a list"),
        ({"examples": [Example([5, 6], 7)]}, "at least 2 texts"),
        ({"examples": [Example([5, 6], 7), "x"]}, "Example 2: expected an Example"),
        ({"examples": [Example([5, 6], 7, 7)]}, "Example 1: the answer and the foil are the same"),
        ({"examples": [Example([5, 6], [])]}, "Example 1: the answer is empty"),
        ({"examples": [Example([5, 600], 7)]}, "Example 1: input_ids lie between"),
        ({"examples": [Example([5, 6], 700)]}, "Example 1: An answer is a text, or token ids"),
        ({"examples": [Example("a text", 7)]}, "Example 1: .* without a tokenizer"),
        ({"examples": [Example([5] * 700, [7, 8])]}, "Example 1: .* at most 700"),
    ],
)
def test_what_does_not_fit_is_said(change: Any, message: str) -> None:
    model = attnviz.wrap_model(tiny.grouped())
    given = {"examples": [Example([5, 6], 7), Example([6, 5], 7)], "steps": 1, **change}
    with pytest.raises(InputError, match=message):
        gates.learn(model, given.pop("examples"), **given)


def test_models_that_predict_nothing_or_take_no_edits_are_refused(minilm: Model) -> None:
    with pytest.raises(MetricError, match="predicts none"):
        gates.learn(minilm, [("a", "b"), ("c", "d")])
    viewed = attnviz.wrap_model(tiny.bloom())
    assert not viewed.layout.exact
    with pytest.raises(Unsupported, match="view-only"):
        gates.learn(viewed, [Example([5, 6], 7), Example([6, 5], 7)])
