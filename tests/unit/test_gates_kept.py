"""Gates once learned: as an edit, in the weights, on unrelated texts, in files."""

import json
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from safetensors.numpy import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import attnviz
from attnviz import Head, Model, edits, gates
from attnviz.errors import InputError, TextError
from attnviz.fingerprint import fingerprint
from attnviz.gates import Example, Gates, Mean
from attnviz.metrics import KL
from attnviz.models import Model as TraceModel

DATES = [("3 May 1998", "1998-05-04"), ("17 March 1912", "1912-03-17"), ("1.2.2003", "2003-02-01")]


@pytest.fixture(scope="module")
def model() -> Model:
    return attnviz.wrap_model(tiny.grouped(), name="grouped")


@pytest.fixture(scope="module")
def found(model: Model) -> Gates:
    examples = [Example(tiny.ids(8 + n), 5 + n, 40 + n) for n in range(8)]
    learned = gates.learn(model, examples, steps=3, lr=0.3, seed=4)
    values = np.array([[1.0, 0.0, 0.5, 1.0], [0.08, 1.0, 0.999, 0.3]])
    return replace(learned, values={"decoder": values})


def test_the_heads_that_differ_become_an_edit(found: Gates) -> None:
    scales = {Head(0, 1): 0.0, Head(1, 0): 0.08, Head(1, 3): 0.3, Head(0, 2): 0.5, Head(1, 2): 0.999}
    assert found.edit() == edits.ScaleHeads(scales)
    assert found.edits() == (found.edit(),)
    assert list(found.changed()) == list(scales)[:4]
    assert found.closed() == [Head(0, 1), Head(1, 0)]
    assert found.closed(0.3) == [Head(0, 1), Head(1, 0), Head(1, 3)]
    frame = found.frame()
    assert frame.columns.tolist() == ["site", "layer", "head", "gate"]
    assert frame.gate.tolist() == found.values["decoder"].ravel().tolist()
    assert "4 changed, 2 closed" in found.title
    assert "gates of grouped learned from 6 examples, 2 held out (L2 0.01, seed 4" in found.title


def test_baked_gates_say_what_edited_ones_do(found: Gates, model: Model, tmp_path: Path) -> None:
    before = fingerprint(model)
    baked = found.bake(model, folder=tmp_path / "baked")
    one, other = (m.trace(input_ids=tiny.ids(), edits=e).logits for m, e in ((baked.model, ()), (model, found.edits())))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
    assert (one - model.trace(input_ids=tiny.ids()).logits).abs().max() > 1e-2
    assert fingerprint(model) == before
    assert "other weights" in found.check(baked.model)
    assert found.check(model) == ""
    assert (tmp_path / "baked" / "model.safetensors").exists()


def test_what_moves_elsewhere_is_the_divergence_from_the_clean_run() -> None:
    dates = attnviz.load_model("dates")
    some = gates.learn(dates, DATES, steps=2, lr=0.5, weight=0.0)
    some = replace(some, values={**some.values, "cross": np.array([[1.0] * 4, [0.0] * 4])})
    texts = ["4 July 1999", ("5 May 2005", "2005-05-05")]
    moved = some.elsewhere(dates, texts)
    for text, target, kl in (("4 July 1999", "1999-07-04", moved.kl[0]), (*texts[1], moved.kl[1])):
        assert kl == pytest.approx(dates.measure(KL(position=None), text, target=target, edits=some.edits()), rel=1e-4)
    assert moved.kl.max() > 1e-3
    assert moved.mean.mean == pytest.approx(moved.kl.mean())
    assert moved.frame().text.tolist() == ["4 July 1999", "5 May 2005"]
    untouched = replace(some, values={site: np.where(np.isnan(x), x, 1.0) for site, x in some.values.items()})
    assert untouched.elsewhere(dates, texts).kl.tolist() == [0.0, 0.0]
    for wrong in ([], "4 July 1999", [("a", "b", "c")]):
        with pytest.raises(InputError):
            some.elsewhere(dates, wrong)
    with pytest.raises(TextError):
        some.elsewhere(dates, [""])


def test_intervals_are_students() -> None:
    mean = Mean.of(np.array([1.0, 2.0, 3.0, 6.0]))
    assert mean == pytest.approx((3.0, 3.0 - 3.4374, 3.0 + 3.4374), abs=1e-3)  # 3.1824 * 2.1602 / 2
    assert Mean.of(np.array([2.0]))[0] == 2.0
    assert math.isnan(Mean.of(np.array([2.0])).low)


def test_a_file_holds_all_of_it(found: Gates, model: Model, tmp_path: Path) -> None:
    path = found.save(tmp_path / "mine.safetensors")
    again = Gates.load(path)
    assert again.title == found.title
    assert again.edit() == found.edit()
    assert again.values["decoder"].tolist() == found.values["decoder"].tolist()
    pd.testing.assert_frame_equal(again.history, found.history)
    for name in ("seed", "settings", "best", "stopped", "n_train", "model", "revision", "weights"):
        assert getattr(again, name) == getattr(found, name)
    assert again.held_out.title == found.held_out.title
    assert again.held_out.right_after.dtype == bool
    assert again.check(model) == ""
    assert [p.name for p in tmp_path.iterdir()] == ["mine.safetensors"]
    with pytest.raises(InputError, match="cannot be written"):
        found.save(tmp_path / "none" / "mine.safetensors")


