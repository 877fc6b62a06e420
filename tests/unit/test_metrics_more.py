"""Distances between distributions, losses, classes, rankings, written answers: by hand on the plain models."""

from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch

import attnviz
from attnviz import Head, Model, metrics
from attnviz.edits import KnockOut, MeanHeads, ResampleHeads, ScaleHeads, ZeroHeads
from attnviz.errors import MetricError
from attnviz.metrics import KL, ClassProb, ExactMatch, LogitDiff, LogProb, Loss, Outputs, Similarity, SimilarityRank

TEXT = "When Mary and John went to the store, John gave a drink to"
EDITS = [ZeroHeads([Head(23, 3)]), ScaleHeads({Head(5, 1): 0.5})]
DATE, ISO = "the 3rd of May 1998", "1998-05-03"
CATS = ("A kitten is napping.", "Stocks fell today.", "The dog sleeps.")


@pytest.fixture(scope="module")
def dates() -> Model:
    return attnviz.load_model("dates")


@pytest.fixture(scope="module")
def classes() -> Model:
    hf_model = tiny.bert_classes(id2label={0: "bad", 1: "so-so", 2: "good"})
    return attnviz.wrap_model(hf_model, name="sorter")


def test_a_divergence_is_the_sum_of_p_times_the_difference_of_logs(smollm2: Model) -> None:
    clean, edited = (smollm2.trace(TEXT, edits=e).logits.double().log_softmax(-1) for e in ((), EDITS))
    by_hand = (clean.exp() * (clean - edited)).sum(-1)
    for position in (-1, 3):
        assert smollm2.measure(KL(position), TEXT, edits=EDITS) == pytest.approx(float(by_hand[position]), abs=1e-5)
    assert smollm2.measure(KL(None), TEXT, edits=EDITS) == pytest.approx(float(by_hand.mean()), abs=1e-5)
    assert float(by_hand[-1]) > 1e-2
    assert smollm2.measure(KL(), TEXT) == 0


def test_a_divergence_stays_finite_where_a_token_is_ruled_out() -> None:
    model = attnviz.wrap_model(tiny.grouped())
    clean = torch.tensor([[[0.0, 1.0, -torch.inf]]])
    moved = torch.tensor([[[0.0, 0.0, -torch.inf]], [[0.0, 1.0, 2.0]], [[0.0, 1.0, -torch.inf]]])
    plan = KL().plan(model, [5], Outputs(logits=clean))
    found = plan.score(Outputs(logits=moved))
    p = clean[0, 0, :2].softmax(-1)
    by_hand = [float((p * (p.log() - q[0, :3].log_softmax(-1)[:2])).sum()) for q in moved]
    assert found.tolist() == pytest.approx(by_hand, abs=1e-6)
    assert found[2] == 0
    assert (found >= 0).all()


def test_a_loss_is_the_mean_over_the_texts_own_tokens(smollm2: Model, smollm2_sdpa: Any) -> None:
    ids = smollm2.tokenizer(TEXT)["input_ids"]
    logits = tiny.plain_run(smollm2_sdpa, ids).logits[0].double().log_softmax(-1)
    each = [-float(logits[i - 1, ids[i]]) for i in range(1, len(ids))]
    for start, told in ((1, each), (6, each[5:]), (-1, each[-1:])):
        assert smollm2.measure(Loss(start), TEXT) == pytest.approx(sum(told) / len(told), abs=1e-4)
    assert smollm2.measure(Loss(), TEXT, edits=EDITS) != pytest.approx(smollm2.measure(Loss(), TEXT), abs=1e-3)


def test_a_batch_is_scored_row_by_row_from_the_logits_that_are_needed() -> None:
    model = attnviz.wrap_model(tiny.grouped())
    ids = tiny.ids()
    rows = [model.trace(input_ids=ids, edits=[ScaleHeads({Head(0, 1): scale})]).logits for scale in (1.0, 0.0, 3.0)]
    logits = torch.stack(rows)
    clean = Outputs(logits=logits[:1])
    for metric in (LogProb([5]), LogitDiff(5, 6), LogitDiff(5, 6, 3), KL(), KL(None), Loss(), Loss(7)):
        plan = metric.plan(model, ids, clean)
        found = plan.score(Outputs(logits=logits))
        assert found.dtype == torch.float32
        alone = [float(plan.score(Outputs(logits=row[None]))) for row in logits]
        assert found.tolist() == pytest.approx(alone, abs=1e-6)
        kept = plan.score(Outputs(logits=logits[:, plan.first :], first=plan.first))
        assert torch.equal(kept, found)
        with pytest.raises(MetricError, match="kept"):
            plan.score(Outputs(logits=logits[:, plan.first + 1 :], first=plan.first + 1))


