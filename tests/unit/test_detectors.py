"""Detectors: patterns made to be found, even attention, padding, and a loop over single numbers on real models."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import tiny
import torch
from hand_made import LENGTH, trace_of

import attnviz
from attnviz import Model, Sinks, Trace, heads
from attnviz.errors import InputError, ShapeError
from attnviz.heads import DETECTORS, Masks, detecting, measured
from attnviz.heads.detecting import detect, kind_of, seen_by_any
from attnviz.tokens import Token
from attnviz.trace import Stored
from benchmarks import tiny as architectures

NAMES = list(DETECTORS)
TEXT = "On unbelievable, on cats on, unbelievable."
PIECES = [("On", 5, 0), ("un", 6, 1), ("believ", 7, 1), ("able", 8, 1), (",", 9, None), ("on", 5, 2), ("cats", 10, 3)]
PIECES += [("on", 5, 4), (",", 9, None), ("un", 6, 5), ("believ", 7, 5), ("able", 8, 5), (".", 11, None)]


def tokens() -> tuple[Token, ...]:
    found, at = [], 0
    for piece, number, word in PIECES:
        start = TEXT.index(piece, at)
        at = start + len(piece)
        found.append(Token(piece, number, (start, at), word, False))
    return tuple(found)


def masks_of(*lengths: int, causal: bool = True, sinks: Sinks | None = None) -> Masks:
    texts = [(tokens()[:length], tokens()[:length]) for length in lengths]
    return Masks.of(texts, "self", causal=causal, key_texts=[TEXT] * len(lengths), sinks=sinks)


def below(length: int = len(PIECES)) -> torch.Tensor:
    return torch.ones(1, length, length, dtype=torch.bool).tril()


def looked_for(name: str, query: int, key: int, size: int) -> bool:
    """Whether a detector looks for this key, told again from the tokens."""
    mine, theirs = PIECES[query], PIECES[key]
    return {
        "previous": key == query - 1,
        "duplicate": key != query and mine[1] == theirs[1],
        "same_word": key != query and mine[2] is not None and mine[2] == theirs[2],
        "punctuation": theirs[0] in ",.",
        "sink": key == 0,
        "distance": abs(key - query) == max(query, size - 1 - query if size else 0),
    }[name]


def made_for(name: str, causal: bool) -> torch.Tensor:
    """[1, 1, query, key], rows on what the detector looks for, on themselves where they cannot."""
    n = len(PIECES)
    seen = below()[0] if causal else torch.ones(n, n, dtype=torch.bool)
    if name == "entropy":
        return (seen / seen.sum(-1, keepdim=True))[None, None]
    size = 0 if causal else n
    wanted = torch.tensor([[looked_for(name, q, k, size) for k in range(n)] for q in range(n)]) & seen
    wanted |= torch.eye(n, dtype=torch.bool) & ~wanted.any(-1, keepdim=True)
    return (wanted / wanted.sum(-1, keepdim=True))[None, None]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_detector_scores_one_on_its_own_pattern(name: str, causal: bool) -> None:
    seen = below() if causal else torch.ones_like(below())
    found = measured(made_for(name, causal), masks_of(len(PIECES), causal=causal), seen)
    assert found[0, 0, NAMES.index(name), 0] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", ["previous", "duplicate", "same_word", "punctuation", "entropy"])
def test_it_does_so_too_when_half_of_it_is_attention_to_the_sink(name: str) -> None:
    resting = made_for(name, causal=True) / 2
    resting[..., 0] += 0.5
    found = measured(resting, masks_of(len(PIECES)), below())[0, :, NAMES.index(name), 0]
    assert found[1] == pytest.approx(1, abs=1e-6)
    assert found[0] < 0.9


def test_without_the_sink_nothing_is_said_of_the_sink() -> None:
    found = measured(made_for("sink", causal=True), masks_of(len(PIECES)), below())[0]
    assert torch.isnan(found[1]).all(), "a row with nothing left does not count"
    assert found[0, NAMES.index("sink")] == 1


@pytest.mark.parametrize("causal", [True, False])
def test_even_attention_scores_the_chance_level(causal: bool) -> None:
    n = len(PIECES)
    seen = below() if causal else torch.ones_like(below())
    masks = masks_of(n, causal=causal)
    chance = heads.chance(masks, seen)[0]
    even = (seen / seen.sum(-1, keepdim=True))[:, None]
    torch.testing.assert_close(measured(even, masks, seen)[0, ..., 0], chance, equal_nan=True)
    said = dict(zip(NAMES, chance[0].tolist(), strict=True))
    harmonic = sum(1 / i for i in range(1, n + 1))
    assert said["entropy"] == pytest.approx(1)
    assert said["previous"] == pytest.approx((harmonic - 1) / (n - 1) if causal else 1 / n)
    assert said["sink"] == pytest.approx((harmonic - 1) / (n - 1) if causal else 1 / n)
    if causal:
        assert said["distance"] == pytest.approx(0.5)
    for variant in range(2):
        for name in ("previous", "duplicate", "same_word", "punctuation"):
            shares = []
            for query in range(n):
                visible = range(variant, query + 1 if causal else n)
                found = sum(looked_for(name, query, key, n) for key in visible)
                if 0 < found < len(visible):
                    shares.append(found / len(visible))
            assert float(chance[variant, NAMES.index(name)]) == pytest.approx(sum(shares) / len(shares)), name


@pytest.mark.parametrize("left", [0.7, 0.1])
def test_entropy_is_a_share_also_where_a_learned_sink_takes_part_of_every_row(left: float) -> None:
    seen = below(4)
    even = (left * seen / seen.sum(-1, keepdim=True))[:, None]
    found = measured(even, masks_of(4), seen)[0, :, NAMES.index("entropy"), 0]
    assert found.tolist() == pytest.approx([1, 1]), "even attention has the most, whatever the rows sum to"
    trace = attnviz.wrap_model(tiny.sinks()).trace(input_ids=tiny.ids(12))
    assert float(trace.pattern(0).sum(-1).min()) < 0.95, "this model's rows do not sum to 1"
    values = detect(trace).values[0, NAMES.index("entropy")]
    assert 0 <= values.min() <= values.max() <= 1 + 1e-6


def test_the_chance_of_distance_read_both_ways_comes_to_what_its_words_say() -> None:
    many = tuple(Token("a", i, (0, 1), None, False) for i in range(400))
    masks = Masks.of([(many, many)], "self", causal=False, key_texts=["a"])
    chance = heads.chance(masks, torch.ones(1, 400, 400, dtype=torch.bool))[0, 0, NAMES.index("distance")]
    assert chance == pytest.approx(math.log(2) - 0.25, abs=1e-2)
    assert "0.44" in DETECTORS["distance"].chance


@pytest.mark.parametrize("causal", [True, False])
def test_padding_never_counts(causal: bool) -> None:
    lengths = (len(PIECES), 9, 6)
    torch.manual_seed(0)
    n = max(lengths)
    seen = torch.zeros(len(lengths), n, n, dtype=torch.bool)
    patterns = torch.full((len(lengths), 3, n, n), torch.nan)  # what stands in padding is never read
    for row, length in enumerate(lengths):
        own = below(length)[0] if causal else torch.ones(length, length, dtype=torch.bool)
        seen[row, :length, :length] = own
        scores = torch.randn(3, length, length).masked_fill(~own, -torch.inf)
        patterns[row, :, :length, :length] = scores.softmax(-1)
    seen_more = seen | torch.ones_like(seen).tril() if causal else torch.ones_like(seen)  # padding may look visible
    for visible in (seen, seen_more):
        together = measured(patterns, masks_of(*lengths, causal=causal), visible)
        for row, length in enumerate(lengths):
            alone = measured(
                patterns[row : row + 1, :, :length, :length],
                masks_of(length, causal=causal),
                seen[row : row + 1, :length, :length],
            )
            torch.testing.assert_close(together[row], alone[0], equal_nan=True)


def naive(
    row: Sequence[float], seen: Sequence[int], query: int, axes: tuple[Sequence[Token], Sequence[Token]], text: str
) -> dict[str, float]:
    """One row by every detector, NaN where it does not count; own position is `query`, -1 across two texts."""
    queries, keys = axes
    cross = query < 0
    me = queries[-query - 1 if cross else query]
    punctuation = Sinks(kinds=("punctuation",)).of(keys, text)
    wanted = {
        "previous": [] if cross else [k for k in seen if k == query - 1],
        "duplicate": [k for k in seen if k != query and not (me.special or keys[k].special) and keys[k].id == me.id],
        "same_word": []
        if cross
        else [k for k in seen if k != query and me.word is not None and keys[k].word == me.word],
        "punctuation": [k for k in seen if punctuation[k]],
        "sink": [k for k in seen if k == 0],
    }
    out = {}
    for name, chosen in wanted.items():
        out[name] = sum(row[k] for k in chosen) if 0 < len(chosen) < len(seen) else math.nan
    shares = [row[k] / sum(row[k] for k in seen) for k in seen]
    nats = -sum(p * math.log(p) for p in shares if p > 0)
    out["entropy"] = nats / math.log(len(seen)) if len(seen) > 1 else math.nan
    far = max((abs(k - query) for k in seen), default=0)
    there = len(seen) > 1 and far > 0 and not cross
    out["distance"] = sum(row[k] * abs(k - query) for k in seen) / far / sum(row) if there else math.nan
    return out


def assert_equals_naive(trace: Trace, site: str | None, layers: Sequence[int]) -> None:
    site = trace.info.site(site)
    found, axes, text = detect(trace, site=site), trace.axes(site), trace.texts(site)[1]
    cross = kind_of(trace, site) == "cross"
    for layer in layers:
        seen = seen_by_any(trace.layer(layer, site), slice(None))[0].tolist()
        for head, pattern in enumerate(trace.pattern(layer, site=site).double().tolist()):
            for variant in range(2):
                rows = []
                for query, row in enumerate(pattern):
                    visible = [k for k, there in enumerate(seen[query]) if there and (variant == 0 or k > 0)]
                    left = sum(row[k] for k in visible)
                    if variant and left > 0:
                        row = [p / left if k in visible else 0.0 for k, p in enumerate(row)]
                    if left > 0:
                        rows.append(naive(row, visible, -query - 1 if cross else query, axes, text))
                for i, name in enumerate(NAMES):
                    counted = [row[name] for row in rows if not math.isnan(row[name])]
                    expected = sum(counted) / len(counted) if counted else math.nan
                    assert found.values[variant, i, layer, head] == pytest.approx(expected, abs=2e-5, nan_ok=True), name


SENTENCE = "The untranslatable cat, said the cat, sat by the untranslatable mat."


def test_detectors_equal_a_naive_loop_on_a_decoder(smollm2: Model) -> None:
    assert_equals_naive(smollm2.trace(SENTENCE), None, (0, 5, 17))


def test_detectors_equal_a_naive_loop_on_an_encoder(minilm: Model) -> None:
    assert_equals_naive(minilm.trace(SENTENCE), None, (0, 3))


@pytest.mark.parametrize("kind", ["gpt2", "bert", "sinks", "soft-capped", "windowed", "opt"])
def test_detectors_equal_a_naive_loop_on_every_kind_of_model(kind: str) -> None:
    ids = [*tiny.ids(10), *tiny.ids(6)]
    assert_equals_naive(attnviz.wrap_model(tiny.EXACT[kind]()).trace(input_ids=ids), None, (0, 1))


@pytest.mark.parametrize("site", ["encoder", "decoder", "cross"])
def test_detectors_read_every_site_of_an_encoder_decoder(site: str) -> None:
    model = attnviz.wrap_model(architectures.build("seq2seq", "t5"))
    trace = model.trace(input_ids=[5, 6, 7, 5, 8], decoder_input_ids=[0, 7, 6, 9])
    assert_equals_naive(trace, site, (0, 1))
    found = detect(trace, site=site)
    there = {name for name, value in zip(NAMES, found.values[0], strict=True) if np.isfinite(value).any()}
    expected = {name for name, one in DETECTORS.items() if kind_of(trace, site) in one.sites} - {"punctuation"}
    assert there == expected - {"same_word"} - ({"duplicate"} if site == "decoder" else set())


def test_long_texts_are_read_in_parts(smollm2: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = smollm2.trace(SENTENCE * 3)
    whole = detect(trace)
    monkeypatch.setattr(detecting, "_CHUNK_WEIGHTS", 1)
    parts = detect(trace)
    np.testing.assert_allclose(parts.values, whole.values, atol=1e-5)
    np.testing.assert_allclose(parts.chance, whole.chance, atol=1e-6)


def test_sinks_of_a_persons_choice_are_measured_and_taken_away(minilm: Model) -> None:
    trace = minilm.trace(SENTENCE)
    found = detect(trace, sinks=Sinks(kinds=("special", "punctuation")))
    last = len(trace.tokens) - 1
    marks = [0, last, *(i for i, token in enumerate(trace.tokens) if token.text in {",", "."})]
    pattern = trace.pattern(2)[4]
    assert found.values[0, NAMES.index("sink"), 2, 4] == pytest.approx(
        float(pattern[:, marks].sum(-1).mean()), abs=1e-5
    )
    assert np.isnan(found.values[1, NAMES.index("punctuation")]).all()


def test_there_is_nothing_where_there_is_no_head_and_no_row() -> None:
    fewer = Stored(torch.full((1, 2, LENGTH, LENGTH), 1 / LENGTH))
    found = detect(trace_of(Stored(torch.full((1, 4, LENGTH, LENGTH), 1 / LENGTH)), fewer))
    previous = found.values[0, NAMES.index("previous")]
    assert np.isfinite(previous).tolist() == [[True] * 4, [True, True, False, False]]
    frame = found.frame()
    assert set(map(tuple, frame[["layer", "head"]].drop_duplicates().to_numpy())) == {
        *[(0, head) for head in range(4)],
        (1, 0),
        (1, 1),
    }
    assert (frame.value - frame.chance).abs().max() < 1e-6, "even attention is the chance level"
    alone = detect(attnviz.wrap_model(tiny.grouped()).trace(input_ids=[5]))
    assert np.isnan(alone.values).all()


def test_progress_runs_from_none_to_all(minilm: Model) -> None:
    seen: list[tuple[int, int]] = []
    detect(minilm.trace("Hello world"), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 6) for i in range(7)]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="self, cross"):
        Masks.of([(tokens(), tokens())], "both", causal=True, key_texts=[TEXT])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="its string"):
        Masks.of([(tokens(), tokens())], "self", causal=True, key_texts=[])
    with pytest.raises(ShapeError, match="batch or 1"):
        measured(torch.ones(1, 1, 3, 3), masks_of(4), below(3))
