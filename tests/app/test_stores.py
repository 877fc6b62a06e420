"""What the server keeps: texts that expire, models that are let go of, traces within a number of bytes."""

import gc
import threading
import time
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch

import attnviz
from attnviz.ui.stores import ModelPool, TextStore, TraceCache

Tiny = Callable[..., attnviz.Model]
IDS = list(range(1, 33))


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


# Texts.


def test_a_text_comes_back_under_its_key_only() -> None:
    texts = TextStore(10_000, 60)
    keys = [texts.put(text) for text in ("one", "two", "one")]
    assert [texts.get(key) for key in keys] == ["one", "two", "one"]
    assert len(set(keys)) == 3
    assert all(len(key) >= 20 for key in keys)
    assert texts.get("") is texts.get(keys[0][:-1]) is None


class Clock:
    """Time that passes when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_text_expires() -> None:
    clock = Clock()
    texts = TextStore(10_000, 60, clock)
    key = texts.put("soon gone")
    clock.now = 61
    assert texts.get(key) is None


def test_a_text_in_use_is_kept_for_another_term() -> None:
    clock = Clock()
    texts = TextStore(10_000, 60, clock)
    key = texts.put("still read")
    for now in (50, 100, 150):
        clock.now = now
        assert texts.get(key) == "still read"
    clock.now = 211
    assert texts.get(key) is None


def test_the_texts_kept_are_bounded_and_the_oldest_goes() -> None:
    texts = TextStore(10_000, 60)
    keys = [texts.put("x" * 500) for _ in range(20)]
    kept = [key for key in keys if texts.get(key) is not None]
    assert 1 <= len(kept) <= 5
    assert keys[-1] in kept
    assert keys[0] not in kept


# Models.


def test_a_pool_holds_its_number_and_lets_go_of_the_least_recently_used(tiny: Tiny) -> None:
    gone: list[str] = []
    pool = ModelPool(2, let_go=gone.append)
    models = {name: tiny() for name in ("a", "b", "c")}
    pool.put("a", models["a"])
    pool.put("b", models["b"])
    assert pool.get("a") is models["a"]  # now "b" is the least recently used
    pool.put("c", models["c"])
    assert pool.names() == ["a", "c"]
    assert gone == ["b"]
    assert pool.get("b") is None
    pool.put("a", models["b"])
    assert pool.get("a") is models["b"]
    assert pool.names() == ["c", "a"]


def test_room_is_made_before_the_next_model_is_there(tiny: Tiny) -> None:
    gone: list[str] = []
    pool = ModelPool(1, let_go=gone.append)
    pool.put("a", tiny())
    pool.make_room()
    assert pool.names() == []
    assert gone == ["a"]


def test_a_model_let_go_of_dies_even_if_its_traces_are_cached(tiny: Tiny) -> None:
    traces = TraceCache(1 << 20)
    pool = ModelPool(1)  # it does not tell the cache: a cached trace alone must not hold a model
    model = tiny()
    memory = weakref.ref(model.hf_model)
    traces.put(("a", "trace"), model.trace(input_ids=IDS).compact())
    pool.put("a", model)
    del model
    gc.collect()
    assert memory() is not None
    pool.put("b", tiny())
    gc.collect()
    assert memory() is None
    assert traces.get(("a", "trace")).pattern(1, 1).shape == (32, 32)


def test_a_pool_stays_within_its_number_under_many_threads(tiny: Tiny) -> None:
    pool = ModelPool(3)
    model = tiny()
    over: list[int] = []

    def use(start: int) -> None:
        for i in range(12):
            pool.put(f"m{(start * 5 + i) % 20}", model)
            pool.get(f"m{i % 20}")

    def watch() -> None:
        while any(thread.is_alive() for thread in users):
            over.extend(n for n in [len(pool.names())] if n > 3 + len(users))

    users = [threading.Thread(target=use, args=(start,)) for start in range(4)]
    watcher = threading.Thread(target=watch)
    for thread in [*users, watcher]:
        thread.start()
    for thread in [*users, watcher]:
        thread.join()
    assert over == []
    assert len(pool.names()) == 3


# Traces.


def test_traces_stay_within_their_bytes_and_the_oldest_goes(tiny: Tiny) -> None:
    trace = tiny().trace(input_ids=IDS).compact(k=5)
    size = trace.nbytes + 256 * len(trace.tokens)
    cache = TraceCache(3 * size + 10)
    for i in range(6):
        cache.put(("m", i), trace)
        assert cache.nbytes <= 3 * size + 10
    assert [cache.get(("m", i)) is not None for i in range(6)] == [False] * 3 + [True] * 3


def test_what_is_larger_than_the_cache_is_not_kept_and_drives_nothing_out() -> None:
    cache = TraceCache(1_000)
    cache.put(("m", "small"), np.zeros(100, np.float32))
    cache.put(("m", "large"), np.zeros(1_000, np.float32))
    assert cache.get(("m", "large")) is None
    assert cache.get(("m", "small")) is not None


def test_a_models_entries_go_with_it_and_no_others(tiny: Tiny) -> None:
    cache = TraceCache(1 << 20)
    trace = tiny().trace(input_ids=IDS).compact()
    scores = np.zeros((2, 2), np.float32)
    for key in [("a", "trace", "x"), ("b", "trace", "x"), ("ab", "trace", "x")]:
        cache.put(key, trace)
    cache.put(("a", "sink", "x"), scores)
    cache.drop_model("a")
    assert cache.get(("a", "trace", "x")) is cache.get(("a", "sink", "x")) is None
    assert cache.get(("b", "trace", "x")) is trace
    assert cache.get(("ab", "trace", "x")) is trace
    cache.drop_model("b")
    cache.drop_model("ab")
    assert cache.nbytes == 0


@pytest.mark.parametrize("k", [1, 7])
def test_a_compact_trace_holds_no_logits(tiny: Tiny, k: int) -> None:
    whole = tiny().trace(input_ids=IDS)
    small = whole.compact(k)
    assert whole.logits is not None
    assert whole.nbytes - small.nbytes == whole.logits.nbytes - len(IDS) * (k * (8 + 4) + 4)
    assert torch.equal(small.pattern(0, 0), whole.pattern(0, 0))
