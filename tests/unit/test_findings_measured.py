"""Measured findings against the library's own calls, by hand."""

from collections.abc import Callable

import numpy as np
import pytest

import attnviz
from attnviz import Head, Model, findings, flow, heads, human
from attnviz.ablation.cases import half_width
from attnviz.edits import MeanHeads, ResampleHeads, ZeroHeads
from attnviz.errors import Cancelled, HeadError, InputError
from attnviz.findings import Case, HeadAt, Measurement, Plan, measure
from attnviz.metrics import LogitDiff, Similarity
from attnviz.text import words

PLACES = ("store", "park", "office")
CASES = tuple(
    Case(
        text=f"The {a} saw the {b} near the {place}",
        donor=f"The {b} saw the {a} near the {place}",
        answer=f"A {b} slept",
        query="saw",
        key=b,
    )
    for a, b, place in (("dog", "cat", "store"), ("king", "boy", "park"), ("bird", "man", "office"))
)
ONE = HeadAt(layer=3, head=5)
TWO = (HeadAt(layer=2, head=1), HeadAt(layer=5, head=1))
LONG = Case(text="word " * 600, key="word", query="word", answer="x", donor="word " * 600)


@pytest.fixture(scope="module")
def dates() -> Model:
    return attnviz.load_model("dates", device="cpu", dtype="float32")


def at(model: Model, text: str, word: str) -> int:
    """The only token of a word, counted by hand: these words are one token each."""
    found = [i for i, token in enumerate(model.trace(text).tokens) if token.text.strip("␣") == word]
    assert len(found) == 1
    return found[0]


def test_attention_is_the_pattern_from_query_to_key_beside_all_other_heads(minilm: Model) -> None:
    found = measure(minilm, Measurement(kind="attention", heads=(ONE,)), CASES)
    by_hand = np.empty((len(CASES), 6, 12))
    for n, case in enumerate(CASES):
        trace = minilm.trace(case.text)
        for layer in range(6):
            pattern = trace.pattern(layer)
            by_hand[n, layer] = pattern[:, at(minilm, case.text, "saw"), at(minilm, case.text, case.key)].numpy()
    assert found.values == pytest.approx(by_hand[:, 3, 5].tolist(), abs=1e-6)
    assert found.mean == pytest.approx(by_hand[:, 3, 5].mean(), abs=1e-6)
    others = np.delete(by_hand.mean(0).ravel(), 3 * 12 + 5)
    assert sorted(found.control) == pytest.approx(sorted(others.tolist()), abs=1e-6)
    assert found.control_high == pytest.approx(np.quantile(others, 0.975, method="higher"), abs=1e-6)
    half = half_width(by_hand[:, 3, 5][:, None])[0]
    assert found.high == pytest.approx(found.mean + half, abs=1e-6)
    assert found.unit == "share"
    assert "71 other heads" in found.words


def test_the_last_query_and_the_first_key_are_meant_where_a_word_comes_twice(minilm: Model) -> None:
    text = "the dog saw the dog run"
    case = Case(text=text, query="dog", key="dog")
    found = measure(minilm, Measurement(kind="attention", heads=(ONE,)), [case])
    first, last = [i for i, token in enumerate(minilm.trace(text).tokens) if token.text.strip("␣") == "dog"]
    assert found.values[0] == pytest.approx(float(minilm.trace(text).pattern(3, 5)[last, first]), abs=1e-6)
    assert found.low is None
    assert found.high is None


def test_a_query_that_is_not_named_is_the_last_token_and_a_key_of_several_tokens_is_summed(smollm2: Model) -> None:
    case = Case(text="The antidisestablishmentarianism was old and it was", key="antidisestablishmentarianism")
    found = measure(smollm2, Measurement(kind="attention", heads=(ONE,)), [case])
    row = smollm2.trace(case.text).pattern(3, 5)[-1]
    tokens = smollm2.trace(case.text).tokens
    key = [i for i, token in enumerate(tokens) if token.word == 1]
    assert len(key) > 2
    assert found.values[0] == pytest.approx(float(row[key].sum()), abs=1e-6)


