"""Outcomes, against sums and differences done by hand on the plain models."""

from functools import partial
from typing import Any

import pytest
import tiny
import torch

import attnviz
from attnviz import Head, Model
from attnviz.edits import ScaleHeads, ZeroHeads
from attnviz.errors import AttnvizError, ContextError, MetricError, TextError
from attnviz.metrics import LogitDiff, LogProb, Similarity

TEXT = "When Mary and John went to the store, John gave a drink to"
EDITS = [ZeroHeads([Head(23, 3)]), ScaleHeads({Head(5, 1): 0.5})]


@pytest.mark.parametrize("answer", [" Mary", " Mary Ann", " the girl next door", " 猫", " "])
def test_a_log_probability_is_the_sum_over_its_tokens(smollm2: Model, smollm2_sdpa: Any, answer: str) -> None:
    prompt = smollm2.tokenizer(TEXT)["input_ids"]
    continuation = smollm2.tokenizer(answer, add_special_tokens=False)["input_ids"]
    logits = tiny.plain_run(smollm2_sdpa, prompt + continuation).logits[0].log_softmax(-1)
    expected = sum(float(logits[len(prompt) + i - 1, token]) for i, token in enumerate(continuation))
    assert smollm2.measure(LogProb(answer), TEXT) == pytest.approx(expected, abs=1e-4)
    assert smollm2.measure(LogProb(continuation), TEXT) == pytest.approx(expected, abs=1e-4)


def test_a_logit_difference_is_one(smollm2: Model, smollm2_sdpa: Any) -> None:
    ids = smollm2.tokenizer(TEXT)["input_ids"]
    (mary,), (john,) = (smollm2.ids_of(name) for name in (" Mary", " John"))
    logits = tiny.plain_run(smollm2_sdpa, ids).logits[0]
    for position in (-1, 4, -3):
        expected = float(logits[position, mary] - logits[position, john])
        assert smollm2.measure(LogitDiff(" Mary", " John", position), TEXT) == pytest.approx(expected, abs=1e-5)
        assert smollm2.measure(LogitDiff(mary, [john], position), TEXT) == pytest.approx(expected, abs=1e-5)
    assert smollm2.measure(LogitDiff(" Mary", " Mary"), TEXT) == 0


def test_a_similarity_is_the_cosine_of_mean_pooled_states(minilm: Model, minilm_sdpa: Any) -> None:
    texts = ("A cat sleeps on the sofa.", "A kitten is napping on the couch.", "The stock market fell today.")
    pooled = [tiny.plain_run(minilm_sdpa, minilm.tokenizer(t)["input_ids"]).last_hidden_state[0].mean(0) for t in texts]
    for i in (1, 2):
        a, b = pooled[0].double(), pooled[i].double()
        expected = float(a @ b / (a.norm() * b.norm()))
        assert minilm.measure(Similarity(texts[i]), texts[0]) == pytest.approx(expected, abs=1e-5)
    assert minilm.measure(Similarity(texts[0]), texts[0]) == pytest.approx(1, abs=1e-5)
    near, far = (minilm.measure(Similarity(text), texts[0]) for text in texts[1:])
    assert near > far + 0.3


def test_the_second_text_of_a_similarity_is_never_edited(minilm: Model) -> None:
    text, other = "A cat sleeps on the sofa.", "A kitten is napping on the couch."
    edits = [ZeroHeads([Head(layer, head) for layer in range(6) for head in range(6)])]
    edited, clean = minilm.trace(text, edits=edits).embedding, minilm.trace(other).embedding
    expected = float(torch.cosine_similarity(edited, clean, dim=0))
    assert minilm.measure(Similarity(other), text, edits=edits) == pytest.approx(expected, abs=1e-6)
    assert expected != pytest.approx(minilm.measure(Similarity(other), text), abs=1e-3)


def test_measuring_with_edits_is_tracing_with_edits(smollm2: Model) -> None:
    trace = smollm2.trace(TEXT, edits=EDITS)
    (mary,), (john,) = (smollm2.ids_of(name) for name in (" Mary", " John"))
    difference = float(trace.logits[-1, mary] - trace.logits[-1, john])
    log_probability = float(trace.logits[-1].log_softmax(-1)[mary])
    for given in ({"text": TEXT}, {"input_ids": trace.input_ids}):
        assert smollm2.measure(LogitDiff(" Mary", " John"), edits=EDITS, **given) == pytest.approx(difference, abs=1e-5)
        assert smollm2.measure(LogProb(" Mary"), edits=EDITS, **given) == pytest.approx(log_probability, abs=1e-4)
    assert difference != pytest.approx(smollm2.measure(LogitDiff(" Mary", " John"), TEXT), abs=1e-2)


