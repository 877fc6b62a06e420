"""The Gates page in Streamlit's test harness: the table, learning in the background, results, files and lines."""

import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from flow_page import MODELS
from streamlit.testing.v1 import AppTest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import attnviz
import pages
from attnviz import feedback, gates
from attnviz.errors import InputError
from attnviz.feedback import Feedback
from attnviz.gates import Gates
from attnviz.ui.feedback import Said
from attnviz.ui.gates import asking, keeping, learning, results, trying
from attnviz.ui.gates.course import Course, Row, packed, read_gates
from attnviz.ui.session import stores, text_of
from pages import HOSTILE, assert_fine, params, said, words_of

# The day before: wrong answers on purpose, so that there is something to learn.
DATES = [
    ("3 May 1998", "1998-05-02"),
    ("17 March 1912", "1912-03-16"),
    ("1.2.2003", "2003-01-31"),
    ("May 9, 1907", "1907-05-08"),
]
ROWS = tuple(Row(text=text, answer=answer) for text, answer in DATES)
FEW = Course(rows=ROWS, steps=3, lr=0.2, weight=0.0)
DATE = "the 3rd of May 1998"

pytestmark = pytest.mark.usefixtures("held_models")


@pytest.fixture(scope="module")
def learned() -> Gates:
    """What the library learns from the same."""
    return gates.learn(MODELS["dates"], DATES, seed=0, **FEW.settings)


@pytest.fixture(scope="module", autouse=True)
def _afresh() -> Iterator[None]:
    yield
    stores().traces.clear()


def opened(course: Course | None = None, **parameters: str) -> AppTest:
    name = parameters.setdefault("model", "dates")
    stores().models.put(name, MODELS[name])
    if course is not None:
        parameters["course"] = stores().texts.put(course.model_dump_json())
    return pages.opened("gates", **({"with_text": DATE} | parameters))


def kept(test: AppTest) -> Course:
    return Course.model_validate_json(text_of(params(test)["course"]))


def ended(test: AppTest, kind: str = learning.LEARN) -> AppTest:
    """Wait for a job of the page, and draw the page again."""
    assert test.session_state[f"attnviz_gates_live_{kind}"].over(60)
    return test.run()


def taught(course: Course = FEW, **parameters: str) -> AppTest:
    """A page that shows what is learned, by it or before it."""
    test = opened(course, **parameters)
    if all(button.key != "gates-learn" for button in test.button):
        return test
    return ended(test.button(key="gates-learn").click().run())


def measured(test: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in test.metric}


def test_an_empty_table_says_what_to_do_and_takes_the_apps_own_examples() -> None:
    test = opened()
    assert_fine(test)
    assert "Give the model a few corrections" in said(test)
    assert all(button.key != "gates-learn" for button in test.button)
    test.button(key="gates-own").click().run()
    assert_fine(test)
    assert kept(test).rows[0] == Row(text="5 October 40", answer="1940-10-05")
    assert len(kept(test).rows) == 24
    assert "24 of 24 examples can be learned from" in said(test)
    test.button(key="gates-clear").click().run()
    assert kept(test).rows == ()


def test_what_is_learned_is_what_the_library_learns_and_is_shown_before_and_after(learned: Gates) -> None:
    test = taught()
    assert_fine(test)
    held = learned.held_out
    shown = measured(test)
    assert learned.best > 0
    assert shown["Right before"] == f"{held.right[0]:.0%}"
    assert shown["log p before, nats"] == f"{held.before.mean:+z.2f}"
    assert shown["log p after, nats"] == f"{held.after.mean:+z.2f}"
    assert shown["Change, nats"] == f"{held.change.mean:+z.2f}" != "+0.00"
    assert f"Step {learned.best} is kept: {len(learned.changed())} of 24 heads" in words_of(test.info)
    words = said(test)
    assert "a gate learned on few examples fits those" in words
    assert "stays frozen" in words
    assert "dates of the app's own that are not among the examples" in words
    assert float(shown["Moved elsewhere (KL, nats)"]) > 0
    assert text_of(params(test)["course"]) == FEW.model_dump_json()
    again = opened(FEW)
    assert measured(again) == shown, "what was learned is kept"


def test_the_last_gates_stay_in_sight_when_what_is_above_them_changes() -> None:
    test = taught()
    shown = measured(test)
    stores().traces.clear()  # the session keeps them, whatever the server lets go
    test.number_input(key="gates-seed").set_value(7).run()
    assert_fine(test)
    assert "The gates learned with seed 0 from 4 examples are kept, and shown below" in words_of(test.markdown)
    assert test.button(key="gates-learn").label == "Learn"
    assert measured(test) == shown
    block = next(block.value for block in test.code if "found.save" in block.value)
    assert "seed=0" in block, "the lines make what is shown"
    test.button(key="gates-clear").click().run()
    assert_fine(test)
    assert measured(test) == shown
    test.button(key="gates-earlier").click().run()
    assert_fine(test)
    assert kept(test) == FEW
    assert measured(test) == shown
    assert all(button.key not in ("gates-earlier", "gates-learn") for button in test.button)
    other = opened(FEW.model_copy(update={"seed": 7}))
    assert all(button.key != "gates-earlier" for button in other.button), "another session has learned nothing"


