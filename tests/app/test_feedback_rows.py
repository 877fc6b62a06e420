"""Thumbs on a prediction, and the list of what was said, in Streamlit's own test harness."""

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from attnviz import feedback
from attnviz.feedback import Feedback
from attnviz.ui.session import stores
from pages import HOSTILE, assert_fine, params, press, said, words_of
from pages import opened as at


def row() -> None:
    from attnviz.ui.feedback import feedback_list, feedback_row
    from attnviz.ui.session import selection, show

    show(selection())
    feedback_row("Mary gave", model="smollm2", predicted=" John", key="row")
    feedback_list()


def hostile() -> None:
    from attnviz.ui.feedback import feedback_list, feedback_row
    from attnviz.ui.session import selection, show
    from pages import HOSTILE

    show(selection())
    feedback_row(HOSTILE, model=HOSTILE, predicted=HOSTILE, kind="explanation", key="row")
    feedback_list()


def opened(page: Callable[[], None] = row, lines: str = "") -> AppTest:
    test = AppTest.from_function(page)
    if lines:
        from attnviz.ui.feedback import Said

        test.query_params["feedback"] = stores().texts.put(Said(lines=lines).model_dump_json())
    return test.run()


def kept(test: AppTest) -> list[Feedback]:
    """What the draft behind the address holds."""
    from attnviz.ui.feedback import Said

    key = params(test).get("feedback")
    return feedback.of_lines(Said.model_validate_json(stores().texts.get(key) or "{}").lines) if key else []


def test_a_thumb_down_keeps_what_was_wanted_and_what_was_not() -> None:
    test = opened()
    assert len(test.text_input) == 0
    test.button(key="row-down").click().run()
    assert test.text_input(key="row-foil").value == " John"
    test.text_input(key="row-wanted").set_value(" Peter")
    test.text_input(key="row-reason").set_value("Peter is asked for")
    press(test, "Keep it")
    assert_fine(test)
    (one,) = kept(test)
    assert (one.verdict, one.wanted, one.foil, one.reason) == ("down", " Peter", " John", "Peter is asked for")
    assert (one.text, one.kind, one.model) == ("Mary gave", "prediction", "smollm2")
    assert one.at.endswith("+00:00")
    assert len(test.text_input) == 0, "the form is closed"
    assert "1 example for gates" in said(test)


def test_a_thumb_up_confirms_what_was_predicted() -> None:
    test = opened()
    test.button(key="row-up").click().run()
    assert [field.key for field in test.text_input] == ["row-reason"]
    press(test, "Keep it")
    assert [(one.verdict, one.wanted, one.foil) for one in kept(test)] == [("up", " John", "")]


def test_what_is_wanted_cannot_be_the_foil() -> None:
    test = opened()
    test.button(key="row-down").click().run()
    test.text_input(key="row-wanted").set_value(" John")
    press(test, "Keep it")
    assert "wanted and foil are the same" in words_of(test.error)
    assert kept(test) == []
    assert test.text_input(key="row-wanted").value == " John", "what was typed stays"


def test_a_thumb_pressed_again_is_taken_back() -> None:
    test = opened()
    test.button(key="row-down").click().run()
    test.button(key="row-down").click().run()
    assert len(test.text_input) == 0
    assert kept(test) == []


def test_the_list_survives_an_address_and_a_judgement_can_be_taken_away() -> None:
    lines = [Feedback("One", "prediction", "up", wanted=" a"), Feedback("Two", "explanation", "down")]
    test = opened(lines=feedback.to_lines(lines))
    assert_fine(test)
    assert test.dataframe[0].value["text"].tolist() == ["Two", "One"], "the latest comes first"
    assert kept(test) == lines
    test.selectbox(key="feedback-which").set_value(0).run()
    test.button(key="feedback-remove").click().run()
    assert kept(test) == lines[1:]


def test_a_draft_that_holds_no_feedback_is_left_aside() -> None:
    test = AppTest.from_function(row)
    test.query_params["feedback"] = stores().texts.put('{"lines": "{\\"text\\": 3}"}')
    test.run()
    assert_fine(test)
    assert len(test.dataframe) == 0


def test_hostile_words_stay_words() -> None:
    test = opened(hostile)
    test.button(key="row-up").click().run()
    test.text_input(key="row-reason").set_value(HOSTILE)
    press(test, "Keep it")
    assert_fine(test)
    (one,) = kept(test)
    assert (one.reason, one.wanted, one.kind) == (HOSTILE, "", "explanation")
    assert "<img" not in "".join(str(element.proto.body) for element in test.get("html"))


def keep(test: AppTest) -> None:
    """Press what ends the thumbs' form; what keeps a finding is called the same."""
    next(button for button in test.button if button.label == "Keep it" and "feedback" in button.form_id).click().run()


def test_explore_judges_the_text_up_to_the_query_and_flow_its_explanation() -> None:
    test = at("explore", with_text="Mary gave John a book", query="2")
    test.button(key="explore-feedback-up").click().run()
    keep(test)
    assert_fine(test)
    (one,) = kept(test)
    assert (one.text, one.kind, one.verdict) == ("Mary gave John", "prediction", "up")
    assert one.wanted  # what the model predicts there
    test = at("flow", with_text="Mary gave John a book", method="rollout")
    test.button(key="flow-feedback-down").click().run()
    keep(test)
    assert_fine(test)
    (one,) = kept(test)
    assert (one.text, one.kind, one.verdict, one.wanted) == ("Mary gave John a book", "explanation", "down", "")


def test_a_step_of_a_generation_and_what_an_ablation_shows_are_judged() -> None:
    test = at("generation", with_text="Mary gave John", length="2")
    test.button(key="generation-feedback-down").click().run()
    keep(test)
    assert_fine(test)
    (one,) = kept(test)
    assert (one.text, one.kind, one.verdict) == ("Mary gave John", "prediction", "down")
    assert one.foil
    test = at("ablation", model="minilm", with_text="A boat", how="zero")
    test.button(key="ablation-feedback-up").click().run()
    keep(test)
    assert_fine(test)
    (one,) = kept(test)
    assert (one.text, one.kind, one.verdict, one.model) == ("A boat", "explanation", "up", "minilm")