def test_cross_attention_reads_the_target_and_the_text(dates: Model) -> None:
    case = Case(text="10 May 2003", target="2003-05-10", query="", key="May")
    found = measure(dates, Measurement(kind="attention", heads=(HeadAt(layer=1, head=1, site="cross"),)), [case])
    trace = dates.trace(case.text, case.target)
    keys = [i for i, token in enumerate(trace.source_tokens) if token.word == 1 and not token.special]
    assert found.values[0] == pytest.approx(float(trace.pattern(1, 1, "cross")[-1, keys].sum()), abs=1e-6)
    assert len(found.control) == 7
    with pytest.raises(HeadError, match="give L1H1 a site"):
        measure(dates, Measurement(kind="attention", heads=(HeadAt(layer=1, head=1),)), [case])


@pytest.mark.parametrize(
    ("how", "chosen"), [("resample", (ONE,)), ("resample", TWO), ("mean", (ONE,)), ("mean", TWO), ("zero", TWO)]
)
def test_ablation_is_the_difference_of_two_measured_runs(minilm: Model, how: str, chosen: tuple[HeadAt, ...]) -> None:
    asked = Measurement(kind="ablation", what="similarity", heads=chosen, how=how, n_controls=3)
    found = measure(minilm, asked, CASES)
    named = [Head(one.layer, one.head) for one in chosen]
    texts = [text for case in CASES for text in (case.text, case.donor)]
    expected = []
    for case in CASES:
        edits = {
            "resample": ResampleHeads(named, case.donor),
            "mean": MeanHeads(named, texts),
            "zero": ZeroHeads(named),
        }
        metric = Similarity(case.answer)
        changed = minilm.measure(metric, case.text, edits=[edits[how]])
        expected.append(changed - minilm.measure(metric, case.text))
    assert found.values == pytest.approx(expected, abs=1e-5)
    assert max(map(abs, expected)) > 1e-4
    assert found.unit == "cosine"
    assert len(found.control) == 3


def test_the_difference_of_a_case_with_a_foil_is_of_two_logits(smollm2: Model) -> None:
    case = Case(
        text="When Mary and John went to the store, John gave a drink to",
        donor="When Mary and John went to the store, Mary gave a drink to",
        answer=" Mary",
        foil=" John",
    )
    asked = Measurement(kind="ablation", heads=(HeadAt(layer=23, head=3),), n_controls=1)
    found = measure(smollm2, asked, [case])
    metric, edit = LogitDiff(" Mary", " John"), ResampleHeads([Head(23, 3)], case.donor)
    expected = smollm2.measure(metric, case.text, edits=[edit]) - smollm2.measure(metric, case.text)
    assert found.mean == pytest.approx(expected, abs=1e-3)
    assert expected < -1
    assert found.unit == "logits"


@pytest.mark.parametrize("variant", ["", ", without sink"])
@pytest.mark.parametrize("name", ["previous", "induction"])
def test_a_detector_is_its_score_over_the_texts(minilm: Model, name: str, variant: str) -> None:
    texts = ["the dog saw the dog run", "a man and a man and a boy", "one two one two"]
    found = measure(
        minilm, Measurement(kind="detector", what=name + variant, heads=(ONE,)), [Case(text=text) for text in texts]
    )
    read: Callable = heads.repeats if name == "induction" else heads.detect
    scores = [read(minilm.trace(text)) for text in texts]
    expected = [float(one.values[int(bool(variant)), one.names.index(name), 3, 5]) for one in scores]
    assert found.values == pytest.approx(expected)
    assert len(found.control) == 71


