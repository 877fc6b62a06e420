"""Steering and external attention against plain eager attention, with the arithmetic done by hand around it."""

import math
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import tiny
import torch
from transformers import AutoModelForSeq2SeqLM

import attnviz
from attnviz import Head, Model, ablation
from attnviz.edits import Edit, ExternalAttention, KnockOut, MeanHeads, Steer, ZeroHeads
from attnviz.embedded import EMBEDDED, embedded_folder
from attnviz.errors import AttnvizError, HeadError, InputError
from attnviz.metrics import KL, LogitDiff
from attnviz.tap import Call

TEXT = "Mary lives in Paris. Anna lives in Rome. The woman from Rome is called"
DATE = "the 3rd of May 1998"
L = tiny.LENGTH
WEIGHTS = [0.0] * 5 + [2.0, 0.5] + [0.0] * 8 + [1.0, 3.0, 0.25] + [0.0] * (L - 18)
OUTSIDE = [i for i in range(L) if i not in (4, 15)]
ALL = range(4)
Before = Callable[[int, torch.Tensor], None]  # (which call, [head, query, key] added to the scores so far)
After = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]  # (which call, [head, query, key], what is seen)


@cache
def wrapped(kind: str) -> Model:
    return attnviz.wrap_model(tiny.EXACT[kind](), name=kind)


@cache
def clean_run(kind: str) -> attnviz.Trace:
    return wrapped(kind).trace(input_ids=tiny.ids())


