"""Knocking out an edge is a score of minus infinity: by hand in eager attention, in every kind of model."""

from typing import Any

import naive_edits
import pytest
import tiny
import torch
from transformers import AutoModelForSeq2SeqLM

import attnviz
from attnviz import Head, Model
from attnviz.edits import KnockOut, ScaleHeads, ZeroHeads
from attnviz.edits.edges import masks
from attnviz.embedded import EMBEDDED, embedded_folder
from attnviz.errors import AttnvizError, HeadError, InputError
from attnviz.tap import Call

TEXT = "When Mary and John went to the store, John gave a drink to"
ALL = range(4)
EVERY = range(tiny.LENGTH)
# Within the short windows, a query's last four keys; what an edge is called, and how it is done by hand.
EDGES = {
    "one edge of two heads": (
        [KnockOut(7, 5, heads=[Head(0, 1), Head(1, 3)])],
        [(0, 1, 7, 5), (1, 3, 7, 5)],
    ),
    "edges of all heads": ([KnockOut(-3, (-3, 15))], [(0, ALL, 17, (17, 15)), (1, ALL, 17, (17, 15))]),
    "a key from all queries": ([KnockOut(None, 4, heads=[Head(0, 0)])], [(0, 0, EVERY, 4)]),
    "several in one layer": (
        [KnockOut(9, 8, heads=[Head(1, 0)]), KnockOut((9, 10), 9, heads=[Head(1, 2), Head(1, 0)])],
        [(1, 0, 9, 8), (1, (0, 2), (9, 10), 9)],
    ),
    "no key left": ([KnockOut(5, range(tiny.LENGTH), heads=[Head(0, 2)])], [(0, 2, 5, EVERY)]),
    "the first query's only key": ([KnockOut(0, 0)], [(0, ALL, 0, 0), (1, ALL, 0, 0)]),
}


