"""The Ablation page by heads, key/value groups and layers, by what is written, and with what it proposes."""

import numpy as np
import pytest
from flow_page import MODELS, SHORT
from test_ablation_page import DATE, kept_sweep, opened

import attnviz
from attnviz import ablation
from attnviz.ablation import Screened
from attnviz.ablation.swapping import propose_foil
from attnviz.edits import Head, MeanHeads
from attnviz.figures.ablation import effect_map, estimate_scatter
from attnviz.metrics import ExactMatch, LogitDiff, LogProb
from attnviz.ui.ablation import asking, finding, overview, running
from attnviz.ui.ablation.subject import Subject, metric_of, parts_of
from attnviz.ui.focus import fitted
from attnviz.ui.jobs import Job
from attnviz.ui.selection import Selection
from attnviz.ui.session import stores
from pages import assert_fine, params, said

GIVING = "When Mary and John met, John gave a pen to"


pytestmark = pytest.mark.usefixtures("held_models")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "WRITTEN", 3)
    monkeypatch.setattr(asking, "FEW", 3)


def test_layers_are_cells_as_wide_as_a_row_and_all_their_heads_go_into_the_set() -> None:
    test = opened(model="dates", with_text=DATE, parts="layer", how="zero", site="encoder")
    assert_fine(test)
    known = kept_sweep()
    alone = ablation.sweep(MODELS["dates"], DATE, attnviz.metrics.Loss(), how="zero", units="layer", site="encoder")
    assert known.effects.shape == (2, 1)
    assert np.allclose(known.effects, alone.effects, atol=1e-5)
    assert known.n_units == 6
    assert "A head has attention, a group or a layer has not" in said(test)
    test.number_input(key="ablation-top").set_value(1).run()
    test.button(key="ablation-strongest").click().run()
    assert_fine(test)
    strongest = int(np.abs(known.effects[:, 0]).argmax())
    assert params(test)["heads"] == ".".join(f"L{strongest}H{head}" for head in range(4))
    assert 'units="layer"' in next(block.value for block in test.code if "effect_map" in block.value)
    figure = effect_map(known)
    assert figure.layout.xaxis.ticktext == ("all heads",)
    assert figure.layout.yaxis.scaleanchor is None
    (guess,) = (value for value in stores().traces._kept.values() if type(value) is Screened)
    assert {*estimate_scatter(guess, known).data[0].text} == {"L0", "L1"}
    assert set(overview.merged(guess, known)) == {"site", "layer", "effect", "metric", "effect_estimate"}


def test_groups_are_offered_where_heads_share_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "BY_ITSELF", 0.0)
    assert parts_of(MODELS["smollm2"], "decoder") == ("head", "group", "layer")
    assert parts_of(MODELS["minilm"], "encoder") == ("head", "layer")
    test = opened(with_text=SHORT, parts="group", how="zero")
    assert_fine(test)
    guess = kept_sweep(Screened)
    assert guess.effects.shape == (30, 3)
    refused = opened(model="dates", with_text=DATE, parts="group")
    assert_fine(refused)
    assert "share their keys and values" in refused.warning[0].value
    assert "parts" not in params(refused)


def test_what_the_model_writes_is_measured_head_by_head() -> None:
    test = opened(model="dates", with_text=DATE, metric="match", how="mean", heads="L1H1")
    assert_fine(test)
    model, known = MODELS["dates"], kept_sweep()
    assert known.complete
    assert known.baseline == 1.0
    texts = asking.embedded_texts(pairs=True)[:3]
    for site, layer, head in (("cross", 1, 1), ("decoder", 0, 2), ("encoder", 1, 3)):
        edit = MeanHeads([Head(layer, head, site)], texts)
        exact = model.measure(ExactMatch("1998-05-03"), DATE, edits=[edit]) - 1
        assert known.found[site][layer, head] == exact
    assert "it has no slope" in said(test)
    assert "Controls do not write" in said(test)


def test_a_target_that_was_typed_is_the_wanted_answer() -> None:
    model = MODELS["dates"]
    trace = model.trace(DATE, "1998-05-04")
    metric = metric_of(model, trace, Selection(metric="match"), "")
    assert metric == ExactMatch("1998-05-04")
    assert model.measure(metric, DATE) == 0.0


def test_writing_for_every_head_is_refused_where_it_would_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "one_generation", lambda subject: 100.0)
    test = opened(model="dates", with_text=DATE, metric="match")
    assert_fine(test)
    assert "would take about 40 min, and the most is 10 min" in said(test)
    assert "ablation-run" not in {button.key for button in test.button}


