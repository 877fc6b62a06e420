"""Continuing a text, and tracing prompt and continuation as one run."""

import pytest
import tiny
import torch
from transformers import BartConfig, BartForConditionalGeneration

import attnviz
from attnviz import Head, Model, edits
from attnviz.errors import Cancelled, ContextError, InputError, Unsupported

PROMPT = "The capital of France is"


def test_greedy_continuation_is_the_one_that_transformers_writes(smollm2: Model) -> None:
    encoding = smollm2.tokenizer(PROMPT, return_tensors="pt")
    expected = smollm2.hf_model.generate(**encoding, do_sample=False, max_new_tokens=6)[0].tolist()
    made = smollm2.generate(PROMPT, max_new_tokens=6)
    assert made.input_ids == expected
    assert made.prompt_length == encoding["input_ids"].shape[1]


def test_a_generated_trace_equals_that_of_the_whole_text(smollm2: Model) -> None:
    made = smollm2.generate(PROMPT, max_new_tokens=6)
    whole = smollm2.trace(input_ids=made.input_ids)
    assert all(torch.equal(made.pattern(layer), whole.pattern(layer)) for layer in made.layers())
    assert torch.equal(made.logits, whole.logits)
    for position in range(made.prompt_length - 1, len(made.tokens) - 1):
        assert made.predictions(position, k=1).token_id[0] == made.tokens[position + 1].id


def test_edits_hold_while_writing(smollm2: Model) -> None:
    broken = [edits.ZeroHeads([Head(0, head) for head in range(9)])]
    made = smollm2.generate(PROMPT, max_new_tokens=4, edits=broken)
    assert made.input_ids != smollm2.generate(PROMPT, max_new_tokens=4).input_ids
    ids = made.input_ids[: made.prompt_length]
    for _ in range(4):  # one full edited forward for each token, without a cache
        ids.append(int(smollm2.trace(input_ids=ids, edits=broken).logits[-1].argmax()))
    assert made.input_ids == ids


def test_a_seed_repeats_its_sample_and_leaves_the_global_state_alone(smollm2: Model) -> None:
    state = torch.get_rng_state()
    runs = [smollm2.generate(PROMPT, max_new_tokens=8, seed=seed).input_ids for seed in (1, 1, 2, 3)]
    assert runs[0] == runs[1]
    assert len(set(map(tuple, runs))) > 1
    assert torch.equal(torch.get_rng_state(), state)


def test_samples_follow_the_softmax() -> None:
    model = attnviz.wrap_model(tiny.grouped(), name="tiny")
    ids = [5, 9, 11]
    share = model.trace(input_ids=ids).logits[-1].softmax(-1)
    n = 400
    drawn = torch.tensor([model.generate(input_ids=ids, max_new_tokens=1, seed=s).input_ids[-1] for s in range(n)])
    counts = torch.bincount(drawn, minlength=len(share))
    likely = share.topk(10).indices
    spread = (n * share * (1 - share)).sqrt()
    assert bool(((counts - n * share).abs() <= 4 * spread + 1)[likely].all())


def test_writing_stops_at_the_end_token_and_keeps_it() -> None:
    hf_model = tiny.grouped()
    model = attnviz.wrap_model(hf_model, name="tiny")
    first = int(model.trace(input_ids=[5, 9, 11]).logits[-1].argmax())
    hf_model.generation_config.eos_token_id = first
    made = model.generate(input_ids=[5, 9, 11], max_new_tokens=9)
    assert made.input_ids == [5, 9, 11, first]


def test_an_encoder_decoder_writes_and_traces_both_sides() -> None:
    model = attnviz.load_model("dates")
    made = model.generate("the 3rd of May 1998")
    assert "".join(t.text for t in made.tokens if not t.special) == "1998-05-03"
    assert made.prompt_length == 1
    assert made.source_text == "the 3rd of May 1998"
    whole = model.trace("the 3rd of May 1998", target="1998-05-03")
    for site in model.info.sites:
        queries, keys = whole.axes(site)
        for layer in whole.layers(site):
            assert whole.pattern(layer, site=site).shape == (4, len(queries), len(keys))
            longer = made.pattern(layer, site=site)  # it also holds the end token that was written
            assert torch.allclose(longer[:, : len(queries), : len(keys)], whole.pattern(layer, site=site), atol=1e-5)


def test_a_target_that_nobody_gave_is_written_greedily() -> None:
    model = attnviz.load_model("dates")
    given = model.trace("the 3rd of May 1998", target="1998-05-03")
    assert model.trace("the 3rd of May 1998").input_ids == given.input_ids
    assert given.predictions(k=1).token[0] == "</s>"


def test_edits_of_an_encoder_decoder_need_their_site() -> None:
    model = attnviz.load_model("dates")
    with pytest.raises(attnviz.errors.HeadError, match="site"):
        model.trace("May 3, 1998", edits=[edits.ZeroHeads([Head(1, 1)])])
    clean = model.trace("May 3, 1998", target="1998-05-03")
    for site in model.info.sites:
        edited = model.trace("May 3, 1998", target="1998-05-03", edits=[edits.ZeroHeads([Head(1, 1, site)])])
        assert not torch.equal(edited.logits, clean.logits)


def test_progress_counts_tokens_and_can_stop(smollm2: Model) -> None:
    seen = []
    smollm2.generate(PROMPT, max_new_tokens=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]

    def stop(done: int, total: int) -> None:
        raise Cancelled("Enough.")

    with pytest.raises(Cancelled):
        smollm2.generate(PROMPT, max_new_tokens=3, progress=stop)
    assert smollm2.trace(PROMPT).edits == ()


WAYS = [
    {"max_new_tokens": 0},
    {"max_new_tokens": 1.5},
    {"temperature": 0, "seed": 1},
    {"temperature": float("nan")},
    {"seed": "x"},
    {"seed": True},
]


@pytest.mark.parametrize("options", WAYS, ids=repr)
def test_ways_of_writing_that_cannot_be(smollm2: Model, options: dict) -> None:
    with pytest.raises(InputError, match="got"):
        smollm2.generate(PROMPT, **options)


def test_models_without_a_next_token_are_refused(minilm: Model) -> None:
    with pytest.raises(Unsupported, match="encoder"):
        minilm.generate("text")


def test_writing_ends_with_the_context_and_says_so_when_there_is_no_room() -> None:
    model = attnviz.wrap_model(tiny.gpt2(max_position_embeddings=8), name="short")
    assert len(model.generate(input_ids=tiny.ids(6), max_new_tokens=50).tokens) == 8
    with pytest.raises(ContextError, match="9"):
        model.generate(input_ids=tiny.ids(8))


def test_a_bart_decoder_starts_with_its_start_token() -> None:
    torch.manual_seed(0)
    config = BartConfig(d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=50,
                        max_position_embeddings=32, decoder_start_token_id=2)  # fmt: skip
    model = attnviz.wrap_model(BartForConditionalGeneration(config), name="bart")
    assert model.generate(input_ids=[5, 6, 7], max_new_tokens=3).input_ids[0] == 2
