"""Yardsticks against plain loops: one changed text, one forward call, no batch and no cache."""

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
import transformers

import attnviz
from attnviz import Head, Model, edits, wrap_model
from attnviz.errors import AttnvizError, InputError
from attnviz.flow import variants
from attnviz.flow.target import Target
from attnviz.flow.variants import Variant, Variants
from attnviz.flow.yardsticks import Effects, yardstick

IDS = tiny.ids()
TEXT = "Mary gave John the keys of her"
DECODERS = ["grouped", "gpt2", "soft-capped", "sinks", "windowed", "opt", "bloom"]


def decoder(name: str) -> Model:
    return wrap_model({**tiny.EXACT, "bloom": tiny.bloom}[name]())


@pytest.fixture(scope="module")
def grouped() -> Model:
    return decoder("grouped")


@pytest.fixture(scope="module")
def dates() -> Model:
    return attnviz.load_model("dates", device="cpu", dtype="float32")


def log_prob(model: Model, ids: list[int], position: int, answer: int, **decoder_side: Any) -> float:
    with torch.no_grad():
        logits = model.hf_model(input_ids=torch.tensor([ids]), use_cache=False, **decoder_side).logits
    return float(logits[0, position].float().log_softmax(-1)[answer])


def deleted(ids: list[int], j: int) -> list[int]:
    return [*ids[:j], *ids[j + 1 :]]


def replaced(ids: list[int], j: int, by: int) -> list[int]:
    return [*ids[:j], by, *ids[j + 1 :]]


