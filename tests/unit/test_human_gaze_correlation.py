"""Reading times against a model: each figure against the same worked out step by step, and what is left out."""

import math

import numpy as np
import pytest
from scipy import stats

import attnviz
from attnviz import Model, Trace
from attnviz.errors import Cancelled, InputError, Unsupported
from attnviz.human.baselines import rarity, surprisal
from attnviz.human.gaze import Reading
from attnviz.human.gaze_alignment import align
from attnviz.human.gaze_correlation import Correlation, correlate
from attnviz.human.gaze_sentence import KEYS
from attnviz.human.gaze_statistics import correlation
from benchmarks import tiny as zoo

SENTENCES = {
    "s1": "The old lighthouse keeper carefully wrote down the unusual weather every single morning .",
    "s2": "On Tuesday , a ship that nobody had expected came slowly out of the fog .",
    "s3": "People on board hardly remembered which extraordinary day of the week it was .",
    "s4": "Much too short .",
}


def _readings(names: str = "AB", seed: int = 0) -> list[Reading]:
    """Made up: long words longer, some skipped, everybody with noise of their own."""
    out = []
    for at, reader in enumerate(names):
        random = np.random.default_rng(seed + at)
        for sentence, text in SENTENCES.items():
            words = tuple(text.split())
            times = [float(max(0, 40 * len(w) - 100 + random.normal(0, 60))) for w in words]
            out.append(Reading(reader, sentence, words, tuple(times), tuple(map(str, range(len(words))))))
    return out


@pytest.fixture(scope="module")
def made(smollm2: Model) -> Correlation:
    return correlate(smollm2, _readings(), methods=("last", "mean"), draws=99)


def _row(made: Correlation, name: str) -> int:
    return [row.name for row in made.rows].index(name)


@pytest.fixture(scope="module")
def traces(smollm2: Model) -> dict[str, Trace]:
    return {one.sentence: smollm2.trace(one.text) for one in _readings("A")}


def _naive(trace: Trace, layer: int, head: int, *, sink: bool) -> dict[int, float]:
    """Word number -> attention received over the queries that see it, from the pattern, token by token."""
    pattern = trace.pattern(layer, head).double()
    if not sink:
        pattern[:, 0] = 0
        pattern = pattern / pattern.sum(-1, keepdim=True).clamp(min=1e-30)
    n, out = len(trace.tokens), {}
    for key, token in enumerate(trace.tokens):
        if token.word is not None and any(c.isalnum() for c in trace.text[slice(*token.span)]):
            out[token.word] = out.get(token.word, 0.0) + float(pattern[:, key].sum()) / (n - key)
    if not sink:
        del out[trace.tokens[0].word or 0]
    return out


@pytest.mark.parametrize("sink", ["in", "out"])
def test_a_heads_figure_is_what_its_pattern_gives_step_by_step(
    made: Correlation, traces: dict[str, Trace], sink: str
) -> None:
    for at, sentence in enumerate(("s1", "s2", "s3")):
        reading = next(one for one in _readings() if one.sentence == sentence)
        scores = list(_naive(traces[sentence], 11, 5, sink=sink == "in").values())
        times = [t for t, mark in zip(reading.times_ms, reading.punctuation, strict=True) if not mark]
        expected = stats.spearmanr(scores, times[-len(scores) :]).statistic
        assert made.values[sink, "raw"][at, 0, _row(made, "L11H5")] == pytest.approx(expected, abs=1e-6)


