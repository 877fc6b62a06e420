"""The Corpus page, run by Streamlit's own test harness: texts taken or refused, measured, stopped and resumed."""

import io
import re
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from corpus_pages import HOSTILE, choose, page, said, turn_to
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz import corpus
from attnviz.corpus import Item, Shelf, run_key
from attnviz.errors import Cancelled
from attnviz.ui import measuring
from attnviz.ui.corpus import running
from attnviz.ui.jobs import Job, Joined, shared
from attnviz.view import Sinks
from pages import assert_fine, params, press, words_of

pytestmark = pytest.mark.usefixtures("shelf")


def upload(name: str, content: bytes) -> AppTest:
    test = turn_to(page(), "corpus-source", "file")
    return test.file_uploader[0].upload(name, content).run()


def texts(test: AppTest) -> list[Item]:
    return [item for _, item in measuring.shelf().texts(params(test)["corpus"])]


def test_the_page_begins_with_sentences_of_its_own_and_says_how_long_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "BRIEF_SECONDS", 0.0)
    test = page()
    assert_fine(test)
    assert "200 sentences of AttnViz: 200 texts. They come with AttnViz" in said(test)
    assert re.search(r"(\d+) of 200 texts done. The other (\d+) take about [1-9]", said(test))
    assert "no fair sample" in said(test)
    press(test, "Run")
    assert_fine(test)
    assert "mean over 200 texts" in said(test)
    assert not {"Run", "Resume"} & {button.label for button in test.button}


def test_a_short_rest_is_measured_without_a_press(
    shelf: Shelf, minilm: attnviz.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "BRIEF_SECONDS", 1e9)  # whatever the machine's pace
    key = shelf.add([Item(f"Cat {i} sat near the door of house {i}.") for i in range(100, 180)], "Cats")
    test = page(corpus=key)
    assert_fine(test)
    assert "mean over 80 texts" in said(test)
    assert not {"Run", "Resume", "Cancel"} & {button.label for button in test.button}


