"""A model's line: who works, who comes next, who is sent away."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from attnviz.errors import Cancelled
from attnviz.ui.line import PATIENCE, SLICE, Busy, Line, Lines, Place

SECONDS = 10


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fine() -> None:
    """Nobody has asked to stop."""


def stopped() -> None:
    raise Cancelled("Stopped.")


def gives_way(place: Place) -> threading.Thread:
    """A step of a place's work in a thread of its own: over once the place has its turn again."""
    thread = threading.Thread(target=place.give_way, args=(fine,), daemon=True)
    thread.start()
    return thread


def until(holds: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(100 * SECONDS):
        if holds():
            return
        waiting.wait(0.01)
    raise AssertionError("it never came to that")


def test_as_many_work_as_may_and_the_others_wait_in_the_order_they_came(clock: Clock) -> None:
    line = Line(2, clock=clock)
    places = []
    for _ in range(5):
        places.append(line.enter())
        clock.now += 0.1
    assert [place.has_turn for place in places] == [True, True, False, False, False]
    assert [place.ahead and place.ahead[0] for place in places[2:]] == [0, 1, 2]
    places[1].leave()
    assert [place.has_turn for place in places] == [True, False, True, False, False]
    assert places[3].ahead is not None
    assert places[3].ahead[0] == 0
    assert (line.state().working, line.state().waiting) == (2, 2)


def test_long_work_gives_way_at_its_step_and_comes_back(clock: Clock) -> None:
    line = Line(1, clock=clock)
    sweep = line.enter()
    clock.now = 3 * SLICE
    trace = line.enter()
    assert not trace.has_turn
    step = gives_way(sweep)
    until(lambda: trace.has_turn)
    assert not sweep.has_turn
    assert step.is_alive()
    trace.leave()
    step.join(SECONDS)
    assert sweep.has_turn
    assert sweep.seconds == 3 * SLICE


def test_short_work_keeps_its_turn(clock: Clock) -> None:
    line = Line(1, clock=clock)
    first, second = line.enter(), line.enter()
    clock.now = SLICE / 2
    first.give_way(fine)
    assert first.has_turn
    assert not second.has_turn


def test_long_work_goes_first_once_it_has_waited_long(clock: Clock) -> None:
    line = Line(1, clock=clock)
    sweep = line.enter()
    clock.now = 2 * SLICE
    trace = line.enter()
    step = gives_way(sweep)
    until(lambda: trace.has_turn)
    clock.now += 1
    early = line.enter()
    clock.now += PATIENCE
    late = line.enter()
    trace.leave()
    assert early.has_turn
    early.leave()
    step.join(SECONDS)
    assert sweep.has_turn
    assert not late.has_turn
    sweep.give_way(fine)
    assert sweep.has_turn, "for one turn it counts as short"


def test_who_comes_to_a_full_line_is_told_so_and_a_place_that_is_left_is_free(clock: Clock) -> None:
    line = Line(1, 2, clock=clock)
    places = [line.enter() for _ in range(3)]
    with pytest.raises(Busy, match=r"2 pieces of work wait.*try again"):
        line.enter()
    places[1].leave()
    assert not line.enter().has_turn


def test_long_work_that_gave_way_takes_nobodys_place(clock: Clock) -> None:
    line = Line(1, 1, clock=clock)
    sweep = line.enter()
    clock.now = 2 * SLICE
    trace = line.enter()
    gives_way(sweep)
    until(lambda: trace.has_turn)
    assert not line.enter().has_turn


def test_waiting_can_be_stopped_and_the_next_one_moves_up(clock: Clock) -> None:
    line = Line(1, clock=clock)
    first, second, third = line.enter(), line.enter(), line.enter()
    with pytest.raises(Cancelled):
        second.wait(stopped)
    second.leave()
    second.leave()
    assert third.ahead is not None
    assert third.ahead[0] == 0
    first.leave()
    assert third.has_turn
    third.wait(fine)


def test_the_expected_wait_is_what_turns_took_and_what_is_left(clock: Clock) -> None:
    line = Line(1, clock=clock)
    for _ in range(3):
        place = line.enter()
        clock.now += 1.0
        place.leave()
    assert line.state().turn_seconds == pytest.approx(1.0)
    running = line.enter()
    running.left = lambda: 0.5
    waiting = [line.enter(), line.enter()]
    assert waiting[0].ahead == (0, pytest.approx(0.5))
    clock.now += 0.25
    assert line.enter().ahead == (2, pytest.approx(2.5))


def test_never_more_work_than_may_and_all_get_done() -> None:
    line, lock = Line(2), threading.Lock()
    working, most, done = 0, 0, 0

    def work() -> None:
        nonlocal working, most, done
        place = line.enter()
        place.wait(fine)
        with lock:
            working += 1
            most = max(most, working)
        place.give_way(fine)
        with lock:
            working, done = working - 1, done + 1
        place.leave()

    threads = [threading.Thread(target=work) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert (done, line.state().working, line.state().waiting) == (40, 0, 0)
    assert 1 <= most <= 2


def test_models_do_not_wait_for_each_other_and_idle_lines_go(clock: Clock) -> None:
    lines = Lines(lambda: Line(clock=clock))
    first, other = lines.enter("a"), lines.enter("b")
    assert first.has_turn
    assert other.has_turn
    assert not lines.enter("a").has_turn
    for number in range(200):
        lines.enter(f"model {number}").leave()
    assert len(lines.states()) <= 65
    assert lines.states()["a"].working == 1