def test_a_class_has_its_share_of_the_softmax(classes: Model) -> None:
    logits = classes.trace(input_ids=tiny.ids()).class_logits
    shares = logits.softmax(-1).tolist()
    assert classes.labels == ("bad", "so-so", "good")
    for number, name in enumerate(classes.labels):
        for label in (number, name):
            assert classes.measure(ClassProb(label), input_ids=tiny.ids()) == pytest.approx(shares[number], abs=1e-6)
    edits = [ZeroHeads([Head(0, 1)])]
    expected = float(classes.trace(input_ids=tiny.ids(), edits=edits).class_logits.softmax(-1)[2])
    assert classes.measure(ClassProb("good"), input_ids=tiny.ids(), edits=edits) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("label", ["fine", 3, -1, True, None])
def test_a_class_that_is_none_is_refused_with_those_there_are(classes: Model, label: Any) -> None:
    with pytest.raises(MetricError, match=r"0: 'bad', 1: 'so-so', 2: 'good'; got"):
        classes.measure(ClassProb(label), input_ids=tiny.ids())


def test_a_model_without_classes_says_so(smollm2: Model, minilm: Model) -> None:
    with pytest.raises(MetricError, match=r"SmolLM2.*no classes.*LogProb"):
        smollm2.measure(ClassProb("good"), TEXT)
    with pytest.raises(MetricError, match=r"MiniLM.*no classes.*Similarity"):
        minilm.measure(ClassProb(0), TEXT)
    regression = attnviz.wrap_model(tiny.bert_classes(num_labels=1), name="scale")
    with pytest.raises(MetricError, match="one number"):
        regression.measure(ClassProb(0), input_ids=tiny.ids())


@pytest.mark.parametrize("metric", [LogProb([5]), LogitDiff(5, 6), KL(), Loss(), ExactMatch([5])])
def test_a_classifier_is_told_of_its_own_metric(classes: Model, metric: metrics.Metric) -> None:
    with pytest.raises(MetricError, match=f"{type(metric).__name__}.*sorter.*ClassProb"):
        classes.measure(metric, input_ids=tiny.ids())


def test_two_classes_of_one_name_are_only_told_apart_by_number() -> None:
    model = attnviz.wrap_model(tiny.bert_classes(id2label={0: "a", 1: "a", 2: "b"}), name="sorter")
    with pytest.raises(MetricError, match="'a'"):
        model.measure(ClassProb("a"), input_ids=tiny.ids())
    assert 0 < model.measure(ClassProb(0), input_ids=tiny.ids()) < 1


def test_a_similarity_to_itself_is_one_until_it_is_edited(minilm: Model) -> None:
    edits = [ZeroHeads([Head(2, 1), Head(4, 3)])]
    clean, edited = (minilm.trace(TEXT, edits=e).embedding for e in ((), edits))
    expected = float(torch.cosine_similarity(clean, edited, dim=0))
    assert minilm.measure(Similarity(), TEXT) == pytest.approx(1, abs=1e-6)
    assert minilm.measure(Similarity(), TEXT, edits=edits) == pytest.approx(expected, abs=1e-6)
    assert expected < 0.999


def test_a_ranking_is_by_cosine(minilm: Model) -> None:
    text = "A cat sleeps on the sofa."
    mine = minilm.trace(text).embedding
    cosines = [float(torch.cosine_similarity(mine, minilm.trace(other).embedding, dim=0)) for other in CATS]
    assert max(cosines) == cosines[0]
    for best in range(3):
        others = [cosine for n, cosine in enumerate(cosines) if n != best]
        margin = cosines[best] - max(others)
        assert minilm.measure(SimilarityRank(CATS, CATS[best]), text) == pytest.approx(margin, abs=1e-5)
        rank = 1 + sum(other > cosines[best] for other in others)
        assert minilm.measure(SimilarityRank(CATS, best, by="rank"), text) == rank


