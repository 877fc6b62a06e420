"""Controls: tables by hand and against single measurements, the rule and how often it errs, donors."""

import math
from typing import Any

import numpy as np
import pytest
import tiny

import attnviz
from attnviz import Head, Model, ablation
from attnviz.ablation import Case, Table
from attnviz.ablation.held import Removal
from attnviz.edits import MeanHeads, ResampleHeads, ZeroHeads
from attnviz.errors import HeadError, InputError
from attnviz.metrics import KL, ExactMatch, LogitDiff, Similarity

CASES = [
    Case("John saw Mary with John", "Mary saw John with Anna", " Mary", " John"),
    Case("Anna met Tom with Anna", "Tom met Anna with Paul", " Tom", " Anna"),
]
OUTCOME = Similarity("A dog slept on the sofa")
ONE, SET = Head(5, 1), (Head(2, 1), Head(5, 1))
HOWS = ("zero", "mean", "resample")


def made(effects: Any, names: int | None = None, noise: float = math.nan) -> Table:
    """A table of [row, how, prompt] effects."""
    values = np.asarray(effects, float)
    prompts = tuple(f"prompt {n}" for n in range(values.shape[2]))
    rows = tuple((Head(0, n),) for n in range(names or len(values)))
    return Table(rows, HOWS[: values.shape[1]], prompts, values, np.zeros(len(prompts)), noise, "outcome")


def test_a_table_holds_what_each_edit_does(minilm: Model) -> None:
    told: list[tuple[int, int]] = []
    found = ablation.table(minilm, CASES, [ONE, SET], metric=OUTCOME, progress=lambda *done: told.append(done))
    references = [text for case in CASES for text in (case.clean, case.corrupted)]
    assert found.names == ("L5H1", "L2H1 + L5H1")
    assert told == [(n, 6) for n in range(1, 7)]
    for p, case in enumerate(CASES):
        clean = minilm.measure(OUTCOME, case.clean)
        assert found.baseline[p] == pytest.approx(clean, abs=1e-4)
        for n, heads in enumerate(((ONE,), SET)):
            edits = (ZeroHeads(heads), MeanHeads(heads, references), ResampleHeads(heads, case.corrupted))
            for h, edit in enumerate(edits):
                expected = minilm.measure(OUTCOME, case.clean, edits=[edit]) - clean
                assert found.effects[n, h, p] == pytest.approx(expected, abs=1e-4)
    assert np.abs(found.effects).max() > 0.003
    assert 0 <= found.noise < 1e-3
    assert found.frame().shape == (12, 6)
    one = found.frame().query("heads == 'L5H1' and how == 'mean'")
    assert one.effect.tolist() == found.effects[0, 1].tolist()
    assert "off-distribution" in found.title


def test_several_donors_stand_where_prompts_do(smollm2: Model) -> None:
    texts = [CASES[0].corrupted, "Paul saw Kate with Tom"]
    found = ablation.donors(smollm2, CASES[0], [Head(29, 1)], texts)
    metric, clean = CASES[0].metric, smollm2.measure(CASES[0].metric, CASES[0].clean)
    for p, donor in enumerate(texts):
        edit = ResampleHeads([Head(29, 1)], donor)
        assert found.effects[0, 0, p] == pytest.approx(
            smollm2.measure(metric, CASES[0].clean, edits=[edit]) - clean, abs=1e-4
        )
    assert found.prompts == tuple(texts)
    with pytest.raises(InputError, match="Several donors"):
        ablation.donors(smollm2, CASES[0], [Head(29, 1)], [])


def test_an_interaction_is_the_set_against_the_sum(minilm: Model) -> None:
    found = ablation.interaction(minilm, CASES[:1], SET, hows=("zero",), metric=OUTCOME)
    metric, text = OUTCOME, CASES[0].clean
    clean, *changed = (
        minilm.measure(metric, text, edits=[ZeroHeads(heads)] if heads else []) for heads in ((), SET, SET[:1], SET[1:])
    )
    together, first, second = (value - clean for value in changed)
    assert found.together[0, 0] == pytest.approx(together, abs=1e-4)
    assert found.difference[0, 0] == pytest.approx(together - first - second, abs=1e-4)
    assert "2 heads, zero: " in found.title
    with pytest.raises(HeadError, match="two heads"):
        ablation.interaction(minilm, CASES, [SET[0], SET[0]])