def test_a_partial_figure_is_given_what_the_baselines_are(
    made: Correlation, smollm2: Model, traces: dict[str, Trace]
) -> None:
    assert made.controls == ("length", "rarity", "position", "surprisal")
    reading = _readings()[2]
    scores = np.array([list(_naive(traces[reading.sentence], 3, 2, sink=True).values())])
    shares = reading.shares()
    shares = shares[np.isfinite(shares)]
    words = [w for w, mark in zip(reading.words, reading.punctuation, strict=True) if not mark]
    given = np.array([[len(w) for w in words], np.arange(len(words))], dtype=float)
    raw = [made.values["in", "raw"][2, 0, _row(made, name)] for name in ("length", "position")]
    assert raw == pytest.approx(correlation(given, shares).tolist())
    trace = traces[reading.sentence]
    own = align(reading.words, trace).words(reading.words, trace.text)
    surprise = surprisal(smollm2, trace, own)
    assert surprise is not None
    surprise = np.where(np.isfinite(surprise), surprise, np.nanmedian(surprise))
    controls = np.stack([given[0], rarity(own, trace.text), given[1], surprise])
    partial = made.values["in", "partial"][2, 0]
    assert partial[_row(made, "L3H2")] == pytest.approx(correlation(scores, shares, controls)[0], abs=1e-6)
    others = correlation(controls[:1], shares, controls[1:])[0]
    assert partial[_row(made, "length")] == pytest.approx(others)


def test_layers_and_methods_average_their_heads(made: Correlation, traces: dict[str, Trace]) -> None:
    reading = _readings()[0]
    heads = [list(_naive(traces[reading.sentence], 29, head, sink=True).values()) for head in range(9)]
    shares = reading.shares()
    expected = stats.spearmanr(np.mean(heads, 0), shares[np.isfinite(shares)]).statistic
    for name in ("L29", "last"):
        assert made.values["in", "raw"][0, 0, _row(made, name)] == pytest.approx(expected, abs=1e-6)


def test_the_frame_has_every_row_for_every_reader_and_for_all(made: Correlation) -> None:
    frame = made.frame(draws=50)
    n_rows = 270 + 30 + 2 + 4
    assert len(frame) == len(KEYS) * (3 * n_rows + 1)
    assert set(frame["reader"]) == {"A", "B", ""}
    assert (frame["sentences"] <= 3).all()
    length = frame[(frame["name"] == "length") & (frame["sink"] == "in") & (frame["measure"] == "raw")]
    assert (length["mean"] > 0.4).all()
    assert (length["low"] <= length["mean"]).all()
    assert (length["mean"] <= length["high"]).all()
    heads = frame[(frame["kind"] == "head") & (frame["reader"] == "")]
    assert heads["p"].between(0.01, 1).all()
    assert frame[frame["kind"] != "head"]["p"].isna().all()
    with pytest.raises(InputError, match="level"):
        made.frame(level=95)


def test_readers_are_held_against_each_other(made: Correlation) -> None:
    first, second = ([one for one in _readings() if one.reader == reader] for reader in "AB")
    expected = []
    for a, b in list(zip(first, second, strict=True))[:3]:
        words = ~np.array(a.punctuation)
        expected.append(stats.spearmanr(np.array(a.times_ms)[words], np.array(b.times_ms)[words]).statistic)
    frame = made.frame(draws=20)
    row = frame[(frame["kind"] == "readers") & (frame["measure"] == "raw") & (frame["sink"] == "in")]
    assert row["name"].tolist() == ["A and B"]
    assert row["mean"].item() == pytest.approx(np.mean(expected))


def test_the_best_head_is_named_with_what_it_is_worth(made: Correlation) -> None:
    frame = made.frame(draws=20)
    for sink, measure in KEYS:
        chosen = frame[(frame["sink"] == sink) & (frame["measure"] == measure) & (frame["reader"] == "")]
        heads = chosen[chosen["kind"] == "head"]
        best = made.best[sink, measure]
        assert best.value == pytest.approx(heads["mean"].max())
        assert str(best.head) == heads.loc[heads["mean"].idxmax(), "name"]
        assert best.p == pytest.approx(heads["p"].min())
        assert best.elsewhere <= best.value
        assert -1 <= best.low <= best.elsewhere <= best.high <= 1


def test_what_cannot_be_compared_is_left_out_with_its_reason(made: Correlation) -> None:
    assert made.sentences == ("s1", "s2", "s3")
    assert list(made.left_out) == ["s4"]
    assert "3 words; at least 8" in made.left_out["s4"]


def test_a_sentence_that_nobody_looked_at_is_left_out(minilm: Model) -> None:
    first, second, *_ = _readings("A")
    blank = Reading("A", "blank", second.words, (0.0,) * len(second.words), second.word_ids)
    made = correlate(minilm, [first, blank], methods=(), draws=9)
    assert made.sentences == ("s1",)
    assert "No reader has 8 times" in made.left_out["blank"]