def test_an_address_restores_examples_and_settings_and_fields_change_them() -> None:
    test = opened(FEW)
    assert_fine(test)
    assert test.number_input(key="gates-steps").value == 3
    assert test.number_input(key="gates-held_out").value == 30
    before = params(test)["course"]
    test.number_input(key="gates-held_out").set_value(50).run()
    test.segmented_control(key="gates-penalty").set_value("l2").run()
    assert_fine(test)
    assert kept(test) == FEW.model_copy(update={"held_out": 0.5, "penalty": "l2"})
    assert params(test)["course"] != before, "Back has to lead to what was there"


def test_cancelled_learning_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    real = gates.learn

    def slow(*args: Any, progress: Any, **options: Any) -> Gates:
        def told(step: int, *rest: Any) -> None:
            if step > 1:
                time.sleep(0.6)
            progress(step, *rest)

        return real(*args, progress=told, **options)

    monkeypatch.setattr(gates, "learn", slow)
    course = FEW.model_copy(update={"steps": 50})
    test = opened(course)
    test.button(key="gates-learn").click().run()
    assert_fine(test)
    live = test.session_state["attnviz_gates_live_gates"]
    while len(live.rows) < 2:
        time.sleep(0.02)
    test.run()
    (chart,) = test.get("plotly_chart")
    assert "held out" in chart.proto.spec
    assert "The loss so far" in said(test)
    test.button(key="gates-cancel").click().run()
    ended(test)
    assert_fine(test)
    assert "It was stopped before its end" in words_of(test.info)
    assert live.gates is not None
    assert 1 <= int(live.gates.history.step.max()) < 50
    assert test.button(key="gates-learn").label == "Learn again, to the end"
    assert kept(test) == course


def test_more_seeds_are_learned_on_request_and_their_spread_is_shown(
    monkeypatch: pytest.MonkeyPatch, learned: Gates
) -> None:
    monkeypatch.setattr(learning, "MORE_SEEDS", 1)
    test = taught()
    test.button(key="gates-seeds").click().run()
    ended(test, learning.SEEDS)
    assert_fine(test)
    other = gates.learn(MODELS["dates"], DATES, seed=1, **FEW.settings)
    table = next(one.value for one in test.dataframe if "seed" in one.value)
    assert table.to_dict("records") == [learning.spread_row(learned), learning.spread_row(other)]


def test_rows_that_cannot_be_learned_from_are_named_and_left_out() -> None:
    rows = (*ROWS[:2], Row(text="4 July 1999"), Row(answer="1999-07-04"), Row(text="a", answer="b", foil="b"))
    test = opened(Course(rows=rows))
    assert_fine(test)
    words = words_of(test.warning)
    assert "Row 3 (“4 July 1999”): there is no answer" in words
    assert "Row 4: there is no text" in words
    assert "Row 5 (“a”): the answer and the foil are the same tokens" in words
    assert "2 of 5 examples" in said(test)
    one = opened(Course(rows=(ROWS[0], Row(text="x"))))
    assert one.button(key="gates-learn").disabled
    long = asking.wrong_rows(MODELS["smollm2"], (Row(text="word " * 300, answer=" is"),))
    assert "at most 256" in long[0]


def test_an_answer_that_runs_on_in_the_word_before_is_pointed_out_and_mended() -> None:
    rows = (
        Row(text="The keys", answer="are", foil="is"),
        Row(text="你好", answer=" is"),
        Row(text="A key ", answer="is"),
    )
    test = opened(Course(rows=rows), model="smollm2")
    assert_fine(test)
    assert "In 1 row the answer has no space before it" in words_of(test.markdown)
    test.button(key="gates-space").click().run()
    assert kept(test).rows == (Row(text="The keys", answer=" are", foil=" is"), *rows[1:])
    assert asking.joined(MODELS["minilm"], rows) == []


def test_pasted_lines_and_feedback_come_behind_what_is_there() -> None:
    said_ = [Feedback("4 July 1999", "prediction", "down", wanted="1999-07-04", model="dates")]
    told = stores().texts.put(Said(lines=feedback.to_lines(said_)).model_dump_json())
    test = opened(Course(rows=ROWS[:1]), feedback=told)
    test.button(key="gates-feedback-rows").click().run()
    test.text_area(key="gates-pasted").set_value("5 June 2001, 2001-06-05")
    pages.press(test, "Add these lines")
    assert_fine(test)
    wanted = [ROWS[0], Row(text="4 July 1999", answer="1999-07-04"), Row(text="5 June 2001", answer="2001-06-05")]
    assert kept(test).rows == tuple(wanted)
    test.text_area(key="gates-pasted").set_value("prompt,wanted\n6 June 2001,2001-06-06")
    pages.press(test, "Add these lines")
    assert "Row 1 looks like column names" in words_of(test.info)
    wanted.append(Row(text="6 June 2001", answer="2001-06-06"))
    assert kept(test).rows == tuple(wanted)
    test.run()
    assert "Row 1 looks like" not in words_of(test.info), "it is said once"
    test.text_area(key="gates-pasted").set_value("nothing")
    pages.press(test, "Add these lines")
    assert "row 1: expected text, answer" in words_of(test.error)
    assert len(kept(test).rows) == 4


