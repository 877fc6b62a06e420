"""A checkpoint's settings decide how much memory is taken: hostile folders are refused before any of it is."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import tiny
import torch

import attnviz
from attnviz import catalogue, declared
from attnviz.declared import check_declared, check_settings, is_quantised
from attnviz.errors import ModelError, UnsafeModel
from attnviz.settings import settings

GPT2 = tiny.gpt2().config.to_dict() | {"architectures": ["GPT2LMHeadModel"]}
BERT = tiny.bert().config.to_dict() | {"architectures": ["BertModel"]}
LLAMA = tiny.grouped().config.to_dict() | {"architectures": ["LlamaForCausalLM"]}
ONE = {"num_attention_heads": 1, "vocab_size": 1, "max_position_embeddings": 1, "num_hidden_layers": 0}
MASKED = {"model_type": "gpt_neo", "architectures": ["GPTNeoForCausalLM"], "hidden_size": 32, "num_layers": 2} | {
    "attention_types": [[["global", "local"], 1]],
    "num_heads": 4,
    "vocab_size": 99,
}
HOSTILE = {
    "wide": GPT2 | {"n_embd": 4096, "n_layer": 5, "n_inner": None},
    "a pooler": BERT | ONE | {"hidden_size": 40_000},
    "a mask": MASKED | {"max_position_embeddings": 100_000},
    "a vocabulary": LLAMA | {"vocab_size": 10**9},
    "layers": LLAMA | {"num_hidden_layers": 10**9},
    "labels": BERT | {"num_labels": 10**9, "id2label": None},
    "no heads": GPT2 | {"n_head": 0},
    "no number": LLAMA | {"hidden_size": "many"},
    "padding": LLAMA | {"pad_token_id": 10**6},
    "overflow": LLAMA | {"hidden_size": 2**62},
}
# Opens folders in turn, with room for 1.5 GB more than Python and torch have taken so far.
_OPENING = """
import resource, sys
import attnviz, transformers
from attnviz.errors import ModelError, OutOfMemory
used = int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmSize"))) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + 1_500_000_000,) * 2)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
before = peak()
for folder in sys.argv[1:]:
    try:
        attnviz.load_model(folder, device="cpu")
        print("opened", folder)
    except ModelError as error:
        print("refused", error)
    except BaseException as error:
        print("not told", folder, repr(error))
