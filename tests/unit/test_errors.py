"""What can go wrong, and that each of it is said in a sentence that a reader can act on."""

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import tiny
import torch

import attnviz
from attnviz import Head, Model, errors
from attnviz.edits import ScaleHeads, ZeroHeads
from attnviz.errors import (
    AttnvizError,
    ContextError,
    HeadError,
    InputError,
    ModelNotFound,
    OutOfMemory,
    TextError,
    UnsafeModel,
)
from attnviz.metrics import LogProb


def says(error: BaseException, *parts: str) -> str:
    """The message, if it is a sentence or more and holds the parts."""
    message = str(error)
    assert isinstance(error, AttnvizError)
    assert len(message.split()) >= 5, message
    assert message[-1] in ".!", message
    assert "Traceback" not in message
    for part in parts:
        assert part.lower() in message.lower(), message
    return message


def refused(kind: type[AttnvizError], *parts: str, call: Callable[[], Any]) -> str:
    with pytest.raises(kind) as caught:
        call()
    return says(caught.value, *parts)


TEXTS = [
    ("", "empty"),
    (" ", "whitespace"),
    (" \n\t\u3000\u00a0", "whitespace"),
    ("a\x00b", "U+0000 at character 2"),
    ("bell \x07", "U+0007 at character 6"),
    ("\x1b[31mred", "U+001B at character 1"),
    ("half \ud83d", "lone surrogate U+D83D at character 6"),
    ("\udc00 other half", "lone surrogate U+DC00 at character 1"),
    (b"bytes", "bytes"),
    (3, "int"),
    (["a", "list"], "list"),
]


@pytest.mark.parametrize(("text", "part"), TEXTS, ids=lambda x: ascii(x)[:20])
def test_texts_that_no_tokenizer_takes(smollm2: Model, text: Any, part: str) -> None:
    refused(TextError, part, call=lambda: smollm2.trace(text))
    refused(TextError, part, call=lambda: smollm2.encode(text))
    refused(TextError, part, call=lambda: smollm2.measure(LogProb(" a"), text))


@pytest.mark.parametrize("over", [1, 88])
def test_a_text_longer_than_the_context_tells_both_numbers(minilm: Model, over: int) -> None:
    text = "the " * (510 + over)
    refused(ContextError, str(512 + over), "512", "MiniLM", call=lambda: minilm.trace(text))
    assert len(minilm.trace("the " * 510).tokens) == 512


def test_ids_longer_than_the_context_tell_both_numbers() -> None:
    model = attnviz.wrap_model(tiny.gpt2(max_position_embeddings=20), name="short")
    refused(ContextError, "21", "20", "short", call=lambda: model.trace(input_ids=tiny.ids(21)))
    assert len(model.trace(input_ids=tiny.ids(20)).tokens) == 20


IDS = [
    [1.0, 2.0],
    torch.tensor([0.5]),
    [True, False],
    [[1, 2], [3, 4]],
    torch.zeros(1, 1, 3, dtype=torch.long),
    torch.tensor(3),
    3,
    [-1, 2],
    [1, 99],
    [2**40],
    [2**70],
    [],
    torch.zeros(1, 0, dtype=torch.long),
    [[1, 2], [3]],
    ["1", "2"],
    "12",
    [None],
    object(),
]


@pytest.mark.parametrize("ids", IDS, ids=lambda x: re.sub(r"0x\w+", "", repr(x))[:40])
def test_ids_that_are_no_row_of_tokens(ids: Any) -> None:
    model = attnviz.wrap_model(tiny.grouped(), name="tiny")
    refused(InputError, "input_ids", call=lambda: model.trace(input_ids=ids))


def test_ids_beyond_the_vocabulary_tell_its_end(smollm2: Model) -> None:
    refused(InputError, "49151", "49152", call=lambda: smollm2.trace(input_ids=[0, 49152]))


def test_a_text_or_ids_and_not_both(smollm2: Model) -> None:
    refused(InputError, "either", call=lambda: smollm2.trace("text", input_ids=[1]))
    refused(InputError, "either", call=lambda: smollm2.trace())
    refused(InputError, "either", call=lambda: smollm2.measure(LogProb(" a")))


