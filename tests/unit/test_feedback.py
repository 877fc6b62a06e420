"""Feedback: what is refused, what comes back from a file, and what is learned from it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnviz import feedback
from attnviz.ablation import Case
from attnviz.errors import AttnvizError, InputError, TextError
from attnviz.feedback import Feedback

AT = "2026-01-31T12:00:00+00:00"
DOWN = Feedback("The keys to the cabinet", "prediction", "down", "plural", " are", " is", "smollm2", AT)
UP = Feedback("The keys", "prediction", "up", wanted=" are")
TYPED = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    many = [DOWN, UP, Feedback('</script>"\n\u2028 ünï', "explanation", "down", "no, it is <b>not</b>")]
    path = feedback.write(many, tmp_path / "mine.jsonl")
    assert feedback.read(path) == many
    assert [json.loads(line) for line in path.read_text("utf-8").split("\n") if line] == [asdict(one) for one in many]
    assert [p.name for p in tmp_path.iterdir()] == ["mine.jsonl"]
    feedback.write([], path)
    assert feedback.read(path) == []


@given(TYPED.filter(lambda text: text.strip()), TYPED, TYPED, TYPED)
def test_any_text_survives_the_lines(text: str, reason: str, wanted: str, foil: str) -> None:
    if wanted == foil:
        wanted, foil = wanted + "a", foil
    one = Feedback(text, "prediction", "down", reason, wanted, foil)
    assert feedback.of_lines(feedback.to_lines([one, one])) == [one, one]


def test_examples_are_what_names_an_answer() -> None:
    said = [
        UP,
        DOWN,
        Feedback("The weather", "prediction", "down", "odd"),
        Feedback("The cat", "explanation", "down", wanted=" sat"),
        UP,
    ]
    assert feedback.examples(said) == [
        Case("The keys to the cabinet", "", " are", " is"),
        Case("The keys", "", " are"),
    ]


def test_examples_can_be_those_of_one_model() -> None:
    said = [
        Feedback("The keys", "prediction", "down", "", wanted, foil, model)
        for wanted, foil, model in ((" are", " is", "smollm2"), (" were", " was", "other"))
    ]
    assert feedback.examples(said, model="other") == [Case("The keys", "", " were", " was")]
    assert len(feedback.examples(said)) == 2


def test_the_latest_word_holds() -> None:
    other = Feedback(DOWN.text, "prediction", "down", "", " were", " is", "smollm2")
    assert feedback.examples([DOWN, other]) == [Case(DOWN.text, "", " were", " is")]
    assert feedback.examples([other, DOWN]) == [Case(DOWN.text, "", " are", " is")]
    retracted = Feedback(DOWN.text, "prediction", "down", "I was wrong", "", " are", "smollm2")
    assert feedback.examples([DOWN, retracted]) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"text": ""}, "text: Expected a text, got an empty one"),
        ({"text": " \n"}, "text: .*whitespace"),
        ({"text": None}, "text is a text; got None"),
        ({"text": "a\ud800"}, "text: .*lone surrogate"),
        ({"text": "a" * 50_001}, "text: .*at most 50000"),
        ({"reason": "a\x00"}, "reason: .*control"),
        ({"reason": "a" * 2_001}, "reason: .*at most 2000"),
        ({"reason": " " * 2_001}, "reason: .*at most 2000"),
        ({"wanted": 3}, "wanted is a text"),
        ({"foil": ["a"]}, "foil is a text"),
        ({"model": "a" * 501}, "model: .*at most 500"),
        ({"wanted": " a", "foil": " a"}, "wanted and foil are the same"),
        ({"kind": "guess"}, "kind is 'prediction' or 'explanation'"),
        ({"kind": []}, "kind is"),
        ({"verdict": "sideways"}, "verdict is 'up' or 'down'"),
        ({"at": "yesterday"}, "at is a time"),
        ({"at": "2026-01-31T12:00:00"}, "at needs its offset"),
        ({"at": "1" * 41}, "at: .*at most 40"),
    ],
)
def test_what_does_not_fit_is_refused_by_hand_and_from_a_file(wrong: Any, message: str) -> None:
    row = {**asdict(UP), **wrong}
    with pytest.raises(InputError, match=message):
        Feedback(**row)
    with pytest.raises(InputError, match=f"mine, line 2: {message}"):
        feedback.of_lines(json.dumps(asdict(UP)) + "\n" + json.dumps(row), "mine")


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[" * 100_000,
        "3",
        "null",
        "[]",
        "{}",
        '{"text": "a", "kind": "prediction"}',
        '{"text": "a", "kind": "prediction", "verdict": "up", "more": 1}',
        '{"text": NaN, "kind": "prediction", "verdict": "up"}',
        "1" * 5000,
    ],
)
def test_hostile_lines_are_named(line: str) -> None:
    with pytest.raises(InputError, match="mine, line 1: "):
        feedback.of_lines(line, "mine")


def test_files_that_cannot_be_read_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, content in ((tmp_path / "none.jsonl", None), (tmp_path / "bytes.jsonl", b"\xff\xfe\xff")):
        if content:
            path.write_bytes(content)
        with pytest.raises(AttnvizError, match="cannot be read"):
            feedback.read(path)
    with pytest.raises(InputError, match="cannot be written"):
        feedback.write([UP], tmp_path / "none" / "mine.jsonl")
    path = feedback.write([UP, UP, UP], tmp_path / "mine.jsonl")
    monkeypatch.setattr(feedback, "MOST_LINES", 2)
    with pytest.raises(InputError, match="at most 2 are read"):
        feedback.read(path)
    monkeypatch.setattr(feedback, "_MOST_BYTES", 10)
    with pytest.raises(InputError, match="more than 10 bytes"):
        feedback.read(path)


def test_long_texts_are_text_errors() -> None:
    with pytest.raises(TextError):
        Feedback("a", "prediction", "up", reason="b" * 3_000)
