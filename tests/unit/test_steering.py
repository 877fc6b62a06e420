"""Where attention went, how far outputs moved, and which heads are good to steer: against runs made one by one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import attnviz
from attnviz import Head, Model, steering
from attnviz.edits import Edit, ExternalAttention, KnockOut, ScaleHeads, Steer, ZeroHeads
from attnviz.errors import AttnvizError, Cancelled, InputError, Unsupported
from attnviz.metrics import KL
from attnviz.steering import Example

TEXT = "Anna lives in Rome. Mary lives in Paris. Anna lives in"
EXAMPLES = [
    Example(TEXT, "Anna lives in Rome.", " Rome", " Paris"),
    Example("The cat is black. The cat is white. The cat is", "The cat is white", " white", " black"),
    Example("It opens at nine. It opens at ten. It opens at", (0, 1, 2, 3), " nine", " ten"),
]


@pytest.fixture(scope="module")
def small(smollm2: Model) -> Model:
    """A tiny model with random weights that reads texts."""
    return attnviz.wrap_model(tiny.grouped(vocab_size=smollm2.vocabulary), smollm2.tokenizer, name="small")


def naive(model: Model, example: Example, heads: list[Head], strength: float, edits: list[Edit]) -> float:
    tokens = example.tokens(model.encode(example.text))
    steered = [*edits[:1], Steer(tokens, heads, strength), *edits[1:]]
    return model.measure(example.metric, example.text, edits=steered) - model.measure(
        example.metric, example.text, edits=edits
    )


@pytest.mark.parametrize(
    "edits", [[], [ScaleHeads({Head(0, 1): 0.5}), ZeroHeads([Head(1, 2)])], [KnockOut(5, 2, [Head(1, 0)])]]
)
def test_a_profile_is_each_head_steered_alone(small: Model, edits: list[Edit]) -> None:
    found = steering.profile(small, EXAMPLES, strength=0.05, edits=edits)
    effects = found.by_site["decoder"]
    for number, example in enumerate(EXAMPLES):
        for layer in range(2):
            for head in range(4):
                one = naive(small, example, [Head(layer, head)], 0.05, edits)
                assert effects[number, layer, head] == pytest.approx(one, abs=2e-5)
        assert found.baseline[number] == pytest.approx(small.measure(example.metric, example.text, edits=edits))
    assert found.n_runs == 3 * (8 + 2)
    assert float(np.abs(effects).max()) > 1e-3


def test_only_the_heads_asked_for_are_tried_also_for_answers_of_several_tokens(small: Model) -> None:
    example = Example(TEXT, (-8, -7), " Rome, the capital")
    found = steering.profile(small, [example], heads=[Head(0, 3), Head(1, 1)])
    for layer, head in [(0, 3), (1, 1)]:
        one = naive(small, example, [Head(layer, head)], 0.01, [])
        assert found.mean[layer, head] == pytest.approx(one, abs=2e-5)
        assert abs(one) > 1e-4
    assert int(np.isfinite(found.mean).sum()) == 2
    assert "log-probability" in found.title
    assert bool(np.isnan(found.low).all())


def test_the_best_heads_are_those_that_help_most(small: Model) -> None:
    found = steering.profile(small, EXAMPLES)
    frame = found.frame()
    assert list(frame.columns) == ["site", "layer", "head", "effect", "low", "high", "n_texts", "metric"]
    helping = frame[frame.effect > 0].sort_values("effect", ascending=False)
    expected = [Head(int(layer), int(head)) for layer, head in zip(helping["layer"], helping["head"], strict=True)]
    assert list(found.best(100)) == expected
    assert list(found.best(2)) == expected[:2]
    assert "each head steered alone (strength 0.01)" in found.title
    with pytest.raises(InputError, match="counts heads from 1"):
        found.best(0)


def test_layers_first_tries_heads_of_the_best_layer_alone(small: Model) -> None:
    found = steering.profile(small, EXAMPLES, layers=1)
    whole = [
        np.mean([naive(small, one, [Head(layer, h) for h in range(4)], 0.01, []) for one in EXAMPLES])
        for layer in range(2)
    ]
    tried = np.isfinite(found.mean).any(1)
    assert tried.tolist() == [whole[0] > whole[1], whole[1] > whole[0]]
    everything = steering.profile(small, EXAMPLES)
    np.testing.assert_allclose(found.mean[tried], everything.mean[tried], atol=1e-5)
    assert found.n_runs == 3 * (2 + 4 + 2)


def test_progress_counts_up_to_the_end_and_stops_what_it_is_told_to(small: Model) -> None:
    for layers in (None, 1):
        told: list[tuple[int, int]] = []
        steering.profile(small, EXAMPLES, layers=layers, progress=lambda done, total: told.append((done, total)))  # noqa: B023
        assert told[-1][0] == told[-1][1]
        assert all(0 < done <= total for done, total in told)
        assert [done for done, _ in told] == sorted(done for done, _ in told)

    def stop(done: int, total: int) -> None:
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        steering.profile(small, EXAMPLES, progress=stop)


def test_attention_that_went_is_the_mean_share_of_the_queries_that_see_the_tokens(small: Model) -> None:
    before = small.trace(TEXT)
    tokens, heads = [3, -8], [Head(0, 1), Head(1, 2)]
    after = small.trace(TEXT, edits=[Steer(tokens, heads)])
    found = steering.went(before, after, tokens, heads)
    n = len(before.tokens)
    for trace, shares in ((before, found.before), (after, found.after)):
        for head, share in zip(heads, shares, strict=True):
            rows = [float(row[[3, n - 8]].sum()) for row in trace.pattern(head.layer, head.head)[3:]]
            assert share == pytest.approx(sum(rows) / len(rows), abs=1e-6)
    assert found.means[1] > found.means[0]
    assert found.title == (
        f"attention to the tokens: {found.means[0]:.1%} before, {found.means[1]:.1%} after (mean of 2 heads)"
    )
    assert found.frame().columns.tolist() == ["site", "layer", "head", "before", "after"]
    assert len(steering.went(before, after, 3).heads) == 8
    alone = small.trace(TEXT, edits=[ExternalAttention([0, 0, 1] + [0] * (n - 3), alpha=0)])
    assert steering.went(before, alone, 2).means[1] == pytest.approx(1)


@pytest.mark.parametrize(("given", "part"), [(-99, "token"), ([], "at least one"), ("2", "whole numbers")])
def test_tokens_that_the_run_does_not_have_are_refused(small: Model, given: Any, part: str) -> None:
    trace = small.trace(TEXT)
    with pytest.raises(InputError, match=part):
        steering.went(trace, trace, given)


def test_runs_on_other_texts_are_not_compared(small: Model) -> None:
    one, other = small.trace(TEXT), small.trace("Another text.")
    with pytest.raises(InputError, match="same tokens"):
        steering.went(one, other, 0)
    with pytest.raises(InputError, match="one text"):
        steering.moved(one, other)


def test_how_far_outputs_moved_is_the_metric_of_two_runs(small: Model, minilm: Model) -> None:
    edits = [Steer([1, 2], strength=0.1)]
    before, after = small.trace(TEXT), small.trace(TEXT, edits=edits)
    assert steering.moved(before, after) == pytest.approx(small.measure(KL(), TEXT, edits=edits), rel=1e-4)
    p, q = (t.logits[4].double().softmax(-1) for t in (before, after) if t.logits is not None)
    assert steering.moved(before, after, 4) == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-3)
    assert steering.moved(before, before) == 0
    embedded = minilm.trace(TEXT)
    with pytest.raises(AttnvizError, match="vocabulary head"):
        steering.moved(embedded, embedded)


def test_a_phrase_is_the_tokens_that_it_touches(smollm2: Model) -> None:
    trace = smollm2.trace(TEXT)
    found = steering.tokens_of(trace, "Mary lives in Paris")
    assert "".join(TEXT[slice(*trace.tokens[i].span)] for i in found).strip() == "Mary lives in Paris"
    assert found == tuple(range(found[0], found[-1] + 1))
    for phrase, times in (("Anna", 2), ("Oslo", 0), ("", 0)):
        with pytest.raises(InputError, match=f"{times} times"):
            steering.tokens_of(trace, phrase)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"examples": []}, "one or more"),
    ({"examples": ["a text"]}, "one or more"),
    ({"examples": [EXAMPLES[0], Example(TEXT, "Oslo", " Rome")]}, r"Example 2: .*Oslo.*0 times"),
    ({"examples": [Example(TEXT, (99,), " Rome")]}, r"Example 1: .*99"),
    ({"examples": [Example(TEXT, (0,), " Rome Rome", " Paris")]}, "Example 1: LogitDiff"),
    ({"strength": 0}, "strength"),
    ({"layers": 3}, "1 to 2"),
    ({"layers": True}, "1 to 2"),
    ({"heads": [Head(5, 0)]}, "layer"),
]


@pytest.mark.parametrize(("given", "part"), WRONG)
def test_a_profile_of_nothing_is_refused(small: Model, given: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError, match=part):
        steering.profile(small, **{"examples": EXAMPLES, **given})


def test_only_models_that_continue_texts_have_a_profile(minilm: Model) -> None:
    with pytest.raises(Unsupported, match="continues"):
        steering.profile(minilm, EXAMPLES)


def test_examples_are_read_from_files(tmp_path: Path) -> None:
    lines = [
        '{"text": "a b", "emphasis": "a", "answer": " c", "foil": " d"}',
        '{"text": "a b", "emphasis": [-1], "answer": " c"}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), "utf-8")
    expected = [Example("a b", "a", " c", " d"), Example("a b", (-1,), " c")]
    assert steering.read_examples(tmp_path / "a.jsonl") == expected
    (tmp_path / "a.csv").write_text('text,emphasis,answer,foil\na b,a," c"," d"\n', "utf-8")
    assert steering.read_examples(tmp_path / "a.csv") == expected[:1]
    prompts = steering.read_examples(Path(__file__).parents[2] / "benchmarks" / "steering_prompts.jsonl")
    assert len(prompts) == 50
    firsts = [one.text.startswith(str(one.emphasis)) for one in prompts]
    assert firsts == [n % 2 == 0 for n in range(50)]
    assert all(one.foil and one.answer != one.foil for one in prompts)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ('{"text": "a b", "emphasis": "a"}', r"line 1.*no answer"),
        ('{"emphasis": "a", "answer": " c"}', r"line 1.*no text"),
        ('{"text": "a b", "answer": " c"}', r"line 1.*emphasis"),
        ('{"text": "a b", "emphasis": ["x"], "answer": " c"}', r"line 1.*whole numbers"),
        ('{"text": 3, "emphasis": "a", "answer": " c"}', r"line 1.*text is a text"),
        ("[]", r"line 1.*object"),
        ("{", r"line 1.*JSON"),
        ("", "no steering example"),
    ],
)
def test_a_file_at_fault_is_named_by_its_line(tmp_path: Path, line: str, part: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(line, "utf-8")
    with pytest.raises(InputError, match=part):
        steering.read_examples(file)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="jsonl or"):
        steering.read_examples(tmp_path / "a.txt")
    with pytest.raises(InputError, match="cannot be read"):
        steering.read_examples(tmp_path / "none.jsonl")
