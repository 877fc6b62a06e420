"""Direct logit attribution: parts sum to the logits, and each part is what the frozen norms make of it."""

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
import transformers
from test_relevance import bart

import attnviz
from attnviz.edits import Head, ZeroHeads
from attnviz.errors import InputError, MetricError, Unsupported
from attnviz.flow import logits as reading
from attnviz.flow.logits import Attribution, Unembedding, attribution, edge_logits, lens, promotes
from attnviz.flow.run import Run, take_apart
from attnviz.flow.target import Aim, Target
from attnviz.models import Model


def built(kind: str, config: str, **options: Any) -> Callable[[], Any]:
    def build() -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            return getattr(transformers, kind)(getattr(transformers, config)(**options)).eval()

    return build


def bart_with_a_bias() -> Any:
    hf_model = bart()
    hf_model.final_logits_bias.copy_(torch.linspace(-1, 1, 99)[None])
    return hf_model


neox = built("GPTNeoXForCausalLM", "GPTNeoXConfig", **tiny.SIZES)
granite = built("GraniteForCausalLM", "GraniteConfig", **tiny.SIZES, logits_scaling=3.0, residual_multiplier=0.5)
t5 = built(
    "T5ForConditionalGeneration",
    "T5Config",
    vocab_size=99,
    d_model=32,
    d_kv=8,
    d_ff=48,
    num_layers=2,
    num_heads=4,
    decoder_start_token_id=0,
)
BUILDS = {
    "grouped": tiny.grouped,
    "gpt2": tiny.gpt2,
    "opt": tiny.opt,
    "neox": neox,
    "sinks": tiny.sinks,
    "granite": granite,
    "bart": bart,
    "bart with a bias": bart_with_a_bias,
    "t5": t5,
}


def taken_apart(build: Callable[[], Any], edits: tuple[ZeroHeads, ...] = ()) -> tuple[Model, Run]:
    model = attnviz.wrap_model(build(), name="tiny")
    pair = {"decoder_input_ids": tiny.ids(5)} if model.family == "encoder-decoder" else {}
    return model, take_apart(model, input_ids=tiny.ids(9), edits=edits, **pair)


def summed(run: Run, model: Model, aim: Aim) -> tuple[float, float]:
    """(the sum over all parts, the outcome as the run's own logits have it)."""
    assert run.trace.logits is not None
    logits = run.trace.logits[aim.query].float()
    against = logits.mean() if aim.foil is None else logits[aim.foil]
    return float(attribution(run, model, aim).frame().logits.sum()), float(logits[aim.answer] - against)


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
@pytest.mark.parametrize("target", [Target(3, 7, 11), Target(-1)], ids=["foil", "alone"])
def test_parts_sum_to_the_logits(build: Callable[[], Any], target: Target) -> None:
    model, run = taken_apart(build)
    told, actual = summed(run, model, target.aim(model, run.trace))
    assert told == pytest.approx(actual, abs=1e-4)
    assert actual != 0


def test_parts_sum_to_the_logits_of_trained_models(smollm2: Model) -> None:
    run = take_apart(smollm2, "The capital of France is")
    told, actual = summed(run, smollm2, Target(-1, " Paris", " London").aim(smollm2, run.trace))
    assert told == pytest.approx(actual, abs=1e-3)
    dates = attnviz.load_model("dates")
    run = take_apart(dates, "3 May 1999", "1999-05-0")
    told, actual = summed(run, dates, Target(-1).aim(dates, run.trace))
    assert told == pytest.approx(actual, abs=1e-3)


def test_every_head_mlp_and_bias_is_a_row_of_its_own() -> None:
    model, run = taken_apart(tiny.gpt2)
    frame = attribution(run, model, Target(-1, 7, 11).aim(model, run.trace)).frame()
    counts = frame.part.value_counts().to_dict()
    assert counts == {"head": 8, "mlp": 2, "bias": 4, "embedding": 1}
    heads = frame[frame.part == "head"]
    assert list(zip(heads.layer, heads["head"], strict=True)) == [(n, h) for n in range(2) for h in range(4)]
    assert frame[frame.part == "head"].logits.nunique() == 8


def test_a_heads_direct_logits_by_hand() -> None:
    """The last layer's heads of GPT-2: z W_O, off the mean, times the final norm's frozen gain, on the vocabulary."""
    model, run = taken_apart(tiny.gpt2)
    hf_model, query = model.hf_model, 3
    block = run.blocks[-1]
    matrix = hf_model.transformer.h[1].attn.c_proj.weight
    sigma = (run.last[query].var(unbiased=False) + hf_model.transformer.ln_f.eps).sqrt()
    frame = attribution(run, model, Target(query, 7, 11).aim(model, run.trace)).frame()
    for head in range(4):
        part = block.z[query, head] @ matrix[head * 8 : head * 8 + 8]
        normed = (part - part.mean()) / sigma * hf_model.transformer.ln_f.weight
        logits = (hf_model.lm_head.weight @ normed).detach()
        row = frame[(frame.part == "head") & (frame.layer == 1) & (frame["head"] == head)]
        assert float(row.logits.iloc[0]) == pytest.approx(float(logits[7] - logits[11]), abs=1e-4)
        told = promotes(run, model, block, head, query, k=3)
        centred = logits - logits.mean()
        assert told[told.direction == "promotes"].token_id.tolist() == centred.topk(3).indices.tolist()
        assert told[told.direction == "suppresses"].token_id.tolist() == (-centred).topk(3).indices.tolist()
        torch.testing.assert_close(
            torch.tensor(told[told.direction == "promotes"].logits.tolist()), centred.topk(3).values, atol=1e-4, rtol=0
        )


