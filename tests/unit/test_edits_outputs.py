"""Heads' outputs set to a mean, to a donor's, to a multiple, at some queries: by hooks on the projection's input."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import naive_edits
import pytest
import tiny
import torch
import transformers
from transformers import AutoModelForSeq2SeqLM

import attnviz
from attnviz import Head, Model
from attnviz.edits import Edit, KnockOut, MeanHeads, ResampleHeads, ScaleHeads, ZeroHeads
from attnviz.embedded import EMBEDDED, embedded_folder
from attnviz.errors import AttnvizError, HeadError, InputError
from attnviz.tap import Call

TEXT = "When Mary and John went to the store, John gave a drink to"
DONOR = "When Alice and Tom went to the store, Tom gave a drink to"
TEXTS = ("The cat sat on the mat.", "Paris is the capital of France, they say.")
HEADS = [(0, 1), (1, 3)]
AT = [2, 5, -1]
ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
_KEPT = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_SIZES = {name: tiny.SIZES[name] for name in _KEPT} | {"initializer_range": 0.3}


def neox() -> Any:
    torch.manual_seed(3)
    return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**_SIZES)).eval()


def phi() -> Any:
    torch.manual_seed(3)
    return transformers.PhiForCausalLM(transformers.PhiConfig(**_SIZES)).eval()


KINDS: dict[str, tuple[Callable[[], Any], str]] = {
    **{kind: (tiny.EXACT[kind], projection) for kind, projection in tiny.PROJECTION.items()},
    "gpt-neox": (neox, "attention.dense"),
    "phi": (phi, "self_attn.dense"),
}


def other_ids(step: int, length: int = tiny.LENGTH) -> list[int]:
    return [(7 * i * i + step * i + 5) % 96 + 3 for i in range(length)]


class Naive:
    """A plain model whose heads are read and changed where they enter their projections."""

    def __init__(self, hf_model: Any, modules: Sequence[torch.nn.Module], inputs: Callable[[Any], dict]) -> None:
        self.hf_model, self.modules, self.inputs = hf_model, modules, inputs
        self.n_heads = hf_model.config.num_attention_heads
        self.known: dict[tuple[int, ...], list[torch.Tensor]] = {}

    def run(self, given: Any, changes: Sequence[naive_edits.Change] = ()) -> torch.Tensor:
        with naive_edits.changed(self.n_heads, changes), torch.no_grad():
            return tiny.main_output(self.hf_model(**self.inputs(given)))[0]

    def read(self, given: Any, module: int, head: int, changes: Sequence[naive_edits.Change] = ()) -> torch.Tensor:
        """[query, d_head]"""
        key = tuple(given)
        read = None if changes else self.known.get(key)
        if read is None:
            with naive_edits.reading(self.modules) as read:
                self.run(given, changes)
            self.known |= {} if changes else {key: read}
        width = read[module].shape[-1] // self.n_heads
        return read[module][:, head * width : (head + 1) * width]

    def change(self, module: int, head: int, new: Any, at: Any = slice(None)) -> naive_edits.Change:
        """`new` is what [batch, query, d_head] becomes at these queries, or a function of it."""

        def put(z: torch.Tensor) -> torch.Tensor:
            changed = z.clone()
            given = new(z) if callable(new) else new
            changed[:, at] = (
                given[:, at] if given.dim() == 3 else given[: z.shape[1]][at] if given.dim() == 2 else given
            )
            return changed

        return self.modules[module], head, put


def ids_alone(ids: Sequence[int]) -> dict[str, Any]:
    tensor = torch.tensor([list(ids)])
    return {"input_ids": tensor, "attention_mask": torch.ones_like(tensor)}


def kinds_of_edit(naive: Naive, heads: Sequence[tuple[int, int, int, str | None]], run: Any, others: Sequence[Any]):
    """(edits, the same by hand) of heads given as (layer, number of its projection, head, site)."""
    named = [Head(layer, head, site) for layer, _, head, site in heads]
    places = [(module, head) for _, module, head, _ in heads]
    donor, texts = others[0], others[1:]

    def all_of(new: Callable[[int, int], Any], at: Any = slice(None)) -> list[naive_edits.Change]:
        return [naive.change(m, h, new(m, h), at) for m, h in places]

    def mean(m: int, h: int) -> torch.Tensor:
        return torch.cat([naive.read(text, m, h) for text in texts]).mean(0).expand(100, -1)

    zeros = torch.zeros(())
    yield [ZeroHeads(named, positions=AT)], all_of(lambda m, h: zeros, AT)
    scaled = ScaleHeads({head: 0.25 + n for n, head in enumerate(named)}, positions=(1, 3))
    yield [scaled], [naive.change(m, h, lambda z, n=n: z * (0.25 + n), [1, 3]) for n, (m, h) in enumerate(places)]
    yield [ResampleHeads(named, donor)], all_of(lambda m, h: naive.read(donor, m, h))
    yield [ResampleHeads(named, donor, positions=AT)], all_of(lambda m, h: naive.read(donor, m, h), AT)
    yield [MeanHeads(named, texts)], all_of(mean)
    yield [MeanHeads(named, texts, positions=4)], all_of(mean, [4])
    by_position = [run, donor]
    yield (
        [MeanHeads(named, by_position, by_position=True)],
        all_of(lambda m, h: (naive.read(run, m, h) + naive.read(donor, m, h)) / 2),
    )
    first, last = named[:1], named[1:]
    if last:  # a donor's run has the edits that stand before it
        before = [naive.change(*places[0], zeros)]
        new = naive.read(donor, *places[1], before)
        yield [ZeroHeads(first), ResampleHeads(last, donor)], [*before, naive.change(*places[1], new)]
        new = naive.read(donor, *places[1])
        yield [ResampleHeads(last, donor), ZeroHeads(first)], [*before, naive.change(*places[1], new)]
    new = naive.read(donor, *places[0])
    yield (
        [ResampleHeads(first, donor), ScaleHeads({first[0]: 3.0}), ZeroHeads(first, positions=0)],
        [naive.change(*places[0], new * 3.0), naive.change(*places[0], zeros, [0])],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_edit_is_a_change_of_the_projections_input(kind: str) -> None:
    build, projection = KINDS[kind]
    model = attnviz.wrap_model(build(), name=kind)
    plain = build()
    naive = Naive(plain, naive_edits.projections(plain, projection), ids_alone)
    heads = [(layer, layer, head, None) for layer, head in HEADS]
    others = [other_ids(3), other_ids(5, 6), other_ids(8, 11)]
    clean = naive.run(tiny.ids())
    for edits, changes in kinds_of_edit(naive, heads, tiny.ids(), others):
        expected = naive.run(tiny.ids(), changes)
        trace = model.trace(input_ids=tiny.ids(), edits=edits)
        got = trace.embedding if trace.logits is None else trace.logits
        torch.testing.assert_close(got, expected.mean(0) if trace.logits is None else expected, atol=1e-5, rtol=1e-5)
        assert float((clean - expected).abs().max()) > 1e-3, edits[0].title
    assert torch.equal(tiny.main_output(tiny.plain_run(model.hf_model, tiny.ids()))[0], clean)


@pytest.mark.parametrize(
    ("name", "projection", "heads"),
    [("smollm2", "self_attn.o_proj", [(5, 1), (23, 3)]), ("minilm", "attention.output.dense", [(1, 7), (4, 0)])],
)
def test_texts_stand_in_in_the_large_models(
    request: pytest.FixtureRequest, name: str, projection: str, heads: list[tuple[int, int]]
) -> None:
    model: Model = request.getfixturevalue(name)
    plain = request.getfixturevalue(f"{name}_sdpa")
    naive = Naive(plain, naive_edits.projections(plain, projection), ids_alone)
    run, donor, *texts = ((list(model.encode(text).ids)) for text in (TEXT, DONOR, *TEXTS))
    named = [Head(layer, head) for layer, head in heads]
    pooled = [torch.cat([naive.read(text, layer, head) for text in texts]).mean(0) for layer, head in heads]
    cases: list[tuple[Edit, list[torch.Tensor]]] = [
        (ResampleHeads(named, DONOR), [naive.read(donor, *place) for place in heads]),
        (MeanHeads(named, TEXTS), [mean.expand(len(run), -1) for mean in pooled]),
        (
            MeanHeads(named, [TEXT, DONOR], by_position=True),
            [(naive.read(run, *place) + naive.read(donor, *place)) / 2 for place in heads],
        ),
    ]
    clean = naive.run(run)
    for edit, new in cases:
        trace = model.trace(TEXT, edits=[edit])
        expected = naive.run(run, [naive.change(*place, z) for place, z in zip(heads, new, strict=True)])
        before, after = (clean, expected) if name == "smollm2" else (clean.mean(0), expected.mean(0))
        got = trace.logits if name == "smollm2" else trace.embedding
        torch.testing.assert_close(got, after, atol=5e-4, rtol=0)
        assert float((before - after).abs().max()) > 2e-3
        assert trace.edits == (edit,)


@pytest.fixture(scope="module")
def dates() -> Model:
    return attnviz.load_model("dates")


@pytest.mark.parametrize(("site", "number"), [("encoder", 1), ("decoder", 4), ("cross", 5)])
def test_every_edit_holds_at_every_site(dates: Model, site: str, number: int) -> None:
    source, target = (dates.trace("the 3rd of May 1998").source_tokens, [1, 10, 18, 18, 17, 8, 9, 14, 8, 9, 12])
    run = [token.id for token in source]
    donor = list(dates.encode("the 4th of May 1978").ids)
    texts = [list(dates.encode(text).ids) for text in ("1.12.1900", "Sunday, 14 March 2021")]
    folder = embedded_folder(EMBEDDED["dates"], lambda what, share: None)
    plain = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    decoders = {tuple(text): dates.trace(input_ids=text).input_ids for text in texts}

    def both(ids: Sequence[int]) -> dict[str, Any]:
        return {**ids_alone(ids), "decoder_input_ids": torch.tensor([decoders.get(tuple(ids), target)])}

    modules = naive_edits.projections(plain, "out_proj")
    naive = Naive(plain, modules, both)
    layer = number % 2 if site == "encoder" else (number - 2) // 2
    clean = naive.run(run)
    heads = [(layer, number, 2, site)]
    for edits, changes in kinds_of_edit(naive, heads, run, [donor, *texts]):
        expected = naive.run(run, changes)
        trace = dates.trace(input_ids=run, decoder_input_ids=target, edits=edits)
        torch.testing.assert_close(trace.logits, expected, atol=1e-4, rtol=1e-4)
        assert float((clean - expected).abs().max()) > 1e-3, edits[0].title


@pytest.mark.parametrize("kind", ["grouped", "windowed", "gpt2"])
def test_what_is_tied_to_tokens_ends_with_the_prompt(kind: str) -> None:
    build, projection = KINDS[kind]
    model, plain, given = attnviz.wrap_model(build(), name=kind), build(), tiny.ids(8)
    naive = Naive(plain, naive_edits.projections(plain, projection), ids_alone)
    donor, texts = other_ids(3, 8), [other_ids(5, 6), other_ids(8, 11)]
    prompt = slice(0, 8)

    def padded(z: torch.Tensor) -> torch.Tensor:
        return torch.cat([z, torch.zeros(40, z.shape[1])])[:40]

    mean = torch.cat([naive.read(text, 0, 1) for text in texts]).mean(0)
    cases: list[tuple[Edit, Any, Any]] = [
        (ResampleHeads([Head(0, 1)], donor), padded(naive.read(donor, 0, 1)), prompt),
        (ZeroHeads([Head(0, 1)], positions=-2), torch.zeros(()), [6]),
        (ZeroHeads([Head(0, 1)]), torch.zeros(()), slice(None)),
        (MeanHeads([Head(0, 1)], texts), mean.expand(40, -1), slice(None)),
        (MeanHeads([Head(0, 1)], texts, positions=(3, 7)), mean.expand(40, -1), [3, 7]),
    ]
    for edit, new, at in cases:

        def put(z: torch.Tensor, new: torch.Tensor = new, at: Any = at) -> torch.Tensor:
            changed = z.clone()
            changed[:, at] = new[: z.shape[1]][at] if new.dim() else new
            return changed

        made = model.generate(input_ids=given, max_new_tokens=6, edits=[edit])
        ids = list(given)
        while len(ids) < len(made.tokens):
            ids.append(int(naive.run(ids, [(naive.modules[0], 1, put)])[-1].argmax()))
        assert made.input_ids == ids, edit.title
        torch.testing.assert_close(made.logits, naive.run(ids, [(naive.modules[0], 1, put)]), atol=1e-4, rtol=0)
        within = at != slice(None)
        assert made.edit_titles == (edit.title + " (within what was given)" * within,)
        assert made.edits == (edit,)


def test_an_encoder_decoder_writes_with_its_sources_donor(dates: Model) -> None:
    edit = ResampleHeads([Head(1, head, "encoder") for head in range(4)], "the 4th of June 1978")
    text = "the 3rd of July 1998"
    made, again = dates.generate(text, edits=[edit]), dates.trace(text, edits=[edit])
    ids = again.input_ids
    assert made.input_ids[: len(ids)] == ids
    assert made.logits is not None
    torch.testing.assert_close(made.logits[: len(ids)], again.logits, atol=1e-4, rtol=0)
    given = dates.trace(text, decoder_input_ids=ids, edits=[edit])
    assert torch.equal(given.logits, again.logits)
    clean = dates.trace(text, decoder_input_ids=ids)
    assert float((given.logits - clean.logits).abs().max()) > 0.1


def test_every_row_of_a_batch_is_edited_alike() -> None:
    model = attnviz.wrap_model(tiny.soft_capped())
    edits = [ResampleHeads([Head(1, 2)], other_ids(3)), ScaleHeads({Head(0, 0): 2.0}, positions=[4]), KnockOut(7, 5)]
    rows = [tiny.ids(), other_ids(9), other_ids(2)]
    bound = model.ready(edits, model.reader.encode_ids(rows[0]))
    call = Call(model.layout.places, edits, bound=bound)
    with model.running(call):
        batch = model.hf_model(input_ids=torch.tensor(rows), use_cache=False).logits
    for row, ids in enumerate(rows):
        alone = model.trace(input_ids=ids, edits=edits)
        torch.testing.assert_close(batch[row], alone.logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(call.recorded[1][2].row(row).pattern()[0], alone.pattern(1), atol=1e-6, rtol=0)


def test_gradients_pass_through_every_edit_to_what_it_leaves() -> None:
    model = attnviz.wrap_model(tiny.grouped())
    source = model.reader.encode_ids(tiny.ids())
    edits: tuple[Edit, ...] = (
        ScaleHeads({Head(0, 0): 2.0}),
        ResampleHeads([Head(0, 1)], other_ids(3)),
        ZeroHeads([Head(0, 2)], positions=[3]),
    )
    call = Call(model.layout.places, edits, keep=False, keep_z=True)
    outputs = model.forward(source, edits, call, grad=True)
    weights = model.hf_model.model.layers[0].self_attn.v_proj.weight
    with torch.enable_grad():
        outcome = outputs.logits[0, -1].logsumexp(-1)
        found, into = torch.autograd.grad(outcome, [call.z["decoder", 0], weights])
    assert found.shape == (1, tiny.LENGTH, 4, 8)
    assert bool(into.any())
    assert weights.grad is None
    assert bool(torch.isfinite(found).all())
    assert bool(found[0, :, 1].any()), "the donor's place still has a gradient: that is what screening reads"


def test_two_threads_have_each_their_own_donor(minilm: Model) -> None:
    texts = ("The cat sat on the mat.", "A dog ran in the park.")
    edits = [
        [ResampleHeads([Head(2, 1), Head(3, 3)], texts[1])],
        [KnockOut(2, 1), MeanHeads([Head(2, 1)], TEXTS, positions=[1, -2])],
    ]
    expected = [minilm.trace(texts[0], edits=each).embedding for each in edits]
    wrong: list[int] = []
    barrier = threading.Barrier(2)

    def work(me: int) -> None:
        barrier.wait(timeout=30)
        for _ in range(10):
            got = minilm.trace(texts[0], edits=edits[me]).embedding
            wrong.extend([me] * (got is None or not torch.equal(got, expected[me])))

    threads = [threading.Thread(target=work, args=(me,)) for me in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert wrong == []
    assert not torch.equal(expected[0], expected[1])


def test_an_edit_is_a_plain_value() -> None:
    heads = [Head(1, 2)]
    assert MeanHeads(heads, ["a", "b"]) == MeanHeads(tuple(heads), ("a", "b"))
    assert hash(ResampleHeads(heads, [3, 4])) == hash(ResampleHeads(heads, (3, 4)))
    assert ResampleHeads(heads, "a") != ResampleHeads(heads, "a", positions=0)
    assert ZeroHeads(heads, positions=[1]) != ZeroHeads(heads)
    assert hash(ZeroHeads(heads, positions=[1])) == hash(ZeroHeads(heads, positions=1))


@pytest.mark.parametrize(
    ("edit", "title"),
    [
        (ZeroHeads([Head(1, 2)], positions=[0, -1]), "L1H2 set to zero (off-distribution), at positions 0 and -1"),
        (ScaleHeads({Head(1, 2): 0.5}, positions=3), "L1H2 scaled by 0.5, at position 3"),
        (MeanHeads([Head(1, 2), Head(2, 0)], ["a", "b"]), "L1H2, L2H0 set to the mean over 2 texts"),
        (MeanHeads([Head(1, 2)], ["a"], by_position=True), "L1H2 set to the mean at each position over 1 text"),
        (ResampleHeads([Head(1, 2)], "A cat."), "L1H2 taken from 'A cat.'"),
        (ResampleHeads([Head(1, 2)], [5, 6]), "L1H2 taken from a donor of 2 given tokens"),
    ],
)
def test_an_edit_says_in_words_what_it_does(edit: Edit, title: str) -> None:
    assert edit.title == title


def test_a_long_donor_is_cut_in_a_title() -> None:
    title = ResampleHeads([Head(0, 0)], "word " * 100).title
    assert len(title) < 90
    assert "…" in title


@pytest.mark.parametrize(
    "make",
    [
        lambda: MeanHeads([Head(0, 0)], "one text"),
        lambda: MeanHeads([Head(0, 0)], []),
        lambda: MeanHeads([Head(0, 0)], [3, 4]),
        lambda: MeanHeads([Head(0, 0)], [["a", "b"]]),
        lambda: ResampleHeads([Head(0, 0)], []),
        lambda: ResampleHeads([Head(0, 0)], 1.5),
        lambda: ZeroHeads([Head(0, 0)], positions=[]),
        lambda: ZeroHeads([Head(0, 0)], positions="0"),
        lambda: ScaleHeads({Head(0, 0): 1.0}, positions=[0.5]),
        lambda: ScaleHeads({Head(0, 0): float("nan")}),
    ],
)
def test_values_that_are_none_are_refused(make: Callable[[], Edit]) -> None:
    with pytest.raises(InputError):
        make()


@pytest.mark.parametrize("make", [MeanHeads, ResampleHeads])
def test_no_head_is_refused(make: Any) -> None:
    with pytest.raises(HeadError, match="at least one head"):
        make([], ["a text"])


def test_a_position_beyond_what_was_given_is_refused_while_a_text_is_continued(dates: Model) -> None:
    model = attnviz.wrap_model(tiny.grouped())
    with pytest.raises(InputError, match="20 tokens of what was given; got 21"):
        model.generate(input_ids=tiny.ids(), edits=[ZeroHeads([Head(0, 0)], positions=21)])
    edits = [ZeroHeads([Head(0, 0, "decoder")], positions=3)]
    with pytest.raises(InputError, match="1 token of what was given; got 3"):
        dates.trace("the 3rd of May 1998", edits=edits)
    assert dates.trace("the 3rd of May 1998", "1998-05-03", edits=edits).edits == tuple(edits)


@pytest.mark.parametrize("position", [20, -21])
def test_a_position_that_the_run_does_not_have_is_refused(position: int) -> None:
    model = attnviz.wrap_model(tiny.grouped())
    with pytest.raises(InputError, match=f"20 tokens.*{position}"):
        model.trace(input_ids=tiny.ids(), edits=[ZeroHeads([Head(0, 0)], positions=[0, position])])


@pytest.mark.parametrize(
    "edit",
    [ZeroHeads([Head(0, 0)], positions=0), MeanHeads([Head(0, 0)], ["a"]), ResampleHeads([Head(0, 0)], "a")],
)
def test_an_edit_that_nobody_bound_to_a_run_is_not_passed_over(edit: Edit) -> None:
    model = attnviz.wrap_model(tiny.grouped())
    with pytest.raises(AttnvizError, match="ready"), model.running(Call(model.layout.places, [edit])):
        model.hf_model(input_ids=torch.tensor([tiny.ids()]))
