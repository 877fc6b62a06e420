"""All methods on one target: what each gives, what is refused and why, and sinks taken out of every layer."""

import numpy as np
import pytest
import torch

import attnviz
from attnviz import Model, Sinks
from attnviz.errors import InputError, MetricError
from attnviz.flow import METHODS, Target, explain, scoring, steps
from attnviz.flow.methods import scores
from benchmarks import tiny as zoo

TEXT = "When Mary and John went to the store, John gave a drink to"
SPREAD = [name for name, method in METHODS.items() if method.layered]  # their scores are shares of one


def test_every_method_explains_a_decoder(smollm2: Model) -> None:
    done: list[str] = []
    explained = explain(smollm2, TEXT, report=lambda title, at, total: done.append(title))
    assert explained.refused == {}
    assert list(explained.scores) == list(METHODS)
    assert done == [method.title for method in METHODS.values()]
    assert "' Mary'" in explained.aim.title
    n_tokens = len(explained.trace.tokens)
    for name, found in explained.scores.items():
        assert found.text.shape == (n_tokens,), name
        assert found.source is None
        assert float(found.text.min()) >= 0, name
    for name in SPREAD:
        assert float(explained.scores[name].text.sum()) == pytest.approx(1, abs=1e-4), name
    frame = explained.frame()
    assert len(frame) == len(METHODS) * n_tokens
    assert set(frame.side) == {"text"}
    assert frame.token[1] == "␣Mary"


def test_a_sentence_encoder_is_explained_by_similarity(minilm: Model) -> None:
    explained = explain(minilm, "A cat sat.", target=Target(other="A dog stood."), methods=("rollout", "relevance"))
    assert explained.aim.unit == "cosine"
    assert float(explained.scores["relevance"].text.max()) > 0
    with pytest.raises(MetricError, match="second text"):
        explain(minilm, "A cat sat.", methods=("rollout",))


def test_an_encoder_decoder_has_scores_of_its_source_too() -> None:
    dates = attnviz.load_model("dates", device="cpu")
    explained = explain(dates, "3 May 1998", target=Target(query=3))
    assert explained.refused == {}
    for name, found in explained.scores.items():
        assert found.source is not None, name
        assert not bool(found.text[4:].any()), name  # later tokens are not seen
        if name in SPREAD:
            assert float(found.text.sum() + found.source.sum()) == pytest.approx(1, abs=1e-4), name
    assert set(explained.frame().side) == {"source", "text"}


def test_position_alone_is_rollout_of_even_attention(smollm2: Model) -> None:
    trace = smollm2.trace(TEXT, compact=True)
    found = scores("position", steps("position", trace), 9).text.numpy()
    np.testing.assert_allclose(found, scoring.position_only(len(trace.tokens), 9, n_layers=30), atol=1e-7)


def test_the_last_layer_is_its_mean_pattern(smollm2: Model) -> None:
    trace = smollm2.trace(TEXT, compact=True)
    found = scores("last", steps("last", trace), 9).text
    torch.testing.assert_close(found.float(), trace.pattern(29).mean(0)[9])


@pytest.mark.parametrize("name", ["rollout", "alti"])
def test_sinks_are_taken_out_of_every_layer(smollm2: Model, name: str) -> None:
    run = attnviz.flow.take_apart(smollm2, TEXT)
    shown = steps(name, run.trace, run=run)
    hidden = steps(name, run.trace, run=run, sinks=Sinks("hide"))
    whole = steps(name, run.trace, run=run, sinks=Sinks("renormalise"))
    for plain, hides, renormalises in zip(shown, hidden, whole, strict=True):
        assert not bool(hides.weights[:, 0].any())
        assert not bool(renormalises.weights[:, 0].any())
        torch.testing.assert_close(hides.weights[:, 1:], plain.weights[:, 1:])
        left = hides.weights.sum(-1) > 0
        torch.testing.assert_close(renormalises.weights.sum(-1)[left], plain.weights.sum(-1)[left])


@pytest.mark.filterwarnings("ignore")
def test_a_model_whose_parts_cannot_be_told_keeps_the_other_methods() -> None:
    model = attnviz.wrap_model(zoo.build("causal", "bitnet"))
    explained = explain(model, input_ids=[5, 9, 11, 4, 8], target=Target(answer=3))
    assert set(explained.refused) == {name for name, method in METHODS.items() if method.reads == "parts"}
    assert all("output projection" in reason for reason in explained.refused.values())
    assert set(explained.scores) == set(METHODS) - set(explained.refused)


def test_what_cannot_be_asked_is_said(smollm2: Model) -> None:
    with pytest.raises(InputError, match="rollout"):
        explain(smollm2, TEXT, methods=("magic",))
    trace = smollm2.trace(TEXT, compact=True)
    with pytest.raises(InputError, match="no layers"):
        steps("relevance", trace)
    with pytest.raises(InputError, match="take_apart"):
        steps("alti", trace)
    with pytest.raises(MetricError, match="one token"):
        explain(smollm2, TEXT, target=Target(answer=" Mary Ann"), methods=("rollout",))
    with pytest.raises(MetricError, match="not a second text"):
        explain(smollm2, TEXT, target=Target(other="x"), methods=("rollout",))
