"""Whatever goes into a public entry point, a result or an AttnvizError comes out; benchmarks/fuzz.py tries more."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzzed
import numpy as np
import pytest
import tiny
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from odd import Call

import attnviz
from attnviz import Head, checks, corpus, feedback, figures, flow, heads, human, lines, products
from attnviz.ablation import random_sets
from attnviz.edits import ResampleHeads, ScaleHeads
from attnviz.errors import HeadError, InputError, ShapeError, Unsupported

RAGGED = [[1.0], [1.0, 2.0]]


@pytest.fixture(scope="module")
def model() -> attnviz.Model:
    return attnviz.wrap_model(tiny.grouped())


@pytest.fixture(scope="module")
def trace(model: attnviz.Model) -> attnviz.Trace:
    return model.trace(input_ids=tiny.ids(7))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, for the infinite numbers that are among the inputs
@pytest.mark.parametrize("name", fuzzed.ENTRIES)
def test_only_results_and_errors_of_the_library_come_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    came = []

    @settings(
        max_examples=4,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(fuzzed.ENTRIES[name])
    def each(call: Call) -> None:
        came.append(fuzzed.came_of(name, call))

    each()
    assert came
    assert set(came) <= {"result", "error"}


def test_what_is_neither_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        fuzzed.came_of("edits", Call(lambda by: 1 // by, {"by": 0}))


@pytest.mark.parametrize("hf_model", [None, 3, "gpt2", torch.nn.Linear(2, 2)])
def test_only_a_transformers_model_is_recorded(hf_model: Any) -> None:
    with pytest.raises(Unsupported, match="record takes a transformers"), attnviz.record(hf_model):
        pass


@pytest.mark.parametrize("k", [0, -1, True, -(10**9)])
def test_a_compact_trace_keeps_at_least_one_token(trace: attnviz.Trace, k: int) -> None:
    with pytest.raises(InputError, match="from 1 on"):
        trace.compact(k)


@pytest.mark.parametrize("name", ["", "\0", "no/folder/trace", "."])
def test_a_place_that_cannot_be_written_is_said_and_left_as_it_was(
    trace: attnviz.Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"names no file|cannot be written"):
        trace.save(name)
    with pytest.raises(InputError, match="cannot be written"):
        trace.save(tmp_path)
    assert not [each for folder in (tmp_path, tmp_path.parent) for each in folder.glob("*.partial")]


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True])
def test_a_seed_is_one_that_numpy_and_torch_take(model: attnviz.Model, seed: Any) -> None:
    asked: list[Callable[[], Any]] = [
        lambda: random_sets(model, [Head(0, 0)], seed=seed),
        lambda: heads.induction(model, seed=seed),
        lambda: human.band([[0.1, 0.2]], [0, 1], seed=seed),
        lambda: model.generate(input_ids=[5], seed=2**63 if seed == -1 else seed),
    ]
    for ask in asked:
        with pytest.raises(InputError, match=r"[Aa] seed"):
            ask()


def test_lists_of_unequal_lengths_are_no_array() -> None:
    asked: list[Callable[[], Any]] = [
        lambda: flow.scoring.agreement(RAGGED, [1.0]),
        lambda: flow.rollout(RAGGED),
        lambda: heads.labels(RAGGED, RAGGED),
        lambda: heads.places(RAGGED),
        lambda: corpus.benjamini_hochberg(RAGGED),
        lambda: figures.bars(["a"], {"method": RAGGED}),
        lambda: checks.numbers({}, "These"),
    ]
    for ask in asked:
        with pytest.raises(ShapeError):
            ask()


def test_one_number_is_no_heads_and_no_words() -> None:
    for scores, marks in ((1.0, [1.0]), (np.array(1.0), [1.0]), ([], torch.tensor(0.0))):
        with pytest.raises(ShapeError, match="Expected scores"):
            human.band(scores, marks)


def test_results_of_other_detectors_are_not_compared() -> None:
    strange = corpus.Result(0, "", np.zeros((1, 2, 3), np.float32), np.zeros((1, 2), np.float32))
    with pytest.raises(ShapeError, match="variants and detectors"):
        corpus.compare([strange], [strange])


def test_figures_refuse_what_they_cannot_draw(model: attnviz.Model, trace: attnviz.Trace) -> None:
    longer = model.trace(input_ids=tiny.ids(9))
    made = products.query_key(longer, Head(0, 0), 8)
    asked: list[Callable[[], Any]] = [
        lambda: figures.product_map(trace, made),
        lambda: figures.product_map(longer, made, keys=[9]),
        lambda: figures.attention_map(trace, Head(0, 0), window=(0, 1, 0)),
        lambda: figures.attention_map(trace, Head(0, 0), palette="pink"),
        lambda: figures.attention_map(trace, Head(0, 0), scale="cubic"),
        lambda: lines.strongest_edges(trace, ["L0H0"]),
    ]
    for ask in asked:
        with pytest.raises(InputError):
            ask()


def test_parts_of_a_run_are_asked_for_by_what_it_has(model: attnviz.Model, trace: attnviz.Trace) -> None:
    run = flow.take_apart(model, input_ids=tiny.ids(7))
    far = flow.Target(query=8).aim(model, model.trace(input_ids=tiny.ids(9)))
    asked: list[Callable[[], Any]] = [
        lambda: flow.lens(run, model, 0, k=0),
        lambda: flow.lens(run, model, 0, answer=99),
        lambda: flow.promotes(run, model, run.blocks[0], -5, 0),
        lambda: flow.promotes(run, model, run.blocks[0], 0, 0, k=True),
        lambda: flow.attribution(run, model, far),
        lambda: flow.steps("norms", model.trace(input_ids=tiny.ids(9)), run=run, model=model),
        lambda: heads.pattern_distance([trace], rows=0),
        lambda: heads.output_similarity([run], rows=-1),
    ]
    for ask in asked:
        with pytest.raises(InputError):
            ask()


@pytest.mark.parametrize("scale", [1e300, float("nan"), 10**400])
def test_a_scale_fits_half_precision(scale: float) -> None:
    with pytest.raises(InputError, match="at most"):
        ScaleHeads({Head(0, 0): scale})


@pytest.mark.parametrize("donor", [3, np.array(3.0), torch.tensor(3), None])
def test_a_donor_is_a_text_or_ids(donor: Any) -> None:
    with pytest.raises((InputError, HeadError)):
        ResampleHeads([Head(0, 0)], donor)


def test_a_path_that_no_file_can_have_is_no_feedback() -> None:
    with pytest.raises(InputError, match="cannot be read"):
        feedback.read("\0")


@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.text(), st.none()))
def test_a_whole_number_is_given_back_or_refused(value: Any) -> None:
    fits = type(value) is int and 1 <= value <= 9
    if fits:
        assert checks.whole(value, "It", most=9) == value
    else:
        with pytest.raises(InputError, match="from 1 to 9"):
            checks.whole(value, "It", most=9)
