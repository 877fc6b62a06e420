"""The Highlights page in Streamlit's test harness: nothing before the reveal, the ranking after it, and the study."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz import human
from attnviz.errors import InputError
from attnviz.text import words
from attnviz.ui.highlights import asking
from attnviz.ui.highlights.study import Passage, Study, StudyFile, chips_of
from attnviz.ui.session import stores, text_of
from pages import HOSTILE, assert_fine, opened, params, said, words_of

TEXTS = (
    "The old lighthouse keeper painted the door red, then he walked down to the harbour to buy fresh bread.",
    "Our neighbour repaired a bicycle in the garage while her small dog slept under the wooden table.",
)


@pytest.fixture(scope="module", autouse=True)
def _held(minilm: attnviz.Model) -> Iterator[None]:
    stores().models.put("minilm", minilm)
    yield
    stores().traces.clear()


def passage(text: str = TEXTS[0], *marks: int, **parts: object) -> Passage:
    return Passage(text=text, marks=tuple((n, 1.0) for n in marks), **parts)  # type: ignore[arg-type]


def shown(study: Study | None = None) -> AppTest:
    key = {} if study is None else {"study": stores().texts.put(study.model_dump_json())}
    return opened("highlights", model="minilm", text=stores().texts.put(TEXTS[0]), **key)


def kept(test: AppTest) -> Study:
    return Study.model_validate_json(text_of(params(test)["study"]))


def of_model(test: AppTest) -> list[Any]:
    """What on the page comes from the model."""
    return [*test.get("plotly_chart"), *test.dataframe, *test.success, *test.info]


def test_nothing_of_the_models_is_shown_before_the_reveal() -> None:
    test = shown()
    assert_fine(test)
    assert of_model(test) == []
    assert test.button(key="highlights-reveal").disabled
    assert "Mark some words and leave others" in said(test)
    revealed, fresh = passage(TEXTS[0], 4, 6, revealed=True), passage(TEXTS[1], 1)
    test = shown(Study(passages=(revealed, fresh), at=1))
    assert_fine(test)
    assert of_model(test) == []
    assert not test.button(key="highlights-reveal").disabled


def test_the_reveal_ranks_every_head_as_the_library_does(minilm: attnviz.Model) -> None:
    test = shown(Study(passages=(passage(TEXTS[0], 5, 7, 16),)))
    test.button(key="highlights-reveal").click().run()
    assert_fine(test)
    assert kept(test).passages[0].revealed
    marked = human.Marked(TEXTS[0], {5: 1, 7: 1, 16: 1}, query=len(words(TEXTS[0])) - 1)
    wanted = human.rank(minilm, [marked])
    assert wanted.why in words_of(test.info)
    heads = wanted.frame[wanted.frame["kind"] == "head"].head(15)
    table = next(one.value for one in test.dataframe if len(one.value) == 15 and "AUROC" in one.value)
    assert table["name"].tolist() == heads["name"].tolist()
    np.testing.assert_allclose(table["AUROC"], heads["auroc"])
    assert "the best of all 72 heads was kept" in said(test)
    assert "the attention that the last word of what the model reads pays it" in said(test)
    test.segmented_control(key="highlights-by").set_value("received").run()
    assert_fine(test)
    assert "divided by how many can see it" in said(test)
    test.selectbox(key="highlights-metric").set_value("spearman").run()
    assert_fine(test)
    assert "Rank correlation of every head" in said(test)


def test_the_best_head_opens_in_explore(monkeypatch: pytest.MonkeyPatch) -> None:
    went: list[str] = []
    question = "What colour was the door?"
    test = shown(Study(passages=(passage(TEXTS[0], 5, 7, question=question, revealed=True),)))
    assert_fine(test)
    best = next(one.value for one in test.dataframe if "AUROC" in one.value)["name"].iloc[0]
    monkeypatch.setattr(st, "switch_page", went.append)
    test.button(key="highlights-explore").click().run()
    now = params(test)
    assert went == ["pages/explore.py"]
    assert f"L{now.get('layer', 0)}H{now.get('head', 0)}" == best
    assert (text_of(now["text"]), text_of(now["other"])) == (TEXTS[0], question)


def test_two_texts_hold_one_out_and_the_next_one_keeps_both() -> None:
    both = Study(passages=(passage(TEXTS[0], 5, 7, revealed=True), passage(TEXTS[1], 3, 6, revealed=True)))
    test = shown(both)
    assert_fine(test)
    assert "heads are chosen by it" in said(test)
    assert "held out" in said(test)
    assert "“found” is p on the texts that heads are chosen by" in said(test)
    test.button(key="highlights-next").click().run()
    assert_fine(test)
    assert kept(test).at == 2
    assert of_model(test) == []
    test.text_area(key="highlights-text").set_value("A third text.")
    next(button for button in test.button if button.label == "Use this text").click().run()
    assert_fine(test)
    assert [one.text for one in kept(test).passages] == [*TEXTS, "A third text."]
    test.button(key="highlights-remove-0").click().run()
    assert [one.text for one in kept(test).passages] == [TEXTS[1], "A third text."]
    assert kept(test).at == 1


def test_changes_after_the_reveal_are_labelled() -> None:
    old = passage(TEXTS[0], 5, revealed=True)
    new = old.with_weights(tuple(1.0 if chip.number in (5, 7) else 0.0 for chip in old.chips))
    assert (new.marks, new.changed) == (((5, 1.0), (7, 1.0)), True)
    assert not passage(TEXTS[0], 5).with_weights((0.5,) * len(old.chips)).changed
    test = shown(Study(passages=(new,)))
    assert "changed after the model's view was shown" in words_of(test.warning)
    test.text_input(key="highlights-question").set_value("Why?")
    next(button for button in test.button if button.label == "Use this text").click().run()
    assert (kept(test).passages[0].question, kept(test).passages[0].marks) == ("Why?", new.marks)
    test.text_area(key="highlights-text").set_value("Something else altogether.")
    next(button for button in test.button if button.label == "Use this text").click().run()
    assert (kept(test).passages[0].marks, kept(test).passages[0].revealed) == ((), False)


def test_a_question_before_the_text_moves_the_marks_with_the_words() -> None:
    one = passage(TEXTS[0], 5, 7, question="What colour was it?", before=True)
    marked = one.marked()
    spans = words(marked.text)
    assert [marked.text[slice(*spans[n])] for n in marked.marks] == ["the", "red"]
    assert marked.passage is not None
    assert marked.text[slice(*marked.passage)] == TEXTS[0]
    after = one.model_copy(update={"before": False}).marked()
    assert dict(after.marks) == {5: 1.0, 7: 1.0}


def test_punctuation_stands_with_the_word_it_touches() -> None:
    chips = chips_of("“Well-known,” he said\n(twice) … 你好。")
    assert [chip.label for chip in chips] == ["“Well-", "known,”", "he", "said", "(twice)", "… 你", "好。"]
    assert [chip.spaced for chip in chips] == [False, True, True, True, True, False, False]
    assert [chip.broken for chip in chips].index(True) == 3
    assert chips_of("… !") == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"passages": [{"text": TEXTS[0], "marks": [[999, 1]]}]},
        {"passages": [{"text": TEXTS[0], "marks": [[1, 7]]}]},
        {"passages": [{"text": TEXTS[0], "marks": [[1, 1], [1, 1]]}]},
        {"passages": [{"text": ""}]},
        {"passages": [], "at": 3},
        {"language": "xx"},
        {"unknown": 1},
    ],
)
def test_a_study_that_cannot_be_is_said_and_left(wrong: dict[str, object]) -> None:
    test = opened("highlights", model="minilm", study=stores().texts.put(json.dumps(wrong)))
    assert_fine(test)
    assert "study behind this link cannot be read" in words_of(test.warning)


def test_a_file_holds_texts_and_marks_and_refuses_others() -> None:
    saved = StudyFile(passages=(passage(TEXTS[0], 5), passage(HOSTILE))).model_dump_json()
    assert StudyFile.model_validate_json(saved).passages[1].text == HOSTILE
    with pytest.raises(ValueError, match="passages"):
        StudyFile.model_validate_json('{"kind": "attnviz study", "version": 1, "passages": []}')
    with pytest.raises((InputError, ValueError)):
        StudyFile.model_validate_json(saved.replace('"version":1', '"version":2'))


def test_hostile_text_is_only_text() -> None:
    test = shown(Study(passages=(passage(HOSTILE, 2, revealed=True),)))
    assert_fine(test)
    assert "<img" not in "".join(str(element.proto.body) for element in test.get("html"))


def test_the_lines_make_the_figure_again(monkeypatch: pytest.MonkeyPatch) -> None:
    test = shown(Study(passages=(passage(TEXTS[0], 5, 7, question="Why?", revealed=True),), metric="auprc"))
    code = next(block.value for block in test.code if "human.rank" in block.value)
    assert all(len(line) <= 100 for line in code.splitlines())
    names: dict[str, Any] = {}
    monkeypatch.setattr(attnviz, "load_model", lambda name: stores().models.get(name))
    exec(compile(code.replace("figure.show()", ""), "<lines>", "exec"), names)
    ranking = names["ranking"]
    assert ranking.metric == "auprc"
    table = next(one.value for one in test.dataframe if len(one.value) == 15)
    assert table["name"].tolist() == ranking.frame[ranking.frame["kind"] == "head"]["name"].head(15).tolist()


def test_a_long_text_is_first_read_by_the_fast_methods_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "LONG", 10)
    test = shown(Study(passages=(passage(TEXTS[0], 5, 7, revealed=True),)))
    assert_fine(test)

    def kinds() -> set[str]:
        return set(next(one.value for one in test.dataframe if "kind" in one.value)["name"])

    assert "Rollout" in kinds()
    assert "ALTI" not in kinds()
    assert "methods=('position', 'last', 'rollout')" in "".join(block.value for block in test.code)
    test.button(key="highlights-thorough").click().run()
    assert_fine(test)
    assert "ALTI" in kinds()
    assert "highlights-thorough" not in [button.key for button in test.button]
