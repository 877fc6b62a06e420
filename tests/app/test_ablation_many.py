"""The Ablation page over many prompts: minimal pairs swept one after the other, their mean, and how sure it is."""

import json
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from flow_page import MODELS
from streamlit.testing.v1 import AppTest
from test_ablation_page import DATE, SENTENCE, opened, words

import attnviz
from attnviz import ablation
from attnviz.ablation import Averaged, Sweep
from attnviz.figures.many import mean_map, q_values
from attnviz.ui.ablation import asking, finding
from attnviz.ui.session import stores
from pages import assert_fine, said

DATES = [("the 3rd of May 1998", "the 7th of May 1996"), ("the 5th of May 1998", "the 6th of May 1997")]
CASES = [{"clean": a, "corrupted": b, "answer": "1998"} for a, b in DATES]


pytestmark = pytest.mark.usefixtures("held_models")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(finding, "WRITTEN", 3)
    monkeypatch.setattr(asking, "FEW", 3)
    monkeypatch.chdir(tmp_path)


def uploaded(cases: list[dict[str, str]], **parameters: str) -> AppTest:
    test = opened(**({"model": "dates", "with_text": DATE} | parameters))
    assert_fine(test)
    lines = "\n".join(map(json.dumps, cases))
    Path("pairs.jsonl").write_text(lines, "utf-8")
    return test.file_uploader(key="ablation-pairs").upload("pairs.jsonl", lines.encode()).run()


def of_cases(cases: list[dict[str, str]], **options: object) -> Averaged:
    given = [ablation.Case(**case) for case in cases]
    return ablation.over_texts(
        MODELS["dates"], given, decoder_input_ids=MODELS["dates"].trace(DATE).input_ids[:1], **options
    )


