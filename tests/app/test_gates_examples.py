"""The examples of the Gates page, without the page: the table's edits, lines that are pasted, and the app's own."""

import pytest
from flow_page import MODELS

from attnviz import gates
from attnviz.errors import InputError
from attnviz.gates.examples import asked, scored
from attnviz.ui.gates import asking, examples, given
from attnviz.ui.gates.course import Course, Row

ROWS = tuple(
    Row(text=text, answer=answer)
    for text, answer in (
        ("3 May 1998", "1998-05-02"),
        ("17 March 1912", "1912-03-16"),
        ("1.2.2003", "2003-01-31"),
        ("May 9", "x"),
    )
)

KEYS = [Row(text="The keys", answer=" are", foil=" is"), Row(text="The key", answer=" is", foil=" are")]


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
    assert given.rows_of(text) == given.Brought(KEYS)


@pytest.mark.parametrize(
    ("head", "remark"),
    [
        ("prompt,wanted,foil", "text from “prompt”, answer from “wanted”, foil from “foil”."),
        ("Question,Completion,distractor", "text from “question”, answer from “completion”, foil from “distractor”."),
        ("prompt,x,y", "text from “prompt”, answer from “x”, foil from “y”."),
        ("a,b,c", "text from “a”, answer from “b”, foil from “c”."),
    ],
)
def test_a_first_row_of_other_column_names_is_no_example_and_that_is_said(head: str, remark: str) -> None:
    brought = given.rows_of(f"{head}\nThe keys, are, is\nThe key, is, are", "my.csv")
    assert brought == given.Brought(KEYS, f"Row 1 looks like column names, so it is no example: {remark}")


def test_columns_that_no_part_is_taken_from_are_named_and_unclear_ones_refused() -> None:
    brought = given.rows_of("id,prompt,target\n7,The keys, are\n8,The key, is")
    assert brought.rows == [row.model_copy(update={"foil": ""}) for row in KEYS]
    assert brought.remark.endswith("Passed over: id.")
    with pytest.raises(InputError, match="row 1: of the columns id, prompt, one, two it is not plain"):
        given.rows_of("id,prompt,one,two\n7,The keys, are, is")


@pytest.mark.parametrize(
    "text",
    ["turn, right, left\nThe keys, are, is", "dog,chien\ncat,chat", "question, is", "Paris,France\nThe keys, are"],
)
def test_examples_of_single_words_are_not_taken_for_column_names(text: str) -> None:
    brought = given.rows_of(text)
    assert brought.rows[0].text == text.split(",")[0]
    assert brought.remark == ""


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
def test_the_apps_own_examples_are_learnable_and_leave_something_to_learn_whatever_is_held_out() -> None:
    for name in ("smollm2", "dates"):
        model, own = MODELS[name], given.own(MODELS[name])
        assert len(set(own)) == 24
        assert asking.wrong_rows(model, tuple(own)) == {}
        assert 8 <= int(scored(model, asked(model, [row.example for row in own]), []).right.sum()) <= 14
    model = MODELS["smollm2"]
    assert all(len(model.ids_of(word)) == 1 for row in given.agreement() for word in (row.answer, row.foil))


@pytest.mark.usefixtures("held_models")
@pytest.mark.parametrize("seed", [0, 1])
def test_what_the_dates_teach_makes_more_of_the_held_out_ones_right(seed: int) -> None:
    rows = [row.example for row in given.own(MODELS["dates"])]
    before, after = gates.learn(MODELS["dates"], rows, seed=seed, **Course().settings).held_out.right
    assert before < 0.6 < after