def test_agreement_is_the_heads_own_against_the_best_of_all_heads(minilm: Model) -> None:
    cases = [case.model_copy(update={"query": "", "marks": marks_of(case)}) for case in CASES]
    found = measure(minilm, Measurement(kind="agreement", what="auroc", heads=(ONE,), n_controls=50), cases)
    scores, marks = [], []
    for case in cases:
        read = human.candidates(minilm, human.Marked(case.text, dict(enumerate(case.marks))), methods=())
        scores.append(read.scores[[i for i, one in enumerate(read.names) if one.kind == "head"]])
        marks.append(read.human)
    band = human.band(scores, marks, metric="auroc", n=50)
    assert found.mean == pytest.approx(band.observed[3 * 12 + 5])
    assert found.control == pytest.approx(band.maxima.tolist())
    assert found.control_high >= band.quantiles([0.95])[0]
    assert found.control_low < 0.5 < found.control_high


def marks_of(case: Case) -> tuple[float, ...]:
    return tuple(float(case.text[a:b] in (case.key, "near")) for a, b in words(case.text))


def test_flow_is_the_methods_share_of_the_key_beside_the_other_words(minilm: Model) -> None:
    case = Case(text="The dog saw the antidisestablishmentarianism", key="antidisestablishmentarianism", answer="A cat")
    found = measure(minilm, Measurement(kind="flow", what="norms"), [case])
    explained = flow.explain(minilm, case.text, target=flow.Target(other="A cat"), methods=("norms",))
    shares = explained.scores["norms"].text / explained.scores["norms"].text.sum()
    of_word = [token.word for token in minilm.trace(case.text).tokens]
    by_word = [float(sum(s for s, word in zip(shares, of_word, strict=True) if word == n)) for n in range(5)]
    assert of_word.count(4) > 2
    assert found.values[0] == pytest.approx(by_word[4])
    assert found.control == pytest.approx(by_word[:4])


def test_a_key_of_two_words_stands_beside_all_runs_of_two_other_words(minilm: Model) -> None:
    case = Case(text="The dog saw the old cat run there", key="old cat", answer="A cat")
    found = measure(minilm, Measurement(kind="flow", what="norms"), [case])
    explained = flow.explain(minilm, case.text, target=flow.Target(other="A cat"), methods=("norms",))
    shares = (explained.scores["norms"].text / explained.scores["norms"].text.sum()).tolist()
    of_word = [token.word for token in minilm.trace(case.text).tokens]
    by_word = [sum(share for share, word in zip(shares, of_word, strict=True) if word == n) for n in range(8)]
    assert found.values[0] == pytest.approx(by_word[4] + by_word[5])
    pairs = [by_word[n] + by_word[n + 1] for n in (0, 1, 2, 6)]
    assert found.control == pytest.approx(pairs)
    assert "4 runs of as many other words of the same text" in found.controls


def test_a_case_that_cannot_be_measured_has_no_value_and_a_reason(minilm: Model) -> None:
    asked = Measurement(kind="attention", heads=(ONE,))
    told: list[tuple[int, int]] = []
    found = measure(minilm, asked, [CASES[0], LONG, CASES[1]], progress=lambda *done: told.append(done))
    assert [value is None for value in found.values] == [False, True, False]
    assert "Not measured on 1 of 3; on text 2" in found.words
    assert found.low is None
    assert told == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(InputError, match="Nothing could be measured on any of 2 texts: There is no word 'cow'"):
        measure(minilm, asked, [one.model_copy(update={"key": "cow"}) for one in CASES[:2]])


@pytest.mark.parametrize("kind", ["attention", "agreement", "flow", "ablation", "detector"])
def test_texts_that_no_model_reads_are_told(minilm: Model, kind: str) -> None:
    asked = Measurement(
        kind=kind,
        what={"flow": "rollout", "ablation": "similarity", "detector": "sink"}.get(kind, ""),
        heads=() if kind == "flow" else (ONE,),
    )
    for text in (" ", "a\x00b"):
        with pytest.raises(InputError, match="Nothing could be measured on the text"):
            measure(minilm, asked, [Case(text=text, query="a", key="a", donor="x", answer="x")])


