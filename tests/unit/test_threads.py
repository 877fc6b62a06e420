"""Two people at one model: what one changes is nothing to the other."""

import threading
from dataclasses import dataclass, field

import pytest
import torch

from attnviz import Head, Model, Trace
from attnviz.edits import Edit, ZeroHeads

TEXTS = ("The cat sat on the mat.", "A dog ran through the long wet grass.")


@dataclass(frozen=True, eq=False)
class Meeting(Edit):
    """An edit that waits inside the tap until the other thread is inside it too."""

    inner: ZeroHeads
    barrier: threading.Barrier
    met: list[int] = field(default_factory=list)

    @property
    def heads(self) -> tuple[Head, ...]:  # type: ignore[override]
        return self.inner.heads

    @property
    def title(self) -> str:
        return self.inner.title

    def output(self, z: torch.Tensor, site: str, layer: int) -> torch.Tensor:
        self.met.append(self.barrier.wait(timeout=60))
        return self.inner.output(z, site, layer)


def result(trace: Trace) -> list[torch.Tensor]:
    last = trace.layers()[-1]
    out = trace.logits if trace.info.has_vocabulary else trace.embedding
    assert out is not None
    return [out, trace.pattern(last), trace.layer(last).query]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "times"), [("minilm", 200), ("smollm2", 3)])
def test_two_threads_with_different_edits_each_get_their_own_result(
    request: pytest.FixtureRequest, name: str, times: int
) -> None:
    model: Model = request.getfixturevalue(name)
    layers = (model.info.n_layers // 2, model.info.n_layers // 2)
    edits = [ZeroHeads([Head(layers[0], 0)]), ZeroHeads([Head(layers[1], 5), Head(layers[1], 1)])]
    barrier = threading.Barrier(2)
    wrong: list[str] = []
    meetings = [Meeting(edit, barrier) for edit in edits]

    def work(me: int, expected: list[torch.Tensor]) -> None:
        try:
            for i in range(times):
                got = result(model.trace(TEXTS[me], edits=[meetings[me]]))
                if not all(map(torch.equal, got, expected)):
                    wrong.append(f"thread {me}, time {i}")
        except BaseException as error:
            wrong.append(repr(error))
            barrier.abort()

    alone = [result(model.trace(text, edits=[edit])) for text, edit in zip(TEXTS, edits, strict=True)]
    threads = [threading.Thread(target=work, args=(me, alone[me])) for me in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    # Of two that wait at a barrier together one is 0 and the other 1: each meeting had both of them in the tap.
    assert all(len(meeting.met) == times for meeting in meetings)
    assert [a + b for a, b in zip(meetings[0].met, meetings[1].met, strict=True)] == [1] * times


def test_an_edited_run_does_not_reach_a_clean_one_beside_it(minilm: Model) -> None:
    barrier = threading.Barrier(2)
    clean = minilm.trace(TEXTS[0])
    got: list[Trace] = []
    inside = threading.Event()

    class Holding(ZeroHeads):
        def output(self, z: torch.Tensor, site: str, layer: int) -> torch.Tensor:
            inside.set()
            barrier.wait(timeout=60)
            return super().output(z, site, layer)

    def edited() -> None:
        got.append(minilm.trace(TEXTS[0], edits=[Holding([Head(0, 0)])]))

    thread = threading.Thread(target=edited)
    thread.start()
    assert inside.wait(timeout=60)
    beside = minilm.trace(TEXTS[0])  # from start to end while the other stands in the tap
    barrier.wait(timeout=60)
    thread.join()
    assert torch.equal(beside.embedding, clean.embedding)
    assert beside.edits == ()
    assert not torch.equal(got[0].embedding, clean.embedding)