def test_random_sets_have_the_same_layers_and_none_of_the_heads(smollm2: Model) -> None:
    heads = [Head(3, 0), Head(3, 1), Head(7, 2)]
    sets = ablation.random_sets(smollm2, heads, 20, seed=1)
    assert len({frozenset(one) for one in sets}) == 20
    for one in sets:
        assert sorted(head.layer for head in one) == [3, 3, 7]
        assert not set(one) & set(heads)
    assert sets == ablation.random_sets(smollm2, heads, 20, seed=1) != ablation.random_sets(smollm2, heads, 20, seed=2)
    assert sorted(one[0].head for one in ablation.random_sets(smollm2, Head(3, 4), 20)) == [0, 1, 2, 3, 5, 6, 7, 8]
    anywhere = ablation.random_sets(smollm2, Head(3, 4), 40, anywhere=True)
    assert len({one[0].layer for one in anywhere}) > 10
    with pytest.raises(InputError, match="anywhere"):
        ablation.random_sets(smollm2, [Head(0, head) for head in range(5)])
    with pytest.raises(InputError, match="At least 1"):
        ablation.random_sets(smollm2, heads, 0)


def test_random_sets_keep_the_site() -> None:
    dates = attnviz.load_model("dates", device="cpu")
    heads = [Head(0, 0, "cross"), Head(1, 1, "encoder")]
    for one in ablation.random_sets(dates, heads, 5):
        assert sorted((head.site, head.layer) for head in one) == [("cross", 0), ("encoder", 1)]
        assert not set(one) & set(heads)


def test_a_band_is_the_table_of_random_sets(minilm: Model) -> None:
    found = ablation.band(minilm, CASES[:1], SET, n=3, hows=("zero",), metric=OUTCOME)
    sets = ablation.random_sets(minilm, SET, 3)
    assert found.heads == tuple(sets)
    again = ablation.table(minilm, CASES[:1], sets[1:2], hows=("zero",), metric=OUTCOME)
    assert found.effects[1] == pytest.approx(again.effects[0], abs=1e-4)


def test_what_is_written_is_measured_a_head_at_a_time() -> None:
    dates = attnviz.load_model("dates", device="cpu")
    case, heads = "the 3rd of May 1998", [Head(1, 1, "cross"), Head(0, 0, "encoder")]
    wanted = ExactMatch("1998-05-03")
    found = ablation.table(dates, [case], heads, metric=wanted, hows=("zero",))
    expected = [dates.measure(wanted, case, edits=[ZeroHeads([head])]) - 1 for head in heads]
    assert found.effects[:, 0, 0].tolist() == expected
    assert found.baseline.tolist() == [1.0]


def test_the_middle_of_a_band_by_hand() -> None:
    low, high = made(np.arange(20.0).reshape(20, 1, 1)).middle()
    assert (low.item(), high.item()) == (0, 19)  # of 20, 95% is all
    low, high = made(np.arange(101.0).reshape(101, 1, 1)).middle()
    assert (low.item(), high.item()) == (2, 98)
    low, high = made(np.arange(11.0).reshape(11, 1, 1)).middle(0.5)
    assert (low.item(), high.item()) == (2, 8)


CONTROLS = made(np.stack([np.full((3, 4), x) for x in (-0.5, 0.1, 0.5)]))


@pytest.mark.parametrize(
    ("effects", "important", "held"),
    [
        (np.full((3, 4), -2.0), True, 4),
        (np.full((3, 4), 2.0), True, 4),
        (np.full((3, 4), 0.4), False, 0),  # within the band
        ([[-2.0] * 4, [0.0] * 4, [-2.0] * 4], False, 0),  # one method sees nothing
        ([[-2.0] * 4, [2.0] * 4, [-2.0] * 4], False, 0),  # methods disagree in sign
        ([[-2, -2, -2, 0]] * 3, True, 3),
        ([[-2, -2, 0, 0]] * 3, False, 2),  # half is not most
        ([[-2, -2, -2, 2]] * 3, False, 3),  # the other way on one prompt
    ],
)
def test_only_what_holds_for_methods_and_prompts_is_important(effects: Any, important: bool, held: int) -> None:
    (said,) = ablation.verdict(made([effects]), CONTROLS)
    assert (said.important, said.held, said.prompts) == (important, held, 4)
    assert f"{held} of 4 prompts" in said.reason


def test_too_few_prompts_or_methods_make_nothing_important() -> None:
    for shape in ((3, 3, 2), (3, 1, 4)):
        (said,) = ablation.verdict(made(np.full((1, *shape[1:]), -9.0)), made(np.zeros(shape)))
        assert not said.important
        assert "three prompts" in said.reason


def test_effects_within_the_noise_or_on_the_near_side_of_a_band_are_nothing() -> None:
    rows = np.full((1, 3, 4), -0.2)
    assert not ablation.verdict(made(rows, noise=0.3), made(np.zeros((3, 3, 4))))[0].important
    assert ablation.verdict(made(rows, noise=0.1), made(np.zeros((3, 3, 4))))[0].important
    above = made(np.full((3, 3, 4), 0.5))
    assert not ablation.verdict(made(-rows), above)[0].important  # less than any control, and towards zero