@pytest.mark.parametrize(
    "given",
    [
        {"texts": "one text"},
        {"texts": ["one"]},
        {"texts": ["a", "a"]},
        {"texts": ["a", 3]},
        {"best": "c"},
        {"best": 2},
        {"best": -1},
        {"best": True},
        {"by": "place"},
    ],
)
def test_a_ranking_of_nothing_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(MetricError):
        SimilarityRank(**{"texts": ["a", "b"], "best": 0, **given})


def test_an_answer_is_written_or_not(dates: Model) -> None:
    assert dates.measure(ExactMatch(ISO), DATE) == 1
    assert dates.measure(ExactMatch("1998-05-04"), DATE) == 0
    assert dates.measure(ExactMatch("1998-05"), DATE) == 0, "it goes on"
    assert dates.measure(ExactMatch("1998-05-04", leading=True), DATE) == 9
    assert dates.measure(ExactMatch(ISO, leading=True), DATE) == len(ISO)
    assert dates.measure(ExactMatch("2", leading=True), DATE) == 0
    heads = [Head(layer, head, "cross") for layer in range(2) for head in range(4)]
    blind = [ZeroHeads(heads)]
    written = dates.generate(DATE, edits=blind).input_ids[1:]
    right = next((i for i, (a, b) in enumerate(zip(written, dates.ids_of(ISO), strict=False)) if a != b), len(ISO))
    assert dates.measure(ExactMatch(ISO, leading=True), DATE, edits=blind) == right < len(ISO)
    assert dates.measure(ExactMatch(ISO), DATE, edits=blind) == 0


def test_a_continuation_begins_with_its_answer(smollm2: Model) -> None:
    assert smollm2.measure(ExactMatch(" Mary"), TEXT) == 1
    assert smollm2.measure(ExactMatch(" John"), TEXT) == 0
    with pytest.raises(MetricError, match="run by run"):
        ExactMatch(" Mary").plan(smollm2, [1, 2])
    assert not ExactMatch.batched
    assert all(kind.batched for kind in (LogProb, LogitDiff, KL, Loss, ClassProb, Similarity, SimilarityRank))


def test_an_encoder_decoder_is_measured_on_its_target(dates: Model) -> None:
    logits = dates.trace(DATE, ISO).logits.double().log_softmax(-1)
    ids = dates.trace(DATE, ISO).input_ids
    each = [-float(logits[i - 1, ids[i]]) for i in range(1, len(ids))]
    assert dates.measure(Loss(), DATE, target=ISO) == pytest.approx(sum(each) / len(each), abs=1e-5)
    whole = dates.measure(LogProb(ISO), DATE, decoder_input_ids=ids[:1])
    assert whole == pytest.approx(-sum(each), abs=1e-4)
    edits = [ZeroHeads([Head(1, 2, "cross")])]
    assert dates.measure(KL(), DATE, target=ISO, edits=edits) > 0
    with pytest.raises(MetricError, match=r"encoder-decoder.*target"):
        dates.measure(Loss(), DATE)


def test_edits_tied_to_the_text_leave_the_answer_alone() -> None:
    model = attnviz.wrap_model(tiny.grouped())
    ids, answer = tiny.ids(12), [7, 8, 9]
    donor = [i + 1 for i in ids]
    for tied, fixed in (
        (ZeroHeads([Head(0, 1)], positions=-1), ZeroHeads([Head(0, 1)], positions=11)),
        (KnockOut(-1, -3), KnockOut(11, 9)),
        (ResampleHeads([Head(1, 1)], donor), ResampleHeads([Head(1, 1)], [*donor, 1, 2], positions=range(12))),
        (MeanHeads([Head(1, 1)], [donor]), MeanHeads([Head(1, 1)], [donor])),
    ):
        logits = model.trace(input_ids=[*ids, 7, 8], edits=[fixed]).logits.log_softmax(-1)
        expected = sum(float(logits[11 + n, token]) for n, token in enumerate(answer))
        assert model.measure(LogProb(answer), input_ids=ids, edits=[tied]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("metric", "part"),
    [
        (Loss(0), "1 to 13"),
        (Loss(14), "1 to 13"),
        (Loss(-14), "1 to 13"),
        (Loss(True), "start=True"),
        (Loss(1.5), "start=1.5"),  # type: ignore[arg-type]
        (KL(14), "14 tokens"),
        (KL("last"), "position"),  # type: ignore[arg-type]
        (ExactMatch(""), "at least one token"),
        (ExactMatch([10**6]), "token ids"),
    ],
)
def test_what_a_text_cannot_give_is_refused(smollm2: Model, metric: metrics.Metric, part: str) -> None:
    with pytest.raises(MetricError, match=part):
        smollm2.measure(metric, TEXT)


