"""What the server keeps between runs: texts, models, traces. Bounded, shared by all sessions, safe across threads."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from cachetools import LRUCache, TTLCache

from attnviz.memory import release_memory
from attnviz.models import Model
from attnviz.trace import Trace


class TextStore:
    """Texts behind unguessable keys that expire, so that a URL restores a text without carrying it."""

    def __init__(self, most_bytes: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._texts: TTLCache[str, str] = TTLCache(most_bytes, seconds, timer=clock, getsizeof=_text_bytes)
        self._lock = threading.Lock()

    def put(self, text: str) -> str:
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._texts[key] = text
        return key

    def get(self, key: str) -> str | None:
        """The text, kept for another full term; None if the key is unknown or has expired."""
        with self._lock:
            text = self._texts.get(key)
            if text is not None:
                self._texts[key] = text
            return text

    @property
    def nbytes(self) -> int:
        return int(self._texts.currsize)


class ModelPool:
    """At most `held` models; the least recently used one goes, with its memory and what `let_go` frees."""

    def __init__(self, held: int, let_go: Callable[[str], None] = lambda name: None) -> None:
        self._held, self._let_go = held, let_go
        self._models: OrderedDict[str, Model] = OrderedDict()
        self.loading = threading.Lock()  # one load at a time: two would need the memory of both at once
        self._lock = threading.Lock()

    def get(self, name: str) -> Model | None:
        with self._lock:
            if name in self._models:
                self._models.move_to_end(name)
            return self._models.get(name)

    def make_room(self) -> None:
        """Let go of what is over the limit once one more model is in: before loading, so that both never coexist."""
        self._shrink(self._held - 1)

    def put(self, name: str, model: Model) -> None:
        with self._lock:
            self._models[name] = model
            self._models.move_to_end(name)
        self._shrink(self._held)

    def names(self) -> list[str]:
        """The models held, least recently used first."""
        with self._lock:
            return list(self._models)

    def _shrink(self, most: int) -> None:
        gone = []
        with self._lock:
            while len(self._models) > most:
                gone.append(self._models.popitem(last=False)[0])
        for name in gone:
            self._let_go(name)
        if gone:
            release_memory()


class TraceCache:
    """Traces and what was computed from them, bounded in bytes together; keys start with the model's name."""

    def __init__(self, most_bytes: int) -> None:
        self._kept: LRUCache[tuple[Hashable, ...], Any] = LRUCache(most_bytes, getsizeof=_nbytes)
        self._lock = threading.Lock()

    def get(self, key: tuple[Hashable, ...]) -> Any:
        with self._lock:
            return self._kept.get(key)

    def put(self, key: tuple[Hashable, ...], value: Any) -> bool:
        """Keep a value; False if it is larger than all the room there is."""
        with self._lock:
            fits = bool(_nbytes(value) <= self._kept.maxsize)
            if fits:
                self._kept[key] = value
            return fits

    def drop_model(self, name: str) -> None:
        with self._lock:
            for key in [key for key in self._kept if key[0] == name]:
                del self._kept[key]

    def clear(self) -> None:
        """Give everything back: the device has run out of memory."""
        with self._lock:
            self._kept.clear()
        release_memory()

    @property
    def nbytes(self) -> int:
        return int(self._kept.currsize)


def _text_bytes(text: str) -> int:
    """A Python string takes up to four bytes a character, and its entry some more."""
    return 4 * len(text) + 200


def _nbytes(value: Any) -> int:
    if isinstance(value, Trace):
        # Each token is about a quarter of a kilobyte of Python objects.
        return value.nbytes + 256 * len(value.tokens)
    size = getattr(value, "nbytes", 1024)  # arrays, and what is made of them
    return size if isinstance(size, int) else 1024
