"""Many texts give what each gives alone, whatever they are batched with; a stop keeps what was measured."""

import copy
import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

import attnviz
from attnviz import errors
from attnviz.corpus import Item, Shelf, run, run_key, running
from attnviz.corpus.quicker import quick_products
from attnviz.encoding import Encoded
from attnviz.heads.detecting import detect
from attnviz.settings import Settings
from attnviz.view import Sinks

LINES = [
    "The cat sat on the mat, and the cat sat still.",
    "Yes.",
    "When Mary and John went to the store, John gave a drink to Mary.",
    "An unbelievably long word such as antidisestablishmentarianism is cut into pieces!",
    "Rain, rain, go away; come again another day.",
    "你好，世界。",
    "One two three four five six seven",
    "She said that he said that they said so.",
]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "corpora.sqlite")


def check(model: Any, shelf: Shelf, items: list[Item], site: str | None = None, **options: Any) -> None:
    """Every text's values are those of its own trace."""
    key = shelf.add(items, "Mine")
    sinks = options.get("sinks")
    ran = run(model, shelf, key, site=site, **options)
    assert ran.done == len(items)
    for result in shelf.results(key, ran.run):
        item = items[result.number]
        alone = detect(model.trace(item.text, item.pair or None), site=site, sinks=sinks)
        np.testing.assert_array_equal(np.isnan(result.values), np.isnan(alone.values))
        np.testing.assert_allclose(result.values, alone.values, atol=1e-5)
        np.testing.assert_allclose(result.chance, alone.chance, atol=1e-6)


@pytest.mark.usefixtures("one_thread")
def test_a_decoders_texts_in_batches_are_its_texts_alone(smollm2: attnviz.Model, shelf: Shelf) -> None:
    check(smollm2, shelf, [Item(line) for line in LINES[:4]], batch_positions=64)


@pytest.mark.usefixtures("one_thread")
def test_an_encoders_texts_in_batches_are_its_texts_alone(minilm: attnviz.Model, shelf: Shelf) -> None:
    check(minilm, shelf, [Item(line) for line in LINES], sinks=Sinks(kinds=("special",)))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("site", ["encoder", "decoder", "cross"])
def test_an_encoder_decoders_pairs_in_batches_are_its_pairs_alone(site: str, shelf: Shelf) -> None:
    model = attnviz.load_model("dates", device="cpu", dtype="float32")
    pairs = [("3 May 1990", "1990-05-03"), ("21st of June, 2004", "2004-06-21"), ("Dec 1 2011", "2011-12")]
    check(model, shelf, [Item(text, "", pair) for text, pair in pairs], site=site)


def texts_of(lengths: list[int]) -> list[running._Text]:
    """Texts of random ids, as the reader would give them."""
    random = torch.Generator().manual_seed(3)
    found = []
    for number, length in enumerate(lengths):
        ids = tuple(torch.randint(3, 90, (length,), generator=random).tolist())
        tokens = tuple(attnviz.Token(f"#{i}", i, (n, n + 1), None, False) for n, i in enumerate(ids))
        found.append(running._Text(number, Encoded("x" * length, ids, tokens), None))
    return found


@pytest.mark.parametrize("kind", ["grouped", "gpt2", "bert", "soft-capped", "sinks", "windowed", "opt", "shared layer"])
def test_padding_never_counts_in_any_kind_of_model(kind: str) -> None:
    model = attnviz.wrap_model(tiny.EXACT[kind]())
    reducer = running._Reducer(model, model.info.sites[0], None)
    batch = texts_of([18, 12, 7, 1])
    together = reducer(batch, lambda *_: None)
    for text, (values, chance) in zip(batch, together, strict=True):
        alone, even = reducer([text], lambda *_: None)[0]
        found = detect(model.trace(input_ids=list(text.source.ids)))
        np.testing.assert_allclose(values, alone, atol=1e-5)
        np.testing.assert_allclose(values[:, [0, 1, 4, 5, 6]], found.values[:, [0, 1, 4, 5, 6]], atol=1e-5)
        np.testing.assert_allclose(chance, even, atol=1e-6)


