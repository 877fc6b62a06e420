"""Estimates of all heads at once, and effects over many texts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from scipy.stats import spearmanr

import attnviz
from attnviz import Head, Model, ablation, edits
from attnviz.errors import InputError, Unsupported
from attnviz.metrics import KL, LogitDiff, Similarity, SimilarityRank

TEXT, DONOR, OTHER = "John saw Mary with John", "Mary saw John with Anna", "The cat sat on the mat"
IOI = "When Mary and John went to the store, John gave a drink to"
PAIR = {"clean": TEXT, "corrupted": DONOR, "answer": " Mary", "foil": " John"}


@pytest.mark.parametrize("build", [tiny.grouped, tiny.gpt2, tiny.soft_capped, tiny.windowed, tiny.bert_masked])
def test_an_estimate_is_the_slope_of_scaling_the_head(build: Any) -> None:
    model, metric, step = attnviz.wrap_model(build().double()), LogitDiff(7, 9, position=-2), 1e-3
    found = ablation.screen(model, None, metric, input_ids=tiny.ids())
    for layer, head in ((0, 1), (1, 2)):
        lower, upper = (
            model.measure(metric, input_ids=tiny.ids(), edits=[edits.ScaleHeads({Head(layer, head): scale})])
            for scale in (1 - step, 1 + step)
        )
        assert found.effects[layer, head] == pytest.approx((lower - upper) / (2 * step), abs=2e-3)
    assert np.abs(found.effects).max() > 0.01
    assert found.complete
    assert found.title.startswith("estimated change in logit")


def test_an_estimate_of_a_donor_close_by_is_exact() -> None:
    """Where z hardly differs, first order is all there is: the donor is the text itself but for its last token."""
    model, donor = attnviz.wrap_model(tiny.grouped()), [*tiny.ids()[:-1], tiny.ids()[-1] + 1]
    options: dict[str, Any] = {"input_ids": tiny.ids(), "how": "resample", "donor": donor}
    metric = LogitDiff(7, 9, position=3)
    exact = ablation.sweep(model, None, metric, **options)
    assert np.abs(exact.effects).max() < 1e-5  # what comes behind the position read does not reach it
    np.testing.assert_allclose(ablation.screen(model, None, metric, **options).effects, exact.effects, atol=1e-5)


def test_estimates_rank_heads_about_as_effects_do(minilm: Model) -> None:
    for options in ({}, {"how": "resample", "donor": DONOR}, {"how": "mean", "texts": [DONOR, OTHER]}):
        exact = ablation.sweep(minilm, TEXT, Similarity(OTHER), **options)
        found = ablation.screen(minilm, TEXT, Similarity(OTHER), **options)
        assert found.effects.shape == exact.effects.shape
        assert spearmanr(found.effects.ravel(), exact.effects.ravel())[0] > 0.75
        assert found.baseline == pytest.approx(exact.baseline, abs=1e-5)


def test_the_strongest_heads_of_smollm2_are_among_the_first_estimated(smollm2: Model) -> None:
    found = ablation.screen(smollm2, IOI, LogitDiff(" Mary", " John"))
    # By zeroing, in the prototype and in benchmarks/ablation.py.
    assert {"L23H3", "L1H5", "L29H1"} <= {str(head) for head in found.ranked()[:30]}
    assert found.baseline == pytest.approx(6.12, abs=0.01)


def test_an_encoder_decoder_is_estimated_at_all_sites() -> None:
    dates = attnviz.load_model("dates", device="cpu")
    options: dict[str, Any] = {"target": "1998-05-03", "how": "resample", "donor": "the 9th of May 1971"}
    metric = LogitDiff("3", "5", position=2)
    exact = ablation.sweep(dates, "the 3rd of May 1998", metric, **options)
    found = ablation.screen(dates, "the 3rd of May 1998", metric, **options)
    assert set(found.found) == {"encoder", "decoder", "cross"}
    both = [np.concatenate([one.found[site].ravel() for site in one.found]) for one in (exact, found)]
    assert spearmanr(*both)[0] > 0.5


def test_what_has_no_slope_is_refused(minilm: Model, smollm2: Model) -> None:
    with pytest.raises(Unsupported, match="no estimate"):
        ablation.screen(minilm, TEXT, SimilarityRank([TEXT, OTHER], best=0, by="rank"))
    with pytest.raises(Unsupported, match="no slope"):
        ablation.screen(smollm2, TEXT, KL())


def test_a_mean_over_texts_is_the_mean_of_sweeps(smollm2: Model) -> None:
    cases = [ablation.Case(**PAIR), ablation.Case(DONOR, TEXT, " John", " Mary")]
    told: list[tuple[int, int]] = []
    heads = [Head(20, 1), Head(29, 1)]
    found = ablation.over_texts(smollm2, cases, heads=heads, progress=lambda *done: told.append(done))
    single = [ablation.sweep(smollm2, c.clean, c.metric, how="resample", donor=c.corrupted, heads=heads) for c in cases]
    values = np.stack([one.effects for one in single])
    np.testing.assert_allclose(found.mean, values.mean(0), atol=1e-5)
    # Two numbers a and b: mean +- t(.975, 1) |a - b| / 2, and t is 12.706.
    half = 12.706 * np.abs(values[0] - values[1]) / 2
    np.testing.assert_allclose(found.high - found.mean, half, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.mean - found.low, half, rtol=1e-3, atol=1e-4)
    assert told == [(1, 2), (2, 2)]
    assert len(found.frame()) == 2
    assert set(found.frame().n_texts) == {2}
    one = ablation.over_texts(smollm2, cases[:1], heads=heads, estimate=True)
    assert np.isnan(one.low).all()
    assert np.isfinite(one.mean).sum() == 2
    assert "estimated" in one.title


def test_cases_are_read_from_both_kinds_of_file(tmp_path: Path) -> None:
    lines = [PAIR, {**PAIR, "corrupted": None, "foil": ""}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n", "utf-8")
    (tmp_path / "a.csv").write_text(
        f'\ufeffanswer,foil,clean,corrupted\n" Mary"," John",{TEXT},{DONOR}\n" Mary",,{TEXT},\n', "utf-8"
    )
    expected = [ablation.Case(**PAIR), ablation.Case(TEXT, "", " Mary")]
    assert ablation.read_cases(tmp_path / "a.jsonl") == expected
    assert ablation.read_cases(str(tmp_path / "a.csv")) == expected


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "", ".jsonl or .csv"),
        ("a.jsonl", "", "no minimal pair"),
        ("a.jsonl", '{"clean": "a"', "line 1: not JSON"),
        ("a.jsonl", '{"clean": "a", "answer": "b"}\n[1]', "line 2: expected an object"),
        ("a.jsonl", '{"clean": "a"}', "there is no answer"),
        ("a.jsonl", '{"clean": 3, "answer": "b"}', "clean is a text; got 3"),
        ("a.csv", "clean,foil\na,b", "line 2: there is no answer"),
        ("a.csv", 'clean,answer\n"a,b', "not CSV"),
    ],
)
def test_a_file_with_a_fault_is_refused_with_its_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(InputError, match=said):
        ablation.read_cases(tmp_path / name)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe\x00")
    for name in ("a.jsonl", "b.csv"):
        with pytest.raises(InputError, match="cannot be read"):
            ablation.read_cases(tmp_path / name)


def test_a_case_that_fails_is_named(smollm2: Model) -> None:
    with pytest.raises(InputError, match="Case 2"):
        ablation.over_texts(
            smollm2,
            [ablation.Case(**PAIR), ablation.Case(TEXT, OTHER + " there", " Mary", " John")],
            heads=[Head(29, 0)],
        )
    with pytest.raises(InputError, match="Case 1 has no corrupted text"):
        ablation.over_texts(smollm2, [ablation.Case(TEXT, "", " Mary")])
    with pytest.raises(InputError, match="at least one case"):
        ablation.over_texts(smollm2, [])