def test_gates_of_other_heads_are_refused(found: Gates) -> None:
    other = attnviz.wrap_model(tiny.grouped(num_hidden_layers=3), name="deeper")
    assert "other weights" in found.check(attnviz.wrap_model(tiny.multi_query()))
    for use in (lambda: found.check(other), lambda: found.bake(other), lambda: found.elsewhere(other, ["a"])):
        with pytest.raises(InputError, match=r"of grouped .* and deeper has others .*3 layers"):
            use()
    with pytest.raises(InputError, match="has others"):
        found.test(other, [Example([5, 6], 7)])


def change(path: Path, about: Any = None, arrays: Any = None, drop: str = "") -> None:
    kept = load_file(path)
    head = json.loads(path.read_bytes()[8 : 8 + struct.unpack("<Q", path.read_bytes()[:8])[0]])["__metadata__"]
    told = {**json.loads(head["attnviz_gates"]), **(about or {})}
    told.pop(drop, None)
    kept |= arrays or {}
    kept.pop(drop, None)
    save_file(kept, path, {"attnviz_gates": json.dumps(told)})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"about": {"format": 2}}, "no gates of format 1"),
        ({"about": {"seed": "x"}}, "damaged"),
        ({"about": {"best": 99}}, "no step 99"),
        ({"about": {"model": 3}}, "damaged"),
        ({"about": {"settings": {}}}, "damaged"),
        ({"about": {"settings": {"penalty": "<b>", "weight": 0.1}}}, "damaged"),
        ({"about": {"held_out": True}}, "damaged"),
        ({"about": {"what": 1}}, "damaged"),
        ({"drop": "weights"}, "damaged"),
        ({"drop": "values.decoder"}, "no gates"),
        ({"drop": "history.train"}, "damaged"),
        ({"drop": "held_out.right_after"}, "damaged"),
        ({"arrays": {"values.decoder": np.full((2, 4), 1.5)}}, "between 0 and 1"),
        ({"arrays": {"values.decoder": np.full((2, 4), np.nan)}}, "between 0 and 1"),
        ({"arrays": {"values.decoder": np.full((2, 4), np.inf)}}, "damaged"),
        ({"arrays": {"values.decoder": np.ones(4)}}, "damaged"),
        ({"arrays": {"values.nowhere": np.ones((2, 4))}}, "nowhere"),
        ({"arrays": {"more": np.ones((2, 4))}}, "damaged"),
        ({"arrays": {"history.train": np.ones(2)}}, "damaged"),
        ({"arrays": {"held_out.loss_after": np.ones(1)}}, "damaged"),
    ],
)
def test_a_damaged_file_is_refused(wrong: Any, message: str, found: Gates, tmp_path: Path) -> None:
    path = found.save(tmp_path / "mine.safetensors")
    change(path, **wrong)
    with pytest.raises(InputError, match=message):
        Gates.load(path)


def test_what_is_no_file_of_gates_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Gates) -> None:
    path = tmp_path / "mine.safetensors"
    with pytest.raises(InputError, match="not a file that Gates"):
        Gates.load(path)
    with pytest.raises(InputError, match="not a file that Gates"):
        Gates.load(tmp_path)
    for content in (b"", b"\x00" * 40, b"{}", struct.pack("<Q", 2**60)):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a file that Gates"):
            Gates.load(path)
    save_file({"a": np.ones(2)}, path, {"attnviz_gates": "[" * 100_000})
    with pytest.raises(InputError, match="not a file that Gates"):
        Gates.load(path)
    save_file({"a": np.ones(2)}, path)
    with pytest.raises(InputError, match="no gates of format"):
        Gates.load(path)
    found.save(path)
    monkeypatch.setattr("attnviz.gates.files._MOST_BYTES", 10)
    with pytest.raises(InputError, match="at most 10"):
        Gates.load(path)


def test_tensorboard_reads_the_curve(found: Gates, tmp_path: Path) -> None:
    folder = found.to_tensorboard(tmp_path / "runs" / "one")
    events = EventAccumulator(str(folder)).Reload()
    tags = {"loss/train", "loss/held_out", "loss/penalty", "heads/changed", "heads/closed"}
    assert set(events.Tags()["scalars"]) == tags
    for tag, column in (("loss/held_out", "held_out"), ("loss/train", "train"), ("heads/changed", "changed")):
        curve = found.history.dropna(subset=[column])
        told = [(event.step, event.value) for event in events.Scalars(tag)]
        assert [step for step, _ in told] == curve.step.tolist()
        assert [value for _, value in told] == pytest.approx(curve[column].tolist(), rel=1e-6)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        found.to_tensorboard(tmp_path / "taken")


def test_weights_that_changed_have_another_fingerprint() -> None:
    hf_model = tiny.gpt2()
    model = TraceModel(hf_model, None, attnviz.wrap_model(hf_model).layout, attnviz.wrap_model(hf_model).origin)
    before = fingerprint(model)
    assert fingerprint(model) == before
    assert fingerprint(attnviz.wrap_model(tiny.gpt2())) == before
    with torch.no_grad():
        hf_model.transformer.wte.weight[0, 0] += 1
    assert fingerprint(model) != before
