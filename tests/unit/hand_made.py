"""Traces of attention made by hand, where every number can be seen."""

import dataclasses
from types import SimpleNamespace

import tiny
import torch
from transformers.models.llama import modeling_llama

import attnviz
from attnviz import Trace
from attnviz.recorded import Recorded
from attnviz.trace import LayerAttention

LENGTH = 9


def trace_of(*layers: LayerAttention, kind: str = "grouped") -> Trace:
    """A trace of the tiny model with other attention in place of its own."""
    trace = attnviz.wrap_model(tiny.EXACT[kind](num_hidden_layers=len(layers))).trace(input_ids=tiny.ids(LENGTH))
    return dataclasses.replace(trace, attention={trace.info.sites[0]: dict(enumerate(layers))})


def recorded(scores: torch.Tensor) -> Recorded:
    """Causal attention of four heads with the given scores, [query, key]: queries are the scores, keys are one-hot."""
    query = scores.expand(1, 4, LENGTH, LENGTH)
    key = torch.eye(LENGTH).expand(1, 4, LENGTH, LENGTH)
    return Recorded(
        query=query,
        key=key,
        value=key,
        mask=None,
        causal=True,
        eager=modeling_llama.eager_attention_forward,
        module=SimpleNamespace(training=False, num_key_value_groups=1),
        keywords={"scaling": 1.0, "dropout": 0.0},
    )
