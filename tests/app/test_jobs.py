"""Jobs: a result, an error in plain words, or a stop on request."""

import threading

import pytest

from attnviz.errors import AttnvizError, Cancelled, TextError
from attnviz.ui.jobs import Job

SECONDS = 10


def test_a_job_gives_its_result_and_how_far_it_is() -> None:
    go, reached = threading.Event(), threading.Event()

    def work(job: Job) -> str:
        job.report("halfway", 0.0)
        job.step(1, 2)
        reached.set()
        assert go.wait(SECONDS)
        return "done"

    job = Job(work)
    assert reached.wait(SECONDS)
    assert not job.wait(0)
    assert (job.doing, job.share) == ("halfway", 0.5)
    go.set()
    assert job.wait(SECONDS)
    assert job.result() == "done"
    assert job.result() == "done"
    assert not job.cancelled


def test_progress_stays_between_nothing_and_all() -> None:
    def work(job: Job) -> list[float]:
        shares = []
        for done, total in [(-1, 2), (3, 2), (0, 0), (5, 0)]:
            job.step(done, total)
            shares.append(job.share)
        return shares

    job = Job(work)
    assert job.wait(SECONDS)
    assert job.result() == [0.0, 1.0, 0.0, 1.0]


def test_an_error_made_on_purpose_comes_out_as_it_is() -> None:
    error = TextError("Expected a text, got none. Write one.")

    def work(job: Job) -> None:
        raise error

    job = Job(work)
    assert job.wait(SECONDS)
    with pytest.raises(TextError) as caught:
        job.result()
    assert caught.value is error


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("by nought"), KeyError("x"), MemoryError(), SystemExit(3)], ids=repr
)
def test_an_unforeseen_error_comes_out_as_a_sentence_with_its_cause(error: BaseException) -> None:
    def work(job: Job) -> None:
        raise error

    job = Job(work)
    assert job.wait(SECONDS)
    with pytest.raises(AttnvizError, match="Something went wrong") as caught:
        job.result()
    assert caught.value.__cause__ is error
    assert type(error).__name__ in str(caught.value)


def test_a_cancelled_job_ends_at_its_next_step() -> None:
    cancelled, went_on = threading.Event(), []

    def work(job: Job) -> None:
        assert cancelled.wait(SECONDS)
        job.step(1, 3)
        went_on.append(True)

    job = Job(work)
    job.cancel()
    assert job.cancelled
    cancelled.set()
    assert job.wait(SECONDS)
    with pytest.raises(Cancelled):
        job.result()
    assert went_on == []


def test_an_estimate_needs_something_to_go_by() -> None:
    go = threading.Event()

    def work(job: Job) -> None:
        job.step(1, 2)
        go.wait(SECONDS)

    job = Job(work)
    assert job.seconds_left is None or job.elapsed > 0.5
    assert not job.wait(0.6)
    left = job.seconds_left
    assert left is not None
    assert 0.5 <= left <= job.elapsed
    go.set()
    assert job.wait(SECONDS)
