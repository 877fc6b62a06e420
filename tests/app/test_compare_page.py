"""The Compare page, run by Streamlit's own test harness: three ways to compare, and what is said where it cannot be."""

import hashlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz import compare
from attnviz.figures.drawing import PAPER
from attnviz.ui.comparison import maps, views
from attnviz.ui.comparison.maps import Axes
from attnviz.ui.session import stores
from pages import assert_fine, opened, params, press, said

FIRST = "When Mary and John went to the store, John gave a drink to"
SWAPPED = "When John and Mary went to the big store, Mary gave a drink to"

page = partial(opened, "compare")


def headings(test: AppTest) -> list[str]:
    return [re.sub(r"[\\*]", "", str(element.value)) for element in test.markdown]


def most(test: AppTest, key: str = "named-both") -> list[str]:
    """The heads that are named under the grid."""
    return list(test.button_group(key=key).options)


def test_without_a_second_text_the_page_says_what_to_do() -> None:
    test = page(with_text=FIRST)
    assert_fine(test)
    assert "Type a second text" in said(test)
    assert headings(test) == []


def test_the_offered_second_text_is_compared() -> None:
    test = page(with_text=FIRST)
    test.button(key="compare-offer").click().run()
    assert_fine(test)
    assert test.text_area(key="compare-second").value.startswith("When John and Mary")
    assert "Second minus first" in headings(test)
    assert "14 tokens correspond, 3 of them changed" in said(test)


def test_two_texts_name_the_heads_that_differ_most(smollm2: attnviz.Model) -> None:
    test = page(with_text=FIRST, with_second=SWAPPED)
    assert_fine(test)
    runs = smollm2.trace(FIRST), smollm2.trace(SWAPPED)
    scores = compare.divergence(*runs)
    layer, head = np.unravel_index(scores.argmax(), scores.shape)
    assert most(test)[0] == f"L{layer}H{head} {scores.max():.3f}"
    assert f"The median over heads is {np.median(scores):.3f}" in said(test)
    alone = compare.head_difference(*runs, attnviz.Head(23, 3)).only_second.mean()
    assert f"{alone:.1%} of the second's attention goes to keys that only it has" in said(test)


def test_a_named_head_is_looked_at_in_both() -> None:
    test = page(with_text=FIRST, with_second=SWAPPED, layer="0", head="0")
    first = most(test)[0]
    test.button_group(key="named-both").select(first).run()
    assert_fine(test)
    layer, head = re.match(r"L(\d+)H(\d+) ", first).groups()  # type: ignore[union-attr]
    assert (params(test)["layer"], params(test)["head"]) == (layer, head)
    assert [f"{which}: attention of L{layer}H{head}" for which in ("First", "Second")] == headings(test)[2:4]


def test_typed_texts_are_compared_and_stay() -> None:
    test = page(with_text=FIRST, with_second=SWAPPED)
    test.text_area(key="compare-second").set_value("When Mary and Bill went to the store")
    press(test, "Compare")
    assert_fine(test)
    assert test.text_area(key="compare-first").value == FIRST
    assert test.text_area(key="compare-second").value == "When Mary and Bill went to the store"
    assert "8 tokens correspond, 1 of them changed" in said(test)
    assert test.run().text_area(key="compare-second").value == "When Mary and Bill went to the store"


def test_a_text_that_cannot_be_read_is_named_and_kept() -> None:
    test = page(with_text=FIRST, with_second=SWAPPED)
    test.text_area(key="compare-second").set_value("bad \x00 text")
    press(test, "Compare")
    assert [exception.message for exception in test.exception] == []
    assert "U\\+0000" in test.error[0].value
    assert test.text_area(key="compare-second").value == "bad \x00 text"
    assert test.text_area(key="compare-first").value == FIRST


def test_texts_with_nothing_in_common_are_refused_in_a_sentence() -> None:
    test = page(with_text="one two three", with_second="four")
    assert [exception.message for exception in test.exception] == []
    assert "nothing can be compared" in test.error[0].value


def test_templates_are_filled_with_one_input() -> None:
    test = page(comparison="templates", with_text="The capital of {input} is", with_second="I love {input} {0} {x}")
    assert_fine(test)
    assert "give an input" in said(test)
    test.text_input(key="compare-input").set_value("{input} France")
    press(test, "Compare")
    assert_fine(test)
    assert test.text_area(key="compare-first").value == "The capital of {input} is"
    kept = [str(key[2:]) for key in stores().traces._kept if key[1] == "trace"]
    for text in ("The capital of {input} France is", "I love {input} France {0} {x}"):
        assert any(attnviz.ui.work.digest(text) in key for key in kept)