def test_batches_hold_texts_of_about_one_length() -> None:
    lengths = [3, 40, 41, 4, 39, 200, 5, 38, 3, 3]
    batches = list(running._batches(texts_of(lengths), 128, True))
    sizes = [[t.length for t in batch] for batch in batches]
    assert sorted(t.number for batch in batches for t in batch) == list(range(10))
    assert sizes[0] == [200]
    assert [41, 40, 39] in sizes
    for size in sizes:
        assert len(size) == 1 or max(size) * len(size) <= 128
        assert sum(max(size) - n for n in size) <= 0.25 * max(size) * len(size)
    without = list(running._batches(texts_of(lengths), 128, False))
    assert all(len({t.length for t in batch}) == 1 for batch in without)


def test_a_stop_keeps_what_was_measured_and_the_next_call_goes_on(minilm: attnviz.Model, shelf: Shelf) -> None:
    key = shelf.add([Item(f"{line} {n}") for n in range(5) for line in LINES], "Mine")
    told: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        told.append((done, total))
        if done >= 8:
            raise errors.Cancelled("enough")

    with pytest.raises(errors.Cancelled):
        run(minilm, shelf, key, progress=stop, batch_positions=64)
    name = run_key(minilm)
    kept = {r.number: r.values.copy() for r in shelf.results(key, name)}
    assert len(kept) == told[-1][0] >= 8
    seen: list[int] = []
    ran = run(minilm, shelf, key, progress=lambda done, total: seen.append(done), batch_positions=64)
    assert (ran.run, ran.done, ran.left) == (name, 40, {})
    assert seen[0] == len(kept)
    assert seen == sorted(seen)
    assert seen[-1] == 40
    for result in shelf.results(key, name):
        if result.number in kept:
            np.testing.assert_array_equal(result.values, kept[result.number])


