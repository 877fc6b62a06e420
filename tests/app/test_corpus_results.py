"""What the Corpus page shows of measured texts: heads, outliers, comparisons, tables, and lines of Python that run."""

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import streamlit as st
import torch
from corpus_pages import HOSTILE, MOODS, page, said, turn_to

import attnviz
from attnviz import corpus
from attnviz.corpus import Choice, Item, Shelf, Summary
from attnviz.edits import Head
from attnviz.figures.corpus import text_dots
from attnviz.ui.corpus.tables import head_values, over_texts
from attnviz.ui.corpus.texts import as_jsonl
from attnviz.ui.session import stores, text_of
from pages import assert_fine, params

pytestmark = pytest.mark.usefixtures("shelf")


def run_lines(code: str, folder: Path, *models: attnviz.Model) -> dict[str, Any]:
    """What lines of Python leave behind, run where the files are that the page gives."""
    made: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(attnviz, "load_model", lambda name: models[0 if name == "minilm" else -1])
        patch.setattr(go.Figure, "show", lambda figure: None)
        exec(compile(code, "lines", "exec"), made)
    (folder / "corpora.sqlite").unlink()
    return made


def test_a_head_is_shown_with_its_interval_and_chance_level(shelf: Shelf, moods: tuple[str, str]) -> None:
    test = page(corpus=moods[0], layer="3", head="5", detector="punctuation", sink_in="1")
    assert_fine(test)
    found = Summary.of(shelf.results(*moods), Choice("punctuation", "with sink"))
    at = (0, 0, 3, 5)
    for value in (found.mean[at], found.chance[at[:3]]):
        assert f"**{value:.3f}**" in said(test)
    assert f"**{found.low[at]:.3f} to {found.high[at]:.3f}**" in said(test)
    assert "Attention is not effect" in said(test)


def test_a_label_is_looked_at_alone(shelf: Shelf, moods: tuple[str, str]) -> None:
    label = list(shelf.labels(moods[0])).index("calm")
    test = page(corpus=moods[0], labelled=str(label), layer="3", head="5")
    assert_fine(test)
    of = (r for r in shelf.results(*moods) if r.label == "calm")
    mean = Summary.of(of, Choice("previous", "without sink")).mean[0, 0, 3, 5]
    assert "mean over 18 texts" in said(test)
    assert f"**{mean:.3f}**" in said(test)
    test.selectbox(key="corpus-label").set_value(None).run()
    assert "mean over 36 texts" in said(test)