def test_promoted_logits_are_the_attributed_ones_through_norms_that_stand_behind() -> None:
    model, run = taken_apart(bart)
    block = next(block for block in run.blocks if block.site == "cross")
    top = promotes(run, model, block, 2, -1, k=1)
    ids = top.token_id.tolist()
    frame = attribution(run, model, Target(-1, ids[0], ids[1]).aim(model, run.trace)).frame()
    row = frame[(frame.part == "head") & (frame.site == "cross") & (frame.layer == 0) & (frame["head"] == 2)]
    assert float(row.logits.iloc[0]) == pytest.approx(top.logits[0] - top.logits[1], abs=1e-4)
    assert top.logits[0] > top.logits[1]
    with pytest.raises(Unsupported, match="encoder"):
        promotes(run, model, run.blocks[0], 0, -1)


def test_a_zeroed_head_writes_nothing() -> None:
    model, run = taken_apart(tiny.grouped, (ZeroHeads([Head(0, 2)]),))
    aim = Target(-1, 7, 11).aim(model, run.trace)
    frame = attribution(run, model, aim).frame()
    zero = (frame.part == "head") & (frame.layer == 0) & (frame["head"] == 2)
    assert frame[zero].logits.tolist() == [0.0]
    told, actual = summed(run, model, aim)
    assert told == pytest.approx(actual, abs=1e-4)


def test_capped_logits_are_attributed_before_the_cap() -> None:
    model, run = taken_apart(tiny.soft_capped)
    found: Attribution = attribution(run, model, Target(-1, 7, 11).aim(model, run.trace))
    cap = model.hf_model.config.final_logit_softcapping
    assert run.trace.logits is not None
    raw = cap * torch.atanh(run.trace.logits[-1] / cap)
    assert found.title.endswith("before the cap")
    assert float(found.frame().logits.sum()) == pytest.approx(float(raw[7] - raw[11]), abs=1e-3)


@pytest.mark.parametrize("build", [*BUILDS.values(), tiny.soft_capped], ids=[*BUILDS, "soft-capped"])
def test_the_lens_at_the_last_layer_is_the_models_own_prediction(build: Callable[[], Any]) -> None:
    model, run = taken_apart(build)
    frame, own = lens(run, model, 3, k=4), run.trace.predictions(3, k=4)
    last = frame[frame.layer == frame.layer.max()]
    assert last.token_id.tolist() == own.token_id.tolist()
    assert last.probability.tolist() == pytest.approx(own.probability.tolist(), abs=1e-5)
    assert sorted(set(frame.layer)) == [-1, 0, 1]


def test_the_lens_follows_the_answer_at_every_layer() -> None:
    model, run = taken_apart(tiny.grouped)
    norm, head = model.hf_model.model.norm, model.hf_model.lm_head
    frame = lens(run, model, 5, k=2, answer=42)
    for layer, state in [(-1, run.embedded), (0, run.blocks[0].mlp.after), (1, run.last)]:  # type: ignore[union-attr]
        chances = head(norm(state[5])).softmax(-1).detach()
        row = frame[(frame.layer == layer) & (frame.token_id == 42)].iloc[0]
        assert row.probability == pytest.approx(float(chances[42]), abs=1e-6)
        assert row["rank"] == 1 + int((chances > chances[42]).sum())


def test_what_cannot_be_attributed_is_refused_with_the_reason(minilm: Model) -> None:
    model, run = taken_apart(tiny.bert_masked)
    with pytest.raises(Unsupported, match="transform"):
        lens(run, model, 0)
    with pytest.raises(Unsupported, match="more than an output projection"):
        attribution(run, model, Target(0, 7).aim(model, run.trace))
    run = take_apart(minilm, "A boat.")
    with pytest.raises(MetricError, match="similarity"):
        attribution(run, minilm, Target(other="A ship.").aim(minilm, run.trace))
    with pytest.raises(Unsupported, match="no output projection"):
        lens(run, minilm, 0)


KINDS = {**BUILDS, "soft-capped": tiny.soft_capped}