def test_each_row_may_have_controls_of_its_own() -> None:
    rows = made(np.full((2, 3, 4), -2.0))
    wide = made(np.stack([np.full((3, 4), -5.0), np.full((3, 4), 5.0)]))
    first, second = ablation.verdict(rows, {"L0H0": CONTROLS, "L0H1": wide})
    assert (first.important, second.important) == (True, False)
    with pytest.raises(InputError, match="controls of L0H1"):
        ablation.verdict(rows, {"L0H0": CONTROLS})
    with pytest.raises(InputError, match="its prompts and methods"):
        ablation.verdict(rows, made(np.zeros((3, 3, 5))))
    with pytest.raises(InputError, match="share from"):
        ablation.verdict(rows, CONTROLS, share=0.4)


@pytest.mark.parametrize("shared", [0.0, 0.9, 1.0])
def test_a_head_like_its_controls_is_seldom_important(shared: float) -> None:
    """At most 2 / (n + 1), reached where all prompts and methods say the same."""
    chance, n, trials = np.random.default_rng(5), 8, 400
    found = 0
    for _ in range(trials):
        own, rest = chance.normal(size=(n + 1, 1, 1)), chance.normal(size=(n + 1, 3, 6))
        values = np.sqrt(shared) * own + np.sqrt(1 - shared) * rest
        found += ablation.verdict(made(values[:1]), made(values[1:]))[0].important
    bound = 2 / (n + 1)
    assert found / trials < bound + 3 * math.sqrt(bound * (1 - bound) / trials)
    assert (found / trials > bound / 2) == (shared == 1.0)


def test_a_donor_has_other_names_and_numbers_token_by_token(smollm2: Model, minilm: Model) -> None:
    text = "When Mary and John went to the store at 7, John gave 25 drinks to"
    for model in (smollm2, minilm):
        found = ablation.propose_donor(text, model)
        assert found is not None
        assert [old for old, _ in found.swapped] == ["Mary", "John", "7", "John", "25"]
        assert len({new for _, new in found.swapped}) == 5
        assert not {new for _, new in found.swapped} & {"Mary", "John", "7", "25"}
        mine, theirs = model.encode(text).tokens, model.encode(found.text).tokens
        apart = [a.text.strip() for a, b in zip(mine, theirs, strict=True) if a.id != b.id]
        assert len(apart) in (5, 6)  # 25 is one token or two
        assert found == ablation.propose_donor(text, model)
    kept = ablation.propose_donor(text, smollm2, repeats=True)
    assert kept is not None
    assert kept.swapped[1] == kept.swapped[3]
    assert kept.title.startswith("Mary → ")


def test_there_may_be_nothing_to_swap(smollm2: Model) -> None:
    assert ablation.propose_donor("The cat sat on the mat; Johnson marched on.", smollm2) is None
    found = ablation.propose_donor("The capital of France is", smollm2)
    assert found is not None
    assert found.swapped[0][0] == "France"
    with pytest.raises(InputError, match="for a text"):
        ablation.propose_donor(7, smollm2)  # type: ignore[arg-type]


def test_a_text_gets_a_donor_of_its_own(minilm: Model) -> None:
    heads: list[Any] = [ONE]
    found = ablation.table(minilm, [CASES[0].clean], heads, metric=OUTCOME, hows=("resample",))
    donor = ablation.propose_donor(CASES[0].clean, minilm)
    assert donor is not None
    given = Case(CASES[0].clean, donor.text, " Mary", " John")
    assert found.effects == pytest.approx(
        ablation.table(minilm, [given], heads, metric=OUTCOME, hows=("resample",)).effects
    )


def test_a_table_that_cannot_be_is_refused(smollm2: Model) -> None:
    for cases, heads, options, said in (
        ([], [Head(0, 0)], {}, "at least one case"),
        (CASES, [], {}, "at least one case"),
        (CASES, [Head(0, 0)], {"hows": ("none",)}, "hows are"),
        (["The cat sat"], [Head(0, 0)], {"metric": KL()}, "No donor could be proposed"),
        (["The cat sat"], [Head(0, 0)], {"hows": ("zero",)}, "give a metric"),
    ):
        with pytest.raises(InputError, match=said):
            ablation.table(smollm2, cases, heads, **options)


def test_a_set_is_held_at_its_mean_without_running_the_texts_again() -> None:
    model, calls = attnviz.wrap_model(tiny.grouped()), []
    removal = Removal.of(model, [tiny.ids(9), tiny.ids(5)])
    handle = model.hf_model.register_forward_hook(lambda *_: calls.append(1))
    heads = [Head(0, 1), Head(1, 3)]
    got = model.measure(LogitDiff(7, 9), input_ids=tiny.ids(), edits=removal.edits(heads))
    handle.remove()
    assert len(calls) == 1
    expected = MeanHeads(heads, [tiny.ids(9), tiny.ids(5)])
    assert got == pytest.approx(model.measure(LogitDiff(7, 9), input_ids=tiny.ids(), edits=[expected]), abs=1e-6)
    assert removal.edits(heads)[0].title == expected.title
    assert removal.edits([]) == []
