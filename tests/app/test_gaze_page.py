"""The Gaze page in Streamlit's test harness: tables and their columns, one sentence's words, and the correlations."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz import human
from attnviz.errors import InputError
from attnviz.human import Columns
from attnviz.human.gaze_scores import seen_by
from attnviz.ui.components.reading import reading as player
from attnviz.ui.gaze import asking, draft, played, results
from attnviz.ui.gaze.draft import Gaze, Table, example
from attnviz.ui.session import stores, text_of
from pages import HOSTILE, assert_fine, opened, params, press, said, words_of

OWN = Columns(("sentence",), "word", "reading_time_ms", reader="reader", word_id="word_id")
READINGS = human.read_gaze(example(), OWN)
PALETTES = {"light": ["#ffffff"], "dark": ["#000000"]}


@pytest.fixture(scope="module", autouse=True)
def _held(minilm: attnviz.Model) -> Iterator[None]:
    stores().models.put("minilm", minilm)
    yield
    stores().traces.clear()


def table(text: str = example(), columns: Columns | None = OWN, name: str = "gaze_example.csv") -> Table:
    return Table(name=name, key=stores().texts.put(text), columns=columns)


def shown(*tables: Table, **parts: Any) -> AppTest:
    made = Gaze(tables=tables, **parts).model_dump_json()
    return opened("gaze", model="minilm", gaze=stores().texts.put(made))


def kept(test: AppTest) -> Gaze:
    return Gaze.model_validate_json(text_of(params(test)["gaze"]))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the two components of the page are given: they cannot be read in this harness."""
    given: dict[str, Any] = {}
    for name in ("player", "token_strip"):
        monkeypatch.setattr(
            played, name, lambda labels, values, name=name, **looks: given.update({name: (labels, values, looks)})
        )
    return given


def test_the_example_is_labelled_as_made_up_and_its_words_are_found() -> None:
    test = opened("gaze", model="minilm")
    assert_fine(test)
    assert "a row for each word" in said(test)
    press(test, "Try a made-up example")
    assert_fine(test)
    assert "nobody read it" in words_of(test.info)
    assert kept(test).tables[0].columns == OWN
    n_words = sum(one.punctuation.count(False) for one in READINGS) // 2
    assert f"2 readers, 6 sentences, {n_words} words: 100.0% of them found" in words_of(test.markdown)
    skipped = sum(t == 0 for one in READINGS for t, mark in zip(one.times_ms, one.punctuation, strict=True) if not mark)
    assert f"{skipped / (2 * n_words):.0%} of the words were skipped." in said(test)
    n_marks = sum(map(sum, (one.punctuation for one in READINGS))) // 2
    assert f"{n_marks} places of punctuation in every reading of these sentences are shown" in said(test)
    press(test, "Remove")
    assert_fine(test)
    assert kept(test).tables == ()


def test_a_sentence_is_played_as_it_was_read_beside_the_models_scores(
    drawn: dict[str, Any], minilm: attnviz.Model
) -> None:
    test = shown(table(), at=1, reader="made-up B", beside="head")
    test.selectbox(key="gaze-head").set_value((2, 3)).run()
    assert_fine(test)
    wanted = next(one for one in READINGS if one.sentence == "2" and one.reader == "made-up B")
    labels, times, looks = drawn["player"]
    assert (labels, times) == (wanted.words, wanted.times_ms)
    assert looks["counted"] == [any(c.isalnum() for c in word) for word in wanted.words]
    assert [word for word, gap in zip(labels, looks["spaced"], strict=True) if not gap] == ["My", "."]
    seen = seen_by(minilm, wanted.text, None, ())
    found = human.align(wanted.words, seen.trace)
    scores = found.sum(seen.received["out"][2 * 12 + 3]).numpy()
    np.testing.assert_allclose(drawn["token_strip"][1], scores, rtol=1e-5)
    assert math.isnan(scores[-1])
    assert "L2H3: the attention that each word receives" in said(test)
    test.selectbox(key="gaze-beside").set_value("relevance").run()
    assert_fine(test)
    assert "Gradient relevance: each word's part" in said(test)
    test.button(key="gaze-next").click().run()
    assert (kept(test).at, kept(test).reader, kept(test).beside) == (2, "made-up B", "relevance")


