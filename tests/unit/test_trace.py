"""Traces: kept, saved, opened again, made small, and never in the way of a model's end."""

import dataclasses
import gc
import json
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors
import safetensors.torch
import tiny
import torch

import attnviz
from attnviz import Head, Model, load_trace
from attnviz.edits import ZeroHeads
from attnviz.errors import HeadError, InputError
from attnviz.trace import Stored, Trace

TEXT = "Grüße an 猫 und 👩‍👩‍👧: 1, 2,\n3!"


@pytest.mark.parametrize("name", ["smollm2", "minilm"])
def test_a_saved_trace_comes_back_as_it_was(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> None:
    model = request.getfixturevalue(name)
    trace = model.trace(TEXT, edits=[ZeroHeads([Head(2, 1)])])
    path = trace.save(tmp_path / "run.attnviz")
    assert [p.name for p in tmp_path.iterdir()] == ["run.attnviz"]
    again = load_trace(path)
    assert again.tokens == trace.tokens
    assert again.text == trace.text == TEXT
    assert again.info == trace.info
    assert again.edit_titles == trace.edit_titles != ()
    assert again.layers() == trace.layers()
    for layer in trace.layers():
        assert torch.equal(again.pattern(layer), trace.pattern(layer))
        assert torch.equal(again.pattern(layer, 1), trace.pattern(layer, 1))
    torch.testing.assert_close(again.row(-1), trace.row(-1), atol=1e-6, rtol=0)
    if name == "smollm2":
        assert torch.equal(again.logits, trace.logits)
        for position in range(len(trace.tokens)):
            pd.testing.assert_frame_equal(again.predictions(position), trace.predictions(position))
    else:
        assert torch.equal(again.embedding, trace.embedding)


@pytest.mark.parametrize("kind", [*tiny.EXACT, "bloom"])
def test_a_saved_trace_of_every_kind_of_model_comes_back(kind: str, tmp_path: Path) -> None:
    trace = attnviz.wrap_model({**tiny.EXACT, "bloom": tiny.bloom}[kind]()).trace(input_ids=tiny.ids(30))
    again = load_trace(trace.save(tmp_path / "run"))
    for layer in trace.layers():
        assert torch.equal(again.pattern(layer), trace.pattern(layer))
        assert torch.equal(again.layer(layer).visible(), trace.layer(layer).visible())


def test_a_saved_trace_opens_without_the_model_and_saves_again(tmp_path: Path) -> None:
    trace = attnviz.wrap_model(tiny.grouped()).trace(input_ids=tiny.ids())
    once = load_trace(trace.save(tmp_path / "once"))
    twice = load_trace(once.save(tmp_path / "twice"))
    assert torch.equal(twice.pattern(1), trace.pattern(1))
    assert twice.tokens == trace.tokens


def test_classes_are_kept(tmp_path: Path) -> None:
    hf_model = tiny.bert_classes()
    trace = attnviz.wrap_model(hf_model).trace(input_ids=tiny.ids())
    assert trace.logits is None
    assert torch.equal(trace.class_logits, tiny.plain_run(hf_model, tiny.ids()).logits[0])
    assert torch.equal(load_trace(trace.save(tmp_path / "run")).class_logits, trace.class_logits)


def _file_with(path: Path, change: Any) -> Path:
    """A trace file whose description was changed by `change`, tensors as they were."""
    attnviz.wrap_model(tiny.grouped()).trace(input_ids=tiny.ids()).save(path)
    with safetensors.safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["attnviz"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(about)
    safetensors.torch.save_file(tensors, path, metadata={"attnviz": json.dumps(about)})
    return path


def _with_eager(name: Any) -> Any:
    def change(about: dict[str, Any]) -> None:
        for layer in about["layers"]["decoder"].values():
            layer["eager"] = name

    return change


HOSTILE = ["os", "evil", "evil.eager", "transformers.models.llama.modeling_llama.os", "transformers.models.x.evil"]


@pytest.mark.parametrize(
    "name", [*HOSTILE, "transformers.models.llama.modeling_llama\n", "../evil", "", None, 3, ["os"]], ids=repr
)
def test_a_file_cannot_name_code_of_its_own(name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "was imported"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\ndef eager_attention_forward(*a): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError):
        load_trace(_file_with(tmp_path / "run", _with_eager(name)))
    assert not marker.exists()
    assert "evil" not in sys.modules


def test_a_file_that_names_a_model_type_unknown_here_is_refused(tmp_path: Path) -> None:
    path = _file_with(tmp_path / "run", _with_eager("transformers.models.of_next_year.modeling_of_next_year"))
    with pytest.raises(InputError):
        load_trace(path)


def test_an_unchanged_description_opens(tmp_path: Path) -> None:
    assert load_trace(_file_with(tmp_path / "run", lambda about: None)).layers() == (0, 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.pop("tokens"),
        lambda about: about.pop("info"),
        lambda about: about["info"].pop("family"),
        lambda about: about["info"].update(surprise=1),
        lambda about: about.update(format=999),
        lambda about: about.update(layers=[]),
        lambda about: about.update(tokens=[["too", "few"]]),
        lambda about: about["outputs"].update(raw_logits="t999"),
        lambda about: about["layers"]["decoder"]["0"]["tensors"].update(query="t999"),
        lambda about: about["layers"]["decoder"]["0"]["tensors"].update(extra="t0"),
        lambda about: about["layers"]["decoder"].update(zero=about["layers"]["decoder"]["0"]),
    ],
)
def test_a_damaged_description_is_refused(change: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        load_trace(_file_with(tmp_path / "run", change))


def test_files_that_are_no_traces_are_refused(tmp_path: Path) -> None:
    whole = attnviz.wrap_model(tiny.grouped()).trace(input_ids=tiny.ids()).save(tmp_path / "whole").read_bytes()
    contents = {
        "empty": b"",
        "text": b"not a trace at all",
        "zeros": bytes(1_000),
        "cut in the header": whole[:100],
        "cut in the tensors": whole[:-100],
        "endless header": (2**62).to_bytes(8, "little") + whole[8:],
        "pickle": b"\x80\x04cos\nsystem\n.",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    safetensors.torch.save_file({"weight": torch.zeros(2)}, tmp_path / "foreign")
    safetensors.torch.save_file({"weight": torch.zeros(2)}, tmp_path / "other", metadata={"attnviz": "[1, 2]"})
    safetensors.torch.save_file({"weight": torch.zeros(2)}, tmp_path / "no json", metadata={"attnviz": "{"})
    (tmp_path / "folder").mkdir()
    for name in [*contents, "foreign", "other", "no json", "folder", "missing"]:
        with pytest.raises(InputError) as caught:
            load_trace(tmp_path / name)
        assert name in str(caught.value)


def test_a_save_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = attnviz.wrap_model(tiny.grouped()).trace(input_ids=tiny.ids())
    kept = trace.save(tmp_path / "run").read_bytes()

    def full(*args: Any, **keywords: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("attnviz.tracefile.save_file", full)
    with pytest.raises(InputError, match="space"):
        trace.save(tmp_path / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert (tmp_path / "run").read_bytes() == kept


def test_predictions_are_the_softmax_of_the_logits(smollm2: Model) -> None:
    trace = smollm2.trace("When Mary and John went to the store, John gave a drink to")
    frame = trace.predictions(k=7)
    assert list(frame.columns) == ["rank", "token", "token_id", "probability", "logit"]
    chances = trace.logits[-1].double().softmax(-1)
    order = chances.argsort(descending=True)[:7]
    assert frame["token_id"].tolist() == order.tolist()
    assert frame["rank"].tolist() == list(range(1, 8))
    np.testing.assert_allclose(frame["probability"], chances[order], rtol=2e-5)
    np.testing.assert_array_equal(frame["logit"].astype("float32"), trace.logits[-1][order])
    assert frame["token"].tolist() == [smollm2.tokenizer.decode([i]) for i in order]
    pd.testing.assert_frame_equal(trace.predictions(len(trace.tokens) - 1, 7), frame)
    assert frame["token"][0] == " Mary"


def test_a_compact_trace_keeps_its_predictions_and_drops_its_logits(smollm2: Model) -> None:
    trace = smollm2.trace("The capital of France is")
    small = trace.compact(12)
    for position in range(len(trace.tokens)):
        pd.testing.assert_frame_equal(small.predictions(position, 12), trace.predictions(position, 12))
    with pytest.raises(InputError, match="compact"):
        _ = small.logits
    with pytest.raises(InputError, match="12 predictions"):
        small.predictions(k=13)
    assert small.nbytes < trace.nbytes - 0.9 * trace.logits.nbytes
    assert torch.equal(small.pattern(3), trace.pattern(3))
    assert small.compact(5) is small


def test_a_compact_trace_comes_back_from_a_file(smollm2: Model, tmp_path: Path) -> None:
    small = smollm2.trace("The capital of France is").compact(8)
    again = load_trace(small.save(tmp_path / "run"))
    pd.testing.assert_frame_equal(again.predictions(k=8), small.predictions(k=8))
    with pytest.raises(InputError, match="compact"):
        _ = again.logits


def test_bytes_count_shared_tensors_once(smollm2: Model) -> None:
    trace = smollm2.trace("one two three four")
    layers: list[Any] = [trace.layer(layer) for layer in trace.layers()]
    held = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for r in layers for x in r.tensors()}
    held[trace.logits.untyped_storage().data_ptr()] = trace.logits.untyped_storage().nbytes()
    assert trace.nbytes == sum(held.values())
    weights = torch.zeros(1, 9, 4, 4)
    shared = {layer: Stored(weights) for layer in range(30)}
    assert dataclasses.replace(trace, attention={"decoder": shared}, raw_logits=None).nbytes == weights.nbytes


def test_a_trace_is_small_beside_its_patterns(minilm: Model) -> None:
    trace = minilm.trace("word " * 400)
    length = len(trace.tokens)
    assert trace.nbytes < 0.3 * 6 * 12 * length * length * 4


def test_bytes_count_what_a_compact_trace_keeps() -> None:
    trace = attnviz.wrap_model(tiny.grouped()).trace(input_ids=tiny.ids()).compact(5)
    without = dataclasses.replace(trace, top=None)
    top = trace.top
    assert trace.nbytes - without.nbytes == top.ids.nbytes + top.logits.nbytes + top.log_total.nbytes


@pytest.mark.parametrize("kind", ["grouped", "gpt2", "bert", "sinks", "bloom"])
def test_a_trace_keeps_no_model_alive(kind: str) -> None:
    hf_model = {**tiny.EXACT, "bloom": tiny.bloom}[kind]()
    model = attnviz.wrap_model(hf_model)
    edits = [] if kind == "bloom" else [ZeroHeads([Head(0, 0)])]
    trace = model.trace(input_ids=tiny.ids(), edits=edits)
    before = trace.pattern(1)
    gone = [weakref.ref(hf_model), weakref.ref(model), *(weakref.ref(p) for p in hf_model.parameters())]
    del hf_model, model
    gc.collect()
    assert [ref() for ref in gone] == [None] * len(gone)
    assert torch.equal(trace.pattern(1), before)


def test_a_trace_with_a_tokenizer_keeps_no_model_alive(minilm: Model) -> None:
    hf_model = type(minilm.hf_model)(minilm.hf_model.config)
    hf_model.set_attn_implementation("sdpa")
    model = attnviz.wrap_model(hf_model, minilm.tokenizer)
    trace = model.trace("Let go of me.")
    gone = weakref.ref(hf_model)
    del hf_model, model
    gc.collect()
    assert gone() is None
    assert trace.pattern(5).shape[0] == 12


def test_a_model_without_a_tokenizer_is_traced_by_ids() -> None:
    model = attnviz.wrap_model(tiny.grouped())
    ids = tiny.ids()
    traces = [model.trace(input_ids=x) for x in (ids, torch.tensor(ids), torch.tensor([ids]), np.array(ids))]
    assert all(trace.input_ids == ids for trace in traces)
    assert all(torch.equal(trace.logits, traces[0].logits) for trace in traces)
    with pytest.raises(InputError, match="input_ids"):
        model.trace("a text")


def test_ids_and_their_text_give_the_same_run(smollm2: Model) -> None:
    by_text = smollm2.trace(TEXT)
    by_ids = smollm2.trace(input_ids=by_text.input_ids)
    assert torch.equal(by_text.logits, by_ids.logits)
    assert by_ids.input_ids == by_text.input_ids


def test_the_axes_are_the_tokens(smollm2: Model) -> None:
    trace = smollm2.trace(TEXT)
    assert trace.axes() == (trace.tokens, trace.tokens)
    assert trace.axes("decoder") == (trace.tokens, trace.tokens)


@pytest.mark.parametrize("position", [99, -99, True, 1.0, None, "0"])
def test_positions_out_of_range_are_refused(smollm2: Model, position: Any) -> None:
    trace = smollm2.trace("Hello world")
    for ask in (trace.predictions, trace.row):
        with pytest.raises(InputError, match="position"):
            ask(position)


@pytest.mark.parametrize("k", [0, -1, True, 2.5, None])
def test_a_count_of_predictions_starts_at_one(smollm2: Model, k: Any) -> None:
    with pytest.raises(InputError, match="k, the number of predictions"):
        smollm2.trace("Hello world").predictions(k=k)


def test_predictions_need_a_vocabulary(minilm: Model) -> None:
    with pytest.raises(InputError, match="vocabulary"):
        minilm.trace("Hello world").predictions()


@pytest.mark.parametrize(
    ("layer", "head", "site"),
    [(30, 0, None), (-1, 0, None), (0, 9, None), (0, -1, None), (True, 0, None), (0, True, None), (0, 0, "cross")],
)
def test_heads_out_of_range_are_refused(smollm2: Model, layer: Any, head: Any, site: Any) -> None:
    trace: Trace = smollm2.trace("Hello world")
    with pytest.raises(HeadError, match="SmolLM2"):
        trace.pattern(layer, head, site)


def test_a_file_whose_layers_do_not_fit_its_tokens_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    trace = attnviz.wrap_model(tiny.grouped()).trace(input_ids=tiny.ids())
    bad = replace(trace, tokens=trace.tokens[:2], raw_logits=None)
    with pytest.raises(InputError, match="damaged"):
        attnviz.load_trace(bad.save(tmp_path / "bad"))