@pytest.mark.parametrize("build", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("target", [Target(3, 7, 11), Target(-1)], ids=["foil", "alone"])
def test_an_edges_logits_over_all_keys_are_its_heads_row(build: Callable[[], Any], target: Target) -> None:
    model, run = taken_apart(build)
    aim = target.aim(model, run.trace)
    assert aim.query is not None
    frame = attribution(run, model, aim).frame()
    for block in (block for block in run.blocks if block.site != "encoder"):
        n_keys = block.attention.value.shape[2]
        each = [edge_logits(run, model, block, aim.query, key, aim) for key in range(n_keys)]
        rows = frame[(frame.part == "head") & (frame.site == block.site) & (frame.layer == block.layer)]
        expected = torch.tensor(rows.logits.tolist())
        torch.testing.assert_close(torch.stack(each).sum(0), expected, atol=1e-4, rtol=1e-4)
        several = edge_logits(run, model, block, aim.query, [0, 2, -n_keys], aim)
        torch.testing.assert_close(several, each[0] + each[2], atol=1e-5, rtol=1e-4)
        assert float(expected.abs().max()) > 0


def test_an_edge_promotes_what_its_part_of_the_heads_output_does() -> None:
    model, run = taken_apart(tiny.gpt2)
    block, head, query = run.blocks[0], 2, 4
    n_tokens = model.hf_model.config.vocab_size

    def logits(**keys: Any) -> torch.Tensor:
        """[vocab], from a table of all tokens."""
        told = promotes(run, model, block, head, query, n_tokens, **keys).drop_duplicates("token_id")
        return torch.tensor(told.sort_values("token_id").logits.tolist())

    edges = [logits(keys=key) for key in range(query + 1)]
    torch.testing.assert_close(torch.stack(edges).sum(0), logits(), atol=1e-4, rtol=0)
    torch.testing.assert_close(logits(keys=[1, 3]), edges[1] + edges[3], atol=1e-4, rtol=0)
    assert not logits(keys=query + 1).any()  # a later token is not read
    own = edge_logits(run, model, block, query, 1, Target(query, 7, 11).aim(model, run.trace))
    assert float(own[head]) == pytest.approx(float(edges[1][7] - edges[1][11]), abs=1e-4)


def test_edges_that_write_to_no_logit_are_refused(minilm: Model) -> None:
    model, run = taken_apart(bart)
    aim = Target(-1, 7).aim(model, run.trace)
    with pytest.raises(Unsupported, match="encoder"):
        edge_logits(run, model, run.blocks[0], 0, 0, aim)
    with pytest.raises(InputError, match="key is a position from 0 to 8"):
        edge_logits(run, model, run.blocks[-1], 0, 9, aim)
    with pytest.raises(InputError, match="query is a position from 0 to 4"):
        promotes(run, model, run.blocks[-1], 0, 5, keys=[0])
    run = take_apart(minilm, "A boat.")
    with pytest.raises(MetricError, match="similarity"):
        edge_logits(run, minilm, run.blocks[0], 0, 0, Target(other="A ship.").aim(minilm, run.trace))


def test_the_projection_is_checked_once_a_run_and_at_few_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    model = attnviz.wrap_model(tiny.grouped(), name="tiny")
    run = take_apart(model, input_ids=tiny.ids(300))
    read: list[int] = []
    plain = Unembedding.of_states

    def counted(self: Unembedding, states: torch.Tensor) -> torch.Tensor:
        read.append(states.numel() // states.shape[-1])
        return plain(self, states)

    monkeypatch.setattr(Unembedding, "of_states", counted)
    aim = Target(-1, 7).aim(model, run.trace)
    attribution(run, model, aim)
    checked = sum(read)
    assert 0 < checked <= 16
    for _ in range(3):
        attribution(run, model, aim)
    promotes(run, model, run.blocks[0], 0, -1)
    assert sum(read) == checked + 1  # what the head promotes


def test_an_attribution_says_what_it_divides() -> None:
    model, run = taken_apart(tiny.grouped)
    logits = run.trace.raw_logits
    assert logits is not None
    alone = attribution(run, model, Target(3, 7).aim(model, run.trace))
    assert alone.title == "logit of '#7' minus the mean logit at position 3"
    assert alone.total == pytest.approx(float(logits[3, 7] - logits[3].mean()), abs=1e-5)
    against = attribution(run, model, Target(3, 7, 11).aim(model, run.trace))
    assert against.title == "logit of '#7' minus that of '#11' at position 3"
    assert against.total == pytest.approx(float(logits[3, 7] - logits[3, 11]), abs=1e-5)


def test_a_bfloat16_projection_is_read_in_parts_as_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_ROWS", 10)
    model = attnviz.wrap_model(tiny.grouped().bfloat16(), name="tiny")
    run = take_apart(model, input_ids=tiny.ids(9))
    head = Unembedding.of(run, model)
    assert head.weight.dtype == torch.bfloat16
    torch.testing.assert_close(head.of_states(run.last), run.last @ model.hf_model.lm_head.weight.float().T)
    aim = Target(-1, 7).aim(model, run.trace)
    assert head.towards(aim).dtype == torch.float32
    told = attribution(run, model, aim)
    assert float(told.frame().logits.sum()) == pytest.approx(told.total, abs=0.1)
