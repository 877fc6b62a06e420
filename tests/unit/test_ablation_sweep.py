"""Sweeps against the naive loop: one forward a head of a plain model, with a hook on the output projection's input."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

import attnviz
from attnviz import Head, Model, ablation
from attnviz.ablation.growing import layers_of
from attnviz.edits import ZeroHeads
from attnviz.embedded import EMBEDDED, embedded_folder
from attnviz.errors import InputError
from attnviz.metrics import LogitDiff, Loss, Similarity
from benchmarks import tiny

TEXT, DONOR, OTHER = "John saw Mary with John", "Mary saw John with Anna", "The cat sat on the mat"
DATE, DATE_DONOR, TARGET = "the 3rd of May 1998", "the 9th of May 1971", "1998-05-03"


@dataclass
class Naive:
    """A plain model, and where its heads enter the output projection."""

    hf_model: Any
    projections: dict[str, str]
    n_heads: int
    inputs: Callable[[str], dict[str, torch.Tensor]]
    score: Callable[[Any], torch.Tensor]

    @contextmanager
    def hooked(self, site: str, layer: int, hook: Callable[..., Any]) -> Iterator[None]:
        handle = self.hf_model.get_submodule(self.projections[site].format(layer)).register_forward_pre_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def run(self, text: str) -> float:
        with torch.no_grad():
            return float(self.score(self.hf_model(**self.inputs(text))))

    def heads_on(self, site: str, layer: int, text: str) -> torch.Tensor:
        """[query, all heads side by side]: what enters the projection on a text."""
        caught: list[torch.Tensor] = []
        with self.hooked(site, layer, lambda module, args: caught.append(args[0][0])):
            self.run(text)
        return caught[0]

    def effect(self, text: str, head: Head, site: str, how: str, others: tuple[str, ...]) -> float:
        """How far the outcome moves when the head's columns are replaced."""
        values = torch.zeros(())
        if how != "zero":
            found = [self.heads_on(site, head.layer, other) for other in others]
            values = torch.cat(found).mean(0) if how == "mean" else found[0]

        def replaced(module: Any, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            changed = args[0].clone()
            width = changed.shape[-1] // self.n_heads
            columns = slice(head.head * width, (head.head + 1) * width)
            changed[..., columns] = values[..., columns] if values.dim() else 0.0
            return (changed,)

        with self.hooked(site, head.layer, replaced):
            edited = self.run(text)
        return edited - self.run(text)


def encoded(model: Model) -> Callable[[str], dict[str, torch.Tensor]]:
    return lambda text: {"input_ids": torch.tensor([model.encode(text).ids])}


@pytest.fixture(scope="module")
def dates() -> Model:
    return attnviz.load_model("dates", device="cpu")


@pytest.mark.parametrize("how", ["zero", "mean", "resample"])
def test_a_decoder_equals_the_naive_loop(smollm2: Model, smollm2_sdpa: Any, how: Any) -> None:
    mary, john = smollm2.ids_of(" Mary")[0], smollm2.ids_of(" John")[0]
    naive = Naive(
        smollm2_sdpa,
        {"decoder": "model.layers.{}.self_attn.o_proj"},
        9,
        encoded(smollm2),
        lambda outputs: outputs.logits[0, -1, mary] - outputs.logits[0, -1, john],
    )
    heads = [Head(0, 8), Head(1, 5), Head(16, 0), Head(29, 1)]
    others = {"zero": {}, "mean": {"texts": [DONOR, OTHER]}, "resample": {"donor": DONOR}}[how]
    found = ablation.sweep(smollm2, TEXT, LogitDiff(" Mary", " John"), how=how, heads=heads, **others)
    expected = [naive.effect(TEXT, head, "decoder", how, (DONOR, OTHER)) for head in heads]
    np.testing.assert_allclose([found.effects[h.layer, h.head] for h in heads], expected, atol=1e-4)
    assert np.abs(expected).max() > 0.05
    assert found.baseline == pytest.approx(naive.run(TEXT), abs=1e-4)
    assert found.noise < 1e-4
    assert found.complete
    assert found.n_reached == 4
    assert found.note == ""


@pytest.mark.parametrize("how", ["zero", "mean", "resample"])
def test_an_encoder_equals_the_naive_loop(minilm: Model, minilm_sdpa: Any, how: Any) -> None:
    other = minilm.embed(OTHER)
    naive = Naive(
        minilm_sdpa,
        {"encoder": "encoder.layer.{}.attention.output.dense"},
        12,
        encoded(minilm),
        lambda outputs: torch.cosine_similarity(outputs.last_hidden_state[0].mean(0), other, dim=0),
    )
    others = {"zero": {}, "mean": {"texts": [DONOR, OTHER]}, "resample": {"donor": DONOR}}[how]
    found = ablation.sweep(minilm, TEXT, Similarity(OTHER), how=how, **others)
    heads = [Head(layer, head) for layer in range(6) for head in range(0, 12, 3)]
    expected = [naive.effect(TEXT, head, "encoder", how, (DONOR, OTHER)) for head in heads]
    np.testing.assert_allclose([found.effects[h.layer, h.head] for h in heads], expected, atol=1e-5)
    assert np.abs(expected).max() > 3e-3
    assert found.effects.shape == (6, 12)
    assert found.complete


def test_a_mean_that_was_taken_before_is_the_mean_of_its_texts(minilm: Model, dates: Model) -> None:
    texts = [DONOR, OTHER]
    held = ablation.Removal.of(minilm, texts)
    plain = ablation.sweep(minilm, TEXT, Similarity(OTHER), how="mean", texts=texts)
    again = ablation.sweep(minilm, TEXT, Similarity(OTHER), how="mean", texts=held)
    np.testing.assert_allclose(again.effects, plain.effects, atol=1e-6)
    assert again.about == plain.about
    cross = ablation.Removal.of(dates, [DATE_DONOR, DATE])
    asked = {"target": TARGET, "site": "cross", "how": "mean"}
    found = ablation.sweep(dates, DATE, Loss(), **asked, texts=cross)
    expected = ablation.sweep(dates, DATE, Loss(), **asked, texts=[DATE_DONOR, DATE])
    for site in ("encoder", "decoder", "cross"):
        np.testing.assert_allclose(found.found[site], expected.found[site], atol=1e-5)
    with pytest.raises(InputError, match="give the texts themselves"):
        ablation.sweep(minilm, TEXT, Similarity(OTHER), how="mean", texts=held, by_position=True)
    with pytest.raises(InputError, match="give the texts themselves"):
        ablation.sweep(minilm, TEXT, Similarity(OTHER), how="mean", texts=held, edits=[ZeroHeads([Head(0, 0)])])
    with pytest.raises(InputError, match="give the texts themselves"):
        ablation.sweep(minilm, TEXT, Similarity(OTHER), how="mean", texts=ablation.Removal.of(minilm, None))


@pytest.mark.parametrize("how", ["zero", "mean", "resample"])
def test_an_encoder_decoder_equals_the_naive_loop_at_all_its_sites(dates: Model, how: Any) -> None:
    folder = embedded_folder(EMBEDDED["dates"], lambda what, share: None)
    plain = AutoModelForSeq2SeqLM.from_pretrained(folder, attn_implementation="sdpa").eval()
    told = [t.id for t in dates.trace(DATE, TARGET).tokens]

    right, wrong = told[4], told[2]

    def beside(text: str, ids: list[int]) -> dict[str, torch.Tensor]:
        return {**encoded(dates)(text), "decoder_input_ids": torch.tensor([ids])}

    naive = Naive(
        plain,
        {
            "encoder": "model.encoder.layers.{}.self_attn.out_proj",
            "decoder": "model.decoder.layers.{}.self_attn.out_proj",
            "cross": "model.decoder.layers.{}.encoder_attn.out_proj",
        },
        4,
        lambda text: beside(text, told),
        lambda outputs: outputs.logits[0, 3, right] - outputs.logits[0, 3, wrong],
    )
    others = {"zero": {}, "mean": {"texts": [DATE_DONOR]}, "resample": {"donor": DATE_DONOR}}[how]
    if how == "mean":  # beside a reference text the decoder reads what the model writes for it
        written = [token.id for token in dates.trace(DATE_DONOR).tokens]
        naive.inputs = lambda text: beside(text, written if text == DATE_DONOR else told)
    metric = LogitDiff(right, wrong, position=3)
    found = ablation.sweep(dates, DATE, metric, target=TARGET, how=how, **others)
    for site in dates.info.sites:
        heads = [Head(layer, head, site) for layer in range(2) for head in range(4)]
        expected = [naive.effect(DATE, head, site, how, (DATE_DONOR,)) for head in heads]
        np.testing.assert_allclose(found.found[site].ravel(), expected, atol=1e-4)
        assert np.abs(expected).max() > 0.01
    assert list(found.frame().columns) == ["site", "layer", "head", "effect", "metric"]
    assert len(found.frame()) == 24
    assert found.ranked()[0].site in dates.info.sites


def test_pieces_of_any_size_come_to_the_same(minilm: Model) -> None:
    whole = ablation.sweep(minilm, TEXT, Similarity(OTHER))
    row = ablation.sweep(minilm, TEXT, Similarity(OTHER), piece=1)
    memory = row.budget + 1_000_000  # two or three rows more
    few = ablation.sweep(minilm, TEXT, Similarity(OTHER), memory=memory)
    assert row.budget < few.budget <= memory < whole.budget
    for found in (row, few, ablation.sweep(minilm, TEXT, Similarity(OTHER), piece=100_000)):
        np.testing.assert_allclose(found.effects, whole.effects, atol=1e-5)
        assert found.complete
        assert found.noise < 1e-5


def test_a_decoder_in_little_memory_comes_to_the_same() -> None:
    hf_model = tiny.build("causal", "llama")
    model, ids = attnviz.wrap_model(hf_model), list(range(3, 43))
    asked: dict[str, Any] = {"input_ids": ids, "how": "mean", "texts": [ids[::-1]]}
    plain = ablation.sweep(model, None, LogitDiff(7, 9), **asked)
    row = ablation.sweep(model, None, LogitDiff(7, 9), **asked, piece=1)
    told: list[int] = []
    few = ablation.sweep(
        model, None, LogitDiff(7, 9), **asked, memory=row.budget + 10, progress=lambda done, _: told.append(done)
    )
    assert few.budget == row.budget < plain.budget  # a row at a time
    assert len(told) > plain.n_units
    np.testing.assert_allclose(few.effects, plain.effects, atol=1e-5)
    with pytest.raises(InputError, match="allow more"):
        ablation.sweep(model, None, LogitDiff(7, 9), **asked, memory=row.budget - 1)


def test_layers_that_cannot_be_called_run_whole_and_say_so(minilm: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ablation.sweep(minilm, TEXT, Similarity(OTHER))
    monkeypatch.setattr("attnviz.ablation.passes.layers_of", lambda model: "its layers are not to be had")
    found = ablation.sweep(minilm, TEXT, Similarity(OTHER))
    np.testing.assert_allclose(found.effects, expected.effects, atol=1e-5)
    assert found.note == "Each row is a whole run of its own: its layers are not to be had."


def test_every_well_known_family_is_called_layer_by_layer() -> None:
    for pair in (
        ("causal", "llama"),
        ("causal", "gemma2"),
        ("masked", "albert"),
        ("seq2seq", "bart"),
        ("seq2seq", "t5"),
    ):
        assert not isinstance(layers_of(attnviz.wrap_model(tiny.build(*pair))), str), pair


def test_the_made_up_check_sees_layers_that_read_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unedited copies would come out right here: only an edited row shows that its states were not passed on."""
    from attnviz.ablation.layers import Visit

    again = Visit.again

    def stuck(self: Visit, states: torch.Tensor, *told: Any) -> torch.Tensor:
        again(self, states, *told)
        return self.gave.expand(len(states), -1, -1)

    monkeypatch.setattr(Visit, "again", stuck)
    model = attnviz.wrap_model(tiny.build("causal", "llama"))
    assert "do not come to the same" in str(layers_of(model))
