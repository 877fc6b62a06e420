"""Controls: tables against single measurements, random sets, donors."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny

import attnviz
from attnviz import Head, Model, ablation
from attnviz.ablation import Case
from attnviz.ablation.held import Removal
from attnviz.edits import MeanHeads, ResampleHeads, ZeroHeads
from attnviz.errors import Cancelled, HeadError, InputError
from attnviz.metrics import KL, ExactMatch, LogitDiff, Similarity
from attnviz.replacing import mean_outputs

CASES = [
    Case("John saw Mary with John", "Mary saw John with Anna", " Mary", " John"),
    Case("Anna met Tom with Anna", "Tom met Anna with Paul", " Tom", " Anna"),
]
OUTCOME = Similarity("A dog slept on the sofa")
ONE, SET = Head(5, 1), (Head(2, 1), Head(5, 1))


def test_a_table_holds_what_each_edit_does(minilm: Model) -> None:
    told: list[tuple[int, int]] = []
    found = ablation.table(minilm, CASES, [ONE, SET], metric=OUTCOME, progress=lambda *done: told.append(done))
    references = [text for case in CASES for text in (case.clean, case.corrupted)]
    assert found.names == ("L5H1", "L2H1 + L5H1")
    assert told == sorted(told)
    assert told[-1] == (12, 12)
    assert len(told) > 12
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


def test_a_table_can_be_stopped_in_the_middle_of_a_sweep(minilm: Model) -> None:
    heads, told = [Head(layer, head) for layer in range(6) for head in range(12)], list[tuple[int, int]]()

    def stop(*done: int) -> None:
        told.append((done[0], done[1]))
        if done[0]:
            raise Cancelled("Enough.")

    with pytest.raises(Cancelled):
        ablation.table(minilm, CASES[:1], heads, metric=OUTCOME, hows=("zero",), progress=stop)
    assert 0 < told[-1][0] < 72 == told[-1][1]


def test_the_mean_of_a_table_is_taken_once(minilm: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, mean = list[Any](), mean_outputs

    def counted(*args: Any, **options: Any) -> Any:
        taken.append(args)
        return mean(*args, **options)

    for where in ("held", "asked"):
        monkeypatch.setattr(f"attnviz.ablation.{where}.mean_outputs", counted)
    ablation.table(minilm, CASES, [ONE, SET], metric=OUTCOME, hows=("mean",))
    assert len(taken) == 1


def test_outcomes_in_different_units_are_not_set_side_by_side(minilm: Model) -> None:
    mixed, heads = [CASES[0], Case(CASES[1].clean, "", " Tom")], [ONE]
    one = replace(ablation.sweep(minilm, CASES[0].clean, OUTCOME, heads=heads), unit="logits")
    sweeps = [one, replace(one, unit="nats")]
    for run in (
        lambda: ablation.table(minilm, mixed, heads, hows=("zero",)),
        lambda: ablation.over_texts(minilm, mixed, how="zero", heads=heads),
        lambda: ablation.curve(minilm, mixed, order=heads, steps=1),
        lambda: ablation.Averaged.of(sweeps),
    ):
        with pytest.raises(InputError, match="in logits and in nats"):
            run()


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