def test_a_short_rest_that_was_stopped_waits(
    shelf: Shelf, minilm: attnviz.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def stopped(of: tuple[str, ...], run: Callable[[Job], None]) -> Joined:
        asked.append(of)
        joined = shared(of, run)
        joined.cancel()
        return joined

    monkeypatch.setattr(running, "BRIEF_SECONDS", 1e9)
    monkeypatch.setattr(running, "shared", stopped)
    key = shelf.add([Item(f"Owl {i} sat near the door of house {i}.") for i in range(100, 400)], "Owls")
    test = page(corpus=key)
    for _ in range(2):
        assert_fine(test)
        assert "of 300 texts done" in said(test)
        assert "Resume" in [button.label for button in test.button]
        test.run()
    # The key of the Heads page's job, too: who asks for the same waits for the same one, and holds no turn meanwhile.
    assert asked == [measuring.of_run(key, run_key(minilm, sinks=Sinks(kinds=("first",))))]


def test_pasted_texts_are_taken_and_what_is_left_out_is_said() -> None:
    test = turn_to(page(), "corpus-source", "paste")
    assert_fine(test)
    test.text_area(key="corpus-paste").set_value(f"One dog sat.\n\nTwo dogs ran, and sat.\n{HOSTILE}")
    press(test, "Take these texts")
    assert_fine(test)
    assert [item.text for item in texts(test)] == ["One dog sat.", "Two dogs ran, and sat.", HOSTILE]
    assert "Pasted texts: 3 texts. 1 text left out: empty (first at line 2)" in said(test)
    assert "mean over 3 texts" in said(test)
    turn_to(test, "corpus-source", "paste")
    assert test.text_area(key="corpus-paste").value.startswith("One dog sat.")


def test_nothing_to_take_is_a_sentence_and_the_typing_stays() -> None:
    test = turn_to(page(), "corpus-source", "paste")
    test.text_area(key="corpus-paste").set_value(" \n\n")
    press(test, "Take these texts")
    assert [exception.message for exception in test.exception] == []
    assert "needs at least one text" in test.error[0].value
    assert "2 texts left out" in test.error[0].value
    assert test.text_area(key="corpus-paste").value == " \n\n"
    assert "corpus" not in params(test)


TABLE = pd.DataFrame({"body": ["Der Bär schläft.", HOSTILE], "mood": ["calm", HOSTILE]})


def _parquet() -> bytes:
    file = io.BytesIO()
    TABLE.to_parquet(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", TABLE.to_csv(index=False).encode("utf-8-sig"), "columns divided by a comma"),
        ("b.csv", TABLE.to_csv(index=False, sep=";").encode("latin-1"), "divided by a semicolon"),
        ("c.tsv", TABLE.to_csv(index=False, sep="\t").encode("utf-16"), "Read as TSV"),
        ("d.jsonl", TABLE.to_json(orient="records", lines=True).encode(), "Read as JSONL"),
        ("e.parquet", _parquet(), "Read as Parquet"),
    ],
)
def test_a_table_is_understood_shown_and_taken(name: str, content: bytes, words: str) -> None:
    test = upload(name, content)
    assert_fine(test)
    assert words in said(test)
    assert list(test.dataframe[0].value.columns) == ["body", "mood"]
    choose(test, "Labels to split by", "mood")
    press(test, "Take these texts")
    assert_fine(test)
    assert texts(test) == [Item(body, mood) for body, mood in TABLE.itertuples(index=False)]
    assert f"{name}: 2 texts, 2 labels" in said(test)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.csv", b"", "empty"),
        ("wide.csv", b",".join(b"c%d" % i for i in range(200_000)) + b"\n", "columns"),
        ("no.parquet", b"PAR1 but not", "Parquet"),
        ("no.jsonl", b"[1]\n", "not an object"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_a_sentence(name: str, content: bytes, words: str) -> None:
    test = upload(name, content)
    assert [exception.message for exception in test.exception] == []
    assert len(test.error) == 1
    assert words in words_of(test.error)
    assert "Take these texts" not in [button.label for button in test.button]
    assert "200 sentences of AttnViz" in said(test)  # what was there still is


def test_a_wrong_delimiter_is_said_with_its_line_and_can_be_set_right() -> None:
    test = upload("a.csv", b"text;n\none, two;1\nthree;2\nfour, five, six;3\n")
    choose(test, "Columns are divided by", "Comma")
    press(test, "Take these texts")
    assert "line" in test.error[0].value
    assert [exception.message for exception in test.exception] == []
    choose(test, "Columns are divided by", "Semicolon")
    assert_fine(test)
    press(test, "Take these texts")
    assert_fine(test)
    assert [item.text for item in texts(test)] == ["one, two", "three", "four, five, six"]


def test_texts_that_are_gone_are_a_sentence_and_others_can_be_chosen() -> None:
    test = page(corpus="abcdefghijklmnopqrst")
    assert [exception.message for exception in test.exception] == []
    assert "not here any more" in test.error[0].value
    assert test.selectbox(key="corpus-choice").options[0].startswith("200 sentences")
    test.selectbox(key="corpus-choice").select_index(0).run()
    assert_fine(test)


def test_after_a_restart_the_same_address_resumes(shelf: Shelf, minilm: attnviz.Model) -> None:
    key = shelf.add([Item(f"Dog {i} sat near the door of house {i}.") for i in range(100, 220)], "Dogs")
    measuring.measure(Job(lambda job: None), minilm, key, site=None, sinks=Sinks(kinds=("first",)), first=True)
    before = shelf.runs(key)[0].done
    assert 0 < before < 100
    measuring.shelf.clear()
    test = page(corpus=key)
    assert_fine(test)
    assert f"{shelf.runs(key)[0].done} of 120 texts done" in said(test)
    press(test, "Resume")
    assert_fine(test)
    assert "mean over 120 texts" in said(test)


def test_the_share_of_a_job_is_of_what_it_has_to_do(shelf: Shelf, minilm: attnviz.Model) -> None:
    key = shelf.add([Item(f"Dog {i} sat near the door of house {i}.") for i in range(100, 220)], "Dogs")
    sinks = Sinks(kinds=("first",))
    measuring.measure(Job(lambda job: None), minilm, key, site=None, sinks=sinks, first=True)

    shares: list[float] = []

    class Heard(Job):
        def report(self, doing: str, share: float) -> None:
            shares.append(share)

    measuring.measure(Heard(lambda job: None), minilm, key, site=None, sinks=sinks)
    assert (shares[1], shares[-1]) == (0, 1)
    assert shares == sorted(shares)


def test_names_labels_and_texts_stay_text(moods: tuple[str, str]) -> None:
    test = page(corpus=moods[0])
    turn_to(test, "corpus-against", "labels")
    assert_fine(test)
    assert HOSTILE in said(test)
    assert "<img" not in "".join(str(element.proto.body) for element in test.get("html"))
    assert not any(re.search(r"(?<!\\)<img", str(element.value)) for element in test.markdown)


def test_without_second_texts_an_encoder_decoder_leaves_all_out_and_says_so(shelf: Shelf) -> None:
    key = shelf.add([Item(f"{day} May 1998") for day in range(1, 25)], "Days")
    test = page(model="dates", corpus=key)
    assert_fine(test)
    assert "24 left out: no second text for the decoder" in said(test)
    assert "No text has values" in said(test)
    test = page(model="dates", detector="previous")
    assert_fine(test)
    assert "200 dates of AttnViz" in said(test)
    assert "Duplicate token without sink" in said(test)  # there is no previous token in another text


def test_two_sessions_measure_a_text_once(shelf: Shelf, minilm: attnviz.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    key = shelf.add([Item(f"Dog {i} sat near the door of house {i}.") for i in range(100, 180)], "Dogs")
    put, numbers = Shelf.put, list[int]()

    def counted(self: Shelf, key: str, run: str, found: Any) -> None:
        numbers.extend(number for number, *_ in found)
        put(self, key, run, found)

    monkeypatch.setattr(Shelf, "put", counted)
    monkeypatch.setattr(measuring, "_LOOK_SECONDS", 0.01)
    sinks = Sinks(kinds=("first",))
    jobs = [Job(lambda job: measuring.measure(job, minilm, key, site=None, sinks=sinks)) for _ in range(2)]
    for job in jobs:
        assert job.wait(60)
        job.result()
    assert sorted(numbers) == list(range(80))
    assert not measuring._UNDER_WAY


def test_a_session_that_waits_for_another_can_be_stopped(shelf: Shelf, minilm: attnviz.Model) -> None:
    key = shelf.add([Item("A dog sat.")], "Dogs")
    sinks = Sinks(kinds=("first",))
    run = run_key(minilm, sinks=sinks)
    with measuring._turn(key, run, lambda: None):
        job = Job(lambda job: measuring.measure(job, minilm, key, site=None, sinks=sinks))
        assert not job.wait(0.2)
        job.cancel()
        assert job.wait(10)
    with pytest.raises(Cancelled):
        job.result()
    assert not measuring._UNDER_WAY
    assert not shelf.done(key, run)


def test_heads_with_too_few_texts_are_not_tested_and_that_is_said(shelf: Shelf, minilm: attnviz.Model) -> None:
    keys = [
        shelf.add([Item(f"{word} sat near door {i}.") for i in range(n)], word) for word, n in (("Al", 9), ("Bo", 12))
    ]
    for key in keys:
        corpus.run(minilm, shelf, key)
    test = page(corpus=keys[0], other_corpus=keys[1])
    assert_fine(test)
    assert "No head has values in 10 texts or more on each side" in said(test)
