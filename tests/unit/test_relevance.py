"""Gradient relevance against transformers' own eager attention, differentiated by autograd, and the paper's rules."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
import transformers

import attnviz
from attnviz.edits import Edit, Head, ScaleHeads, ZeroHeads
from attnviz.errors import Unsupported
from attnviz.flow.relevance import Gradients, gradients, relevance
from attnviz.flow.target import Target
from attnviz.models import Model
from attnviz.tap import Place


def bart() -> Any:
    config = transformers.BartConfig(
        vocab_size=99,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=64,
        init_std=0.3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return transformers.BartForConditionalGeneration(config).eval()


def wrapped(build: Callable[[], Any]) -> Model:
    return attnviz.wrap_model(build(), name="tiny")


def differentiated(model: Model, target: Target, edits: tuple[Edit, ...] = ()) -> Gradients:
    pair = {"decoder_input_ids": tiny.ids(5)} if model.family == "encoder-decoder" else {}
    trace = model.trace(input_ids=tiny.ids(9), edits=edits, **pair)
    return gradients(model, target.aim(model, trace), trace, edits=edits)


def by_autograd(hf_model: Any, answer: int, foil: int, query: int) -> dict[Place, tuple[torch.Tensor, torch.Tensor]]:
    """(weights, their gradient) by place, through transformers' eager attention."""
    eager = tiny.eager_copy(hf_model)
    inputs = {"input_ids": torch.tensor([tiny.ids(9)]), "use_cache": False, "output_attentions": True}
    sites = {"decoder": "attentions"}
    if eager.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.tensor([tiny.ids(5)])
        sites = {"encoder": "encoder_attentions", "decoder": "decoder_attentions", "cross": "cross_attentions"}
    elif "BertForMaskedLM" in type(eager).__name__:
        del inputs["use_cache"]
        sites = {"encoder": "attentions"}
    outputs = eager(**inputs)
    places = {Place(site, n): w for site, name in sites.items() for n, w in enumerate(getattr(outputs, name))}
    logits = outputs.logits[0, query]
    found = torch.autograd.grad(logits[answer] - logits[foil], list(places.values()))
    return {place: (w.detach()[0], g[0]) for (place, w), g in zip(places.items(), found, strict=True)}