def test_a_template_without_a_place_for_the_input_is_said() -> None:
    test = page(comparison="templates", with_text="The capital is", with_second="Of {input} it is")
    assert_fine(test)
    assert "in both templates" in said(test)
    assert headings(test) == []
    test.button(key="compare-offer").click().run()
    assert_fine(test)
    assert "Second minus first" in headings(test)


def test_models_of_two_shapes_find_their_nearest_heads(smollm2: Any, minilm: Any) -> None:
    test = page(comparison="models", with_text=FIRST)
    assert_fine(test)
    assert "Choose a second model" in said(test)
    test.selectbox(key="compare-model").set_value("minilm").run()
    assert_fine(test)
    scores = compare.nearest_heads(smollm2.trace(FIRST), attnviz.Head(23, 3), minilm.trace(FIRST))
    layer, head = np.unravel_index(scores.argmin(), scores.shape)
    assert f"Second: attention of L{layer}H{head}" in headings(test)
    assert most(test, "named-second")[0] == f"L{layer}H{head} {scores.min():.3f}"
    assert "also reads ahead of a query" in said(test)
    other = most(test, "named-second")[2]
    test.button_group(key="named-second").select(other).run()
    assert f"Second: attention of {other.partition(' ')[0]}" in headings(test)
    assert params(test)["layer"] == "23"


def test_a_model_and_itself_do_not_differ() -> None:
    test = page(comparison="models", with_text=FIRST, other_model="smollm2")
    assert_fine(test)
    assert "the largest 0.000" in said(test)


def test_a_second_model_that_cannot_be_opened_is_a_sentence() -> None:
    test = page(comparison="models", with_text=FIRST, other_model="/no/such/folder")
    assert [exception.message for exception in test.exception] == []
    assert len(test.error) == 1
    assert test.text_area(key="compare-first").value == FIRST


def test_an_encoder_decoder_writes_what_it_writes_of_both_texts() -> None:
    test = page(model="dates", with_text="the 3rd of May 1998", with_second="the 4th of May 1998")
    assert_fine(test)
    assert "Keys: what is read." in said(test)
    assert headings(test)[2] == "First: attention of L1H1, cross-attention"


@pytest.mark.parametrize(
    "view",
    [{"unit": "word"}, {"unit": "sentence"}, {"sinks": "renormalise"}, {"sinks": "value-norm"}, {"scale": "log"}],
    ids=str,
)
def test_every_way_of_reading_is_obeyed(view: dict[str, str]) -> None:
    test = page(with_text=f"{FIRST} her. She thanked him.", with_second=f"{SWAPPED} him. She thanked her.", **view)
    assert_fine(test)
    wanted = {
        "word": "By word",
        "sentence": "By sentence",
        "renormalise": "renormalised",
        "value-norm": "value vectors",
        "log": "on one logarithmic scale for both",
    }
    assert wanted[next(iter(view.values()))] in said(test)


def test_a_hostile_token_stays_text() -> None:
    test = page(with_text="a <img src=x> c", with_second="a <script>alert(1)</script> c")
    assert_fine(test)
    bodies = "".join(str(element.proto.body) for element in test.get("html"))
    assert "<script" not in bodies
    assert "<img" not in bodies


def test_the_lines_of_python_make_the_same_figures(smollm2: attnviz.Model) -> None:
    second = f"{SWAPPED} him, as she had promised him on the day before, and \u202ewent\u202c home with both"
    looks = {"scale": "log", "palette": "viridis"}
    test = page(with_text=FIRST, with_second=second, unit="word", sinks="hide", layer="23", head="4", **looks)
    codes = [element.value for element in test.code if "figure" in element.value]
    assert all(len(line) <= 100 for code in codes for line in code.split("\n"))
    figures, patterns = {}, {}
    for code in codes:
        made = drawn_by(code, smollm2)
        if "trace" in made:  # one run's map
            patterns[made["trace"].text] = made["figure"].data[0].customdata
        else:
            figures[made["figure"].layout.title.text.partition(" ")[0]] = made["figure"]
    view, runs = attnviz.View("word", attnviz.Sinks("hide")), (smollm2.trace(FIRST), smollm2.trace(second))
    drawn, grid = figures["L23H4:"].data[0], figures["Jensen-Shannon"].data[0]
    expected = compare.head_difference(*runs, attnviz.Head(23, 4), view=view).weights
    np.testing.assert_allclose(drawn.customdata, expected, atol=2e-5)
    assert drawn.zmax > 1  # in powers of ten
    np.testing.assert_allclose(grid.z, compare.divergence(*runs, view=view), atol=2e-5)
    assert list(patterns) == [FIRST, second]
    for run in runs:
        seen = view.pattern(run, attnviz.Head(23, 4)).shown()
        np.testing.assert_allclose(patterns[run.text], seen, atol=2e-5)
    known = attnviz.figures.head_grid(np.zeros((1, 1)), runs[1].info, "", palette="viridis")
    assert grid.colorscale == known.data[0].colorscale
    for figure in figures.values():
        assert "By word" in figure.layout.title.subtitle.text
        assert "are hidden" in figure.layout.title.subtitle.text
    assert "Second: Sinks (first token: 1 key) are hidden; " in figures["L23H4:"].layout.title.subtitle.text