print(peak() - before)
"""


def folder_of(path: Path, config: Any, **stored: torch.Tensor) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config, default=str), "utf-8")
    stored = stored or {"x": torch.zeros(3)}
    safetensors.torch.save_file(stored, path / "model.safetensors", metadata={"format": "pt"})
    return path


def test_a_tiny_folder_takes_no_memory_whatever_it_declares(tmp_path: Path) -> None:
    folders = [folder_of(tmp_path / name, config) for name, config in HOSTILE.items()]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _OPENING, *folders],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    *said, megabytes = done.stdout.splitlines()
    assert [line.split()[0] for line in said] == ["refused"] * len(HOSTILE), done.stdout
    assert "allocate" not in done.stdout, done.stdout
    assert int(megabytes) < 400, done.stdout


def test_a_model_of_very_many_parts_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder_of(tmp_path / "model", LLAMA | {"num_hidden_layers": 60_000, "hidden_size": 4})
    monkeypatch.setattr(declared, "MOST_CALLS", 1_000)
    with pytest.raises(ModelError, match="more parts than a model has"):
        attnviz.load_model(path, device="cpu")


def test_what_a_model_takes_in_its_dtype_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hf_model = tiny.gpt2()
    needs = sum(p.numel() * 4 for p in hf_model.parameters()) + sum(b.nbytes for b in hf_model.buffers())
    small = settings().model_copy(update={"model_bytes": needs - 1})
    monkeypatch.setattr(catalogue, "settings", lambda: small)
    hf_model.half().save_pretrained(tmp_path / "half")
    with pytest.raises(
        ModelError, match=rf"would take {needs:,} bytes; the most is {needs - 1:,}.*ATTNVIZ_MODEL_BYTES"
    ):
        attnviz.load_model(tmp_path / "half", dtype="float32", device="cpu")
    assert attnviz.load_model(tmp_path / "half", dtype="bfloat16", device="cpu").info.n_layers == 2
    enough = settings().model_copy(update={"model_bytes": needs})
    monkeypatch.setattr(catalogue, "settings", lambda: enough)
    assert attnviz.load_model(tmp_path / "half", dtype="float32", device="cpu").info.n_layers == 2


@pytest.mark.parametrize("build", [tiny.gpt2, tiny.shared_layer, tiny.bert_classes, tiny.sinks, tiny.bloom])
def test_whole_checkpoints_declare_no_more_than_they_hold(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tied weights, one layer many times, a head of its own, experts in one tensor; without any spare.
    monkeypatch.setattr(declared, "SPARE", 0)
    build().save_pretrained(tmp_path / "model", max_shard_size="40kB")
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 1
    model = attnviz.load_model(tmp_path / "model", device="cpu")
    assert type(model.hf_model) is type(build())


def test_a_model_that_lacks_half_is_refused_by_its_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared, "SPARE", 0)
    state = tiny.grouped().state_dict()
    kept = {name: x.clone() for name, x in state.items() if "embed" in name}
    path = folder_of(tmp_path / "half", LLAMA, **kept)
    monkeypatch.setattr(catalogue, "_read", lambda *_: pytest.fail("read before it was weighed"))
    held = sum(x.numel() for x in kept.values())
    with pytest.raises(ModelError, match=rf"and its files hold {held:,}"):
        attnviz.load_model(path, device="cpu")


def test_packed_weights_are_counted_as_what_they_unpack_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared, "SPARE", 0)
    shapes = torch.nn.Linear(64, 64, bias=False, device="meta")
    path = folder_of(tmp_path / "packed", {}, weight=torch.zeros(64 * 64 // 8, dtype=torch.int32)) / "model.safetensors"
    check_declared(shapes, [path], "packed", quantised=True, most_bytes=10**6)
    with pytest.raises(ModelError, match="declares 4,096 weights, and its files hold 512"):
        check_declared(shapes, [path], "packed", quantised=False, most_bytes=10**6)
    assert is_quantised({"text_config": {"quantization_config": {"bits": 4}}})
    assert not is_quantised({"quantization_config": None})


def test_settings_that_name_other_weights_or_programs_are_refused() -> None:
    for bad in ({"transformers_weights": "../x.safetensors"}, {"a": [{"transformers_weights": "x.bin"}]}):
        with pytest.raises(UnsafeModel, match="takes its weights from"):
            check_settings(bad, "model")
    with pytest.raises(UnsafeModel, match="program from the Hub"):
        check_settings({"attn_implementation": "somebody/kernel"}, "model")
    with pytest.raises(ModelError, match="depths = 1000000"):
        check_settings({"encoder": {"depths": [2, 10**6]}}, "model")
    check_settings(
        {"max_position_embeddings": 10**7, "transformers_weights": "model.safetensors", "vocab_size": 10**6}, "model"
    )
    check_settings(LLAMA | {"head_token_id": 10**6, "attn_implementation": "sdpa"}, "model")


class _Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("file", ["w.bin", "../outside/secret.safetensors"])
def test_an_index_opens_no_pickle_and_nothing_outside(file: str, tmp_path: Path) -> None:
    path, marker = tmp_path / "model", tmp_path / "was opened"
    tiny.grouped().save_pretrained(path)
    (tmp_path / "outside").mkdir()
    shutil.move(path / "model.safetensors", tmp_path / "outside" / "secret.safetensors")
    safetensors.torch.save_file({"x": torch.zeros(1)}, path / "unrelated.safetensors")
    (path / "w.bin").write_bytes(pickle.dumps(_Bomb(marker)))
    names = dict.fromkeys(tiny.grouped().state_dict(), file)
    written = json.dumps({"metadata": {"total_size": 1}, "weight_map": names})
    (path / "model.safetensors.index.json").write_text(written)
    with pytest.raises(UnsafeModel, match=r"index\.json names"):
        attnviz.load_model(path, device="cpu")
    assert not marker.exists()
