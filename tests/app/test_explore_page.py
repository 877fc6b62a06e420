"""The Explore page, run by Streamlit's own test harness: whatever it is given, it ends with a page and no exception."""

from functools import partial

import pytest
from streamlit.testing.v1 import AppTest

from attnviz.ui.session import examples
from pages import assert_fine, opened, params, press, words_of

FIRST = examples()[0]["text"]

page = partial(opened, "explore")


def draft(test: AppTest) -> str:
    return str(test.text_area(key="draft").value)


def submit(test: AppTest, text: str) -> AppTest:
    """Type a text and press Run."""
    test.text_area(key="draft").set_value(text)
    return press(test, "Run")


def test_a_clean_start_shows_the_first_example() -> None:
    test = page()
    assert_fine(test)
    assert len(test.warning) == 0
    assert draft(test) == FIRST
    assert {"text", "layer", "head", "query", "key"} <= params(test).keys()


@pytest.mark.parametrize(
    "parameters",
    [
        {"layer": "abc"},
        {"layer": "-1"},
        {"layer": "1e5", "head": "½"},
        {"layer": "999999", "head": "999999"},
        {"text": "zzz"},
        {"text": "A" * 22, "query": "3"},
        {"other": "A" * 22},
        {"score": "<img>"},
        {"site": "cross"},
        {"layer": "", "head": "", "text": ""},
    ],
    ids=str,
)
def test_a_bad_parameter_is_noted_and_a_default_stands_for_it(parameters: dict[str, str]) -> None:
    test = page(**parameters)
    assert_fine(test)
    assert len(test.warning) == 1
    assert words_of(test.warning).endswith("A default is shown instead.")
    assert draft(test) == FIRST
    assert (params(test)["layer"], params(test)["head"]) == ("23", "3")
    assert len(test.run().warning) == 0


@pytest.mark.parametrize("parameters", [{"bogus": "1"}, {"chat": "yes"}, {"model": ""}, {"with_text": ""}], ids=str)
def test_a_parameter_without_meaning_changes_nothing(parameters: dict[str, str]) -> None:
    test = page(**parameters)
    assert_fine(test)
    assert draft(test) == FIRST
    assert params(test).keys() & parameters.keys() == set()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Write at least one word"),
        (" \t\n", "Write at least one word"),
        ("x" * 50_001, "at most 50"),
        ("one two " * 1_500, "at most 2,048"),
        ("bell \x07", "control characters"),
    ],
    ids=["empty", "blank", "too many characters", "too many tokens", "control character"],
)
def test_a_refused_text_stays_and_the_next_one_works(text: str, words: str) -> None:
    test = submit(page(), text)
    assert [exception.message for exception in test.exception] == []
    assert len(test.error) == 1
    assert words in words_of(test.error)
    assert draft(test) == text
    test = submit(test, "A good text")
    assert_fine(test)
    assert draft(test) == "A good text"


@pytest.mark.parametrize("name", ["no such model!", "/no/such/folder", "", ".", "org/none", "<b>x</b>", "a" * 301])
def test_a_model_that_does_not_exist_is_a_sentence_and_the_next_one_works(name: str) -> None:
    test = page(model=name)
    assert [exception.message for exception in test.exception] == []
    # No name at all is the default model; whatever else is said in one sentence.
    assert len(test.error) + len(test.warning) == (1 if name else 0)
    assert draft(test) == FIRST
    test.selectbox(key="model-choice").set_value("smollm2").run()
    assert_fine(test)
    assert (params(test)["layer"], params(test)["head"]) == ("23", "3")


def test_a_text_in_the_address_is_taken_and_does_not_stay_there() -> None:
    test = page(with_text="A text of mine")
    assert_fine(test)
    assert draft(test) == "A text of mine"
    assert "with_text" not in params(test)
    assert "mine" not in str(params(test))


def test_the_chat_switch_is_in_the_address() -> None:
    test = page()
    test.toggle(key="chat-switch").set_value(True).run()
    assert_fine(test)
    assert params(test)["chat"] == "1"
    again = page(**params(test))
    assert_fine(again)
    assert again.toggle(key="chat-switch").value is True


def test_two_sessions_keep_to_themselves() -> None:
    one, two = page(), page()
    one = submit(one, "The first person's text")
    two = submit(two, "The second person's text")
    assert draft(one.run()) == "The first person's text"
    assert draft(two.run()) == "The second person's text"
    assert params(one)["text"] != params(two)["text"]


def test_every_example_runs() -> None:
    test = page()
    for example in examples():
        test.button(key=f"example-{example['id']}").click().run()
        assert_fine(test)
        assert draft(test) == example["text"]