def test_a_target_goes_with_an_encoder_decoder(smollm2: Model) -> None:
    refused(InputError, "encoder-decoder", "SmolLM2", call=lambda: smollm2.trace("text", "target"))
    refused(InputError, "encoder-decoder", call=lambda: smollm2.trace("text", decoder_input_ids=[1]))


def test_a_chat_template_that_is_not_there(minilm: Model) -> None:
    refused(InputError, "chat template", "MiniLM", call=lambda: minilm.trace("text", chat_template=True))


HEADS = [(-1, 0), (0, -1), (True, 0), (0, False), (1.0, 0), (0, "1"), (None, 0), (0, 0, "middle"), (0, 0, 0)]


@pytest.mark.parametrize("args", HEADS, ids=repr)
def test_heads_that_cannot_be(args: Any) -> None:
    refused(HeadError, call=lambda: Head(*args))


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (Head(30, 0), "layers 0 to 29"),
        (Head(0, 9), "heads 0 to 8"),
        (Head(10**9, 0), "layers 0 to 29"),
        (Head(0, 0, "encoder"), "decoder"),
        (Head(0, 0, "cross"), "decoder"),
    ],
)
def test_edits_of_heads_that_the_model_does_not_have(smollm2: Model, head: Head, part: str) -> None:
    for edit in (ZeroHeads([head]), ScaleHeads({head: 1.0})):
        refused(HeadError, part, "SmolLM2", call=lambda edit=edit: smollm2.trace("text", edits=[edit]))
        refused(HeadError, part, call=lambda edit=edit: smollm2.measure(LogProb(" a"), "text", edits=[edit]))