def near(effects: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(effects, torch.tensor(expected).double(), atol=1e-4, rtol=0, equal_nan=True)


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoders_yardsticks_equal_single_runs(name: str) -> None:
    model, query, answer, words = decoder(name), 13, 17, [5, 40]
    clean = log_prob(model, IDS, query, answer)
    unseen = [0.0] * (len(IDS) - query - 1)
    gone = [clean - log_prob(model, deleted(IDS, j), query - 1, answer) for j in range(query + 1)]
    other = [clean - log_prob(model, replaced(IDS, j, 8), query, answer) for j in range(query + 1)]
    drawn = [
        sum(clean - log_prob(model, replaced(IDS, j, w), query, answer) for w in words) / 2 for j in range(query + 1)
    ]
    target = Target(query, answer)
    found = yardstick(model, input_ids=IDS, aim_target=target, how="delete")
    assert found.clean == pytest.approx(clean, abs=1e-5)
    near(found.text, gone + unseen)
    near(yardstick(model, input_ids=IDS, aim_target=target, how="replace", neutral=8).text, other + unseen)
    near(yardstick(model, input_ids=IDS, aim_target=target, how="resample", words=words).text, drawn + unseen)


@pytest.mark.parametrize("name", DECODERS)
def test_continued_runs_equal_whole_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = decoder(name)
    monkeypatch.setattr(variants, "_CONTINUED", 32)  # several batches, whose starts lie apart
    clean = Variant(tuple(IDS), len(IDS) - 1)
    asked = [Variant(tuple(replaced(IDS, j, 9)), len(IDS) - 1, j) for j in range(len(IDS))]
    asked += [Variant(tuple(deleted(IDS, j)), len(IDS) - 2, j) for j in range(len(IDS))]
    continuing, whole = Variants(model, clean), Variants(model, clean, share=False)
    assert continuing.shared
    assert not whole.shared
    found, expected = dict(continuing.run(asked)), dict(whole.run(asked))
    assert sorted(found) == list(range(len(asked)))
    for i in found:
        torch.testing.assert_close(found[i], expected[i], atol=1e-4, rtol=0)


def test_a_cache_that_gives_something_else_is_not_used(grouped: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def lossy(layers: Any = None) -> transformers.DynamicCache:
        return transformers.DynamicCache([(k * 0.9, v) for k, v in layers] if layers else None)

    before = yardstick(grouped, input_ids=IDS, aim_target=Target())
    monkeypatch.setattr(variants, "DynamicCache", lossy)
    assert not Variants(grouped, Variant(tuple(IDS), len(IDS) - 1)).shared
    near(yardstick(grouped, input_ids=IDS, aim_target=Target()).text, before.text.tolist())


def test_smollm2_equals_single_runs(smollm2: Model, smollm2_sdpa: Any) -> None:
    ids = smollm2.encode(TEXT).ids
    answer = int(smollm2.trace(TEXT).predictions(-1, 1).token_id[0])
    the = smollm2.ids_of(" the")[0]

    def plain(one: list[int]) -> float:
        return float(tiny.plain_run(smollm2_sdpa, one).logits[0, -1].log_softmax(-1)[answer])

    clean = plain(list(ids))
    gone = [clean - plain(deleted(list(ids), j)) for j in range(len(ids))]
    near(yardstick(smollm2, TEXT, aim_target=Target()).text, gone)
    other = yardstick(smollm2, TEXT, aim_target=Target(), how="replace")
    assert torch.isnan(other.text).nonzero().flatten().tolist() == [ids.index(the)]
    j = ids.index(smollm2.ids_of(" keys")[0])
    assert float(other.text[j]) == pytest.approx(clean - plain(replaced(list(ids), j, the)), abs=1e-4)
    assert "' the'" in other.note


def test_a_sentence_encoders_similarity(minilm: Model, minilm_sdpa: Any) -> None:
    other = "A woman handed over some keys."
    encoded = minilm.encode(TEXT)
    embedding = minilm.embed(other)

    def cosine(ids: list[int]) -> float:
        pooled = tiny.plain_run(minilm_sdpa, ids).last_hidden_state[0].mean(0)
        return float(torch.cosine_similarity(pooled, embedding, dim=0))

    ids, nan = list(encoded.ids), float("nan")
    clean, mask = cosine(ids), minilm.tokenizer.mask_token_id
    inner = range(1, len(ids) - 1)
    target = Target(other=other)
    near(yardstick(minilm, TEXT, aim_target=target).text, [nan, *(clean - cosine(deleted(ids, j)) for j in inner), nan])
    masked = [nan, *(clean - cosine(replaced(ids, j, mask)) for j in inner), nan]
    near(yardstick(minilm, TEXT, aim_target=target, how="replace").text, masked)
    drawn = yardstick(minilm, TEXT, aim_target=target, how="resample", samples=50)
    others = [sorted(set(ids[1:-1]) - {ids[j]}) for j in inner]
    means = [
        clean - sum(cosine(replaced(ids, j, w)) for w in ws) / len(ws) for j, ws in zip(inner, others, strict=True)
    ]
    near(drawn.text, [nan, *means, nan])
    assert "same text" in drawn.note


def test_a_masked_encoder_draws_from_its_fillings(monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrap_model(tiny.bert_masked())

    class Tokenizer:
        mask_token_id, all_special_ids, unk_token_id = 4, [4], None

    query, answer = 6, 30
    target = Target(query, answer)
    gone = yardstick(model, input_ids=IDS, aim_target=target).text
    clean = log_prob(model, IDS, query, answer)
    expected = [clean - log_prob(model, deleted(IDS, j), query - (j < query), answer) for j in range(len(IDS))]
    expected[query] = float("nan")  # without it there is no position to read
    near(gone, expected)
    object.__setattr__(model, "tokenizer", Tokenizer())
    monkeypatch.setattr(
        torch, "multinomial", lambda p, n, **_: p.topk(n).indices
    )  # the likeliest fillings, to be found again by hand
    drawn = yardstick(model, input_ids=IDS, aim_target=target, how="resample", samples=2)
    for j in (0, 6, 19):
        with torch.no_grad():
            filled = model.hf_model(input_ids=torch.tensor([replaced(IDS, j, 4)])).logits[0, j]
        filled[[IDS[j], 4]] = -torch.inf
        falls = [clean - log_prob(model, replaced(IDS, j, w), query, answer) for w in filled.topk(2).indices.tolist()]
        assert float(drawn.text[j]) == pytest.approx(sum(falls) / 2, abs=1e-4)
        assert float(drawn.spread[j]) == pytest.approx(abs(falls[0] - falls[1]) / 2**0.5, abs=1e-4)


def test_an_encoder_decoders_source_and_written_tokens(dates: Model) -> None:
    text, written = "the 3rd of May 1998", "1998-05-03"
    trace = dates.trace(text, written)
    source, ids, query = [t.id for t in trace.source_tokens], trace.input_ids, 6
    answer = ids[query + 1]

    def plain(source: list[int], ids: list[int]) -> float:
        return log_prob(dates, source, len(ids) - 1, answer, decoder_input_ids=torch.tensor([ids]))

    seen, nan = ids[: query + 1], float("nan")
    clean, unseen = plain(source, seen), [0.0] * (len(ids) - query - 1)
    target = Target(query, answer)
    changes: dict[str, Callable[[list[int], int], list[int]]] = {
        "delete": deleted,
        "replace": lambda given, j: replaced(given, j, 20),
    }
    for how, change in changes.items():
        found = yardstick(dates, text, written, aim_target=target, how=how, neutral=20)
        near(found.text, [nan, *(clean - plain(source, change(seen, j)) for j in range(1, query + 1)), *unseen])
        assert found.source is not None
        near(found.source, [*(clean - plain(change(source, j), seen) for j in range(len(source) - 1)), nan])
    drawn = yardstick(dates, text, written, aim_target=target, how="resample")
    assert drawn.source is not None
    assert torch.isnan(drawn.source).nonzero().flatten().tolist() == [len(source) - 1]
    assert torch.isnan(drawn.text).nonzero().flatten().tolist() == [0]


def test_a_seed_repeats_its_draws_and_leaves_torch_alone(grouped: Model) -> None:
    def drawn(seed: int) -> Effects:
        return yardstick(grouped, input_ids=IDS, aim_target=Target(), how="resample", samples=3, seed=seed)

    state = torch.get_rng_state()
    first = drawn(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    torch.testing.assert_close(drawn(1).text, first.text, atol=0, rtol=0, equal_nan=True)
    assert not torch.equal(drawn(2).text[1:], first.text[1:])
    assert torch.isnan(first.text).nonzero().flatten().tolist() == [0]  # nothing comes before a first token
    assert bool((first.spread[1:] > 0).any())


def test_draws_follow_the_models_distribution(grouped: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[torch.Tensor] = []

    def noted(p: torch.Tensor, n: int, **_: Any) -> torch.Tensor:
        given.append(p)
        return p.topk(n).indices

    monkeypatch.setattr(torch, "multinomial", noted)
    yardstick(grouped, input_ids=IDS, aim_target=Target(), how="resample")
    with torch.no_grad():
        logits = grouped.hf_model(input_ids=torch.tensor([IDS]), use_cache=False).logits[0]
    for j, found in enumerate(given, start=1):
        expected = logits[j - 1].softmax(-1)
        expected[IDS[j]] = 0
        torch.testing.assert_close(found, expected / expected.sum(), atol=1e-5, rtol=0)
    assert len(given) == len(IDS) - 1


def test_a_foil_and_edits_hold_in_every_run(grouped: Model) -> None:
    cut = [edits.ZeroHeads([Head(0, 1), Head(1, 2)])]
    found = yardstick(grouped, input_ids=IDS, aim_target=Target(9, 5, foil=6), edits=cut)
    with tiny.zeroed(grouped.hf_model, tiny.PROJECTION["grouped"], [(0, 1), (1, 2)]), torch.no_grad():

        def outcome(ids: list[int], at: int) -> float:
            logits = grouped.hf_model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, at]
            return float(logits[5] - logits[6])

        clean = outcome(IDS, 9)
        expected = [clean - outcome(deleted(IDS, j), 8) for j in range(10)]
    near(found.text, expected + [0.0] * 10)
    assert found.unit == "logits"
    assert "deleted" in found.title


def test_a_text_of_one_token_has_no_deletion(grouped: Model) -> None:
    found = yardstick(grouped, input_ids=[5], aim_target=Target())
    assert torch.isnan(found.text).tolist() == [True]


def test_progress_counts_to_its_end_and_may_stop(grouped: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "_CONTINUED", 32)
    seen: list[tuple[int, int]] = []
    yardstick(grouped, input_ids=IDS, aim_target=Target(), progress=lambda *at: seen.append(at))
    assert seen[-1] == (20, 20)
    assert len(seen) > 2

    def stop(done: int, total: int) -> None:
        raise attnviz.errors.Cancelled("stopped")

    with pytest.raises(attnviz.errors.Cancelled):
        yardstick(grouped, input_ids=IDS, aim_target=Target(), progress=stop)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"how": "blank"}, "how is one of delete, replace, resample"),
        ({"how": "replace"}, "give one as neutral="),
        ({"how": "replace", "neutral": 99}, "ids from 0 to 98"),
        ({"how": "replace", "neutral": True}, "ids from 0 to 98"),
        ({"how": "resample", "samples": 0}, "samples is a whole number of at least 1"),
        ({"how": "resample", "seed": -1}, "A seed is a whole number"),
        ({"how": "resample", "words": []}, "at least one token"),
    ],
)
def test_what_cannot_be_measured_is_refused(grouped: Model, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        yardstick(grouped, input_ids=IDS, aim_target=Target(), **options)


def test_a_neutral_of_several_tokens_is_refused(minilm: Model) -> None:
    with pytest.raises(AttnvizError, match="single tokens, but 'unbelievably neutral' is"):
        yardstick(minilm, TEXT, aim_target=Target(other="x"), how="replace", neutral="unbelievably neutral")