def test_a_word_opens_in_explore(drawn: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    test = shown(table(), beside="head")
    assert_fine(test)
    went: list[str] = []
    monkeypatch.setattr(st, "switch_page", went.append)
    pick = drawn["token_strip"][2]["on_pick"]
    monkeypatch.setattr(played, "go", lambda: pick(1) or st.switch_page("pages/explore.py"))
    test.run()
    now = params(test)
    assert went == ["pages/explore.py"]
    assert text_of(now["text"]) == READINGS[0].text
    assert now["key"] == "2"  # the special token, "the", and then "ferry"


def test_every_figure_is_the_librarys(minilm: attnviz.Model) -> None:
    test = shown(table())
    assert_fine(test)
    assert "Reads 6 sentences with every head, layer and method" in said(test)
    test.button(key="gaze-correlate").click().run()
    assert_fine(test)
    wanted = human.correlate(minilm, READINGS)
    frame = wanted.frame()
    frame = frame[(frame["sink"] == "out") & (frame["reader"] == "") & (frame["kind"] == "head")]
    best = wanted.best["out", "partial"]
    assert f"The best head, {best.head}, has a partial correlation of {best.value:.2f}" in words_of(test.info)
    assert f"come to {best.elsewhere:.2f} on the other half" in words_of(test.info)
    heads = next(one.value for one in test.dataframe if "p partial" in one.value)
    raw, partial = (frame[frame["measure"] == name].set_index("name") for name in ("raw", "partial"))
    assert heads["name"].tolist() == partial["mean"].nlargest(15).index.tolist()
    np.testing.assert_allclose(heads["partial"], partial.loc[heads["name"], "mean"])
    np.testing.assert_allclose(heads["raw"], raw.loc[heads["name"], "mean"])
    np.testing.assert_allclose(heads["p partial"], partial.loc[heads["name"], "p"])
    others = next(one.value for one in test.dataframe if "kind" in one.value)
    assert {"Rollout", "length", "position", "made-up A and made-up B"}.issubset(others["name"])
    assert "surprisal" not in others["name"].tolist()
    assert "What counts is the partial column" in said(test)
    one = shown(table(), of="made-up A", measure="raw", sink="in")  # kept for all: nobody has to ask again
    assert_fine(one)
    assert "reading times of made-up A" in said(one)
    assert f"{wanted.best['in', 'raw'].value:.2f} with reading times" in words_of([*one.info, *one.success])


def test_the_words_of_the_maps_head_stand_below_it_too(monkeypatch: pytest.MonkeyPatch, minilm: attnviz.Model) -> None:
    strips: dict[str, Any] = {}
    monkeypatch.setattr(played, "token_strip", lambda labels, values, key, **looks: strips.update({key: values}))
    monkeypatch.setattr(results, "head_matrix", lambda *given, **looks: None)
    draft_ = stores().texts.put(Gaze(tables=(table(),), number=0, beside="rollout").model_dump_json())
    test = opened("gaze", model="minilm", gaze=draft_)
    if any(button.key == "gaze-correlate" for button in test.button):  # else another test did
        test.button(key="gaze-correlate").click().run()
    assert_fine(test)
    assert set(strips) == {"gaze-strip"}, "no head was picked yet"
    assert "encyclopedia" not in said(test), "nothing is said of other readers beside a made-up example"
    test = opened("gaze", model="minilm", gaze=draft_, layer="2", head="5")
    assert_fine(test)
    one = READINGS[0]
    received = seen_by(minilm, one.text, None, ()).received["out"]
    wanted = human.align(one.words, minilm.trace(one.text)).sum(received).numpy()[2 * 12 + 5]
    np.testing.assert_allclose(strips["gaze-head-strip"], wanted, rtol=1e-4)
    assert "L2H5 on sentence 1" in words_of(test.markdown)


def test_the_lines_make_the_figures_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = example().replace("made-up A,6,", "made-up A,5b,").replace("made-up B,6,", "made-up B,5b,")
    named = table(long, name='my "own" table.csv')
    test = shown(named)
    test.button(key="gaze-correlate").click().run()
    assert_fine(test)
    code = next(block.value for block in test.code if "human.correlate" in block.value)
    assert all(len(line) <= 100 for line in code.splitlines())
    (tmp_path / named.name).write_text(long, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(attnviz, "load_model", lambda name: stores().models.get(name))
    names: dict[str, Any] = {}
    exec(compile(code.replace("figure.show()", ""), "<lines>", "exec"), names)
    shown_heads = next(one.value for one in test.dataframe if "p partial" in one.value)
    best = shown_heads["name"].iloc[0]
    layer, head = (int(part) for part in best[1:].split("H"))
    assert names["values"][layer, head] == pytest.approx(shown_heads["partial"].iloc[0])


def test_some_sentences_are_spread_over_the_table() -> None:
    names = [str(i) for i in range(50)]
    assert asking.spread(names, 20)[:3] == ["0", "2", "5"]
    assert len(set(asking.spread(names, 20))) == 20
    assert asking.spread(names, 60) == asking.spread(names, 0) == names


def test_columns_are_chosen_in_a_dialog_and_remembered_for_all_tables_alike() -> None:
    strange = example().replace("word_id,word,", "n,shown,").replace("reading_time_ms", "seen")
    second = strange.replace("made-up", "another")
    test = shown(table(strange, None, "a.csv"), table(second, None, "b.csv"))
    assert "Say which column of a.csv holds what" in words_of(test.error)
    test.button(key="gaze-columns-0").click().run()
    test.selectbox(key="gaze-word").set_value("shown")
    test.button(key="gaze-use").click().run()
    assert "each need a column" in words_of(test.error)
    test.button(key="gaze-columns-0").click().run()
    test.multiselect(key="gaze-sentence").set_value(["sentence"])
    for name, column in (("word", "shown"), ("time", "seen"), ("reader", "reader"), ("word_id", None)):
        test.selectbox(key=f"gaze-{name}").set_value(column)
    test.button(key="gaze-use").click().run()
    assert_fine(test)
    assert [one.columns for one in kept(test).tables] == [Columns(("sentence",), "shown", "seen", reader="reader")] * 2
    assert "4 readers, 6 sentences" in words_of(test.markdown)


def test_files_are_taken_with_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def upload(name: str, data: bytes) -> None:
        key = next(one.key for one in test.file_uploader)
        test.file_uploader(key=key).upload(name, data).run()

    one = "sentence,word,TRT\n" + "".join(f"1,word{i},{100 + i}\n" for i in range(9))
    test = shown(table())
    upload("zab.csv", one.encode("utf-16"))
    assert [of.name for of in kept(test).tables] == ["zab.csv"]  # and the example has gone
    upload("zab.csv", one.replace("1,word", "1,wort").encode())
    upload("zab.tsv", one.encode())  # the first again, which is not taken twice
    assert_fine(test)
    assert [of.name for of in kept(test).tables] == ["zab.csv", "zab (2).csv"]
    assert "2 readers, 2 sentences" in words_of(test.markdown)
    assert test.selectbox(key="gaze-by").options == ["zab"]
    upload("none.csv", b"")
    assert "The file is empty" in words_of(test.error)
    monkeypatch.setattr(draft, "most_chars", lambda: 50)
    upload("large.csv", one.replace("1,word", "2,word").encode())
    assert re.search(r"large\.csv has \d+ characters, and at most 50", words_of(test.error))
    assert len(kept(test).tables) == 2


def test_what_is_not_found_is_named_with_its_sentence() -> None:
    rows = "".join(f"long,word{i},200\n" for i in range(1_500)) + "".join(f"short,word{i},{i}\n" for i in range(9))
    test = shown(table("sentence,word,ms\n" + rows, Columns(("sentence",), "word", "ms"), "me.csv"))
    assert "1 sentence cannot be compared: long" in words_of(test.warning)
    assert "Sentence long: The text has" in said(test)
    assert asking.comparable(
        asking.Asked("minilm", stores().models.get("minilm"), kept(test), kept(test).tables[0].readings()), {"long"}
    ) == ["short"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"tables": [{"name": "a.csv", "key": "../../etc"}]},
        {"tables": [{"name": "a.csv", "key": "x" * 20}, {"name": "a.tsv", "key": "y" * 20}]},
        {"beside": "nothing"},
        {"language": "xx"},
        {"number": 7},
        {"at": -1},
    ],
)
def test_a_draft_that_cannot_be_is_said_and_left(wrong: dict[str, object]) -> None:
    test = opened("gaze", model="minilm", gaze=stores().texts.put(json.dumps(wrong)))
    assert_fine(test)
    assert "gaze behind this link cannot be read" in words_of(test.warning)


