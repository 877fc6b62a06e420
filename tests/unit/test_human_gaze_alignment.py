"""Rows of a reading found in a model's text, whatever its case, punctuation and tokens."""

import pytest
import torch

from attnviz import Model
from attnviz.errors import InputError
from attnviz.human.gaze_alignment import align
from attnviz.tokens import Token

ROWS = (
    "ford",
    "was",
    "born",
    "(july",
    "30",
    ",",
    "1863",
    ")",
    "in",
    "the",
    "u.s",
    "and",
    "didn't",
    "like",
    "café",
    "-",
)
TEXT = "“FORD was Born — July 30th 1863 [sic] in the U.S. And didn’t like ‘Cafe\u0301’."


def tokens_of(text: str, *pieces: str) -> tuple[Token, ...]:
    """Tokens one after the other, as their pieces stand in the text."""
    out, at = [], 0
    for piece in pieces:
        start = text.index(piece, at)
        at = start + len(piece)
        out.append(Token(piece, 0, (start, at), None, False))
    return tuple(out)


@pytest.mark.parametrize("name", ["smollm2", "minilm"])
def test_case_punctuation_and_forms_do_not_matter(name: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(name)
    encoded = model.encode(TEXT)
    found = align(ROWS, encoded.tokens, TEXT)
    assert found.share == 1
    assert found.n_words == 13
    texts = [None if span is None else TEXT[slice(*span)] for span in found.spans]
    assert texts[:5] == ["FORD", "was", "Born", "July", "30"]
    assert [row for row, text in enumerate(texts) if text is None] == [5, 7, 15]
    assert texts[10] == "U.S"
    assert texts[12] == "didn’t"
    assert texts[14] == "Cafe"
    for row, positions in enumerate(found.rows):
        assert bool(positions) == (texts[row] is not None)
        for position in positions:
            assert not encoded.tokens[position].special


def test_tokens_of_one_word_are_summed_and_others_are_nobodys() -> None:
    text = "Un|believ|able , yes".replace("|", "")
    tokens = tokens_of(text, "Un", "believ", "able", " ,", " yes")
    found = align(["unbelievable", ",", "yes"], tokens, text)
    assert found.rows == ((0, 1, 2), (), (4,))
    summed = found.sum(torch.tensor([[1.0, 2, 4, 8, 16]]))
    assert summed[0, [0, 2]].tolist() == [7, 16]
    assert summed[0, 1].isnan()


def test_a_token_across_two_words_is_shared_by_its_letters() -> None:
    text = "cannot go"
    tokens = tokens_of(text, "cannot", " go")
    found = align(["can", "not", "go"], tokens, text)
    assert found.rows == ((0,), (0,), (1,))
    assert found.weights[:, 0].tolist() == pytest.approx([0.5, 0.5, 0])
    assert float(found.weights.sum()) == pytest.approx(len(tokens))


def test_several_tokens_of_one_letter_belong_to_its_word() -> None:
    text = "你好"
    tokens = (Token("你 1/2", 0, (0, 1), 0, False, part=(1, 2)), Token("你 2/2", 1, (0, 1), 0, False, part=(2, 2)))
    found = align(["你", "好"], (*tokens, Token("好", 2, (1, 2), 1, False)), text)
    assert found.rows == ((0, 1), (2,))


def test_words_that_the_text_lacks_are_reported() -> None:
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
    text = " ".join(word for word in words if word != "seven")
    found = align(words, tokens_of(text, *text.split()), text)
    assert found.missing == (6,)
    assert found.rows[6] == ()
    assert found.share == pytest.approx(10 / 11)
    assert found.rows[7] == (6,)


def test_an_inserted_word_does_not_take_letters_from_the_next() -> None:
    text = "in the second [sic] swiss school"
    found = align(["in", "the", "second", "swiss", "school"], tokens_of(text, *text.split()), text)
    assert found.rows == ((0,), (1,), (2,), (4,), (5,))


def test_letters_scattered_over_other_words_are_no_word() -> None:
    text = "some other house"
    found = align(["some", "sore", "house"], tokens_of(text, *text.split()), text, least=0.5)
    assert found.missing == (1,)


def test_a_word_spelt_a_little_differently_is_found() -> None:
    text = "their neighbour came"
    assert align(["their", "neighbor", "came"], tokens_of(text, *text.split()), text).share == 1


def test_under_nine_tenths_is_refused_with_the_words() -> None:
    words = ["the", "lighthouse", "keeper", "wrote", "letters"]
    text = "the keeper wrote letters"
    with pytest.raises(InputError, match=r"4 of 5 words .* at least 90% .*Not found: 'lighthouse'\."):
        align(words, tokens_of(text, *text.split()), text)


def test_a_text_cut_off_by_its_tokens_counts_as_not_found() -> None:
    text = "one two three four"
    with pytest.raises(InputError, match="'four'"):
        align(text.split(), tokens_of(text, "one", "two", "three"), text)


def test_rows_without_a_word_are_refused() -> None:
    with pytest.raises(InputError, match="letter or a digit"):
        align([",", "."], tokens_of("a", "a"), "a")


def test_long_texts_that_differ_are_refused_and_equal_ones_are_not() -> None:
    word = "a" * 6000
    assert align([word], tokens_of(word, word), word).share == 1
    other = "b" * 6000
    with pytest.raises(InputError, match="one sentence at a time"):
        align([word], tokens_of(other, other), other)


def test_words_of_the_text_are_those_that_were_found(smollm2: Model) -> None:
    trace = smollm2.trace(TEXT)
    found = align(ROWS, trace)
    words = found.words(ROWS, TEXT)
    assert len(words) == 13
    assert words.labels[0] == "ford"
    assert all(covers for covers in words.covers)
