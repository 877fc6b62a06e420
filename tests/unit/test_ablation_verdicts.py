"""The rule by which something is called important, by hand, and how often it errs."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from attnviz import Head, ablation
from attnviz.ablation import Table
from attnviz.errors import InputError

HOWS = ("zero", "mean", "resample")


def made(effects: Any, names: int | None = None, noise: float = math.nan) -> Table:
    """A table of [row, how, prompt] effects."""
    values = np.asarray(effects, float)
    prompts = tuple(f"prompt {n}" for n in range(values.shape[2]))
    rows = tuple((Head(0, n),) for n in range(names or len(values)))
    return Table(rows, HOWS[: values.shape[1]], prompts, values, np.zeros(len(prompts)), noise, "outcome")


def test_the_middle_of_a_band_by_hand() -> None:
    low, high = made(np.arange(20.0).reshape(20, 1, 1)).middle()
    assert (low.item(), high.item()) == (0, 19)  # of 20, 95% is all
    low, high = made(np.arange(101.0).reshape(101, 1, 1)).middle()
    assert (low.item(), high.item()) == (2, 98)
    low, high = made(np.arange(11.0).reshape(11, 1, 1)).middle(0.5)
    assert (low.item(), high.item()) == (2, 8)


CONTROLS = made(np.stack([np.full((3, 4), x) for x in (-0.5, 0.1, 0.5)]))


@pytest.mark.parametrize(
    ("effects", "important", "held"),
    [
        (np.full((3, 4), -2.0), True, 4),
        (np.full((3, 4), 2.0), True, 4),
        (np.full((3, 4), 0.4), False, 0),  # within the band
        ([[-2.0] * 4, [0.0] * 4, [-2.0] * 4], False, 0),  # one method sees nothing
        ([[-2.0] * 4, [2.0] * 4, [-2.0] * 4], False, 0),  # methods disagree in sign
        ([[-2, -2, -2, 0]] * 3, True, 3),
        ([[-2, -2, 0, 0]] * 3, False, 2),  # half is not most
        ([[-2, -2, -2, 2]] * 3, False, 3),  # the other way on one prompt
    ],
)
def test_only_what_holds_for_methods_and_prompts_is_important(effects: Any, important: bool, held: int) -> None:
    (said,) = ablation.verdict(made([effects]), CONTROLS)
    assert (said.important, said.held, said.prompts) == (important, held, 4)
    assert f"{held} of 4 prompts" in said.reason


def test_too_few_prompts_or_methods_make_nothing_important() -> None:
    for shape in ((3, 3, 2), (3, 1, 4)):
        (said,) = ablation.verdict(made(np.full((1, *shape[1:]), -9.0)), made(np.zeros(shape)))
        assert not said.important
        assert "three prompts" in said.reason


def test_a_prompt_that_stands_there_three_times_is_one() -> None:
    def named(effects: Any, names: str) -> Table:
        table = made(effects)
        return replace(table, prompts=tuple(names))

    strong = np.full((1, 3, 4), -2.0)
    controls = np.concatenate([np.zeros((1, 3, 4)), CONTROLS.effects])
    for names, important, held_on, prompts in (
        ("aaaa", False, 1, 1),
        ("aaab", False, 2, 2),
        ("aabc", True, 3, 3),
        ("abcd", True, 4, 4),
    ):
        (said,) = ablation.verdict(named(strong, names), named(controls, names))
        assert (said.important, said.held, said.prompts) == (important, held_on, prompts), names
    strong[0, :, :1] = 0.0  # once it shows nothing: the prompt a does not count, and two of four are not most
    (said,) = ablation.verdict(named(strong, "aabc"), named(controls, "aabc"))
    assert (said.important, said.held, said.prompts) == (True, 2, 3)
    assert "on 2 of 3 prompts by all methods (by each: zero 2, mean 2, resample 2)" in said.reason


@pytest.mark.parametrize("n", [8, 40, 41, 100])
def test_a_verdict_says_how_often_it_errs_at_most(n: int) -> None:
    """The bound by hand, and reached: where prompts and methods say the same, so many of n + 1 heads pass in turn."""
    values = np.broadcast_to(np.arange(-n / 2, n / 2 + 1)[:, None, None], (n + 1, 2, 3)) + 0.25
    passed = 0
    for own in range(n + 1):
        (said,) = ablation.verdict(made(values[[own]]), made(np.delete(values, own, axis=0)))
        passed += said.important
    assert said.n_controls == n
    assert passed / (n + 1) <= said.error_share == {8: 2 / 9, 40: 2 / 41, 41: 6 / 42, 100: 10 / 101}[n]
    assert passed >= 2
    assert f"its {n} controls" in said.caution


def test_effects_within_the_noise_or_on_the_near_side_of_a_band_are_nothing() -> None:
    rows = np.full((1, 3, 4), -0.2)
    assert not ablation.verdict(made(rows, noise=0.3), made(np.zeros((3, 3, 4))))[0].important
    assert ablation.verdict(made(rows, noise=0.1), made(np.zeros((3, 3, 4))))[0].important
    above = made(np.full((3, 3, 4), 0.5))
    assert not ablation.verdict(made(-rows), above)[0].important  # less than any control, and towards zero


def test_each_row_may_have_controls_of_its_own() -> None:
    rows = made(np.full((2, 3, 4), -2.0))
    wide = made(np.stack([np.full((3, 4), -5.0), np.full((3, 4), 5.0)]))
    first, second = ablation.verdict(rows, {"L0H0": CONTROLS, "L0H1": wide})
    assert (first.important, second.important) == (True, False)
    with pytest.raises(InputError, match="controls of L0H1"):
        ablation.verdict(rows, {"L0H0": CONTROLS})
    with pytest.raises(InputError, match="its prompts and methods"):
        ablation.verdict(rows, made(np.zeros((3, 3, 5))))
    with pytest.raises(InputError, match="share from"):
        ablation.verdict(rows, CONTROLS, share=0.4)


@pytest.mark.parametrize("shared", [0.0, 0.9, 1.0])
def test_a_head_like_its_controls_is_seldom_important(shared: float) -> None:
    """At most 2 / (n + 1), reached where all prompts and methods say the same."""
    chance, n, trials = np.random.default_rng(5), 8, 400
    found = 0
    for _ in range(trials):
        own, rest = chance.normal(size=(n + 1, 1, 1)), chance.normal(size=(n + 1, 3, 6))
        values = np.sqrt(shared) * own + np.sqrt(1 - shared) * rest
        found += ablation.verdict(made(values[:1]), made(values[1:]))[0].important
    bound = 2 / (n + 1)
    assert found / trials < bound + 3 * math.sqrt(bound * (1 - bound) / trials)
    assert (found / trials > bound / 2) == (shared == 1.0)
