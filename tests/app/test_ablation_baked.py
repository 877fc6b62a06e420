"""Baked checkpoints on the Ablation page: checked, downloaded, and read by transformers alone."""

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from flow_page import MODELS
from pruning_page import DATE, SENTENCE, opened

import attnviz
from attnviz import Head, edits
from attnviz.errors import InputError, Unsupported
from attnviz.metrics import Loss
from attnviz.ui.ablation import baking
from pages import assert_fine, said

pytestmark = pytest.mark.usefixtures("held_models")


def test_a_baked_checkpoint_is_read_by_transformers_alone(tmp_path: Path) -> None:
    model, scales = MODELS["minilm"], {Head(1, 2): 0.0, Head(4, 5): 0.5}
    before = set(Path(tempfile.gettempdir()).glob("attnviz-bake-*"))
    made = baking.checkpoint(model, scales)
    assert set(Path(tempfile.gettempdir()).glob("attnviz-bake-*")) == before
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path)
    facts = json.loads((tmp_path / "baked.json").read_text("utf-8"))
    assert "L1H2 scaled by 0" in json.dumps(facts)
    weights = (tmp_path / "model.safetensors").stat().st_size
    assert 0 <= weights - baking.checkpoint_bytes(model) < 100_000
    plain = transformers.AutoModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    words = transformers.AutoTokenizer.from_pretrained(tmp_path)
    with torch.no_grad():
        got = plain(**words(SENTENCE, return_tensors="pt")).last_hidden_state
    edited = model.forward(model.encode(SENTENCE), (edits.ScaleHeads(scales),)).last_hidden_state
    clean = model.forward(model.encode(SENTENCE), ()).last_hidden_state
    assert (got - edited).abs().max() < 1e-4
    assert (clean - edited).abs().max() > 1e-2


def test_the_set_is_baked_with_one_scale_or_one_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    test = opened(model="dates", with_text=DATE, heads="L0H1.L1H0", how="zero", site="cross")
    assert_fine(test)
    test.slider(key="ablation-bake-all").set_value(0.5).run()
    test.number_input(key="ablation-bake-cross-L1H0").set_value(2.0).run()
    assert test.number_input(key="ablation-bake-cross-L0H1").value == 0.5
    test.button(key="ablation-bake").click().run()
    assert_fine(test)
    measured = {metric.label: metric.value for metric in test.metric}
    scales = {Head(0, 1, "cross"): 0.5, Head(1, 0, "cross"): 2.0}
    model = MODELS["dates"]
    given = {"text": DATE, "decoder_input_ids": model.trace(DATE).input_ids}
    edited = model.measure(Loss(), **given, edits=[edits.ScaleHeads(scales)])
    assert float(measured["Edited"]) == float(measured["Baked"]) == pytest.approx(edited, abs=1e-4)
    assert float(measured["Clean"]) == pytest.approx(model.measure(Loss(), **given), abs=1e-4)
    assert float(measured["Largest difference"]) < 1e-3
    assert "of the baked copy" in said(test)
    (code,) = (block.value for block in test.code if "ablation.bake" in block.value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(attnviz, "load_model", MODELS.__getitem__)
    scope: dict[str, Any] = {}
    exec(compile(code, "<lines>", "exec"), scope)
    assert scope["scales"] == scales
    assert (tmp_path / "baked" / "config.json").is_file()
    test.slider(key="ablation-bake-all").set_value(0.25).run()
    assert test.number_input(key="ablation-bake-cross-L1H0").value == 0.25
    assert [metric.label for metric in test.metric] == []  # another question: nothing is claimed of it


def test_an_outcome_that_compares_with_the_clean_run_is_not_claimed_of_the_copy() -> None:
    test = opened(model="minilm", with_text=SENTENCE, how="zero", heads="L1H2")
    test.button(key="ablation-bake").click().run()
    assert_fine(test)
    assert [metric.label for metric in test.metric] == ["Largest difference"]
    assert 0 <= float(test.metric[0].value) < 1e-3
    assert "would say nothing" in said(test)


def test_what_cannot_be_baked_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any, **options: Any) -> Any:
        raise Unsupported("A norm stands between.")

    monkeypatch.setattr(baking.ablation, "bake", refuse)
    test = opened(model="minilm", with_text=SENTENCE, how="zero", heads="L0H0")
    test.button(key="ablation-bake").click().run()
    assert [error.value for error in test.error] == [r"A norm stands between\."]
    assert "ablation-bake-download" not in json.dumps([str(one.proto) for one in test.get("download_button")])


def test_too_large_a_checkpoint_is_not_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baking, "MOST_BYTES", 1_000)
    test = opened(model="minilm", with_text=SENTENCE, how="zero", heads="L0H0")
    assert_fine(test)
    assert "at most" in said(test)
    assert all(button.key != "ablation-bake" for button in test.button)
    assert any("ablation.bake" in block.value for block in test.code)


def test_a_model_that_was_let_go_is_not_baked() -> None:
    with pytest.raises(InputError, match="no longer held"):
        baking._made("gone", {Head(0, 0): 0.5})
