"""Head scales in the weights: against the edit, in memory and read back by plain transformers."""

from pathlib import Path
from typing import Any

import pytest
import tiny as small
import torch
import transformers
from transformers.models.kosmos2.modeling_kosmos2 import Kosmos2TextForCausalLM

import attnviz
from attnviz import Head, Model, ablation, edits
from attnviz.errors import HeadError, InputError, Unsupported
from benchmarks import tiny

SCALES = {Head(0, 1): 0.0, Head(0, 3): -0.5, Head(1, 2): 1.75}
KINDS = {
    name: build for name, build in small.EXACT.items() if name not in ("shared layer", "sinks")
}  # experts run in float32


def output(model: Model, *held: edits.Edit, **ids: list[int]) -> torch.Tensor:
    source = model.encoded(None, ids["input_ids"], False)
    decoder = model.decoder_side(source, None, ids.get("decoder_input_ids"), ())
    return small.main_output(model.forward(source, held, None, decoder))


@pytest.mark.parametrize("build", KINDS.values(), ids=KINDS)
def test_baked_and_edited_agree(build: Any) -> None:
    model = attnviz.wrap_model(build().double())
    before = {name: value.clone() for name, value in model.hf_model.state_dict().items()}
    clean = output(model, input_ids=small.ids())
    found = ablation.bake(model, edits.ScaleHeads(SCALES))
    edited, got = (
        output(model, edits.ScaleHeads(SCALES), input_ids=small.ids()),
        output(found.model, input_ids=small.ids()),
    )
    assert (got - edited).abs().max() < 1e-6
    assert (edited - clean).abs().max() > 1e-2
    assert found.gap < 1e-6
    assert all(torch.equal(value, before[name]) for name, value in model.hf_model.state_dict().items())
    assert torch.equal(output(model, input_ids=small.ids()), clean)


@pytest.mark.parametrize(("mapping", "kind"), [("seq2seq", "t5"), ("causal", "deepseek_v3"), ("causal", "gpt_neox")])
@pytest.mark.filterwarnings("ignore")  # transformers' own, of old model types
def test_other_wirings_are_baked_too(mapping: str, kind: str) -> None:
    double = kind == "gpt_neox"  # parts of the others run in float32 alone
    hf_model = tiny.build(mapping, kind)
    model = attnviz.wrap_model(hf_model.double() if double else hf_model, name=kind)
    site = "cross" if mapping == "seq2seq" else None
    scales = edits.ScaleHeads({Head(1, 2, site): 0.25})
    ids = {name: row[0].tolist() for name, row in tiny.inputs(model.hf_model).items() if name.endswith("ids")}
    got, edited = output(ablation.bake(model, scales).model, **ids), output(model, scales, **ids)
    assert (got - edited).abs().max() < (1e-6 if double else 1e-3)
    assert (edited - output(model, **ids)).abs().max() > 1e-2


def test_smollm2_is_baked(smollm2: Model) -> None:
    scales = edits.ScaleHeads({Head(23, 3): 0.0, Head(1, 5): 0.5})
    found = ablation.bake(smollm2, scales)
    ids = list(smollm2.encode("When Mary and John went to the store, John gave a drink to").ids)
    assert (output(found.model, input_ids=ids) - output(smollm2, scales, input_ids=ids)).abs().max() < 1e-3
    assert found.gap < 1e-3
    assert "L23H3 scaled by 0, L1H5 scaled by 0.5, in the weights" in found.model.info.note


def test_a_saved_copy_is_read_by_transformers_alone(minilm: Model, tmp_path: Path) -> None:
    scales = edits.ScaleHeads({Head(3, 7): 0.0, Head(0, 0): 1.5})
    found = ablation.bake(minilm, scales, folder=tmp_path / "baked")
    ids = list(minilm.encode("the 3rd of May 1998").ids)
    plain = transformers.AutoModel.from_pretrained(tmp_path / "baked", dtype=torch.float32).eval()
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "baked")
    assert words("the 3rd of May 1998")["input_ids"] == ids
    assert (small.plain_run(plain, ids).last_hidden_state - output(minilm, scales, input_ids=ids)).abs().max() < 1e-4
    assert found.folder == tmp_path / "baked"
    assert "attnviz" not in (tmp_path / "baked" / "config.json").read_text("utf-8")


def test_an_embedder_and_an_encoder_decoder_are_baked(minilm: Model) -> None:
    dates = attnviz.load_model("dates", device="cpu")
    for model, head in ((minilm, Head(3, 7)), (dates, Head(1, 1, "cross"))):
        scales = edits.ScaleHeads({head: 0.0})
        made = ablation.bake(model, scales)
        ids: dict[str, Any] = {"input_ids": list(model.encode("the 3rd of May 1998").ids)}
        if model is dates:
            ids["decoder_input_ids"] = ids["input_ids"][:5]
        assert (output(made.model, **ids) - output(model, scales, **ids)).abs().max() < 1e-4
        assert made.model.origin.pooling == model.origin.pooling


def kosmos2() -> Any:
    """The text model of Kosmos-2, with a norm between its heads and their projection."""
    text = transformers.Kosmos2Config(
        text_config={
            "vocab_size": 99,
            "embed_dim": 32,
            "layers": 2,
            "ffn_dim": 48,
            "attention_heads": 4,
            "max_position_embeddings": 64,
        }
    ).text_config
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = Kosmos2TextForCausalLM(text).eval()
        tiny.stir(model)
    return model


@pytest.mark.parametrize("kind", ["bitnet", "minimax", "kosmos-2"])
@pytest.mark.filterwarnings("ignore")
def test_a_norm_or_gate_before_the_projection_is_refused(kind: str, tmp_path: Path) -> None:
    model = attnviz.wrap_model(kosmos2() if kind == "kosmos-2" else tiny.build("causal", kind), name=kind)
    with pytest.raises(Unsupported, match="cannot be written into the weights"):
        ablation.bake(model, {Head(0, 0): 0.5}, folder=tmp_path / "baked")
    assert not (tmp_path / "baked").exists()
    assert model.info.status == "exact"  # edits still hold there


def test_what_weights_cannot_say_is_refused(tmp_path: Path) -> None:
    model = attnviz.wrap_model(small.grouped())
    with pytest.raises(InputError, match="without positions"):
        ablation.bake(model, edits.ScaleHeads({Head(0, 0): 0.5}, positions=1))
    with pytest.raises(HeadError):
        ablation.bake(model, {Head(9, 0): 0.5})
    (tmp_path / "note.txt").write_text("mine", "utf-8")
    with pytest.raises(InputError, match="holds something"):
        ablation.bake(model, {Head(0, 0): 0.5}, folder=tmp_path)
    shared = attnviz.wrap_model(small.shared_layer())
    with pytest.raises(Unsupported, match="share one output projection"):
        ablation.bake(shared, {Head(0, 0): 0.5})
    both = edits.ScaleHeads({Head(0, 0): 0.5, Head(1, 0): 0.5})
    got = output(ablation.bake(shared, both).model, input_ids=small.ids())
    assert (got - output(shared, both, input_ids=small.ids())).abs().max() < 1e-4
