"""The embedded encoder-decoder against transformers' own eager attention and against a plain hook, at all its sites."""

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

import attnviz
from attnviz import Head, Model, edits
from attnviz.embedded import EMBEDDED, embedded_folder
from attnviz.returned import returned_attentions

PAIRS = [("the 3rd of May 1998", "1998-05-03"), ("Sunday, 14 March 2021", "2021-03-14"), ("1.12.1900", "1900-12-01")]
PROJECTIONS = {
    "encoder": "model.encoder.layers.{}.self_attn.out_proj",
    "decoder": "model.decoder.layers.{}.self_attn.out_proj",
    "cross": "model.decoder.layers.{}.encoder_attn.out_proj",
}


@pytest.fixture(scope="module")
def dates() -> Model:
    return attnviz.load_model("dates")


@pytest.fixture(scope="module")
def plain():
    folder = embedded_folder(EMBEDDED["dates"], lambda what, share: None)
    return AutoModelForSeq2SeqLM.from_pretrained(folder, attn_implementation="eager").eval()


def inputs(trace: attnviz.Trace) -> dict[str, torch.Tensor]:
    ids, given = [t.id for t in trace.source_tokens], trace.input_ids
    return {"input_ids": torch.tensor([ids]), "decoder_input_ids": torch.tensor([given])}


@pytest.mark.parametrize(("text", "target"), PAIRS)
def test_every_site_layer_and_head_equals_eager(dates: Model, plain, text: str, target: str) -> None:
    trace = dates.trace(text, target)
    with torch.no_grad():
        expected = plain(**inputs(trace), output_attentions=True)
    assert torch.allclose(trace.logits, expected.logits[0], atol=1e-3)
    for site in ("encoder", "decoder", "cross"):
        for layer, weights in enumerate(returned_attentions(plain, expected, site)):
            assert float((trace.pattern(layer, site=site) - weights[0]).abs().max()) < 1e-4


@pytest.mark.parametrize("head", range(4))
@pytest.mark.parametrize("layer", range(2))
@pytest.mark.parametrize("site", list(PROJECTIONS))
def test_zeroing_a_head_equals_zeroing_its_columns_before_the_projection(
    dates: Model, plain, site: str, layer: int, head: int
) -> None:
    text, target = PAIRS[0]
    edited = dates.trace(text, target, edits=[edits.ZeroHeads([Head(layer, head, site)])])
    width = dates.info.d_head
    columns = slice(head * width, (head + 1) * width)

    def zero(module, args):
        z = args[0].clone()
        z[..., columns] = 0
        return (z, *args[1:])

    hook = plain.get_submodule(PROJECTIONS[site].format(layer)).register_forward_pre_hook(zero)
    try:
        with torch.no_grad():
            expected = plain(**inputs(edited)).logits[0]
    finally:
        hook.remove()
    assert torch.allclose(edited.logits, expected, atol=1e-5)
    assert not torch.allclose(edited.logits, dates.trace(text, target).logits, atol=1e-5)


def test_the_model_writes_dates_it_was_not_trained_on(dates: Model) -> None:
    """A few of the 2,000 of benchmarks/dates.py, in formats that it knows."""
    for text, target in PAIRS:
        written = dates.generate(text)
        assert "".join(t.text for t in written.tokens if not t.special) == target