@pytest.mark.parametrize("kind", tiny.EXACT)
@pytest.mark.parametrize("case", EDGES)
def test_it_is_a_score_of_minus_infinity(kind: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    edits, edges = EDGES[case]
    model = attnviz.wrap_model(tiny.EXACT[kind](), name=kind)
    clean = model.trace(input_ids=tiny.ids())
    trace = model.trace(input_ids=tiny.ids(), edits=edits)
    by_hand = tiny.eager_copy(tiny.EXACT[kind]())
    eager = naive_edits.Eager(edges)
    eager.put(by_hand, monkeypatch)
    expected = tiny.main_output(tiny.plain_run(by_hand, tiny.ids()))[0]
    got, before = (t.embedding if t.logits is None else t.logits for t in (trace, clean))
    torch.testing.assert_close(got, expected.mean(0) if trace.logits is None else expected, atol=1e-5, rtol=1e-5)
    assert float((got - before).abs().max()) > 1e-4
    for layer, weights in enumerate(eager.weights):
        torch.testing.assert_close(trace.pattern(layer), weights, atol=1e-4, rtol=0)
    for layer, heads, queries, keys in edges:
        for head in torch.as_tensor(heads).reshape(-1):
            rows = trace.pattern(layer, int(head))[torch.as_tensor(queries).reshape(-1)]
            assert not rows[:, torch.as_tensor(keys).reshape(-1)].any()


def test_it_is_in_the_large_model_too(smollm2: Model, smollm2_eager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    edits = [KnockOut(-1, (2, 4), heads=[Head(23, 3), Head(5, 1)]), KnockOut(0, 0, heads=[Head(12, 2)])]
    trace = smollm2.trace(TEXT, edits=edits)
    eager = naive_edits.Eager([(23, 3, 13, (2, 4)), (5, 1, 13, (2, 4)), (12, 2, 0, 0)])
    eager.put(smollm2_eager, monkeypatch)
    expected = tiny.plain_run(smollm2_eager, trace.input_ids).logits[0]
    torch.testing.assert_close(trace.logits, expected, atol=1e-3, rtol=0)
    assert float((smollm2.trace(TEXT).logits - expected).abs().max()) > 1e-2
    for layer in (5, 12, 23, 29):
        torch.testing.assert_close(trace.pattern(layer), eager.weights[layer], atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def dates() -> Model:
    return attnviz.load_model("dates")


@pytest.mark.parametrize(("site", "call"), [("encoder", 1), ("decoder", 4), ("cross", 5)])
def test_it_is_at_every_site(dates: Model, site: str, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    edits = [KnockOut(-2, (1, 2), heads=[Head(1, 3, site)]), KnockOut(3, 3, heads=[Head(1, 0, site)])]
    trace = dates.trace("the 3rd of May 1998", "1998-05-03", edits=edits)
    n_query = len(trace.axes(site)[0])
    folder = embedded_folder(EMBEDDED["dates"], lambda what, share: None)
    plain = AutoModelForSeq2SeqLM.from_pretrained(folder, attn_implementation="eager").eval()
    eager = naive_edits.Eager([(call, 3, n_query - 2, (1, 2)), (call, 0, 3, 3)])
    eager.put(plain, monkeypatch)
    ids = torch.tensor([[t.id for t in trace.source_tokens]])
    with torch.no_grad():
        expected = plain(input_ids=ids, decoder_input_ids=torch.tensor([trace.input_ids])).logits[0]
    torch.testing.assert_close(trace.logits, expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(trace.pattern(1, site=site), eager.weights[call], atol=1e-4, rtol=0)
    clean = dates.trace("the 3rd of May 1998", "1998-05-03")
    assert float((clean.logits - expected).abs().max()) > 1e-3
    everywhere = dates.trace("the 3rd of May 1998", "1998-05-03", edits=[KnockOut(None, 2, site=site)])
    for other in ("encoder", "decoder", "cross"):
        for layer in range(2):
            assert everywhere.pattern(layer, site=other)[..., 2].any() == (other != site)


@pytest.mark.parametrize("kind", ["grouped", "windowed", "gpt2", "sinks"])
@pytest.mark.parametrize("query", [None, 6, -1], ids=str)
def test_it_holds_while_a_text_is_continued(kind: str, query: int | None) -> None:
    model = attnviz.wrap_model(tiny.EXACT[kind](), name=kind)
    given = tiny.ids(8)
    edits = [KnockOut(query, (5, -2), heads=[Head(0, 1), Head(0, 2), Head(1, 1)])]
    fixed = [KnockOut(7 if query == -1 else query, (5, 6), heads=edits[0].heads)]
    made = model.generate(input_ids=given, max_new_tokens=6, edits=edits)
    ids = list(given)
    while len(ids) < len(made.tokens):
        whole = model.trace(input_ids=ids, edits=fixed).logits
        assert whole is not None
        ids.append(int(whole[-1].argmax()))
    assert made.input_ids == ids
    assert made.edits == tuple(edits)
    torch.testing.assert_close(made.logits, model.trace(input_ids=ids, edits=fixed).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("query", "site"), [(None, "cross"), (0, "cross"), (None, "encoder"), (None, "decoder")])
def test_it_holds_while_a_target_is_written(dates: Model, query: int | None, site: str) -> None:
    edits = [KnockOut(query, 0 if site == "decoder" else (4, 5, 12, 13), site=site)]
    made = dates.generate("the 3rd of May 1998", edits=edits)
    ids = made.input_ids[:1]
    while len(ids) < len(made.tokens):
        logits = dates.trace("the 3rd of May 1998", decoder_input_ids=ids, edits=edits).logits
        assert logits is not None
        ids.append(int(logits[-1].argmax()))
    assert made.input_ids == ids
    clean = dates.trace("the 3rd of May 1998", decoder_input_ids=ids)
    assert float((clean.logits - made.logits).abs().max()) > 1e-3


def test_heads_are_changed_after_the_softmax_and_edges_before_in_whatever_order() -> None:
    model = attnviz.wrap_model(tiny.grouped())
    edges, scaled = KnockOut(9, 4, heads=[Head(0, 1)]), ScaleHeads({Head(0, 1): 3.0})
    one, other = (model.trace(input_ids=tiny.ids(), edits=edits) for edits in ([edges, scaled], [scaled, edges]))
    assert torch.equal(one.logits, other.logits)
    assert not torch.equal(one.logits, model.trace(input_ids=tiny.ids(), edits=[scaled]).logits)


def test_a_head_without_any_key_is_a_head_at_zero() -> None:
    model = attnviz.wrap_model(tiny.grouped())
    without = model.trace(input_ids=tiny.ids(), edits=[KnockOut(None, range(tiny.LENGTH), heads=[Head(1, 2)])])
    zero = model.trace(input_ids=tiny.ids(), edits=[ZeroHeads([Head(1, 2)])])
    torch.testing.assert_close(without.logits, zero.logits)
    assert not without.pattern(1, 2).any()


@pytest.mark.parametrize("kind", ["grouped", "soft-capped"])
def test_gradients_stay_finite_where_no_key_is_left(kind: str) -> None:
    model = attnviz.wrap_model(tiny.EXACT[kind]())
    source = model.reader.encode_ids(tiny.ids())
    edits = (KnockOut(0, 0, heads=[Head(0, 1)]),)
    call = Call(model.layout.places, edits, keep=False, keep_z=True)
    outputs = model.forward(source, edits, call, grad=True)
    found = torch.autograd.grad(outputs.logits[0, -1].logsumexp(-1), list(call.z.values()))
    assert all(bool(torch.isfinite(one).all()) and bool(one.any()) for one in found)
    assert not call.z["decoder", 0][0, 0, 1].any()


@pytest.mark.parametrize("given", [None, "boolean", "additive"])
def test_rows_without_keys_keep_theirs_in_the_kernel_alone(given: str | None) -> None:
    visible = torch.ones(3, 3, dtype=torch.bool).tril()[None, None]
    low = torch.finfo(torch.float32).min
    mask = {None: None, "boolean": visible, "additive": torch.zeros(1, 1, 3, 3).masked_fill(~visible, low)}[given]
    hidden = torch.zeros(2, 3, 3, dtype=torch.bool)
    hidden[0, 0, 0] = hidden[1, 2, 1] = True
    kernel, recorded, blank = masks(mask, visible, hidden, torch.float32)
    assert blank.tolist() == [[[True, False, False], [False, False, False]]]
    seen = [x if x.dtype == torch.bool else x == 0 for x in (kernel, recorded)]
    assert seen[1][0].equal(visible[0] & ~hidden)
    assert seen[0][0, 0].equal(visible[0, 0])
    assert seen[0][0, 1].equal(seen[1][0, 1])


@pytest.mark.parametrize(
    ("edit", "part"),
    [
        (KnockOut(20, 0), r"query.*20 tokens.*20"),
        (KnockOut(5, -21), r"key.*20 tokens.*-21"),
        (KnockOut(2, (3, 4)), "no later key"),
        (KnockOut(2, 1, site="encoder"), "decoder"),
        (KnockOut(2, 1, heads=[Head(0, 9)]), "heads 0 to 3"),
    ],
)
def test_an_edge_that_the_run_does_not_have_is_refused(edit: KnockOut, part: str) -> None:
    model = attnviz.wrap_model(tiny.grouped(), name="tiny")
    with pytest.raises(InputError, match=part):
        model.trace(input_ids=tiny.ids(), edits=[edit])


def test_an_encoder_decoder_needs_a_site(dates: Model) -> None:
    with pytest.raises(HeadError, match=r"encoder, decoder, cross.*site"):
        dates.trace("the 3rd of May 1998", "1998-05-03", edits=[KnockOut(1, 0)])


@pytest.mark.parametrize("given", [{"key": None}, {"key": "0"}, {"key": ()}, {"key": 0.5}, {"query": True}])
def test_positions_that_are_none_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="KnockOut"):
        KnockOut(**{"query": 1, "key": 0, **given})


def test_heads_and_a_site_at_once_are_refused() -> None:
    with pytest.raises(HeadError, match="both"):
        KnockOut(1, 0, heads=[Head(0, 0)], site="decoder")
    with pytest.raises(HeadError, match="site is one of"):
        KnockOut(1, 0, site="middle")


def test_it_says_in_words_what_it_does() -> None:
    assert KnockOut(5, 0).title == "key 0 knocked out for query 5 in all heads"
    assert KnockOut(None, (0, 2), site="cross").title == "keys 0 and 2 knocked out for all queries in all cross heads"
    assert KnockOut((1, 2, 3), 0, heads=[Head(2, 1)]).title == "key 0 knocked out for queries 1, 2 and 3 in L2H1"
    assert hash(KnockOut(5, [0, 1])) == hash(KnockOut([5], (0, 1)))
    assert KnockOut(5, 0) != KnockOut(5, 1)


def test_an_edge_that_nobody_bound_to_a_run_is_not_passed_over() -> None:
    model = attnviz.wrap_model(tiny.grouped())
    inputs = {"input_ids": torch.tensor([tiny.ids()])}
    with pytest.raises(AttnvizError, match="ready"), model.running(Call(model.layout.places, [KnockOut(5, 0)])):
        model.hf_model(**inputs)
