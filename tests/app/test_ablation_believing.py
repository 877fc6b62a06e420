"""What the Ablation page says of importance: controls, prompts, donors, and the random sets that it draws."""

import json

import numpy as np
import pytest
from flow_page import MODELS
from streamlit.testing.v1 import AppTest
from test_ablation_page import DATE, OTHER_DATE, SENTENCE, kept_sweep, opened

import attnviz
from attnviz import ablation
from attnviz.ablation import Case
from attnviz.edits import Head
from attnviz.errors import InputError
from attnviz.metrics import Loss, SimilarityRank
from attnviz.ui.ablation import asking, believing, finding, several_donors, trial
from attnviz.ui.ablation.subject import Subject, metric_of
from attnviz.ui.focus import fitted
from attnviz.ui.selection import Selection
from attnviz.ui.session import stores
from pages import HOSTILE, ROOT, assert_fine, params, said

pytestmark = pytest.mark.usefixtures("held_models")
PAIRS = [
    {
        "clean": f"When {a} and {b} met, {b} gave a pen to",
        "corrupted": f"When {a} and {b} met, {a} gave a pen to",
        "answer": f" {a}",
        "foil": f" {b}",
    }
    for a, b in (("Mary", "John"), ("Anna", "Paul"))
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # lines of Python read the app's own texts from there
    monkeypatch.setattr(finding, "WRITTEN", 3)
    monkeypatch.setattr(asking, "FEW", 3)


def subject_with(
    *pairs: tuple[int, int], model: str = "minilm", text: str = SENTENCE, site: str | None = None
) -> Subject:
    trace = MODELS[model].trace(text)
    focus, _ = fitted(Selection(heads=pairs, site=site or ""), trace)
    heads = tuple(Head(layer, head, site) for layer, head in pairs)
    metric = metric_of(MODELS[model], trace, Selection(), "")
    return Subject(model, MODELS[model], trace, focus, metric, "zero", "", (), False, heads)


def tried(test: AppTest, n: int) -> AppTest:
    test.number_input(key="ablation-n").set_value(n).run()
    assert "Not tried yet" in said(test)
    test.button(key="ablation-controls").click().run()
    assert_fine(test)
    return test


def checked() -> believing.Checked:
    (found,) = (value for value in stores().traces._kept.values() if isinstance(value, believing.Checked))
    return found


def test_a_set_is_tried_by_every_method_against_random_heads() -> None:
    test = tried(opened(model="dates", with_text=DATE, heads="L1H1"), 3)
    table = next(element.value for element in test.dataframe if "random_low" in element.value)
    assert table["how"].tolist() == ["zero", "mean", "resample"]
    assert (table["random_low"] <= table["random_high"]).all()
    assert "Not shown to be important" in test.info[0].value
    assert "three prompts" in test.info[0].value
    (code,) = (block.value for block in test.code if "control_dots" in block.value)
    assert "attnviz.ablation.band" in code
    assert "decoder_input_ids=written" in code
    assert "their whole range" in said(test)
    assert "at most 50%" in said(test)


def test_controls_are_measured_on_the_run_that_the_page_shows() -> None:
    tried(opened(model="dates", with_text=DATE, heads="L1H1", how="zero"), 2)
    (clean,) = (
        value
        for value in stores().traces._kept.values()
        if isinstance(value, finding.Run) and not value.trace.edit_titles
    )
    found = checked()
    assert found.rows.baseline == pytest.approx([clean.outcome])
    assert found.controls.baseline == pytest.approx([clean.outcome])
    alone = kept_sweep().found["cross"][1, 1]
    assert found.rows.effects[0, 0, 0] == pytest.approx(alone, abs=1e-5)


def test_a_whole_layer_is_compared_with_heads_of_any_layer_and_the_page_says_so() -> None:
    test = opened(model="dates", with_text=DATE, how="zero", heads="L0H0.L0H1.L0H2.L0H3", site="encoder")
    assert "Random heads come from all layers" in said(test)
    test.button(key="ablation-random").click().run()
    assert params(test)["heads"] == "L1H0.L1H1.L1H2.L1H3"
    assert_fine(test)
    wider = tried(
        opened(model="minilm", with_text=SENTENCE, heads=".".join(f"L2H{n}" for n in range(12)), how="zero"), 2
    )
    assert {head.layer for heads in checked().controls.heads for head in heads} != {2}
    assert "of as many heads of any layers" in said(wider)
    assert "differ from the set in where they stand" in said(wider)
    assert "anywhere=True" in next(block.value for block in wider.code if "control_dots" in block.value)


def test_random_sets_come_from_the_same_layers_where_these_have_other_heads() -> None:
    subject = subject_with((0, 1), (0, 2), (2, 3))
    drawn, anywhere = trial.sets_like(subject, 4, 5)
    assert not anywhere
    assert len(drawn) == 4
    assert all([head.layer for head in heads] == [0, 0, 2] for heads in drawn)
    assert not any(set(heads) & set(subject.heads) for heads in drawn)
    assert trial.sets_like(subject, 4, 5)[0] == drawn
    assert trial.sets_like(subject, 4, 6)[0] != drawn
    half = subject_with(*((1, head) for head in range(6)))  # one set of others is nothing to compare with
    assert trial.sets_like(half, 1)[1]
    with pytest.raises(InputError, match="too few other heads"):
        trial.sets_like(subject_with(*((layer, head) for layer in range(6) for head in range(12))), 1)


def test_more_prompts_come_from_a_file_of_minimal_pairs() -> None:
    test = opened(model="minilm", with_text=SENTENCE, heads="L3H3", how="zero")
    test.file_uploader(key="ablation-pairs").upload("a.jsonl", b'{"clean": 3}').run()
    assert "line 1" in test.error[0].value
    lines = "\n".join(json.dumps(case) for case in PAIRS)
    test.file_uploader(key="ablation-pairs").upload("b.jsonl", lines.encode()).run()
    tried(test, 2)
    table = next(element.value for element in test.dataframe if "random_low" in element.value)
    assert table["prompt"].unique().tolist() == [SENTENCE, *(case["clean"] for case in PAIRS)]
    assert len(table) == 9
    assert "three prompts" not in test.info[0].value


def test_a_prompt_that_is_there_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    again = (
        Case(SENTENCE, "", " a", " b"),
        Case("A ship.", "A boat.", " a", " b"),
        Case("A ship.", "A car.", " a", " b"),
    )
    monkeypatch.setattr(trial, "uploaded", lambda: ("a.csv", again))
    assert [case.clean for case in trial.trial_of(subject_with((1, 1)), 3).cases] == [SENTENCE, "A ship."]


def test_several_donors_are_compared_and_those_that_do_not_fit_are_named() -> None:
    test = opened(model="dates", with_text=DATE, heads="L1H1", how="zero")
    fits = [OTHER_DATE, "the 2nd of May 1991"]
    test.text_area(key="ablation-donors").set_value("\n".join([*fits, OTHER_DATE, "", f"May {HOSTILE}"])).run()
    assert_fine(test)
    table = next(element.value for element in test.dataframe if "donor" in element.value)
    model = MODELS["dates"]
    written = model.trace(DATE).input_ids
    exact = [
        ablation.sweep(model, DATE, Loss(), how="resample", donor=donor, decoder_input_ids=written).found["cross"][1, 1]
        for donor in fits
    ]
    assert table["donor"].tolist() == fits
    assert table["effect"].tolist() == pytest.approx(exact, abs=1e-5)
    assert "is left out: it has" in said(test)
    assert any(word in said(test) for word in ("All donors agree", "Donors disagree"))
    (code,) = (block.value for block in test.code if "ablation.donors" in block.value)
    given = {"attnviz": attnviz}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attnviz, "load_model", MODELS.__getitem__)
        exec(compile(code, "<lines>", "exec"), given)
    assert given["table"].effects[0, 0] == pytest.approx(exact, abs=1e-5)  # type: ignore[attr-defined]


def test_donors_are_refused_one_by_one() -> None:
    fit, problems = several_donors.fitting(subject_with((0, 1)), ["Mary has a small red ship.", "Mary"])
    assert fit == ("Mary has a small red ship.",)
    assert "“Mary” is left out" in problems[0]


def test_an_embedding_is_ranked_before_other_texts() -> None:
    test = opened(model="minilm", with_text=SENTENCE, with_other="A ship\nA dog\nA ship\nA tree", how="zero")
    assert_fine(test)
    metric = SimilarityRank(("A ship", "A dog", "A tree"), 0)
    known = kept_sweep()
    exact = ablation.sweep(MODELS["minilm"], SENTENCE, metric, how="zero")
    assert known.metric == metric.title
    assert np.allclose(known.effects, exact.effects, atol=1e-5)
    assert "The first of 3 is the wanted one" in said(test)
    code = next(block.value for block in test.code if "effect_map" in block.value)
    assert "outcome_texts" in code
    test.text_area(key="ablation-beside").set_value("\n".join(f"text {n}" for n in range(21))).run()
    assert "At most 20 texts are ranked" in test.error[0].value