@pytest.mark.parametrize("how", ["resample", "zero"])
def test_the_sweep_over_prompts_is_what_over_texts_gives_and_its_lines_make_it_again(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = uploaded(CASES, how=how, site="cross", parts="layer" if how == "zero" else "head")
    assert "All 2 prompts take about" in words(test)
    test.button(key="ablation-many").click().run()
    assert_fine(test)
    expected = of_cases(CASES, how=how, site="cross", units="layer" if how == "zero" else "head")
    table = next(element.value for element in test.dataframe if "q" in element.value)
    assert "2 of 2 prompts" in said(test)
    assert f"clean, they average {expected.baseline.mean():.4f}" in said(test)
    assert len(table) == int((q_values(expected)["cross"] < 0.05).sum())
    shown: list[go.Figure] = []
    monkeypatch.setattr(go.Figure, "show", lambda figure: shown.append(figure))
    monkeypatch.setattr(attnviz, "load_model", MODELS.__getitem__)
    (block,) = (block.value for block in test.code if "mean_map" in block.value)
    exec(compile(block, "<lines>", "exec"), {})
    assert np.allclose(np.asarray(shown[0].data[0].z, float), expected.mean, atol=1e-4, equal_nan=True)


def test_prompts_that_are_measured_are_kept_and_the_rest_is_measured_on_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    test = uploaded(CASES)
    real, swept = ablation.sweep, []

    def stopped(model: attnviz.Model, text: str, *args: object, **options: object) -> Sweep:
        swept.append(text)
        if len(swept) > 1:
            raise attnviz.errors.InputError("no more")
        return real(model, text, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(ablation, "sweep", stopped)
        test.button(key="ablation-many").click().run()
    assert "Prompt 2: no more" in test.error[0].value.replace("\\", "")
    test.run()
    assert_fine(test)
    assert "1 of 2 prompts, each counting once" in said(test)
    assert "Fewer than 3 prompts are not tested" in said(test)
    assert "1 of 2 prompts are measured" in words(test)
    swept.clear()
    monkeypatch.setattr(
        ablation,
        "sweep",
        lambda model, text, *args, **options: (swept.append(text), real(model, text, *args, **options))[1],
    )
    test.button(key="ablation-many").click().run()
    assert_fine(test)
    assert swept == [CASES[1]["clean"]]
    assert "2 of 2 prompts, each counting once" in said(test)


@pytest.mark.parametrize(
    ("cases", "parameters", "problem"),
    [
        ([{"clean": DATE, "answer": "1998"}], {}, "Prompt 1 has no corrupted text"),
        ([CASES[0], CASES[1] | {"foil": "2"}], {}, "some have none"),
        ([{"clean": "word " * 600, "answer": "1"}], {"how": "zero"}, "at most"),
    ],
)
def test_prompts_that_cannot_be_swept_are_refused_with_a_sentence(
    cases: list[dict[str, str]], parameters: dict[str, str], problem: str
) -> None:
    test = uploaded(cases, **parameters)
    assert [exception.message for exception in test.exception] == []
    assert problem in test.error[0].value
    assert "ablation-many" not in {button.key for button in test.button}


def test_a_prompt_that_the_model_cannot_answer_is_named() -> None:
    test = uploaded([{"clean": SENTENCE, "answer": " boat"}], model="minilm", with_text=SENTENCE, how="zero")
    test.button(key="ablation-many").click().run()
    assert "Prompt 1: LogProb needs a vocabulary head" in test.error[0].value.replace("\\", "")


def test_the_marked_heads_become_the_set(monkeypatch: pytest.MonkeyPatch) -> None:
    effects = np.zeros((6, 2, 4))
    effects[:, 1, 2] = [1.0, 1.1, 0.9, 1.0, 1.2, 0.8]
    test = uploaded(CASES)
    asked = [sweep for sweep in stores().traces._kept.values() if type(sweep) is Sweep]
    assert asked
    monkeypatch.setattr(Averaged, "of", lambda found, site: averaged_of(effects))
    test.button(key="ablation-many").click().run()
    test.button(key="ablation-many-use").click().run()
    assert_fine(test)
    assert test.text_input(key="ablation-set").value == "L1H2"


def averaged_of(effects: np.ndarray, site: str = "cross") -> Averaged:
    return Averaged({site: effects}, np.zeros(len(effects)), site, "mean of texts", "outcome")


def test_q_values_are_those_of_a_t_test_corrected_for_all_heads() -> None:
    effects = np.array([[[1.0, 0.0, 3.0, np.nan]], [[2.0, 0.0, 3.1, np.nan]], [[3.0, 0.0, 2.9, np.nan]]])
    (q,) = q_values(averaged_of(effects)).values()
    # t = 2 / (1 / sqrt 3) with 2 degrees: p = 1 - t / sqrt(2 + t * t); likewise the third.
    t = np.array([2 * np.sqrt(3), 30 * np.sqrt(3)])
    p = 1 - t / np.sqrt(2 + t * t)
    assert q[0, [0, 2]] == pytest.approx([p[0] * 3 / 2, p[1] * 3])
    assert q[0, 1] == 1
    assert np.isnan(q[0, 3])
    assert np.isnan(q_values(averaged_of(effects[:1]))["cross"]).all()


def test_the_map_of_means_marks_what_is_not_chance_and_says_how() -> None:
    effects = np.random.default_rng(0).normal(size=(8, 3, 2))
    effects[:, 2, 1] += 9
    figure = mean_map(averaged_of(effects))
    assert np.allclose(figure.data[0].z, effects.mean(0))
    assert (2, 1) in set(zip(figure.data[1].y, figure.data[1].x, strict=True))
    low, high = np.asarray(figure.data[0].customdata)[2, 1, :2]
    assert low < effects[:, 2, 1].mean() < high
    assert "corrected" in figure.layout.title.subtitle.text
    with pytest.raises(attnviz.errors.InputError, match="cross"):
        mean_map(averaged_of(effects), site="encoder")