def test_gates_go_to_a_file_and_come_back_on_the_page(learned: Gates) -> None:
    back = read_gates(keeping.saved(learned))
    np.testing.assert_array_equal(back.frame()["gate"], learned.frame()["gate"])
    course = FEW.model_copy(update={"loaded": packed(keeping.saved(learned))})
    test = opened(course)
    assert_fine(test)
    assert "From a file: gates of dates" in words_of(test.info)
    tested = learned.test(MODELS["dates"], DATES)
    assert test.metric[3].value == f"{tested.after.mean:+z.2f}"
    assert all(button.key != "gates-learn" for button in test.button)
    test.button(key="gates-unload").click().run()
    assert kept(test) == FEW


def test_gates_of_another_model_are_refused_in_a_sentence(learned: Gates) -> None:
    test = opened(Course(loaded=packed(keeping.saved(learned))), model="smollm2", with_text="Mary gave")
    assert [exception.message for exception in test.exception] == []
    assert "These gates are of the heads of dates" in words_of(test.error)
    for loaded in ("no base64!", packed(b"no gates")):
        test = opened(Course(loaded=loaded))
        assert [exception.message for exception in test.exception] == []
        assert len(test.error) == 1


def test_the_curve_is_exported_for_tensorboard_and_the_gates_into_weights(learned: Gates, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(keeping.tensorboard(learned))) as archive:
        archive.extractall(tmp_path)
    events = EventAccumulator(str(tmp_path / "gates"))
    events.Reload()
    losses = [event.value for event in events.Scalars("loss/held_out")]
    np.testing.assert_allclose(losses, learned.history["held_out"], rtol=1e-5)
    test = taught()
    test.button(key="gates-bake").click().run()
    assert_fine(test)
    assert "the copy's numbers differ" in said(test)
    with zipfile.ZipFile(io.BytesIO(keeping._checkpoint("dates", learned))) as archive:
        table = json.loads(archive.read("baked.json"))
    assert "scaled by" in json.dumps(table)
    with pytest.raises(InputError, match="no longer held"):
        keeping._checkpoint("gone", learned)


def test_lines_of_python_learn_the_same_and_draw_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    course = FEW.model_copy(update={"seed": 3})
    test = taught(course)
    assert_fine(test)
    monkeypatch.setattr(attnviz, "load_model", MODELS.__getitem__)
    monkeypatch.chdir(tmp_path)
    shown: list[go.Figure] = []
    monkeypatch.setattr(go.Figure, "show", lambda figure: shown.append(figure))
    blocks = [block.value for block in test.code if "gates.learn" in block.value]
    assert len(blocks) == 3
    found = gates.learn(MODELS["dates"], [row.example for row in course.rows], seed=3, **course.settings)
    for block in blocks:
        assert all(len(line) <= 100 for line in block.split("\n"))
        exec(compile(block, "<lines>", "exec"), scope := {})
        assert scope["found"].frame().equals(found.frame())
    assert [figure.data[0].type for figure in shown] == ["scatter", "heatmap"]
    assert (tmp_path / "gates.safetensors").exists()
    assert (tmp_path / "taught" / "model.safetensors").exists()


def test_a_decoder_is_taught_and_its_next_token_is_shown_without_and_with_gates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trying, "WRITTEN", 2)
    monkeypatch.setattr(results, "UNRELATED", 1)
    rows = tuple(Row(text=text, answer=" are", foil=" is") for text in ("The lists of the name", "The boxes"))
    text = f"The lists {HOSTILE}"
    test = taught(Course(rows=rows, steps=1, lr=0.3), model="smollm2", with_text=text)
    assert_fine(test)
    found = test.session_state["attnviz_gates_live_gates"].gates
    after = MODELS["smollm2"].trace(text, edits=found.edits()).predictions(-1, 8)
    table = next(one.value for one in test.dataframe if "change" in one.value and "probability" in one.value)
    np.testing.assert_allclose(table["probability"], after["probability"], atol=1e-5)
    assert float(measured(test)["Change, nats"]) == round(found.held_out.change.mean, 2)
    assert "Is the prediction without gates right?" in words_of(test.markdown)
    assert "<img" not in "".join(str(element.proto.body) for element in test.get("html"))


def test_a_model_that_predicts_no_tokens_and_a_draft_that_nobody_made_are_said() -> None:
    stores().models.put("dates", MODELS["dates"])
    test = opened(model="minilm")
    assert [exception.message for exception in test.exception] == []
    assert "MiniLM-L6-v2 predicts none" in words_of(test.error)
    for text in ("{", '{"steps": 0}', '{"rows": [{"text": "\\ud800"}]}', '{"lr": NaN}', '{"unknown": 1}'):
        test = pages.opened("gates", model="dates", with_text=DATE, course=stores().texts.put(text))
        assert_fine(test)
        assert "course behind this link" in words_of(test.warning)
        assert "course" not in params(test)