BUILDS = {
    "grouped": tiny.grouped,
    "gpt2": tiny.gpt2,
    "bert": tiny.bert_masked,
    "sinks": tiny.sinks,
    "soft-capped": tiny.soft_capped,
    "bart": bart,
}


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_gradients_of_weights_are_those_of_eager_attention(build: Callable[[], Any]) -> None:
    hf_model = build()
    expected = by_autograd(hf_model, 7, 11, 3)
    found = differentiated(attnviz.wrap_model(hf_model, name="tiny"), Target(3, 7, 11))
    assert set(found.places) == set(expected)
    for place, (weights, slope) in expected.items():
        seen = weights > 0  # what a hidden weight would do, the eager graph tells too; the mask is not part of M
        torch.testing.assert_close(found.at(place)[seen], slope[seen], atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(found.weighted(place), weights * slope, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("build", [tiny.grouped, tiny.bert_masked], ids=["grouped", "bert"])
def test_relevance_of_one_text_follows_the_rule(build: Callable[[], Any]) -> None:
    hf_model = build()
    expected = by_autograd(hf_model, 7, 11, 3)
    rows = torch.eye(9).tolist()
    for weights, slope in expected.values():
        mixed = (weights * slope).clamp(min=0).mean(0)
        old = [list(row) for row in rows]
        for i in range(9):
            for j in range(9):
                rows[i][j] = old[i][j] + sum(float(mixed[i, m]) * old[m][j] for m in range(9))
    wanted = torch.tensor(rows[3])
    wanted[3] -= 1
    scores = differentiated(attnviz.wrap_model(hf_model, name="tiny"), Target(3, 7, 11)).relevance()
    torch.testing.assert_close(scores.text.float(), wanted, atol=1e-4, rtol=1e-3)
    assert scores.source is None
    assert scores.text.max() > 0


def test_relevance_of_a_pair_follows_the_rules() -> None:
    hf_model = bart()
    expected = by_autograd(hf_model, 7, 11, 3)

    def mixed(site: str, layer: int) -> torch.Tensor:
        weights, slope = expected[Place(site, layer)]
        return (weights * slope).clamp(min=0).mean(0)

    def rows_to_one(relevance: torch.Tensor) -> torch.Tensor:
        out = torch.eye(len(relevance))
        for i, row in enumerate(relevance - out.clone()):
            if row.sum() > 0:
                out[i] += row / row.sum()
        return out

    encoder, decoder, cross = torch.eye(9), torch.eye(5), torch.zeros(5, 9)
    for layer in range(2):
        encoder = encoder + mixed("encoder", layer) @ encoder
    for layer in range(2):
        own = mixed("decoder", layer)
        decoder, cross = decoder + own @ decoder, cross + own @ cross
        cross = cross + rows_to_one(decoder).T @ mixed("cross", layer) @ rows_to_one(encoder)
    scores = differentiated(attnviz.wrap_model(hf_model, name="tiny"), Target(3, 7, 11)).relevance()
    assert scores.source is not None
    torch.testing.assert_close(scores.source.float(), cross[3], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(scores.text.float(), (decoder - torch.eye(5))[3], atol=1e-4, rtol=1e-3)
    assert scores.source.max() > 0


def test_gradients_predict_a_small_change_of_a_head() -> None:
    """Scaling one head by 1 + e changes the outcome by e times the sum of its weighted gradients."""
    model, target, step = wrapped(tiny.grouped), Target(-1, 7, 11), 1e-2
    clean = differentiated(model, target)
    for layer, head in ((0, 1), (1, 3)):
        up, down = (
            differentiated(model, target, (ScaleHeads({Head(layer, head): 1 + sign * step}),)).outcome
            for sign in (1, -1)
        )
        told = float(clean.weighted(Place("decoder", layer))[head].sum())
        assert (up - down) / (2 * step) == pytest.approx(told, rel=2e-2, abs=2e-3)


def test_edits_hold_and_what_they_take_away_has_no_gradient() -> None:
    model, target = wrapped(tiny.grouped), Target(-1, 7, 11)
    edits = (ZeroHeads([Head(1, 2)]), ScaleHeads({Head(0, 0): 0.5}))
    clean, edited = differentiated(model, target), differentiated(model, target, edits)
    assert edited.outcome != clean.outcome
    assert edited.at(Place("decoder", 1))[2].abs().max() == 0
    assert clean.at(Place("decoder", 1))[2].abs().max() > 0
    assert edited.at(Place("decoder", 1))[1].abs().max() > 0


def test_a_similarity_is_differentiated_through_the_pooled_embedding(minilm: Model) -> None:
    trace = minilm.trace("A small boat crossed the lake.")
    aim = Target(other="Ships sail over water.").aim(minilm, trace)
    found = gradients(minilm, aim, trace)
    assert trace.embedding is not None
    assert found.outcome == pytest.approx(float(aim.of_embeddings(trace.embedding[None])[0]), abs=1e-6)
    torch.testing.assert_close(found.reads, torch.full((len(trace.tokens),), 1 / len(trace.tokens)))
    scores = found.relevance()
    assert scores.text.shape == (len(trace.tokens),)
    assert float(scores.text.min()) >= 0 < float(scores.text.max())


@pytest.mark.parametrize("frozen", [True, False])
def test_nothing_is_left_on_the_model(frozen: bool) -> None:
    hf_model = tiny.grouped().requires_grad_(not frozen)
    before = {name: weight.clone() for name, weight in hf_model.state_dict().items()}
    model = attnviz.wrap_model(hf_model, name="tiny")
    with torch.no_grad():
        scores = differentiated(model, Target(-1, 7)).relevance()
        assert not torch.is_grad_enabled()
    assert not scores.text.requires_grad
    assert all(p.grad is None and p.requires_grad is not frozen for p in hf_model.parameters())
    assert all(torch.equal(before[name], weight) for name, weight in hf_model.state_dict().items())


def test_two_threads_differentiate_one_model_at_once() -> None:
    model = wrapped(tiny.grouped)
    jobs = [(Target(-1, n), (ZeroHeads([Head(0, n % 4)]),) if n % 2 else ()) for n in range(3, 11)]
    alone = [differentiated(model, *job).relevance().text for job in jobs]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda job: differentiated(model, *job).relevance().text, jobs))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert not torch.equal(alone[0], alone[2])


def test_view_only_models_are_refused() -> None:
    model = wrapped(tiny.grouped)
    trace = model.trace(input_ids=tiny.ids(9))
    aim = Target().aim(model, trace)
    assert relevance(model, aim, trace).text.shape == (9,)
    view_only = replace(model, layout=replace(model.layout, reason="its attention is its own"))
    with pytest.raises(Unsupported, match="view-only"):
        relevance(view_only, aim, trace)
