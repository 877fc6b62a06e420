"""Words and sentences as units: what they are made of, and that nothing is lost by reading through them."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import attnviz
from attnviz.errors import InputError
from attnviz.text import sentences
from attnviz.tokens import Token
from attnviz.units import Units, units_of

TEXTS = [
    "Mr. Smith went to the U.S. in 1998. He said, understandably: no!",
    "北京是中国的首都。东京是日本的首都！真的吗？",
    "One.\n\nTwo lines, 3.5 kg.  \n",
]


def edges_of(sizes: list[int]) -> Units:
    edges = [0]
    for size in sizes:
        edges.append(edges[-1] + size)
    return Units("word", tuple(map(str, range(len(sizes)))), tuple(edges))


def test_sentences_know_abbreviations_and_other_scripts() -> None:
    assert [TEXTS[0][a:b] for a, b in sentences(TEXTS[0])] == [
        "Mr. Smith went to the U.S. in 1998. ",
        "He said, understandably: no!",
    ]
    assert [TEXTS[1][a:b] for a, b in sentences(TEXTS[1])] == ["北京是中国的首都。", "东京是日本的首都！", "真的吗？"]


@given(st.text(max_size=80))
def test_sentences_are_the_whole_text_in_order(text: str) -> None:
    found = sentences(text)
    assert "".join(text[a:b] for a, b in found) == text
    assert all(a < b for a, b in found)
    assert all(text[a:b].strip() for a, b in found[1:])


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("unit", ["token", "word", "sentence"])
def test_units_cover_an_axis_without_gaps(smollm2: attnviz.Model, text: str, unit: str) -> None:
    tokens = smollm2.encode(text).tokens
    units = units_of(tokens, text, unit)
    assert units.edges[0] == 0
    assert units.edges[-1] == units.n_tokens == len(tokens)
    assert all(a < b for a, b in pairwise(units.edges))
    assert len(units.labels) == len(units) == len(units.spans)
    assert all(units.labels)
    assert [units.at(i) for i in range(len(tokens))] == units.index.tolist()


def test_a_word_reads_as_it_stands_in_the_text(smollm2: attnviz.Model) -> None:
    text = "He said, understandably: 北京"
    units = units_of(smollm2.encode(text).tokens, text, "word")
    assert units.labels == ("He", "said", ",", "understandably", ":", "北", "京")


def test_sentences_of_chinese_hold_whole_sentences(smollm2: attnviz.Model) -> None:
    units = units_of(smollm2.encode(TEXTS[1]).tokens, TEXTS[1], "sentence")
    assert units.labels == ("北京是中国的首都。", "东京是日本的首都！", "真的吗？")


def test_special_tokens_stand_alone(minilm: attnviz.Model) -> None:
    text = "One. Two."
    for unit in ("word", "sentence"):
        units = units_of(minilm.encode(text).tokens, text, unit)
        assert (units.labels[0], units.labels[-1]) == ("[CLS]", "[SEP]")
        assert units.spans[0] == (0, 1)
    assert units.labels == ("[CLS]", "One.", "Two.", "[SEP]")


def test_spans_into_another_text_give_labels_from_the_tokens() -> None:
    tokens = [Token("␣a", 1, (40, 41), 0, False), Token("b", 2, (41, 42), 0, False)]
    assert units_of(tokens, "", "word").labels == ("␣ab",)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_sums_and_means_are_those_of_a_loop(sizes: list[int], seed: int) -> None:
    units = edges_of(sizes)
    values = torch.rand(3, units.n_tokens, generator=torch.Generator().manual_seed(seed))
    summed = torch.stack([values[:, a:b].sum(-1) for a, b in units.spans], -1)
    averaged = torch.stack([values[:, a:b].mean(-1) for a, b in units.spans], -1)
    assert torch.allclose(units.sum(values), summed, atol=1e-6)
    assert torch.allclose(units.mean(values), averaged, atol=1e-6)


def test_a_part_of_an_axis_counts_its_tokens_from_zero() -> None:
    part = edges_of([2, 3, 1, 2]).part(range(1, 3))
    assert (part.labels, part.edges) == (("1", "2"), (0, 3, 4))


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(InputError, match="token, word, sentence"):
        units_of([], "", "paragraph")  # type: ignore[arg-type]