def test_donors_that_do_not_align_and_heads_that_are_not_there_are_told(minilm: Model) -> None:
    asked = Measurement(kind="ablation", what="similarity", heads=(ONE,), n_controls=1)
    found = measure(minilm, asked, [CASES[0], CASES[1].model_copy(update={"donor": "too short"})])
    assert found.values[1] is None
    assert "do not stand side by side" in found.words
    with pytest.raises(HeadError, match="has layers 0 to 5"):
        measure(minilm, Measurement(kind="attention", heads=(HeadAt(layer=9, head=0),)), CASES)
    for kind in ("ablation", "detector", "agreement"):
        with pytest.raises(InputError, match="is one of"):
            measure(minilm, Measurement(kind=kind, what="nonsense", heads=(ONE,)), CASES)
    with pytest.raises(InputError, match="is one of"):
        measure(minilm, Measurement(kind="flow", what="nonsense"), CASES)


def test_the_same_call_gives_the_same_outcome(minilm: Model) -> None:
    cases = [case.model_copy(update={"marks": marks_of(case)}) for case in CASES]
    for asked in (
        Measurement(kind="ablation", what="similarity", heads=TWO, n_controls=4, seed=3),
        Measurement(kind="agreement", what="spearman", heads=(ONE,), seed=3),
    ):
        once, again = (measure(minilm, asked, cases).model_copy(update={"seconds": 0.0}) for _ in range(2))
        assert once == again
        other = measure(minilm, asked.model_copy(update={"seed": 4}), cases)
        assert other.values == once.values
        assert other.control != once.control


def test_a_plan_judges_its_own_question_alone(minilm: Model) -> None:
    asked = Measurement(kind="attention", heads=(ONE,))
    plan = Plan(measurement=asked, cases=CASES, bound=0.99)
    assert measure(minilm, asked, CASES, plan=plan).verdict == "fails"
    assert measure(minilm, asked, CASES).verdict == "open"
    for other in (
        Measurement(kind="attention", heads=(TWO[0],)),
        Measurement(kind="detector", what="sink", heads=(ONE,)),
    ):
        with pytest.raises(InputError, match="another measurement"):
            measure(minilm, other, CASES, plan=plan)
    with pytest.raises(InputError, match="other texts"):
        measure(minilm, asked, CASES[:2], plan=plan)
    for number in (0, 501):
        with pytest.raises(InputError, match=f"1 to 500 cases, each a text; got {number}"):
            measure(minilm, asked, CASES[:1] * number)


def test_few_heads_hold_whatever_is_claimed_of_them(minilm: Model) -> None:
    """Claimed one by one to attend above nothing at all, at most the two of all 72 heads hold that do so most."""
    held = 0
    for layer in range(1, 6, 2):
        for head in range(12):
            asked = Measurement(kind="attention", heads=(HeadAt(layer=layer, head=head),))
            plan = Plan(measurement=asked, cases=CASES)
            held += measure(minilm, asked, CASES, plan=plan).verdict == "holds"
    assert held <= 2


@pytest.mark.parametrize("chosen", [(ONE,), TWO])
@pytest.mark.parametrize(("kind", "what", "first"), [("attention", "", 1), ("ablation", "similarity", 0)])
def test_a_wish_to_stop_is_obeyed(minilm: Model, kind: str, what: str, first: int, chosen: tuple[HeadAt, ...]) -> None:
    told: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        told.append((done, total))
        raise Cancelled("enough")

    heads_asked = chosen if kind == "ablation" else chosen[:1]
    with pytest.raises(Cancelled):
        measure(minilm, Measurement(kind=kind, what=what, heads=heads_asked), CASES, progress=stop)
    assert told == [(first, 3)]


def test_all_names_are_there() -> None:
    assert all(hasattr(findings, name) for name in findings.__all__)