def test_a_text_of_one_token_has_no_loss(smollm2: Model) -> None:
    with pytest.raises(MetricError, match="2 tokens"):
        smollm2.measure(Loss(), input_ids=[5])


@pytest.mark.parametrize("metric", [LogProb([5]), Loss(), ExactMatch([5])])
def test_a_masked_encoder_has_no_next_tokens(metric: metrics.Metric) -> None:
    model = attnviz.wrap_model(tiny.bert_masked(), name="masked")
    with pytest.raises(MetricError, match=r"masked.*LogitDiff at a mask"):
        model.measure(metric, input_ids=tiny.ids())
    assert model.measure(KL(None), input_ids=tiny.ids(), edits=[ZeroHeads([Head(0, 0)])]) > 0


@pytest.mark.parametrize("metric", [KL(), Similarity()])
def test_a_metric_that_compares_needs_the_clean_run(smollm2: Model, metric: metrics.Metric) -> None:
    assert metric.needs_clean
    with pytest.raises(MetricError, match="clean run"):
        metric.plan(smollm2, [1, 2])
    assert not any(one.needs_clean for one in (Loss(), LogProb("a"), Similarity("other")))


def test_each_kind_of_model_has_a_metric_of_its_own(
    smollm2: Model, minilm: Model, dates: Model, classes: Model
) -> None:
    trace = smollm2.trace(TEXT)
    likeliest = [int(i) for i in trace.logits[-1].topk(2).indices]
    for seen in (trace, trace.compact()):
        assert metrics.default_for(smollm2, seen) == LogitDiff(*likeliest, -1)
    assert smollm2.measure(LogitDiff(*likeliest), TEXT) > 0
    assert metrics.default_for(minilm, minilm.trace(TEXT)) == Similarity()
    assert metrics.default_for(dates, dates.trace(DATE)) == Loss()
    assert metrics.default_for(dates, dates.trace(DATE, decoder_input_ids=[1])) == KL()
    seen = classes.trace(input_ids=tiny.ids())
    assert metrics.default_for(classes, seen) == ClassProb(int(seen.class_logits.argmax()))
    masked = attnviz.wrap_model(tiny.bert_masked())
    ids = tiny.ids()
    seen = masked.trace(input_ids=ids)
    assert metrics.default_for(masked, seen) == KL(None)
    best = [int(i) for i in seen.logits[6].topk(2).indices]
    filling = attnviz.wrap_model(tiny.bert_masked(), SimpleNamespace(mask_token_id=ids[6]))
    assert metrics.default_for(filling, seen) == LogitDiff(*best, ids.index(ids[6]))


def test_a_model_with_nothing_to_measure_says_so() -> None:
    regression = attnviz.wrap_model(tiny.bert_classes(num_labels=1), name="scale")
    with pytest.raises(MetricError, match="scale"):
        metrics.default_for(regression, regression.trace(input_ids=tiny.ids()))


def test_titles_say_the_unit_and_what_is_compared() -> None:
    assert KL().title == "KL divergence from the clean run, position -1 (nats)"
    assert KL(None).title == "KL divergence from the clean run, mean over positions (nats)"
    assert Loss().title == "loss (nats a token)"
    assert Loss(4).title == "loss from token 4 on (nats a token)"
    assert ClassProb("good").title == "probability of class 'good'"
    assert Similarity().title == "cosine similarity to itself, unedited"
    assert SimilarityRank(["a", "b", "c"], 1).title == "cosine similarity to 'b' minus the largest to 2 others"
    assert SimilarityRank(["a", "b"], "a", by="rank").title == "rank of 'a' among 2 texts by cosine similarity"
    assert ExactMatch(ISO).title == "whether '1998-05-03' is written (1 or 0)"
    assert ExactMatch(ISO, leading=True).title == "leading tokens of '1998-05-03' that are written (count)"
