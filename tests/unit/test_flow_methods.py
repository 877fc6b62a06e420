"""All methods on one target: what each gives, what is refused and why, and sinks taken out of every layer."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import tiny
import torch

import attnviz
from attnviz import Head, Model, Sinks
from attnviz.edits import ZeroHeads
from attnviz.errors import (
    AttnvizError,
    Cancelled,
    EditNotApplied,
    InputError,
    MetricError,
    OutOfMemory,
    Unsupported,
)
from attnviz.flow import METHODS, Step, Target, contributions, explain, routes, steps, zeroing
from attnviz.flow.methods import scores
from attnviz.flow.mixing import steps as attention_steps
from benchmarks import tiny as zoo

TEXT = "When Mary and John went to the store, John gave a drink to"
SPREAD = [name for name, method in METHODS.items() if method.layered]  # their scores are shares of one


@pytest.fixture(scope="module")
def small() -> Model:
    return attnviz.wrap_model(tiny.grouped(), name="tiny")


def test_every_method_explains_a_decoder(smollm2: Model) -> None:
    done: list[tuple[str, float, int]] = []
    explained = explain(smollm2, TEXT, report=lambda *at: done.append(at))
    assert explained.refused == {}
    assert list(explained.scores) == list(METHODS)
    titles = ["Running the model", *(method.title for method in METHODS.values())]
    assert list(dict.fromkeys(title for title, _, _ in done)) == titles
    shares = [at / total for _, at, total in done]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    within = [title for title, at, _ in done if at != int(at)]
    assert within.count("Running the model") == 29
    assert {"Max-flow", "Value zeroing", "ALTI", "Gradient relevance"} <= set(within)
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
    n_tokens = len(trace.tokens)
    row = [float(i == 9) for i in range(n_tokens)]
    for _ in range(30):
        below = [0.5 * share for share in row]
        for query, share in enumerate(row):
            for key in range(query + 1):
                below[key] += 0.5 * share / (query + 1)
        row = below
    np.testing.assert_allclose(found, row, atol=1e-7)


def test_a_run_is_taken_apart_once_for_several_calls(smollm2: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("rollout", "norms", "alti", "relevance")
    first = explain(smollm2, TEXT, methods=names)
    assert first.run is not None
    assert first.run.trace is first.trace

    def never(*args: object, **options: object) -> None:
        raise AssertionError("the model was run again")

    monkeypatch.setattr(attnviz.flow.methods, "take_apart", never)
    again = explain(smollm2, run=first.run, methods=names)
    assert again.trace is first.trace
    for name in names:
        torch.testing.assert_close(again.scores[name].text, first.scores[name].text)
    without = explain(smollm2, run=first.run, methods=names, sinks=Sinks("hide"))
    assert float(without.scores["alti"].text[0]) == 0
    assert float(first.scores["alti"].text[0]) > 0


def test_a_run_keeps_its_edits_in_all_that_is_made_of_it(smollm2: Model) -> None:
    cut = [ZeroHeads([Head(29, head) for head in range(9)])]
    names = ("alti", "relevance")
    first = explain(smollm2, TEXT, methods=names, edits=cut)
    plain = explain(smollm2, TEXT, methods=names)
    again = explain(smollm2, run=first.run, methods=names)
    for name in names:
        torch.testing.assert_close(again.scores[name].text, first.scores[name].text)
        assert not torch.allclose(plain.scores[name].text, first.scores[name].text, rtol=1e-3)


def test_a_run_is_taken_apart_only_for_methods_that_read_parts(small: Model) -> None:
    assert explain(small, input_ids=tiny.ids(5), methods=("rollout", "last", "relevance")).run is None


@pytest.mark.parametrize("title", ["Running the model", *(method.title for method in METHODS.values())])
def test_stopping_within_a_part_of_the_work_stops_it(small: Model, title: str) -> None:
    names = tuple(METHODS)

    def stop(at: str, done: float, total: int) -> None:
        if at == title and (done != int(done) or title == "Last layer"):
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        explain(small, input_ids=tiny.ids(5), methods=names, report=stop)


@pytest.mark.parametrize("error", [Cancelled, OutOfMemory, EditNotApplied])
def test_what_is_no_property_of_a_method_passes_through(
    small: Model, monkeypatch: pytest.MonkeyPatch, error: type[AttnvizError]
) -> None:
    def fails(*args: object, **options: object) -> None:
        raise error("no room")

    monkeypatch.setattr(attnviz.flow.methods, "alti_steps", fails)
    with pytest.raises(error, match="no room"):
        explain(small, input_ids=tiny.ids(5), methods=("alti",))
    monkeypatch.setattr(attnviz.flow.methods, "relevance", fails)
    with pytest.raises(error, match="no room"):
        explain(small, input_ids=tiny.ids(5), methods=("relevance",))


def test_what_a_method_refuses_is_kept_with_its_reason(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*args: object, **options: object) -> None:
        raise Unsupported("not here")

    monkeypatch.setattr(attnviz.flow.methods, "alti_steps", refuses)
    found = explain(small, input_ids=tiny.ids(5), methods=("alti", "rollout"))
    assert found.refused == {"alti": "not here"}
    assert list(found.scores) == ["rollout"]


def test_options_are_those_of_the_methods_own_modules(small: Model) -> None:
    run = attnviz.flow.take_apart(small, input_ids=tiny.ids(5))

    def shares(name: str, **options: Any) -> torch.Tensor:
        made = steps(name, run.trace, run=run, model=small, **options)
        return torch.stack([torch.cat([step.weights, step.kept[:, None]], 1).float() for step in made])

    def expected(made: Iterable[Step]) -> torch.Tensor:
        return torch.stack([torch.cat([step.weights, step.kept[:, None]], 1).float() for step in made])

    assert torch.equal(shares("norms"), expected(contributions.steps(run)))
    lengths = {"residual": False, "norm": False}
    assert torch.equal(shares("norms", **lengths), expected(contributions.steps(run, residual=False, norm=False)))
    assert torch.equal(shares("norms-attention"), shares("norms", **lengths))
    assert not torch.allclose(shares("norms-attention"), shares("norms"), atol=1e-2)
    assert torch.equal(shares("routes", threshold=0.05), expected(routes.steps(run, threshold=0.05)))
    assert torch.equal(shares("routes", share=0.7), expected(routes.steps(run, share=0.7)))
    assert not torch.equal(shares("routes", share=0.7), shares("routes"))
    assert torch.equal(shares("rollout", residual=0.2), expected(attention_steps(run.trace, residual=0.2)))
    far = expected(zeroing.steps(run, small, through="layer"))
    assert torch.equal(shares("zeroing", through="layer"), far)
    for name, words in {
        "alti": "takes no options",
        "norms": "takes residual, norm",
        "last": "takes no options",
    }.items():
        with pytest.raises(InputError, match=f"{words}; got threshold"):
            steps(name, run.trace, run=run, threshold=0.1)


def test_every_methods_options_are_taken(small: Model) -> None:
    run = attnviz.flow.take_apart(small, input_ids=tiny.ids(5))
    values = {"residual": True, "norm": True, "threshold": 0.1, "share": 0.5, "feed_forward": False}
    for name, method in METHODS.items():
        for option in method.options:
            value = {"through": "layer"}.get(option, 0.5 if method.reads == "attention" else values.get(option))
            assert steps(name, run.trace, run=run, model=small, **{option: value})


def test_a_target_compared_with_itself_is_refused(smollm2: Model) -> None:
    with pytest.raises(MetricError, match="both ' Mary', so their logits do not differ: compare with another token"):
        explain(smollm2, TEXT, target=Target(answer=" Mary", foil=" Mary"), methods=("rollout",))
    likeliest = int(smollm2.trace(TEXT).predictions(-1, 1).token_id[0])
    with pytest.raises(MetricError, match="compare with another token"):
        explain(smollm2, TEXT, target=Target(foil=likeliest), methods=("rollout",))


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
