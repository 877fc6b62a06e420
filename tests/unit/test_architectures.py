"""A sample of transformers' model types, read and edited as docs/MODELS.md says; the whole sweep is a command.

`python benchmarks/architectures.py` checks every pair of mapping and model type; here are the 25 that between them do
everything attention can do differently. The oracle is the model's own eager attention and a plain hook.
"""

from typing import Any

import pytest
import torch
import transformers

import attnviz
from benchmarks import architectures, tiny

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own, of old model types
COMMITTED = architectures.committed()
TABLE = architectures.read_table()


@pytest.mark.parametrize("pair", architectures.SAMPLE, ids="-".join)
def test_the_sample_reads_as_the_table_says(pair: tuple[str, str]) -> None:
    row = architectures.check(*pair)
    assert (row.family, row.status) == TABLE[pair], row
    assert architectures.entry(row) == COMMITTED[pair]


def test_the_sample_has_25_pairs_of_the_list() -> None:
    assert len(architectures.SAMPLE) == 25
    assert set(architectures.SAMPLE) <= set(COMMITTED)


def test_the_table_has_the_committed_list_row_by_row() -> None:
    assert list(TABLE) == list(COMMITTED)
    assert {pair: (line["family"], line["status"]) for pair, line in COMMITTED.items()} == TABLE


def test_the_list_has_every_pair_of_the_installed_transformers() -> None:
    assert list(COMMITTED) == list(tiny.pairs()), "transformers changed: run benchmarks/architectures.py --write"


def test_the_committed_list_meets_the_goals() -> None:
    rows = [architectures.Row(**line) for line in COMMITTED.values()]
    assert architectures.shortfalls(rows) == []


@pytest.mark.parametrize("model_type", architectures.MOST_USED)
def test_a_family_people_use_most_is_exact_wherever_it_is(model_type: str) -> None:
    statuses = {pair[0]: status for pair, (_, status) in TABLE.items() if pair[1] == model_type}
    assert statuses
    assert set(statuses.values()) == {"exact"}, statuses


class Strict(transformers.LlamaForCausalLM):
    """A forward that takes no keyword but its own."""

    def forward(self, input_ids: torch.Tensor, output_attentions: bool = False) -> Any:  # type: ignore[override]
        return super().forward(input_ids, output_attentions=output_attentions)


def test_a_model_whose_forward_takes_no_extra_keyword_is_exact() -> None:
    torch.manual_seed(0)
    hf_model = Strict(tiny.tiny_config(transformers.LlamaConfig)).eval()
    tiny.stir(hf_model)
    ids = tiny.inputs(hf_model)
    expected = architectures.Oracle(hf_model, ids)
    trace = attnviz.wrap_model(hf_model).trace(**ids)
    assert trace.info.status == "exact"
    for layer, weights in enumerate(expected.attentions("decoder")):
        torch.testing.assert_close(trace.pattern(layer), weights[0], atol=1e-4, rtol=0)


def test_the_oracle_sees_a_wrong_edit() -> None:
    """The check is worth something only if it fails where the library is wrong: here the head is off by one."""
    hf_model = tiny.build("causal", "llama")
    oracle = architectures.Oracle(hf_model, tiny.inputs(hf_model))
    model = attnviz.wrap_model(hf_model)
    right = model.trace(**oracle.ids, edits=(attnviz.edits.ZeroHeads([attnviz.Head(1, 2)]),)).logits
    for head, equal in ((1, False), (2, True), (3, False)):
        naive = oracle.without("model.layers.1.self_attn.o_proj", 0, slice(16 * head, 16 * (head + 1)))
        assert torch.allclose(right, naive, atol=1e-4, rtol=0) == equal