@pytest.mark.parametrize(("seconds", "begins"), [(59.0, True), (61.0, False)])
def test_a_sweep_of_up_to_a_minute_begins_by_itself(
    seconds: float, begins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "seconds", lambda subject: seconds)
    test = opened(model="dates", with_text=DATE, how="zero")
    assert_fine(test)
    found = [value for value in stores().traces._kept.values() if type(value) is ablation.Sweep]
    assert [sweep.complete for sweep in found] == [True] * begins
    assert ("ablation-run" in {button.key for button in test.button}) is not begins
    asked = {key[-1]: value for key, value in stores().traces._kept.items() if isinstance(key, tuple)}
    exact = ablation.sweep(MODELS["dates"], DATE, attnviz.metrics.Loss(), how="zero", **_reads(DATE))
    assert asked["budget"] == exact.budget


def _reads(text: str) -> dict[str, list[int]]:
    return {"decoder_input_ids": MODELS["dates"].trace(text).input_ids}


def test_maps_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    test = opened(model="dates", with_text=DATE, heads="L0H1", site="encoder", how="zero")
    assert_fine(test)
    monkeypatch.setattr(finding, "changed_patterns", None)  # what is kept is not made again
    assert_fine(test.run())
    assert test.selectbox(key="ablation-later").value


def test_in_a_chat_reference_texts_stand_in_the_template_too() -> None:
    model = MODELS["smollm2"]
    trace = model.trace(SHORT, chat_template=True)
    focus, _ = fitted(Selection(), trace)
    subject = Subject("smollm2", model, trace, focus, LogProb(" pen"), "mean", "", ("A boat.",), True, ())
    wanted = list(model.encode("A boat.", chat_template=True).ids)
    assert len(wanted) > len(model.encode("A boat.").ids)
    assert subject.question["texts"] == (wanted,)
    held = finding.mean_of(subject, Job(lambda job: None))
    assert held.texts == (wanted,)


def test_a_name_is_compared_with_another_name_of_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "BY_ITSELF", 0.0)
    test = opened(with_text=GIVING)
    assert_fine(test)
    assert test.selectbox(key="ablation-foil").value == MODELS["smollm2"].ids_of(" John")[0]
    assert "Proposed: another name of the text" in said(test)
    assert "logit of ' Mary' minus logit of ' John'" in kept_sweep(Screened).metric
    model = MODELS["smollm2"]
    trace = model.trace(GIVING)
    assert metric_of(model, trace, Selection(foil=5), "") == LogitDiff(" Mary", model.reader.decode(5))
    plain = metric_of(model, model.trace(SHORT), Selection(), "")
    assert isinstance(plain, LogitDiff)
    assert [plain.answer, plain.foil] == model.trace(SHORT).predictions(-1, 2)["token"].tolist()


@pytest.mark.parametrize(
    ("text", "answer", "foil"),
    [
        (GIVING, " Mary", " John"),
        (GIVING, " the", None),
        ("Paris lies in", " France", None),  # which the text does not name
        ("Mary met Mary and gave a pen to", " Mary", None),
        ("From Paris, Mary flew to Rome, and back to", " Paris", " Rome"),
    ],
)
def test_a_foil_is_another_name_of_the_text_or_none(text: str, answer: str, foil: str | None) -> None:
    assert propose_foil(text, answer, MODELS["smollm2"]) == foil


@pytest.mark.parametrize(
    ("text", "donor"),
    [
        ("the 3rd of May", "the 4th of May"),
        ("the 4th of May", "the 5th of May"),
        ("the 12th of May", "the 23rd of May"),
        ("the 31st of May", "the 18th of May"),  # no month has a 42nd
        ("the 1st and the 2nd", "the 3rd and the 4th"),
    ],
)
def test_ordinals_stay_ordinals(text: str, donor: str) -> None:
    found = ablation.propose_donor(text, MODELS["dates"])
    assert found is not None
    assert found.text == donor


def test_reading_reference_texts_can_be_stopped_and_their_mean_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    test = opened(model="minilm", with_text="A small red boat.", how="mean", heads="L1H2")
    assert_fine(test)
    (held,) = (value for value in stores().traces._kept.values() if isinstance(value, finding.Held))
    assert held.nbytes == 6 * 12 * 32 * 4
    monkeypatch.setattr(finding.Removal, "of", None)  # what is kept is not made again
    test.text_input(key="ablation-set").set_value("L2H3").run()
    assert_fine(test)
    read: list[str] = []
    job = Job(lambda job: [(read.append(text), job.cancel()) for text in finding.Counted(("a", "b"), job)])
    assert job.wait(5)
    with pytest.raises(attnviz.errors.Cancelled):
        job.result()
    assert read == ["a"]