def test_an_outlier_is_opened_with_its_head(
    shelf: Shelf, moods: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def far(layer: int, head: int) -> pd.DataFrame:
        return corpus.outliers(shelf.results(*moods), Head(layer, head), Choice("previous", "without sink"), most=6)

    layer, head = next(at for at in np.ndindex(6, 12) if len(far(*at)))
    opened: list[str] = []
    monkeypatch.setattr(st, "switch_page", opened.append)
    test = page(corpus=moods[0], layer=str(layer), head=str(head))
    assert_fine(test)
    wanted = far(layer, head)
    buttons = [button.key for button in test.button if button.label == "Open in Explore"]
    assert buttons == [f"corpus-open-{number}" for number in wanted["number"]]
    test.button(key=buttons[0]).click().run()
    assert opened == ["pages/explore.py"]
    assert text_of(params(test)["text"]) == MOODS[wanted["number"][0]].text
    assert (params(test)["layer"], params(test)["head"]) == (str(layer), str(head))


def test_two_labels_are_compared(shelf: Shelf, moods: tuple[str, str]) -> None:
    test = page(corpus=moods[0], detector="punctuation")
    turn_to(test, "corpus-against", "labels")
    assert_fine(test)
    first, second = shelf.labels(moods[0])
    sides = ([r for r in shelf.results(*moods) if r.label == label] for label in (first, second))
    found = corpus.compare(*sides, Choice("punctuation", "without sink"))
    tested = int(np.isfinite(found.p).sum())
    n = int(found.changed().sum())
    assert f"**{n or 'None'} of {tested} heads differ between {first} and {second}**" in said(test)
    assert f"without sink: {first} minus {second}**" in said(test)
    assert f"{tested} heads were looked at" in said(test)


def test_each_label_has_its_own_mean_in_its_strip_in_the_order_of_the_labels(
    shelf: Shelf, moods: tuple[str, str], minilm: attnviz.Model
) -> None:
    choice, head = Choice("punctuation", "without sink"), Head(3, 5)
    values = head_values(shelf.results(*moods), head, choice)
    figure = text_dots(values, Summary.of(shelf.results(*moods), choice), head, minilm.info, "Moods")
    short = [shape.x0 for shape in figure.layout.shapes if shape.yref != "y domain"]
    wanted = [values.loc[values["label"] == label, "value"].mean() for label in shelf.labels(moods[0])]
    assert short == pytest.approx(wanted)
    assert "Long line: the mean of all texts" in figure.layout.title.subtitle.text + str(figure.layout.annotations)


def test_why_fewer_texts_count_than_were_read_is_said(shelf: Shelf, minilm: attnviz.Model) -> None:
    texts = [*(Item(f"The dog sat, and {word} ran.") for word in ("Al", "Bo", "Cy")), Item("no mark")]
    key = shelf.add(texts, "Marks")
    corpus.run(minilm, shelf, key)
    test = page(corpus=key, detector="punctuation")
    assert_fine(test)
    assert "A text counts only where punctuation has a row in it" in said(test)
    assert "3 of 4 texts count" in said(test)
    assert "texts count." not in said(page(corpus=key, detector="entropy"))


def test_the_same_texts_differ_in_no_head_and_that_is_said(shelf: Shelf, minilm: attnviz.Model) -> None:
    keys = [shelf.add(MOODS, name) for name in ("One", "Other")]
    for key in keys:
        corpus.run(minilm, shelf, key)
    test = page(corpus=keys[0], other_corpus=keys[1])
    assert_fine(test)
    assert "**None of 72 heads differ between Other" in said(test)
    assert "that is a result" in said(test)


def test_models_of_two_shapes_are_refused_and_one_with_itself_is_not_compared(moods: Any) -> None:
    test = page(corpus=moods[0], other_model="minilm")
    turn_to(test, "corpus-against", "model")
    assert_fine(test)
    assert "Choose a model of the same architecture" in said(test)
    test = page(corpus=moods[0], other_model="smollm2")
    turn_to(test, "corpus-against", "model")
    assert [exception.message for exception in test.exception] == []
    assert "as many layers and heads" in test.error[0].value


def test_the_lines_of_python_measure_the_same_texts_and_make_the_same_figures(
    shelf: Shelf, moods: tuple[str, str], minilm: attnviz.Model, tmp_path: Path
) -> None:
    (tmp_path / "texts.jsonl").write_bytes(as_jsonl(moods[0]))
    assert json.loads(as_jsonl(moods[0]).split(b"\n")[1])["label"] == HOSTILE
    test = page(corpus=moods[0], layer="3", head="5", detector="punctuation", palette="viridis")
    means, dots = (run_lines(code.value, tmp_path, minilm) for code in test.code if "figure" in code.value)
    choice = Choice("punctuation", "without sink")
    found = Summary.of(shelf.results(*moods), choice)
    np.testing.assert_allclose(means["figure"].data[0].z, found.mean[0, 0], atol=1e-5)
    assert f"Moods {html.escape(HOSTILE, quote=False)}: 36 texts" in means["figure"].layout.title.subtitle.text
    ours = head_values(shelf.results(*moods), Head(3, 5), choice)
    drawn = {int(n): x for dot in dots["figure"].data for n, x in zip(dot.customdata, dot.x, strict=True)}
    assert drawn == pytest.approx(dict(zip(ours["number"], ours["value"], strict=True)), abs=1e-5)
    turn_to(test, "corpus-against", "labels")
    code = next(code.value for code in test.code if "change_grid" in code.value)
    changes = run_lines(code, tmp_path, minilm)
    first, second = shelf.labels(moods[0])
    sides = ([r for r in shelf.results(*moods) if r.label == label] for label in (first, second))
    wanted = corpus.compare(*list(sides)[::-1], choice)  # the first label minus the second
    np.testing.assert_allclose(changes["found"].difference, wanted.difference, atol=1e-5)
    assert len(changes["figure"].data[1].x) == wanted.changed().sum()


def test_lines_of_two_corpora_and_of_two_models_run(
    shelf: Shelf, moods: tuple[str, str], minilm: attnviz.Model, tmp_path: Path
) -> None:
    other = shelf.add([Item(text.upper(), "", "") for text, *_ in MOODS], "Loud")
    wanted = corpus.run(minilm, shelf, other)
    (tmp_path / "texts.jsonl").write_bytes(as_jsonl(moods[0]))
    (tmp_path / "other-texts.jsonl").write_bytes(as_jsonl(other))
    test = page(corpus=moods[0], other_corpus=other)
    code = next(code.value for code in test.code if "change_grid" in code.value)
    made = run_lines(code, tmp_path, minilm)
    results = shelf.results(*moods), shelf.results(other, wanted.run)
    expected = corpus.compare(*results, Choice("previous", "without sink"))
    np.testing.assert_allclose(made["found"].q, expected.q, atol=1e-4)


def test_the_table_text_by_text_is_of_every_head(shelf: Shelf, moods: tuple[str, str]) -> None:
    choice = Choice("previous", "with sink")
    table = over_texts(shelf.results(*moods), choice)
    assert len(table) == 36 * 72
    mean = table.groupby(["layer", "head"])["value"].mean().to_numpy().reshape(6, 12)
    np.testing.assert_allclose(mean, Summary.of(shelf.results(*moods), choice).mean[0, 0], atol=1e-5)
    assert set(table["label"]) == {"calm", HOSTILE}


def test_a_checkpoint_and_its_changed_self_are_compared_text_by_text(
    shelf: Shelf, moods: tuple[str, str], minilm: attnviz.Model, tmp_path: Path
) -> None:
    tuned = attnviz.load_model("minilm", device="cpu", dtype="float32")
    with torch.no_grad():  # layer 5's third head: nothing comes after it that could change, too
        tuned.hf_model.get_submodule("encoder.layer.5.attention.self.query").weight[64:96] = 0
    stores().models.put("tuned", tuned)
    corpus.run(tuned, shelf, moods[0])
    test = page(corpus=moods[0], other_model="tuned", detector="entropy")
    turn_to(test, "corpus-against", "model")
    assert_fine(test)
    assert "**1 of 72 heads changed**" in said(test)
    table = next(frame.value for frame in test.dataframe if "q" in frame.value)
    assert list(table["head"]) == ["L5H2"]
    assert table["from"].item() <= table["difference"].item() <= table["to"].item()
    assert "the same texts in both" in said(test)
    (tmp_path / "texts.jsonl").write_bytes(as_jsonl(moods[0]))
    code = next(code.value for code in test.code if "change_grid" in code.value)
    made = run_lines(code, tmp_path, minilm, tuned)
    assert [tuple(at) for at in np.argwhere(made["found"].changed()[0, 0])] == [(5, 2)]
    assert len(made["figure"].data[1].x) == 1
