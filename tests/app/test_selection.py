"""The Selection as a value: from any address to something that can be shown, and back."""

from hypothesis import example, given
from hypothesis import strategies as st

from attnviz.ui.selection import SCORES, Selection

NAMES = ("model", "text", "other", "site", "layer", "head", "query", "key", "score", "chat", "with_text")
KEYS = st.one_of(st.just(""), st.from_regex(r"[A-Za-z0-9_-]{16,64}", fullmatch=True))
NUMBERS = st.none() | st.integers(0, 999_999)
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
)


@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), st.text(max_size=320)))
@example({"layer": "1" * 5_000})
@example({"layer": "٣", "head": "½"})
@example({"text": "A" * 22 + "\n"})
@example({"site": "", "model": "", "score": ""})
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