def test_a_stop_in_the_middle_of_a_forward_pass_leaves_the_model_whole(minilm: attnviz.Model, shelf: Shelf) -> None:
    expected = minilm.trace(LINES[0]).embedding
    key = shelf.add([Item(line) for line in LINES], "Mine")
    calls = 0

    def stop(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 13:  # past the texts' tokens, in a layer
            raise errors.Cancelled("enough")

    with pytest.raises(errors.Cancelled):
        run(minilm, shelf, key, progress=stop)
    assert not list(shelf.results(key, run_key(minilm)))
    assert torch.equal(minilm.trace(LINES[0]).embedding, expected)  # type: ignore[arg-type]


def test_texts_that_cannot_be_measured_are_left_out_and_counted(minilm: attnviz.Model, shelf: Shelf) -> None:
    key = shelf.add([Item(LINES[0]), Item("word " * 40), Item("word " * 4000)], "Mine")
    ran = run(minilm, shelf, key, most_tokens=30)
    assert (ran.done, ran.left) == (1, {running.TOO_LONG: 2})
    assert run(minilm, shelf, key, most_tokens=30) == ran
    dates = attnviz.load_model("dates", device="cpu", dtype="float32")
    key = shelf.add([Item("3 May 1990"), Item("4 May 1990", "", "1990-05-04")], "Dates")
    for site in ("decoder", "cross"):
        ran = run(dates, shelf, key, site=site)
        assert (ran.done, ran.left) == (1, {running.NO_PAIR: 1})
    assert run(dates, shelf, key, site="encoder").done == 2


def test_a_view_only_model_is_measured_from_what_it_returns(shelf: Shelf) -> None:
    model = attnviz.wrap_model(tiny.bloom())
    reducer = running._Reducer(model, "decoder", None)
    (values, _), *_ = reducer(texts_of([9]), lambda *_: None)
    assert not model.layout.exact
    assert np.isfinite(values[0, 0]).all()


def test_out_of_memory_halves_the_batch(minilm: attnviz.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    reducer = running._Reducer(minilm, "encoder", None)
    whole: Callable[..., Any] = reducer._together
    sizes: list[int] = []

    def small(batch: Any, step: Any) -> Any:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise errors.OutOfMemory("full")
        return whole(batch, step)

    monkeypatch.setattr(reducer, "_together", small)
    batch = [running._Text(n, minilm.encode(line), None) for n, line in enumerate(LINES[:5])]
    found = reducer(batch, lambda *_: None)
    assert sizes == [5, 2, 3, 1, 2]
    alone = detect(minilm.trace(LINES[4]))
    np.testing.assert_allclose(found[4][0], alone.values, atol=1e-5)


def test_a_run_is_named_by_all_that_its_numbers_depend_on(minilm: attnviz.Model) -> None:
    one, other = (attnviz.wrap_model(tiny.grouped(), name="mine") for _ in range(2))
    names = {run_key(one), run_key(minilm), run_key(one, sinks=Sinks(kinds=("special",)))}
    assert len(names) == 3
    assert run_key(other) == run_key(one, site="decoder")
    with torch.no_grad():
        other.hf_model.model.layers[1].self_attn.q_proj.weight.add_(0.01)
    assert run_key(other) != run_key(one)


def test_a_head_that_is_cut_and_any_single_weight_are_another_run() -> None:
    model = attnviz.wrap_model(tiny.grouped(), name="mine")
    layer = model.hf_model.model.layers[1].self_attn
    names = [run_key(model)]
    with torch.no_grad():
        layer.o_proj.weight[:, -model.info.d_head :] = 0
        names.append(run_key(model))
        layer.o_proj.weight[3, 1] += 1e-3
        names.append(run_key(model))
    layer.o_proj.weight = torch.nn.Parameter(layer.o_proj.weight.detach() + 1)
    names.append(run_key(model))
    model.hf_model.register_buffer("gate", torch.ones(3))
    names.append(run_key(model))
    assert len(set(names)) == 5
    assert run_key(model) == names[-1]


def test_weights_are_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, made = attnviz.wrap_model(tiny.grouped(), name="mine"), []
    whole = hashlib.blake2b
    monkeypatch.setattr(hashlib, "blake2b", lambda **options: made.append(1) or whole(**options))
    assert run_key(model) == run_key(model)
    assert len(made) == 1


def test_texts_left_out_under_one_limit_are_tried_under_another(
    minilm: attnviz.Model, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = shelf.add([Item("One two."), Item("word " * 20)], "Mine")
    assert run(minilm, shelf, key, most_tokens=10).left == {running.TOO_LONG: 1}
    assert run(minilm, shelf, key, most_tokens=30).done == 2
    monkeypatch.setattr(running, "settings", lambda: Settings(corpus_tokens=10))
    assert run(minilm, shelf, key).left == {running.TOO_LONG: 1}
    monkeypatch.setattr(running, "settings", lambda: Settings(corpus_tokens=40))
    ran = run(minilm, shelf, key)
    assert (ran.done, ran.run) == (2, run_key(minilm))


@pytest.mark.parametrize(("reads", "limit"), [(None, 4000), (100, 100)])
def test_a_limit_above_the_settings_holds_as_far_as_the_model_reads(
    minilm: attnviz.Model, reads: int | None, limit: int
) -> None:
    model = copy.copy(minilm)
    object.__setattr__(model, "info", replace(minilm.info, max_tokens=reads))
    assert running._about(model, None, None, 4000)["most_tokens"] == limit


def test_a_corpus_that_goes_while_it_is_measured_is_an_error_of_ours(minilm: attnviz.Model, shelf: Shelf) -> None:
    key = shelf.add([Item(line) for line in LINES[:2]], "Mine")

    def gone(done: int, total: int) -> None:
        if done == total:
            shelf.remove(key)

    with pytest.raises(errors.InputError, match="not here any more"):
        run(minilm, shelf, key, progress=gone)


def test_quick_products_are_the_plain_ones_but_for_rounding() -> None:
    states, weight, bias = torch.randn(4, 40, 24), torch.randn(8, 24), torch.randn(8)
    product = torch.nn.functional.linear
    expected = [product(states, weight, bias), product(states, weight), product(states.double(), weight.double())]
    elsewhere: list[torch.Tensor] = []
    with torch.no_grad(), quick_products(states.device):
        found = [product(states, weight, bias), product(states, weight), product(states.double(), weight.double())]
        few = product(states[:1, :5], weight)
        strided = product(states.transpose(0, 1), weight)
        other = threading.Thread(target=lambda: elsewhere.append(product(states, weight)))
        other.start()
        other.join()
    for one, same in zip(found, expected, strict=True):
        torch.testing.assert_close(one, same, atol=1e-5, rtol=1e-5)
    assert torch.equal(found[2], expected[2])
    assert torch.equal(few, product(states[:1, :5], weight))
    assert torch.equal(strided, product(states.transpose(0, 1), weight))
    assert torch.equal(elsewhere[0], expected[1])
    assert torch.equal(product(states, weight), expected[1])


def test_gradients_never_meet_quick_products() -> None:
    states, weight = torch.randn(40, 24), torch.randn(8, 24, requires_grad=True)
    with quick_products(states.device):
        torch.nn.functional.linear(states, weight).sum().backward()
    torch.testing.assert_close(weight.grad, states.sum(0).expand(8, -1))