def drawn_by(code: str, *models: attnviz.Model) -> dict[str, Any]:
    """What lines of Python leave behind; the models are these: smollm2, and where there is a second minilm."""
    made: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attnviz, "load_model", {"smollm2": models[0], "minilm": models[-1]}.__getitem__)
        patch.setattr(go.Figure, "show", lambda figure: None)
        exec(compile(code, "lines", "exec"), made)
    return made


def test_of_two_shapes_both_grids_and_a_part_of_a_map_are_made_again(smollm2: Any, minilm: Any) -> None:
    test = page(
        comparison="models", with_text=FIRST, other_model="minilm", window="2-9-1-7", other_layer="1", other_head="2"
    )
    assert_fine(test)
    made = [drawn_by(element.value, smollm2, minilm) for element in test.code if "figure" in element.value]
    runs, heads = (smollm2.trace(FIRST), minilm.trace(FIRST)), (attnviz.Head(23, 3), attnviz.Head(1, 2))
    grids = {one["second"].info.name: one["figure"] for one in made if "scores" in one}
    ours, theirs = compare.nearest_heads(runs[1], heads[1], runs[0]), compare.nearest_heads(runs[0], heads[0], runs[1])
    np.testing.assert_allclose(grids[smollm2.info.name].data[0].z, ours, atol=2e-5)
    np.testing.assert_allclose(grids[minilm.info.name].data[0].z, theirs, atol=2e-5)
    assert "L1H2 of the first" in grids[smollm2.info.name].layout.title.text
    first, second = (one["figure"].data[0].customdata for one in made if "trace" in one)
    np.testing.assert_allclose(first, runs[0].pattern(23, 3)[2:9, 1:7], atol=2e-5)
    # The words of the second stand one further on, after its [CLS].
    np.testing.assert_allclose(second, runs[1].pattern(1, 2)[3:10, 2:8], atol=2e-5)


def test_files_tell_of_both_runs_and_are_made_without_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def keep(name: str, figure: Callable[[], Any], *_: Any, about: dict[str, Any], **more: Any) -> None:
        given[name] = figure, about

    for module in (maps, views):
        monkeypatch.setattr(module, "export_bar", keep)
        monkeypatch.setattr(module, "theme", lambda: "dark")
    assert_fine(page(comparison="models", with_text=FIRST, other_model="minilm", unit="word", scale="log"))
    with ThreadPoolExecutor(1) as pool:
        made = {name: pool.submit(figure).result() for name, (figure, _) in given.items()}
    assert {figure.layout.paper_bgcolor for figure in made.values()} == {PAPER["dark"]}
    assert len(made) == 5  # the difference, each run's map, each model's grid
    assert made["difference"].data[0].zmax > 1  # logarithmic
    for about in (given["difference"][1], given["divergence"][1]):
        assert about["model"] != about["second_model"]
        assert (about["head"], about["unit"]) == ("L23H3", "word")
        assert about["text_sha256"] == about["second_text_sha256"] == hashlib.sha256(FIRST.encode()).hexdigest()
        assert "second_unit" not in about
    assert re.fullmatch(r"L\d+H\d+", given["difference"][1]["second_head"])
    assert "second_head" not in given["divergence"][1]  # of every head of the second


def test_parts_of_one_map_are_the_same_parts_of_the_others() -> None:
    # The second run has something more at 1 and 4; the first has 2, which the second has not.
    second = Axes(list("abcde"), list("abcde"), [0, None, 1, 3, None], [0, None, 1, 3, None])
    assert second.from_first((1, 4, 0, 2)) == (2, 4, 0, 3)
    assert second.to_first((2, 4, 0, 3)) == (1, 4, 0, 2)
    assert second.from_first((2, 3, 0, 4)) is None
    assert second.to_first((1, 2, 0, 3)) is None
    assert second.from_first(None) is second.to_first(None) is None
    assert (second.selected(1, 3), second.selected(2, 0)) == ((2, 3), None)
