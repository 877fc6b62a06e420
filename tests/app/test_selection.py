"""The Selection as a value: from any address to something that can be shown, and back."""

from dataclasses import fields

from hypothesis import example, given
from hypothesis import strategies as st

from attnviz.figures.palette import PALETTES
from attnviz.ui.selection import ASPECTS, COMPARISONS, GRAPHS, HOWS, METRICS, PARTS, SCALES, SCORES, STEERED, Selection
from attnviz.units import UNITS
from attnviz.view import SINK_KINDS, SINKING

NAMES = (*(field.name for field in fields(Selection)), "with_text")
KEYS = st.one_of(st.just(""), st.from_regex(r"[A-Za-z0-9_-]{16,64}", fullmatch=True))
NUMBERS = st.none() | st.integers(0, 999_999)
SETS = st.sets(st.integers(0, 4_000), max_size=30).map(lambda found: tuple(sorted(found)))
WINDOWS = st.none() | st.tuples(st.integers(0, 99), st.integers(100, 999), st.integers(0, 99), st.integers(100, 999))
SELECTIONS = st.builds(
    Selection,
    model=st.text(max_size=300),
    text=KEYS,
    other=KEYS,
    site=st.sampled_from([None, "encoder", "decoder", "cross"]),
    layer=NUMBERS,
    head=NUMBERS,
    query=NUMBERS,
    key=NUMBERS,
    score=st.sampled_from(SCORES),
    chat=st.booleans(),
    queries=SETS,
    keys=SETS,
    heads=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), unique=True, max_size=9).map(tuple),
    unit=st.sampled_from(UNITS),
    sinks=st.sampled_from(SINKING),
    kinds=st.sets(st.sampled_from(SINK_KINDS)).map(lambda found: tuple(k for k in SINK_KINDS if k in found)),
    sunk=SETS,
    scale=st.sampled_from(SCALES),
    palette=st.sampled_from(tuple(PALETTES)),
    window=WINDOWS,
    share=st.integers(5, 100).map(lambda percent: percent / 100),
    length=st.integers(1, 500),
    seed=NUMBERS,
    warmth=st.integers(1, 500).map(lambda percent: percent / 100),
    comparison=st.sampled_from(COMPARISONS),
    other_model=st.text(max_size=300),
    filling=KEYS,
    other_layer=NUMBERS,
    other_head=NUMBERS,
    goal=NUMBERS,
    level=NUMBERS,
    answer=NUMBERS,
    foil=NUMBERS,
    method=st.sampled_from(("", *GRAPHS)),
    aspect=st.sampled_from(ASPECTS),
    metric=st.sampled_from(("", *METRICS)),
    how=st.sampled_from(("", *HOWS)),
    donor=KEYS,
    parts=st.sampled_from(PARTS),
    later_layer=NUMBERS,
    later_head=NUMBERS,
    emphasised=SETS,
    ignored=SETS,
    strength=st.integers(1, 1_000).map(lambda thousandth: thousandth / 1_000),
    steered=st.sampled_from(STEERED),
    study=KEYS,
    gaze=KEYS,
    course=KEYS,
    plan=KEYS,
    feedback=KEYS,
)


@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), st.text(max_size=320)))
@example({"layer": "1" * 5_000})
@example({"layer": "٣", "head": "½"})
@example({"text": "A" * 22 + "\n"})
@example({"site": "", "model": "", "score": ""})
@example({"keys": "0-999999", "queries": "5-3", "heads": "L1H2.L1", "window": "5-5-0-9", "share": "nan", "kinds": "."})
@example({"queries": ".".join(f"{i * 5000}-{i * 5000 + 4000}" for i in range(200))})
def test_any_address_gives_a_selection_and_says_what_it_could_not_take(params: dict[str, str]) -> None:
    chosen, problems = Selection.from_params(params)
    again, more = Selection.from_params(chosen.to_params())
    assert again == chosen
    assert more == []
    numbers = [chosen.layer, chosen.head, chosen.query, chosen.key]
    assert all(number is None or 0 <= number < 10**6 for number in numbers)
    assert all(isinstance(problem, str) and problem for problem in problems)
    refused = [name for name in ("layer", "head", "query", "key") if name in params and getattr(chosen, name) is None]
    assert len(problems) >= len(refused)


@given(SELECTIONS)
def test_a_selection_comes_back_from_its_own_address(chosen: Selection) -> None:
    params = chosen.to_params()
    assert all(isinstance(value, str) and value for value in params.values())
    assert Selection.from_params(params) == (chosen, [])