@pytest.mark.parametrize("foil", [" John Smith", "", [], [1, 2]])
def test_a_logit_difference_is_between_single_tokens(smollm2: Model, foil: Any) -> None:
    with pytest.raises(MetricError, match="LogProb"):
        smollm2.measure(LogitDiff(" Mary", foil), TEXT)


@pytest.mark.parametrize("metric", [LogProb(" Mary"), LogitDiff(" Mary", " John")])
def test_a_vocabulary_metric_says_that_a_sentence_encoder_has_no_vocabulary(minilm: Model, metric: Any) -> None:
    with pytest.raises(MetricError, match=f"{type(metric).__name__}.*vocabulary.*MiniLM.*Similarity"):
        minilm.measure(metric, TEXT)


@pytest.mark.parametrize("kind", ["bert with masked head", "classes"])
def test_a_similarity_says_that_it_needs_embeddings(kind: str) -> None:
    hf_model = tiny.bert_classes() if kind == "classes" else tiny.EXACT[kind]()
    model = attnviz.wrap_model(hf_model, _Words(), name="tiny")
    with pytest.raises(MetricError, match=r"Similarity.*tiny"):
        model.measure(Similarity("other"), input_ids=tiny.ids())


class _Words:
    """As much of a tokenizer as a metric asks for."""

    is_fast = False

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        return {"input_ids": tiny.ids(len(text.split()))}

    def decode(self, ids: list[int], **options: Any) -> str:
        return " ".join(map(str, ids))

    all_special_ids: tuple[int, ...] = ()


def test_a_similarity_says_that_a_decoder_has_none(smollm2: Model) -> None:
    with pytest.raises(MetricError, match=r"Similarity.*SmolLM2"):
        smollm2.measure(Similarity("other"), TEXT)


def test_an_empty_continuation_has_no_probability(smollm2: Model) -> None:
    for answer in ("", []):
        with pytest.raises(MetricError, match="at least one token"):
            smollm2.measure(LogProb(answer), TEXT)


@pytest.mark.parametrize("position", [99, -99, True, 1.5, None, "0"])
def test_a_position_outside_the_text_is_refused(smollm2: Model, position: Any) -> None:
    with pytest.raises(MetricError, match="position"):
        smollm2.measure(LogitDiff(" Mary", " John", position), TEXT)


@pytest.mark.parametrize("answer", [10**6, -1, [3, 10**6], 1.5, None, True])
@pytest.mark.parametrize("metric", [LogProb, partial(LogitDiff, foil=5)], ids=["LogProb", "LogitDiff"])
def test_an_answer_that_is_no_token_is_refused(smollm2: Model, answer: Any, metric: Any) -> None:
    with pytest.raises(AttnvizError):
        smollm2.measure(metric(answer), TEXT)


def test_a_continuation_counts_towards_the_context() -> None:
    model = attnviz.wrap_model(tiny.gpt2(max_position_embeddings=20), name="short")
    model.measure(LogProb([5]), input_ids=tiny.ids(20))
    with pytest.raises(ContextError, match="21"):
        model.measure(LogProb([5, 6]), input_ids=tiny.ids(20))


def test_an_empty_second_text_is_refused(minilm: Model) -> None:
    with pytest.raises(TextError):
        minilm.measure(Similarity(" "), "A text")


def test_titles_name_the_answer_and_the_unit() -> None:
    assert "' Mary Ann'" in LogProb(" Mary Ann").title
    assert LogProb(" Mary Ann").unit in LogProb(" Mary Ann").title
    assert "' Mary'" in LogitDiff(" Mary", " John").title
    assert "' John'" in LogitDiff(" Mary", " John").title
    assert "'other'" in Similarity("other").title


def test_an_encoder_decoder_is_refused_rather_than_measured_on_the_wrong_side() -> None:
    with pytest.raises(MetricError, match="encoder-decoder"):
        attnviz.load_model("dates").measure(LogProb("1998-05-03"), "the 3rd of May 1998")
