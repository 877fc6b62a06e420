"""What tests of pages share: models that are held, a shelf of their own, and tiny models to fill the stores with."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import transformers
from corpus_pages import HOSTILE, MOODS
from flow_page import hold

import attnviz
from attnviz import corpus
from attnviz.corpus import Shelf
from attnviz.settings import settings
from attnviz.ui import measuring


@pytest.fixture(scope="session")
def held_models(smollm2: attnviz.Model, minilm: attnviz.Model) -> None:
    hold(smollm2, minilm)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """A shelf of the module's own, not the one of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTNVIZ_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        settings.cache_clear()
        measuring.shelf.clear()
        yield measuring.shelf()
    settings.cache_clear()
    measuring.shelf.clear()


@pytest.fixture(scope="module")
def moods(shelf: Shelf, minilm: attnviz.Model) -> tuple[str, str]:
    """(key, run) of texts of two labels, measured."""
    key = shelf.add(MOODS, f"Moods {HOSTILE}")
    return key, corpus.run(minilm, shelf, key).run


@pytest.fixture
def tiny() -> Callable[..., attnviz.Model]:
    """tiny(): a Llama of a few kilobytes with random weights, another one each time."""

    def make(**options: Any) -> attnviz.Model:
        config = transformers.LlamaConfig(
            vocab_size=50,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=64,
            **options,
        )
        with torch.random.fork_rng(devices=[]):
            return attnviz.wrap_model(transformers.LlamaForCausalLM(config))

    return make
