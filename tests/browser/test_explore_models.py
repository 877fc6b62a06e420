"""Models on the Explore page in a real Chromium: those that come along, folders, saved traces, and what is none."""

import re
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers
from conftest import NewExplore
from playwright.sync_api import expect
from seen import CATS, HOSTILE, assert_no_script_ran, assert_picture, assert_plain, message

import attnviz
from attnviz.metrics import Similarity


def save_tiny_llama(folder: Path) -> None:
    """A Llama with random weights and a tokenizer trained on one sentence, as save_pretrained leaves them."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([CATS] * 3, trainer)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        transformers.LlamaForCausalLM(config).save_pretrained(folder)


def test_minilm_has_its_own_tokens_and_compares_two_texts(visit: NewExplore, minilm: attnviz.Model) -> None:
    explore = visit()
    explore.run(CATS)
    explore.choose_model("all-MiniLM-L6-v2")
    explore.wait_for_params(model="minilm")
    expect(explore.chip(0)).to_have_text("[CLS]")
    expect(explore.chip(0)).to_have_class(re.compile(r"\bspecial\b"))
    assert_picture(explore, CATS)
    expect(explore.caption).to_contain_text("all-MiniLM-L6-v2")
    expect(explore.facts).to_contain_text("6 layers × 12 heads")

    other = "A feline looked at another one"
    field = explore.page.get_by_role("textbox", name="Second text")
    field.fill(other)
    field.press("Enter")
    metric = explore.fresh.get_by_test_id("stMetricValue")
    expect(metric).to_have_text(f"{minilm.measure(Similarity(other), CATS):.4f}")
    explore.settled()
    assert "other" in explore.params()
    assert "feline" not in explore.page.url
    explore.reload()
    expect(field).to_have_value(other)
    expect(metric).to_have_text(f"{minilm.measure(Similarity(other), CATS):.4f}")

    # Two boxes typed in and run at once lose nothing.
    explore.text.fill("A grey cat sat.")
    field.fill("A kitten was sitting.")
    explore.button("Run").click()
    expect(metric).to_have_text(f"{minilm.measure(Similarity('A kitten was sitting.'), 'A grey cat sat.'):.4f}")
    expect(explore.text).to_have_value("A grey cat sat.")
    expect(field).to_have_value("A kitten was sitting.")


def test_a_folder_made_by_save_pretrained_opens(visit: NewExplore, tmp_path: Path) -> None:
    save_tiny_llama(tmp_path / "tiny-llama")
    explore = visit("?model=dates")
    explore.run(CATS)
    explore.name_model(str(tmp_path / "tiny-llama"))
    expect(explore.caption).to_contain_text("tiny-llama")
    expect(explore.caption).to_contain_text("local folder")
    assert_picture(explore, CATS)
    expect(explore.facts).to_contain_text("3 layers × 4 heads")
    pattern = attnviz.load_model(tmp_path / "tiny-llama").trace(CATS).pattern(0, 0).numpy()
    explore.wait_for_params(layer=0, head=0)
    explore.wait_for_values(explore.map, pattern)


@pytest.fixture
def unusable(tmp_path: Path) -> dict[str, tuple[str, str]]:
    """Names of models that cannot be opened, each with words that its message must have."""
    no_config, pickled, broken = (tmp_path / name for name in ("no-config", "pickled", "broken"))
    for folder in (no_config, pickled, broken):
        folder.mkdir()
    (pickled / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")
    (broken / "config.json").write_text("{")
    (broken / "model.safetensors").write_bytes(b"not safetensors")
    return {
        "unknown name": ("no such model!", "There is no model 'no such model!'"),
        "no config": (str(no_config), "has no config.json"),
        "pickle": (str(pickled), "only as a pickle"),
        "broken": (str(broken), "could not be opened"),
        "Hub without network": ("some-org/some-model", "is not on this machine"),
        "hostile": (HOSTILE.replace("\u2028", ""), "There is no model '</script>"),
    }


def test_a_model_that_cannot_be_opened_is_a_sentence_and_not_the_end(
    visit: NewExplore, unusable: dict[str, tuple[str, str]], subtests: pytest.Subtests
) -> None:
    explore = visit()
    explore.run(CATS)
    for kind, (name, words) in unusable.items():
        with subtests.test(kind):
            explore.name_model(name)
            assert_plain(explore, message(explore, words))
            assert_no_script_ran(explore)
            expect(explore.text).to_have_value(CATS)
            expect(explore.button("Try again")).to_be_visible()
    explore.choose_model("SmolLM2-135M-Instruct")
    expect(explore.caption).to_contain_text("SmolLM2-135M-Instruct")
    assert_picture(explore, CATS)
    expect(explore.alerts).to_have_count(0)


def test_a_saved_trace_opens_without_its_model_and_its_link_restores_it(visit: NewExplore, tmp_path: Path) -> None:
    trace = attnviz.load_model("dates").trace("May 3, 1998")
    path = trace.save(tmp_path / "row.safetensors")
    explore = visit("?model=minilm")
    explore.open_saved(path)
    for _ in ("as opened", "as reloaded"):
        expect(explore.says("Attention of L1H1, cross-attention")).to_be_visible()
        explore.settled()
        explore.wait_for_values(explore.map, trace.pattern(1, 1, "cross").numpy(), atol=1e-6)
        explore.reload()
    (tmp_path / "bad.safetensors").write_bytes(b"no trace")
    explore.open_saved(tmp_path / "bad.safetensors")
    expect(explore.says("is not a file that Trace.save wrote")).to_be_visible()
