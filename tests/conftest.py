"""The embedded models, loaded once for all tests, and plain transformers copies of them to compare with."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from hypothesis import settings

import attnviz
from attnviz.embedded import EMBEDDED, embedded_folder

# No test is timed: a machine that does other things too would fail it.
settings.register_profile("attnviz", deadline=None)
settings.load_profile("attnviz")


def _plain(name: str, implementation: str) -> Any:
    folder = embedded_folder(EMBEDDED[name], lambda what, share: None)
    kind = transformers.AutoModelForCausalLM if name == "smollm2" else transformers.AutoModel
    return kind.from_pretrained(folder, dtype=torch.float32, attn_implementation=implementation).eval()


@pytest.fixture(scope="session")
def smollm2() -> attnviz.Model:
    return attnviz.load_model("smollm2", device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def minilm() -> attnviz.Model:
    return attnviz.load_model("minilm", device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def smollm2_sdpa() -> Any:
    return _plain("smollm2", "sdpa")


@pytest.fixture(scope="session")
def smollm2_eager() -> Any:
    return _plain("smollm2", "eager")


@pytest.fixture(scope="session")
def minilm_sdpa() -> Any:
    return _plain("minilm", "sdpa")


@pytest.fixture(scope="session")
def minilm_eager() -> Any:
    return _plain("minilm", "eager")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One torch thread, for tests that bring threads or much work of their own."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
