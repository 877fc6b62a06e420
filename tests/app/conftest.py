"""The Explore page without a browser, and tiny models to fill the stores with."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from streamlit.testing.v1 import AppTest

import attnviz

SECONDS = 120  # a run of the page; the first one reads a model


@pytest.fixture
def page() -> Callable[..., AppTest]:
    """page(**parameters): a new session that has opened the Explore page at this address."""

    def open_at(**parameters: str) -> AppTest:
        test = AppTest.from_file("../../pages/explore.py", default_timeout=SECONDS)
        for name, value in parameters.items():
            test.query_params[name] = value
        return test.run()

    return open_at


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