def test_all_methods_are_offered_for_both_kinds_of_model(smollm2: Model, minilm: Model) -> None:
    for model, names in ((smollm2, ("s3",)), (minilm, ("s1", "s3"))):
        readings = [one for one in _readings("A") if one.sentence in names]
        made = correlate(model, readings, draws=9, surprisal_by=smollm2)
        assert made.refused == {}
        assert made.controls == ("length", "rarity", "position", "surprisal")
        methods = [i for i, row in enumerate(made.rows) if row.kind == "method"]
        assert len(methods) == 7
        assert np.isfinite(made.values["in", "raw"][..., methods]).all()


def test_a_model_that_predicts_nothing_has_no_surprisal_of_its_own(minilm: Model) -> None:
    readings = [one for one in _readings("A") if one.sentence == "s1"]
    made = correlate(minilm, readings, methods=("relevance",), draws=9, language="xx")
    assert made.controls == ("length", "position")
    assert "second text" in made.refused["relevance"]
    assert np.isnan(made.values["in", "raw"][0, 0, _row(made, "surprisal")])


def test_a_text_of_ones_own_is_read_in_place_of_the_rows(smollm2: Model) -> None:
    readings = [one for one in _readings("A") if one.sentence in ("s1", "s2")]
    texts = {"s1": SENTENCES["s1"].upper(), "s2": "Something else altogether."}
    made = correlate(smollm2, readings, methods=(), texts=texts, draws=9)
    assert made.sentences == ("s1",)
    assert "at least 90%" in made.left_out["s2"]


def test_words_without_a_time_are_left_out(smollm2: Model) -> None:
    whole = next(one for one in _readings() if one.sentence == "s1")
    times = (math.nan, math.nan, *whole.times_ms[2:])
    part = Reading("A", "s1", whole.words, times, whole.word_ids)
    made = correlate(smollm2, [part], methods=(), draws=9)
    lengths = [len(word) for word in whole.words[2:-1]]
    expected = stats.spearmanr(lengths, times[2:-1]).statistic
    assert made.values["in", "raw"][0, 0, _row(made, "length")] == pytest.approx(expected)


def test_progress_is_told_and_may_stop_the_work(smollm2: Model) -> None:
    readings, told = _readings("A")[:2], []
    correlate(smollm2, readings, methods=(), draws=9, progress=lambda *at: told.append(at))
    assert told == [(0, 2), (1, 2), (2, 2)]

    def stop(done: int, total: int) -> None:
        raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        correlate(smollm2, readings, methods=(), draws=9, progress=stop)


def test_what_cannot_be_meant_is_refused(smollm2: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="'magic'"):
        correlate(smollm2, _readings(), methods=("magic",))
    with pytest.raises(InputError, match="at least 8"):
        correlate(smollm2, _readings(), least_words=3)
    with pytest.raises(InputError, match="0 readers"):
        correlate(smollm2, [])
    with pytest.raises(InputError, match="'A' has sentence 's1' twice"):
        correlate(smollm2, [*_readings("A"), _readings("A")[0]])
    with pytest.raises(InputError, match="No sentence could be compared"):
        correlate(smollm2, _readings("A")[3:], methods=(), draws=9)
    monkeypatch.setattr("attnviz.human.gaze_correlation._MOST_VALUES", 5000)
    with pytest.raises(InputError, match="3 at most"):
        correlate(smollm2, _readings())


def test_the_same_readings_give_the_same_figures(minilm: Model) -> None:
    first, again = (correlate(minilm, _readings()[:2], methods=(), draws=9) for _ in range(2))
    assert again.best == first.best
    for key in KEYS:
        np.testing.assert_array_equal(again.values[key], first.values[key])
        np.testing.assert_array_equal(again.p[key], first.p[key])


def test_a_model_of_two_texts_is_refused() -> None:
    model = attnviz.wrap_model(zoo.build("seq2seq", "t5"))
    with pytest.raises(Unsupported, match="two texts"):
        correlate(model, _readings("A")[:1], methods=())
