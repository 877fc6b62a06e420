"""What stands in for heads' outputs: shapes, places, means, and what does not stand beside a run."""

import naive_edits
import pytest
import tiny
import torch

import attnviz
from attnviz import Head, Model
from attnviz.edits import Edit, KnockOut, ResampleHeads, ScaleHeads, ZeroHeads
from attnviz.encoding import Encoded
from attnviz.errors import ContextError, InputError, TextError
from attnviz.replacing import donor_outputs, mean_outputs

TEXT = "When Mary and John went to the store, John gave a drink to"


@pytest.fixture(scope="module")
def model() -> Model:
    return attnviz.wrap_model(tiny.gpt2(max_position_embeddings=30), name="tiny")


@pytest.fixture(scope="module")
def dates() -> Model:
    return attnviz.load_model("dates")


def other_ids() -> list[int]:
    return [i + 1 for i in tiny.ids()]


def encoded(model: Model, length: int = tiny.LENGTH, step: int = 0) -> Encoded:
    return model.reader.encode_ids([(i + step) % 90 + 3 for i in tiny.ids(length)])


def read(model: Model, ids: list[int]) -> list[torch.Tensor]:
    """[query, head, d_head] by layer."""
    with naive_edits.reading(naive_edits.projections(model.hf_model, "attn.c_proj")) as found:
        tiny.plain_run(model.hf_model, ids)
    return [z.unflatten(-1, (4, 8)) for z in found]


def test_a_donors_outputs_are_what_its_own_run_gives(model: Model) -> None:
    donor = list(encoded(model, step=4).ids)
    found = donor_outputs(model, encoded(model), None, donor)
    assert list(found) == [("decoder", 0), ("decoder", 1)]
    for layer, z in enumerate(read(model, donor)):
        assert torch.equal(found["decoder", layer], z)
        assert not found["decoder", layer].requires_grad


def test_a_mean_counts_every_token_once(model: Model) -> None:
    texts = [list(encoded(model, length, step=length).ids) for length in (3, 9)]
    found = mean_outputs(model, encoded(model), None, texts, by_position=False)
    for layer in range(2):
        expected = torch.cat([read(model, text)[layer] for text in texts]).mean(0)
        torch.testing.assert_close(found["decoder", layer], expected.expand(tiny.LENGTH, -1, -1))


def test_a_mean_by_position_is_over_texts(model: Model) -> None:
    texts = [list(encoded(model, step=step).ids) for step in (2, 7, 8)]
    found = mean_outputs(model, encoded(model), None, texts, by_position=True)
    for layer in range(2):
        expected = torch.stack([read(model, text)[layer] for text in texts]).mean(0)
        torch.testing.assert_close(found["decoder", layer], expected)


def test_edits_hold_in_the_donors_run(model: Model) -> None:
    edits = [ScaleHeads({Head(0, 1): 2.0})]
    donor = list(encoded(model, step=4).ids)
    plain, scaled = (donor_outputs(model, encoded(model), None, donor, edits=kept) for kept in ((), edits))
    first = ("decoder", 0)
    torch.testing.assert_close(scaled[first][:, 1], plain[first][:, 1] * 2)
    assert torch.equal(scaled[first][:, 0], plain[first][:, 0])
    assert not torch.equal(scaled["decoder", 1], plain["decoder", 1])


def test_every_site_has_its_own_queries(dates: Model) -> None:
    source = dates.encode("the 3rd of May 1998")
    decoder = dates.decoder_side(source, "1998-05-03", None, ())
    assert decoder is not None
    donor = donor_outputs(dates, source, decoder, "the 4th of May 1978")
    mean = mean_outputs(dates, source, decoder, ["1.12.1900", "14 March 2021"], by_position=False)
    lengths = {"encoder": len(source.ids), "decoder": len(decoder.ids), "cross": len(decoder.ids)}
    for found in (donor, mean):
        assert {place: tuple(z.shape[:2]) for place, z in found.items()} == {
            (site, layer): (lengths[site], 4) for site in lengths for layer in range(2)
        }
    other = dates.decoder_side(source, "1978-05-04", None, ())
    assert other is not None
    beside = donor_outputs(dates, source, decoder, "the 4th of May 1978", other.ids)
    assert not torch.equal(beside["decoder", 0], donor["decoder", 0])
    assert torch.equal(beside["encoder", 1], donor["encoder", 1])
    with pytest.raises(InputError, match=r"donor's target has 4 tokens and the run has 11"):
        donor_outputs(dates, source, decoder, "the 4th of May 1978", other.ids[:4])


def test_a_text_that_does_not_stand_beside_the_run_is_refused_with_both_lengths(smollm2: Model) -> None:
    source = smollm2.encode(TEXT)
    other = TEXT.replace("Mary", "Hieronymus")
    length = len(smollm2.encode(other).ids)
    with pytest.raises(InputError, match=rf"donor has {length} tokens and the run has 14.*token 1, .*Mary"):
        donor_outputs(smollm2, source, None, other)
    with pytest.raises(InputError, match=r"donor has 13 tokens.*token 13, where the run has '␣to' .*nothing more"):
        donor_outputs(smollm2, source, None, source.ids[:-1])
    with pytest.raises(InputError, match=r"reference text has 3 tokens and the run has 14"):
        mean_outputs(smollm2, source, None, [source.ids, source.ids[:3]], by_position=True)


def test_a_donor_is_in_the_chat_template_where_the_run_is(smollm2: Model) -> None:
    source = smollm2.encode("Name a colour.", chat_template=True)
    found = donor_outputs(smollm2, source, None, "Name a number.")
    assert len(found["decoder", 0]) == len(source.ids)
    edited = smollm2.generate("Name a colour.", chat_template=True, max_new_tokens=2, edits=[
        ResampleHeads([Head(3, 1)], "Name a number."),
    ])  # fmt: skip
    assert edited.prompt_length == len(source.ids)


@pytest.mark.parametrize("texts", [[], "one text", ()])
def test_a_mean_over_nothing_is_refused(model: Model, texts: list[str]) -> None:
    with pytest.raises(InputError, match="one or more texts"):
        mean_outputs(model, encoded(model), None, texts, by_position=False)


@pytest.mark.parametrize(
    "edit", [ZeroHeads([Head(0, 0)], positions=3), KnockOut(5, 0), ResampleHeads([Head(0, 0)], other_ids())]
)
def test_what_is_tied_to_the_runs_tokens_holds_in_no_other_text(model: Model, edit: ZeroHeads) -> None:
    def means(by_position: bool, *edits: Edit) -> torch.Tensor:
        found = mean_outputs(model, encoded(model), None, [tiny.ids()], by_position=by_position, edits=edits)
        return found["decoder", 1]

    assert torch.equal(means(False, edit), means(False))
    assert not torch.equal(means(True, edit), means(True))
    assert not torch.equal(means(False, ZeroHeads([Head(0, 0)])), means(False))


def test_texts_are_read_as_any_other(model: Model, smollm2: Model) -> None:
    with pytest.raises(TextError):
        mean_outputs(smollm2, smollm2.encode(TEXT), None, ["A text.", " "], by_position=False)
    with pytest.raises(ContextError, match="31"):
        mean_outputs(model, encoded(model), None, [tiny.ids(31)], by_position=False)
    with pytest.raises(InputError, match="tokenizer"):
        donor_outputs(model, encoded(model), None, "a text")