@dataclass
class Eager:
    """transformers' eager attention, its mask changed before the softmax and its pattern after it."""

    before: Before = lambda number, mask: None
    after: After = lambda number, pattern, seen: pattern
    weights: list[torch.Tensor] = field(default_factory=list)

    def put(self, hf_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        assert hf_model.config._attn_implementation == "eager"
        modelling = sys.modules[type(hf_model).__module__]
        plain = modelling.eager_attention_forward

        def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, *more: Any, **keywords: Any) -> Any:
            shape = (*query.shape[:3], key.shape[2])
            mask = torch.zeros(shape) if mask is None else mask.expand(shape).clone()
            seen = mask[0] > -1e30
            self.before(len(self.weights), mask[0])
            out, own = plain(module, query, key, value, mask.masked_fill(~seen, -math.inf), *more, **keywords)
            pattern = self.after(len(self.weights), own[0].clone(), seen)
            if not torch.equal(pattern, own[0]):
                each = [h // (len(pattern) // value.shape[1]) for h in range(len(pattern))]
                out = torch.stack([pattern[h] @ value[0, kv] for h, kv in enumerate(each)], 1)[None]
            self.weights.append(pattern)
            return out, pattern[None]

        monkeypatch.setattr(modelling, "eager_attention_forward", attend)


def added(places: dict[int, Any], queries: Any, keys: Any, amount: float | list[float]) -> Before:
    def before(number: int, mask: torch.Tensor) -> None:
        for head in torch.as_tensor(places.get(number, [])).reshape(-1):
            for query in queries:
                mask[head, query, keys] += torch.tensor(amount)

    return before


def mixed(places: dict[int, Any], weights: list[float], alpha: float) -> After:
    def after(number: int, pattern: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        for head in torch.as_tensor(places.get(number, [])).reshape(-1):
            for query in range(pattern.shape[1]):
                given = [w if see else 0.0 for w, see in zip(weights, seen[head, query].tolist(), strict=True)]
                if sum(given) > 0:
                    other = torch.tensor([w / sum(given) for w in given])
                    pattern[head, query] = alpha * pattern[head, query] + (1 - alpha) * other
        return pattern

    return after


EVERY = {0: ALL, 1: ALL}
SOME = {0: 1, 1: [0, 3]}
HEADS = [Head(0, 1), Head(1, 0), Head(1, 3)]
CASES: dict[str, tuple[list[Edit], Eager]] = {
    "steered": ([Steer([4, -5], HEADS, 0.3)], Eager(added(SOME, range(L), OUTSIDE, math.log(0.3)))),
    "all heads": ([Steer([4, 15])], Eager(added(EVERY, range(L), OUTSIDE, math.log(0.01)))),
    "ignored by some queries": (
        [Steer((4, 15), HEADS, 0.05, ignore=True, queries=(16, -3))],
        Eager(added(SOME, [16, 17], [4, 15], math.log(0.05))),
    ),
    "beta": (
        [ExternalAttention(WEIGHTS, beta=1.5, heads=HEADS)],
        Eager(added(SOME, range(L), list(range(L)), [1.5 * w for w in WEIGHTS])),
    ),
    "alpha": ([ExternalAttention(WEIGHTS, alpha=0.3, heads=HEADS)], Eager(after=mixed(SOME, WEIGHTS, 0.3))),
    "alpha of 0": ([ExternalAttention(WEIGHTS, alpha=0)], Eager(after=mixed(EVERY, WEIGHTS, 0.0))),
    "one after the other": (
        [ExternalAttention(WEIGHTS, alpha=0.5, heads=HEADS), Steer(4, HEADS[:1], 0.2)],
        Eager(added({0: 1}, range(L), [i for i in range(L) if i != 4], math.log(0.2)), after=mixed(SOME, WEIGHTS, 0.5)),
    ),
}


@pytest.mark.parametrize("kind", tiny.EXACT)
@pytest.mark.parametrize("case", CASES)
def test_it_is_the_formula(kind: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    edits, eager = CASES[case]
    eager = Eager(eager.before, eager.after)
    model = wrapped(kind)
    clean = clean_run(kind)
    trace = model.trace(input_ids=tiny.ids(), edits=edits)
    by_hand = tiny.eager_copy(tiny.EXACT[kind]())
    eager.put(by_hand, monkeypatch)
    expected = tiny.main_output(tiny.plain_run(by_hand, tiny.ids()))[0]
    got, before = (t.embedding if t.logits is None else t.logits for t in (trace, clean))
    torch.testing.assert_close(got, expected.mean(0) if trace.logits is None else expected, atol=1e-5, rtol=1e-5)
    assert float((got - before).abs().max()) > 1e-4
    for layer, weights in enumerate(eager.weights):
        pattern = trace.pattern(layer)
        torch.testing.assert_close(pattern, weights, atol=2e-6, rtol=0)
        torch.testing.assert_close(trace.pattern(layer, 1), pattern[1], atol=0, rtol=0)
        assert bool((pattern >= 0).all())
        assert bool((pattern.sum(-1) < 1 + 1e-5).all())
        if kind != "sinks":
            torch.testing.assert_close(pattern.sum(-1), torch.ones(4, L), atol=1e-5, rtol=0)
        if not kind.startswith("bert") and kind != "shared layer":
            assert not pattern.triu(1).any()


NOTHING: list[Edit] = [
    Steer([4, 15], strength=1),
    Steer([4, 15], HEADS, 1, ignore=True),
    ExternalAttention(WEIGHTS, beta=0),
    ExternalAttention(WEIGHTS, alpha=1),
    ExternalAttention([0] * L, alpha=0.2),
    ExternalAttention([0] * L, beta=5),
]


@pytest.mark.parametrize("kind", ["grouped", "bert", "soft-capped", "sinks", "windowed"])
def test_where_nothing_is_asked_nothing_changes(kind: str) -> None:
    model = wrapped(kind)
    clean = clean_run(kind)
    for edit in NOTHING:
        trace = model.trace(input_ids=tiny.ids(), edits=[edit])
        assert torch.equal(tiny_output(trace), tiny_output(clean))
        assert torch.equal(trace.pattern(1), clean.pattern(1))


def tiny_output(trace: attnviz.Trace) -> torch.Tensor:
    found = trace.embedding if trace.logits is None else trace.logits
    assert found is not None
    return found


@pytest.mark.parametrize("strength", [0.3, 0.01])
def test_in_the_large_model_it_is_a_masked_softmax_of_its_own_queries_and_keys(smollm2: Model, strength: float) -> None:
    tokens, heads = [6, 7, 8, 9], [Head(0, 2), Head(14, 5), Head(29, 8)]
    trace = smollm2.trace(TEXT, edits=[Steer(tokens, heads, strength)])
    n = len(trace.tokens)
    outside = torch.tensor([i not in tokens for i in range(n)])
    for head in heads:
        layer: Any = trace.layer(head.layer)
        query, key = layer.query[0, head.head].double(), layer.key[0, head.head // layer.group].double()
        scores = query @ key.T / math.sqrt(query.shape[-1]) + outside * math.log(strength)
        naive = scores.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -math.inf).softmax(-1)
        torch.testing.assert_close(trace.pattern(head.layer, head.head).double(), naive, atol=1e-6, rtol=0)
    plain = smollm2.trace(TEXT)
    torch.testing.assert_close(trace.pattern(0)[3:], plain.pattern(0)[3:], atol=0, rtol=0)
    went = [float(t.pattern(14, 5)[-1, tokens].sum()) for t in (plain, trace)]
    assert went[1] > went[0]


def test_an_encoder_reads_it_both_ways(minilm: Model, minilm_eager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = minilm.trace("The old bank by the river.", edits=[Steer(3, strength=0.3)])
    n = len(trace.tokens)
    outside = [i for i in range(n) if i != 3]
    eager = Eager(added(dict.fromkeys(range(12), range(12)), range(n), outside, math.log(0.3)))
    eager.put(minilm_eager, monkeypatch)
    tiny.plain_run(minilm_eager, trace.input_ids)
    for layer in (0, minilm.info.n_layers - 1):
        torch.testing.assert_close(trace.pattern(layer), eager.weights[layer], atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def dates() -> Model:
    return attnviz.load_model("dates")


@pytest.mark.parametrize(("site", "call"), [("encoder", 1), ("decoder", 4), ("cross", 5)])
def test_it_is_at_every_site(dates: Model, site: str, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = dates.trace(DATE, "1998-05-03")
    n_key = len(clean.axes(site)[1])
    weights = [float(i % 3) for i in range(n_key)]
    edits = [
        Steer((1, 2), [Head(1, 3, site)], 0.1),
        ExternalAttention(weights, beta=0.7, heads=[Head(1, 0, site)]),
        ExternalAttention(weights, alpha=0.4, heads=[Head(1, 1, site)]),
    ]
    trace = dates.trace(DATE, "1998-05-03", edits=edits)
    folder = embedded_folder(EMBEDDED["dates"], lambda what, share: None)
    plain = AutoModelForSeq2SeqLM.from_pretrained(folder, attn_implementation="eager").eval()

    def before(number: int, mask: torch.Tensor) -> None:
        if number == call:
            mask[3, :, [k for k in range(n_key) if k not in (1, 2)]] += math.log(0.1)
            mask[0] += 0.7 * torch.tensor(weights)

    eager = Eager(before, mixed({call: 1}, weights, 0.4))
    eager.put(plain, monkeypatch)
    ids = torch.tensor([[t.id for t in trace.source_tokens]])
    with torch.no_grad():
        expected = plain(input_ids=ids, decoder_input_ids=torch.tensor([trace.input_ids])).logits[0]
    torch.testing.assert_close(trace.logits, expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(trace.pattern(1, site=site), eager.weights[call], atol=1e-5, rtol=0)
    assert float((tiny_output(clean) - expected).abs().max()) > 1e-3


def test_a_site_needs_weights_of_its_own_length(dates: Model) -> None:
    n_source = len(dates.trace(DATE, "1998-05-03").source_tokens)
    with pytest.raises(InputError, match=r"one weight a key.*decoder keys"):
        dates.trace(DATE, "1998-05-03", edits=[ExternalAttention([1.0] * n_source, beta=1, site="decoder")])
    with pytest.raises(HeadError, match=r"encoder, decoder, cross.*site"):
        dates.trace(DATE, "1998-05-03", edits=[Steer(1)])


CONTINUED: dict[str, Callable[[int], Edit]] = {
    "steered": lambda n: Steer([2, 5], [Head(0, 1), Head(1, 2)], 0.05),
    "from the end": lambda n: Steer([-1] if n == 8 else [7], strength=0.2, ignore=True),
    "beta": lambda n: ExternalAttention([0, 0, 1, 0, 0, 3, 0, 1] + [0] * (n - 8), beta=1.0),
    "alpha": lambda n: ExternalAttention([0, 0, 1, 0, 0, 3, 0, 1] + [0] * (n - 8), alpha=0.3),
}


@pytest.mark.parametrize("kind", ["grouped", "windowed", "gpt2", "sinks"])
@pytest.mark.parametrize("case", CONTINUED)
def test_it_holds_while_a_text_is_continued(kind: str, case: str) -> None:
    model = wrapped(kind)
    made = model.generate(input_ids=tiny.ids(8), max_new_tokens=6, edits=[CONTINUED[case](8)])
    ids = tiny.ids(8)
    while len(ids) < len(made.tokens):
        whole = model.trace(input_ids=ids, edits=[CONTINUED[case](len(ids))])
        ids.append(int(tiny_output(whole)[-1].argmax()))
    assert made.input_ids == ids
    again = model.trace(input_ids=ids, edits=[CONTINUED[case](len(ids))])
    torch.testing.assert_close(made.logits, again.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(made.pattern(1), again.pattern(1), atol=1e-5, rtol=0)
    assert not torch.allclose(tiny_output(made), tiny_output(model.trace(input_ids=ids)), atol=1e-4)


def test_a_target_is_written_under_it(dates: Model) -> None:
    edits = [Steer((4, 5), strength=0.01, site="cross")]
    made = dates.generate(DATE, edits=edits)
    ids = made.input_ids[:1]
    while len(ids) < len(made.tokens):
        ids.append(int(tiny_output(dates.trace(DATE, decoder_input_ids=ids, edits=edits))[-1].argmax()))
    assert made.input_ids == ids
    clean = dates.trace(DATE, decoder_input_ids=ids)
    assert float((tiny_output(clean) - tiny_output(made)).abs().max()) > 1e-3


KNOCKED: list[Edit] = [KnockOut(9, (5, 6), [Head(0, 1)]), KnockOut(7, range(L), [Head(0, 1)])]


@pytest.mark.parametrize("edit", [Steer(4, HEADS), ExternalAttention(WEIGHTS, alpha=0, heads=HEADS)])
def test_what_is_knocked_out_stays_out(edit: Edit) -> None:
    model = wrapped("grouped")
    one, other = (model.trace(input_ids=tiny.ids(), edits=e) for e in ([edit, *KNOCKED], [*KNOCKED, edit]))
    assert torch.equal(tiny_output(one), tiny_output(other))
    pattern = one.pattern(0, 1)
    assert not pattern[9, [5, 6]].any()
    assert not pattern[7].any()
    torch.testing.assert_close(pattern.sum(-1), torch.ones(L).index_fill(0, torch.tensor(7), 0.0))
    assert bool(torch.isfinite(tiny_output(one)).all())


def test_heads_are_changed_after_patterns_are_mixed() -> None:
    model = wrapped("grouped")
    mix, zero = ExternalAttention(WEIGHTS, alpha=0, heads=[Head(0, 1)]), ZeroHeads([Head(0, 1)])
    plain = model.trace(input_ids=tiny.ids(), edits=[zero])
    for edits in ([mix, zero], [zero, mix]):
        assert torch.equal(tiny_output(model.trace(input_ids=tiny.ids(), edits=edits)), tiny_output(plain))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["grouped", "soft-capped", "sinks"])
def test_in_half_precision_it_is_nearly_the_same(kind: str, name: str) -> None:
    edits: list[Edit] = [Steer([4, 15], HEADS), ExternalAttention(WEIGHTS, beta=1e30, heads=[Head(1, 1)])]
    edits.append(ExternalAttention(WEIGHTS, alpha=0.5, heads=[Head(0, 2)]))
    half = attnviz.wrap_model(tiny.EXACT[kind]().to(getattr(torch, name))).trace(input_ids=tiny.ids(), edits=edits)
    full = wrapped(kind).trace(input_ids=tiny.ids(), edits=edits)
    assert bool(torch.isfinite(tiny_output(half)).all())
    torch.testing.assert_close(half.pattern(0), full.pattern(0), atol=0.03, rtol=0)
    assert not half.pattern(1).triu(1).any()


@pytest.mark.parametrize("kind", ["grouped", "soft-capped"])
@pytest.mark.parametrize(
    "edit", [Steer([4, 15], HEADS), ExternalAttention(WEIGHTS, alpha=0.5), ExternalAttention(WEIGHTS, beta=2)]
)
def test_a_sweep_starts_from_the_steered_run(kind: str, edit: Edit) -> None:
    model, metric = wrapped(kind), LogitDiff(7, 9)
    found = ablation.sweep(model, None, metric, input_ids=tiny.ids(), edits=[edit])
    baseline = model.measure(metric, input_ids=tiny.ids(), edits=[edit])
    assert found.baseline == pytest.approx(baseline, abs=1e-4)
    assert "whole run" not in found.note
    for layer, head in [(0, 0), (0, 1), (1, 3)]:
        one = model.measure(metric, input_ids=tiny.ids(), edits=[edit, ZeroHeads([Head(layer, head)])])
        assert found.effects[layer, head] == pytest.approx(one - baseline, abs=1e-4)
    screened = ablation.screen(model, None, metric, input_ids=tiny.ids(), edits=[edit])
    assert screened.baseline == pytest.approx(baseline, abs=1e-4)
    assert bool((screened.effects != ablation.screen(model, None, metric, input_ids=tiny.ids()).effects).any())


def test_two_threads_steer_one_model_each_its_own_way() -> None:
    model = wrapped("grouped")
    edits: list[Edit] = [Steer([4, 15]), ExternalAttention(WEIGHTS, alpha=0.2), ExternalAttention(WEIGHTS, beta=2)]
    expected = [tiny_output(model.trace(input_ids=tiny.ids(), edits=[edit])) for edit in edits]
    same: list[bool] = []

    def work(me: int) -> None:
        for _ in range(20):
            got = tiny_output(model.trace(input_ids=tiny.ids(), edits=[edits[me]]))
            same.append(torch.equal(got, expected[me]))

    threads = [threading.Thread(target=work, args=(me,)) for me in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * 60


def test_a_saved_trace_shows_the_mixed_pattern(tmp_path: Any) -> None:
    model = wrapped("grouped")
    for number, edit in enumerate(
        [Steer(4), ExternalAttention(WEIGHTS, alpha=0.5), ExternalAttention(WEIGHTS, beta=1)]
    ):
        trace = model.trace(input_ids=tiny.ids(), edits=[edit])
        opened = attnviz.load_trace(trace.save(tmp_path / f"{number}.safetensors"))
        assert opened.edit_titles == (edit.title,)
        torch.testing.assert_close(opened.pattern(1), trace.pattern(1), atol=1e-6, rtol=0)


def test_a_mean_over_texts_and_a_metric_of_the_clean_run_go_with_it(smollm2: Model) -> None:
    edits = [Steer([6, 7, 8, 9], [Head(10, 0)]), MeanHeads([Head(11, 1)], texts=["A text."])]
    assert smollm2.measure(KL(), TEXT, edits=edits) > 0


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: Steer(None), "tokens"),  # type: ignore[arg-type]
    (lambda: Steer([]), "at least one"),
    (lambda: Steer([1.5]), "whole numbers"),  # type: ignore[list-item]
    (lambda: Steer(1, strength=0), "above 0"),
    (lambda: Steer(1, strength=1.1), "at most 1"),
    (lambda: Steer(1, strength=math.nan), "strength"),
    (lambda: Steer(1, strength="a"), "strength"),  # type: ignore[arg-type]
    (lambda: Steer(1, ignore=1), "ignore"),  # type: ignore[arg-type]
    (lambda: Steer(1, queries="a"), "queries"),  # type: ignore[arg-type]
    (lambda: Steer(1, [Head(0, 0)], site="decoder"), "both"),
    (lambda: ExternalAttention([1.0]), "exactly one"),
    (lambda: ExternalAttention([1.0], beta=1, alpha=0.5), "exactly one"),
    (lambda: ExternalAttention([1.0], beta=math.inf), "finite"),
    (lambda: ExternalAttention([1.0], alpha=1.5), "within 0 and 1"),
    (lambda: ExternalAttention([1.0], alpha=-0.1), "within 0 and 1"),
    (lambda: ExternalAttention([], beta=1), "at least one"),
    (lambda: ExternalAttention([1, -1], beta=1), "0 or more"),
    (lambda: ExternalAttention([1, math.nan], beta=1), "finite"),
    (lambda: ExternalAttention("12", beta=1), "one a key"),  # type: ignore[arg-type]
    (lambda: ExternalAttention(torch.ones(2, 2), beta=1), "finite numbers"),  # type: ignore[arg-type]
    (lambda: ExternalAttention([1.0], beta=1, heads=[]), "at least one head"),
]


@pytest.mark.parametrize(("make", "part"), WRONG)
def test_what_makes_no_sense_is_refused(make: Callable[[], Any], part: str) -> None:
    with pytest.raises(InputError, match=part):
        make()


@pytest.mark.parametrize(
    ("edit", "part"),
    [
        (Steer(20), r"token.*20 tokens.*20"),
        (Steer(1, queries=-21), r"query.*20 tokens.*-21"),
        (Steer([5, 6], queries=3), "no later key"),
        (Steer(1, [Head(2, 0)]), "layer"),
        (ExternalAttention([1.0] * 19, beta=1), r"20 decoder keys.*19 weights were"),
        (ExternalAttention([1.0], alpha=0), r"20 decoder keys.*1 weight was"),
        (Steer(2, site="encoder"), "decoder"),
    ],
)
def test_what_the_run_does_not_have_is_refused(edit: Edit, part: str) -> None:
    model = wrapped("grouped")
    with pytest.raises(InputError, match=part):
        model.trace(input_ids=tiny.ids(), edits=[edit])


@pytest.mark.parametrize("edit", [Steer(1), ExternalAttention(WEIGHTS, alpha=0.5)])
def test_an_edit_that_nobody_bound_to_a_run_is_not_passed_over(edit: Edit) -> None:
    model = wrapped("grouped")
    inputs = {"input_ids": torch.tensor([tiny.ids()])}
    with pytest.raises(AttnvizError, match="ready"), model.running(Call(model.layout.places, [edit])):
        model.hf_model(**inputs)


def test_they_say_in_words_what_they_do() -> None:
    assert Steer([3, 4]).title == "all but keys 3 and 4 scaled by 0.01 in all heads"
    assert Steer(3, [Head(2, 1)], 0.5, ignore=True).title == "key 3 scaled by 0.5 in L2H1"
    assert Steer(3, site="cross", queries=1).title == "all but key 3 scaled by 0.01 for query 1 in all cross heads"
    added_to = ExternalAttention([0, 1, 2], beta=2, heads=[Head(0, 1)])
    assert added_to.title == "external weights on 2 of 3 keys added to the scores (beta 2) in L0H1"
    assert ExternalAttention(torch.ones(2), alpha=0.5).title == (  # type: ignore[arg-type]
        "external weights on 2 of 2 keys mixed into the patterns (own share 0.5) in all heads"
    )
    assert hash(Steer([3, 4])) == hash(Steer((3, 4)))
    assert Steer([3]) != Steer([3], ignore=True)
    assert hash(added_to) == hash(ExternalAttention((0.0, 1.0, 2.0), beta=2.0, heads=[Head(0, 1)]))
