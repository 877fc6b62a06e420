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
from attnviz.errors import MetricError, Unsupported
from attnviz.flow.logits import Attribution, attribution, lens, promotes
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