def test_a_table_that_is_gone_or_wrong_is_said_and_can_be_removed() -> None:
    test = shown(Table(name="gone.csv", key="x" * 20, columns=OWN))
    assert "gone.csv is no longer kept here" in words_of(test.error)
    press(test, "Remove")
    assert_fine(test)
    test = shown(table("sentence,word,ms\n1,a,much\n", Columns(("sentence",), "word", "ms")))
    assert "has to hold a number of ms" in words_of(test.error)


def test_hostile_text_is_only_text(drawn: dict[str, Any]) -> None:
    word = HOSTILE.replace(",", "")
    shown_words = [word, *(f"word{i}" for i in range(8))]
    rows = "".join(f'"{word}","{one}",{i * 100},"{word}"\n' for i, one in enumerate(shown_words))
    test = shown(
        table(
            f'sentence,word,"{word} ms",reader\n{rows}',
            Columns(("sentence",), "word", f"{word} ms", reader="reader"),
            f"{word}.csv",
        )
    )
    assert_fine(test)
    assert drawn["player"][0][0] == word
    assert "<img" not in "".join(str(element.proto.body) for element in test.get("html"))
    test.button(key="gaze-correlate").click().run()
    assert_fine(test)


@pytest.mark.parametrize(
    ("labels", "times", "counted"),
    [([], [], []), (["a"], [1.0, 2.0], [True]), (["a"], [-1.0], [True]), (["a"], [math.inf], [True])],
)
def test_a_player_refuses_what_does_not_fit(labels: list[str], times: list[float], counted: list[bool]) -> None:
    with pytest.raises(ValueError, match=r"rows|durations"):
        player(labels, times, key="k", counted=counted, spaced=counted, palettes=PALETTES, label="A reading")


def test_a_table_has_to_be_a_table() -> None:
    with pytest.raises(InputError, match="CSV or TSV"):
        draft.opened("texts.jsonl", b'{"word": "a"}\n{"word": "b"}\n')
    assert draft.opened("x.csv", b"a,b,c\n1,2,3\n") == ("a,b,c\n1,2,3\n", None)
