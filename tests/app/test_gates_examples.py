"""The examples of the Gates page, without the page: the table's edits, lines that are pasted, and the app's own."""

import pytest
from flow_page import MODELS

from attnviz.errors import InputError
from attnviz.ui.gates import asking, examples, given
from attnviz.ui.gates.course import Row

ROWS = tuple(
    Row(text=text, answer=answer)
    for text, answer in (
        ("3 May 1998", "1998-05-02"),
        ("17 March 1912", "1912-03-16"),
        ("1.2.2003", "2003-01-31"),
        ("May 9", "x"),
    )
)


def test_edits_of_the_table_are_applied_to_the_rows_that_it_began_with() -> None:
    edits = {
        "edited_rows": {0: {"answer": "1998-05-03"}, 1: {"text": None, "answer": None}},
        "deleted_rows": [2],
        "added_rows": [{"text": "5 June 2001"}, {}],
    }
    made = examples.applied(ROWS, edits)
    assert made == (Row(text="3 May 1998", answer="1998-05-03"), ROWS[3], Row(text="5 June 2001"))
    with pytest.raises(InputError, match=r"Row 1: .*at most 4000"):
        examples.applied((), {"added_rows": [{"text": "x" * 5000}]})
    with pytest.raises(InputError, match="At most 200"):
        examples.applied((), {"added_rows": [{"text": f"x {i}"} for i in range(201)]})


@pytest.mark.parametrize(
    "text",
    [
        "The keys, are, is\nThe key, is, are",
        "The keys\t are\t is\nThe key\t is\t are",
        "foil;answer;text\n is; are;The keys\n are; is;The key",
        '{"clean": "The keys", "answer": " are", "foil": " is"}\n\n'
        '{"text": "The key", "wanted": " is", "foil": " are"}\n',
    ],
    ids=["commas", "tabs", "named", "json"],
)
def test_lines_are_read_however_they_are_divided(text: str) -> None:
    assert given.rows_of(text) == [
        Row(text="The keys", answer=" are", foil=" is"),
        Row(text="The key", answer=" is", foil=" are"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no line"),
        ("The keys", "row 1: expected text, answer and, if wanted, foil; got 1 field"),
        ("a, b\nc, d, e, f", "row 2: .*got 4 fields"),
        ('{"text": "a", "answer": "b"}\n{"text": 3, "answer": "b"}', "line 2: text is a text; got 3"),
        ('{"text": "a"}', "line 1: there is no answer"),
        ('{"text": "a", "answer": ', "line 1: not JSON"),
        ('{"text": "a\\ud800", "answer": "b"}', "line 1: .*surrogate"),
        ("\n".join(f"text {i}, answer" for i in range(201)), "has 201 examples, and at most 200"),
    ],
)
def test_lines_that_cannot_be_read_are_named(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        given.rows_of(text)


@pytest.mark.usefixtures("held_models")
def test_the_apps_own_examples_are_words_of_one_token_and_learnable() -> None:
    for name in ("smollm2", "dates"):
        own = tuple(given.own(MODELS[name]))
        assert len(set(own)) == 16
        assert asking.wrong_rows(MODELS[name], own) == {}
    model = MODELS["smollm2"]
    assert all(len(model.ids_of(word)) == 1 for row in given.agreement() for word in (row.answer, row.foil))