EDITS: dict[str, Callable[[], Any]] = {
    "no heads": lambda: ZeroHeads([]),
    "a head for heads": lambda: ZeroHeads(Head(0, 0)),  # type: ignore[arg-type]
    "none": lambda: ZeroHeads(None),  # type: ignore[arg-type]
    "pairs": lambda: ZeroHeads([(0, 0)]),  # type: ignore[list-item]
    "names": lambda: ZeroHeads("L0H0"),  # type: ignore[arg-type]
    "no scales": lambda: ScaleHeads({}),
    "a list of scales": lambda: ScaleHeads([(Head(0, 0), 1.0)]),  # type: ignore[arg-type]
    "a name scaled": lambda: ScaleHeads({"L0H0": 1.0}),  # type: ignore[dict-item]
    "nan": lambda: ScaleHeads({Head(0, 0): float("nan")}),
    "infinite": lambda: ScaleHeads({Head(0, 0): float("inf")}),
    "a boolean scale": lambda: ScaleHeads({Head(0, 0): True}),
    "a text scale": lambda: ScaleHeads({Head(0, 0): "1"}),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("make", EDITS.values(), ids=EDITS)
def test_edits_that_cannot_be(make: Callable[[], Any]) -> None:
    refused(InputError, call=make)


@pytest.mark.parametrize("bad", [["zero"], [Head(0, 0)], [None], ZeroHeads([Head(0, 0)]), None, 3, "zero"], ids=repr)
def test_what_is_no_sequence_of_edits(bad: Any) -> None:
    model = attnviz.wrap_model(tiny.grouped(), name="tiny")
    refused(InputError, "edits", call=lambda: model.trace(input_ids=tiny.ids(), edits=bad))


NAMES = [
    "../x",
    "a b",
    "",
    "   ",
    "-",
    "a" * 300,
    "org/" + "a" * 300,
    "a/b/c",
    "/nonexistent/folder",
    "~/no such folder",
    "~nobody_at_all/model",
    ".",
    "..",
    "\x00",
    "sm\nollm2",
    "smollm",
    "https://huggingface.co/gpt2",
    "名前",
    "<script>",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda x: ascii(x)[:20])
def test_names_of_no_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    offline(monkeypatch)
    message = refused(ModelNotFound, call=lambda: attnviz.load_model(name))
    assert len(message) < 1_000


@pytest.mark.parametrize("name", ["", "  "])
def test_no_name_is_not_the_folder_one_happens_to_be_in(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.grouped().save_pretrained(tmp_path)
    monkeypatch.chdir(tmp_path)
    refused(ModelNotFound, "smollm2", call=lambda: attnviz.load_model(name))


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_an_offline_name_is_told_apart_from_a_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    refused(
        ModelNotFound,
        "HF_HUB_OFFLINE",
        "no-org/no-such-model",
        "smollm2",
        call=lambda: attnviz.load_model("no-org/no-such-model"),
    )


def test_without_a_network_the_message_says_so() -> None:
    # The Hub is asked at a port where nobody listens: what a machine without a network meets.
    program = (
        "import attnviz\n"
        "try: attnviz.load_model('no-org/no-such-model')\n"
        "except attnviz.AttnvizError as e: print(type(e).__name__, e, sep='|')"
    )
    variables = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
    kind, message = run_python(program, variables).split("|")
    assert kind == "ModelNotFound"
    assert "cannot be reached" in message


def run_python(program: str, variables: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **(variables or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout.strip()


def folder_with(path: Path, **files: bytes | str) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        content = content.encode() if isinstance(content, str) else content
        (path / name.replace("__", ".")).write_bytes(content)
    return path


CONFIG = json.dumps(tiny.grouped().config.to_dict() | {"architectures": ["LlamaForCausalLM"]}, default=str)


def test_folders_that_hold_no_model(tmp_path: Path) -> None:
    empty = folder_with(tmp_path / "empty")
    refused(ModelNotFound, "config.json", str(empty), call=lambda: attnviz.load_model(empty))
    weightless = folder_with(tmp_path / "weightless", config__json=CONFIG)
    refused(ModelNotFound, "no weights", str(weightless), call=lambda: attnviz.load_model(str(weightless)))


DAMAGED = {
    "config that is no json": {"config__json": "{"},
    "config that is a list": {"config__json": "[]"},
    "config of an unknown type": {"config__json": '{"model_type": "of_next_year"}'},
    "config of no type": {"config__json": "{}"},
    "weights that are none": {"model__safetensors": b"not safetensors at all"},
    "weights cut short": {"model__safetensors": (2**40).to_bytes(8, "little") + b"{"},
    "empty weights": {"model__safetensors": b""},
}


@pytest.mark.parametrize("files", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("is_offline", [False, True])
def test_a_damaged_folder_is_called_damaged(
    files: dict[str, Any], is_offline: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_offline:
        offline(monkeypatch)
    # A path may hold any number: none of them is an answer of the Hub's.
    whole = {"config__json": CONFIG, "model__safetensors": safetensors.torch.save({"x": torch.zeros(1)})}
    path = folder_with(tmp_path / "run-403-404-offline", **{**whole, **files})
    message = refused(errors.ModelError, call=lambda: attnviz.load_model(path))
    for wrong in ("gated", "is not on this machine", "The Hub has no model"):
        assert wrong not in message


def test_weights_that_lack_a_layer_are_not_filled_up_with_chance(tmp_path: Path) -> None:
    hf_model = tiny.grouped()
    state = {name: x for name, x in hf_model.state_dict().items() if "layers.1.self_attn.q_proj" not in name}
    path = tmp_path / "lacking"
    hf_model.save_pretrained(path)
    safetensors.torch.save_file(state, path / "model.safetensors", metadata={"format": "pt"})
    refused(errors.ModelError, call=lambda: attnviz.load_model(path))


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "model.ckpt"])
@pytest.mark.parametrize("beside", [None, "unrelated.safetensors"])
def test_a_pickle_is_named_and_never_opened(tmp_path: Path, name: str, beside: str | None) -> None:
    marker = tmp_path / "was opened"
    bomb = pickle.dumps(Bomb(marker))
    pickle.loads(bomb)
    assert marker.exists(), "the bomb must work, or this test shows nothing"
    marker.unlink()
    path = folder_with(tmp_path / "model", config__json=CONFIG)
    (path / name).write_bytes(bomb)
    if beside:
        safetensors.torch.save_file({"x": torch.zeros(1)}, path / beside)
    message = refused(errors.ModelError, call=lambda: attnviz.load_model(path))
    assert not marker.exists()
    if beside is None:
        assert name in message
        refused(UnsafeModel, "pickle", "safetensors", call=lambda: attnviz.load_model(path))


@pytest.mark.parametrize("model_type", ["llama", "of_its_own"])
def test_code_in_a_folder_is_not_run(tmp_path: Path, model_type: str) -> None:
    marker = tmp_path / "was run"
    config = json.loads(CONFIG) | {
        "model_type": model_type,
        "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model", "AutoModel": "evil.Model"},
    }
    path = folder_with(
        tmp_path / "model",
        config__json=json.dumps(config),
        evil__py=f"open({str(marker)!r}, 'w').close()\n",
        model__safetensors=safetensors.torch.save(dict(tiny.grouped().state_dict()), metadata={"format": "pt"}),
    )
    if model_type == "llama":  # transformers knows the type itself and needs no code from the folder
        assert attnviz.load_model(path).info.model_type == "llama"
    else:
        refused(UnsafeModel, "trust_remote_code", call=lambda: attnviz.load_model(path))
    assert not marker.exists()


@pytest.mark.parametrize("dtype", ["int8", "float8", "", None, 3, torch.int32, torch.float64])
def test_a_dtype_that_cannot_be(dtype: Any) -> None:
    refused(InputError, "dtype", "bfloat16", call=lambda: attnviz.load_model("minilm", dtype=dtype))


@pytest.mark.parametrize("device", ["gpu", "", "cuda:99", "cpu:x", None, 3.5])
def test_a_device_that_is_not_here(device: Any) -> None:
    refused(InputError, "device", call=lambda: attnviz.load_model("minilm", device=device))


OOM = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
]


@pytest.mark.parametrize("error", OOM, ids=lambda e: type(e).__name__)
def test_a_device_out_of_memory_is_said_plainly(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    model = attnviz.wrap_model(tiny.grouped(), name="tiny")
    clean = model.trace(input_ids=tiny.ids())

    def full(*args: Any, **keywords: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(model.hf_model.model.layers[1].mlp, "forward", full)
        refused(OutOfMemory, "memory", "cpu", call=lambda: model.trace(input_ids=tiny.ids()))
        refused(OutOfMemory, "memory", call=lambda: model.measure(LogProb([5]), input_ids=tiny.ids()))
    assert torch.equal(model.trace(input_ids=tiny.ids()).logits, clean.logits)


def test_another_error_in_a_forward_is_not_called_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model = attnviz.wrap_model(tiny.grouped())

    def broken(*args: Any, **keywords: Any) -> Any:
        raise RuntimeError("a bug of its own")

    monkeypatch.setattr(model.hf_model.model.layers[1].mlp, "forward", broken)
    with pytest.raises(RuntimeError, match="a bug of its own"):
        model.trace(input_ids=tiny.ids())


def test_every_error_has_one_root_and_bad_input_is_a_value_error() -> None:
    own = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = [kind for kind in own if kind.__module__ == errors.__name__]
    assert all(issubclass(kind, AttnvizError) for kind in kinds)
    assert {kind.__name__ for kind in kinds if issubclass(kind, ValueError)} == {
        kind.__name__ for kind in kinds if issubclass(kind, InputError)
    }


@pytest.mark.parametrize("error", OOM, ids=lambda e: type(e).__name__)
def test_weights_that_do_not_fit_are_said_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    tiny.grouped().save_pretrained(tmp_path / "model")

    def full(*args: Any, **keywords: Any) -> Any:
        raise error

    monkeypatch.setattr("transformers.LlamaForCausalLM.from_pretrained", full)
    refused(OutOfMemory, "memory", "bfloat16", call=lambda: attnviz.load_model(tmp_path / "model"))


@pytest.mark.parametrize(
    "settings",
    [
        {"num_attention_heads": 0},
        {"num_attention_heads": 3},
        {"hidden_size": 1.5},
        {"hidden_size": None},
        {"hidden_size": -32},
        {"pad_token_id": 10**6},
        {"rope_parameters": [1]},
        {"hidden_act": "none such"},
        {"architectures": 5},
        {"quantization_config": [3]},
        {"dtype": "object"},
    ],
    ids=str,
)
def test_settings_that_no_model_has_are_said_plainly(settings: dict[str, Any], tmp_path: Path) -> None:
    path = folder_with(tmp_path / "model", config__json=json.dumps(json.loads(CONFIG) | settings))
    safetensors.torch.save_file({"x": torch.zeros(1)}, path / "model.safetensors", metadata={"format": "pt"})
    refused(errors.ModelError, "could not be opened", call=lambda: attnviz.load_model(path))
