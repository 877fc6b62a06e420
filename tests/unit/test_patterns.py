"""Patterns, logits and embeddings of the embedded models, against plain transformers on thirty texts."""

from dataclasses import dataclass
from typing import Any

import pytest
import tiny
import torch
from texts import TEXTS, text_for
from transformers.models.bert import modeling_bert
from transformers.models.llama import modeling_llama

from attnviz import Head, Model, Trace
from attnviz.edits import ScaleHeads

EAGER = {"smollm2": modeling_llama.eager_attention_forward, "minilm": modeling_bert.eager_attention_forward}


@dataclass(frozen=True)
class Run:
    name: str
    model: Model
    trace: Trace
    eager: Any
    eager_model: Any
    sdpa: Any


class Spy(ScaleHeads):
    """An edit that counts how often the tap handed it head outputs."""

    def output(self, z: torch.Tensor, site: str, layer: int) -> torch.Tensor:
        object.__setattr__(self, "seen", (*getattr(self, "seen", ()), (site, layer, tuple(z.shape))))
        return super().output(z, site, layer)


@pytest.fixture(scope="module", params=[(m, t) for m in EAGER for t in TEXTS], ids=lambda p: f"{p[0]}-{p[1]}")
def run(request: pytest.FixtureRequest) -> Run:
    name, text_name = request.param
    model = request.getfixturevalue(name)
    eager, sdpa = (request.getfixturevalue(f"{name}_{kernel}") for kernel in ("eager", "sdpa"))
    trace = model.trace(text_for(text_name, model.tokenizer))
    ids = trace.input_ids
    return Run(name, model, trace, tiny.plain_run(eager, ids, output_attentions=True), eager, tiny.plain_run(sdpa, ids))


def output(trace: Trace) -> torch.Tensor:
    found = trace.logits if trace.info.has_vocabulary else trace.embedding
    assert found is not None
    return found


def plain_output(outputs: Any) -> torch.Tensor:
    logits = getattr(outputs, "logits", None)
    return outputs.last_hidden_state[0].mean(0) if logits is None else logits[0]


def test_the_ids_are_those_of_the_tokenizer(run: Run) -> None:
    assert run.trace.input_ids == run.model.tokenizer(run.trace.text)["input_ids"]


def test_every_pattern_equals_that_of_eager_attention(run: Run) -> None:
    assert len(run.trace.layers()) == len(run.eager.attentions) == run.model.info.n_layers
    for layer, reference in enumerate(run.eager.attentions):
        pattern = run.trace.pattern(layer)
        assert pattern.shape == reference[0].shape
        assert pattern.dtype == torch.float32
        torch.testing.assert_close(pattern, reference[0], atol=1e-4, rtol=0)


def test_every_pattern_equals_eager_arithmetic_on_the_same_queries_and_keys(run: Run) -> None:
    length = len(run.trace.tokens)
    mask = torch.zeros(1, 1, length, length)
    if run.model.info.family == "decoder":
        mask = torch.full_like(mask, torch.finfo(torch.float32).min).triu(1)
    modules = [m for m in run.eager_model.modules() if hasattr(m, "scaling") and hasattr(m, "is_causal")]
    for layer in run.trace.layers():
        recorded = run.trace.layer(layer)
        module = modules[layer]  # attention modules come in the order of the layers
        qkv = (recorded.query, recorded.key, recorded.value)
        _, weights = EAGER[run.name](module, *qkv, mask, scaling=module.scaling, dropout=0.0)
        torch.testing.assert_close(run.trace.pattern(layer), weights[0], atol=1e-6, rtol=0)


def test_rows_sum_to_one(run: Run) -> None:
    for layer in run.trace.layers():
        sums = run.trace.pattern(layer).sum(-1)
        torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-5, rtol=0)


def test_a_run_without_edits_is_bit_identical_to_the_plain_model(run: Run) -> None:
    assert torch.equal(output(run.trace), plain_output(run.sdpa))


def test_the_output_is_close_to_that_of_eager_attention(run: Run) -> None:
    torch.testing.assert_close(output(run.trace), plain_output(run.eager), atol=1e-3, rtol=0)


def test_scaling_by_one_goes_through_the_edit_and_is_bit_identical(run: Run) -> None:
    info = run.model.info
    heads = [Head(layer, (7 * layer) % info.n_heads) for layer in range(info.n_layers)]
    spy = Spy(dict.fromkeys(heads, 1.0))
    edited = run.model.trace(input_ids=run.trace.input_ids, edits=(spy,))
    shape = (1, len(run.trace.tokens), info.n_heads, info.d_head)
    assert spy.seen == tuple((info.sites[0], layer, shape) for layer in range(info.n_layers))
    assert torch.equal(output(edited), plain_output(run.sdpa))


def test_one_head_or_one_row_is_the_same_as_in_the_whole_pattern(run: Run) -> None:
    info, length = run.model.info, len(run.trace.tokens)
    queries = sorted({0, length // 2, length - 1})
    rows = {query: run.trace.row(query) for query in queries}
    for layer in range(info.n_layers):
        pattern = run.trace.pattern(layer)
        head = (5 * layer + 1) % info.n_heads
        torch.testing.assert_close(run.trace.pattern(layer, head), pattern[head], atol=1e-5, rtol=0)
        for query in queries:
            assert rows[query].shape == (info.n_layers, info.n_heads, length)
            torch.testing.assert_close(rows[query][layer], pattern[:, query], atol=1e-5, rtol=0)


def test_changing_a_pattern_changes_nothing(smollm2: Model) -> None:
    trace = smollm2.trace("Look again.")
    for head in (None, 2):
        first = trace.pattern(4, head)
        kept = first.clone()
        first.zero_()
        assert torch.equal(trace.pattern(4, head), kept)
    row = trace.row(-1)
    kept = row.clone()
    row.zero_()
    assert torch.equal(trace.row(-1), kept)
