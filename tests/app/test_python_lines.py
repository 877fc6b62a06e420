"""The lines to copy are run, and make the picture that the page shows."""

import re
from dataclasses import replace
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

import attnviz
from attnviz import Head, Sinks, Trace, View, heads
from attnviz.lines import strongest_edges
from attnviz.overview import overview
from attnviz.products import query_key
from attnviz.ui import bertviz, python_lines
from attnviz.ui.focus import Focus, fitted
from attnviz.ui.selection import SAVED, SCORES, Selection

IOI = "When Mary and John went to the store, John gave a drink to"
HOSTILE = (
    '</script><img src=x onerror="window.__pwned=1"> \'"""\\ {x} $HOME\n'
    "\u202eevil\u202c \u2066a\u2069 é👩\u200d👩\u200d👧 \ufeff\u2028 end. "
    "A second sentence, so that the literal needs several lines; and a third one. 你好，世界。"
)


@pytest.fixture(scope="module", autouse=True)
def _no_browser() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(go.Figure, "show", lambda figure: None)
        yield


@pytest.fixture(scope="module")
def models(smollm2: attnviz.Model, minilm: attnviz.Model) -> Any:
    """The models by name, opened once: the lines themselves say attnviz.load_model(name)."""
    opened = {"smollm2": smollm2, "minilm": minilm, "dates": attnviz.load_model("dates")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attnviz, "load_model", opened.__getitem__)
        yield opened


def run(lines: str) -> dict[str, Any]:
    """What the lines leave behind, run as a file of their own."""
    assert all(len(line) <= 100 for line in lines.split("\n")), lines
    assert all(c.isprintable() or c == "\n" for c in lines)
    names: dict[str, Any] = {}
    code: CodeType = compile(lines, "copied.py", "exec")
    exec(code, names)
    return names


def looked_at(opened: attnviz.Model, text: str, target: str = "", **choices: Any) -> tuple[Selection, Focus, Trace]:
    """A selection, what it comes to, and the page's own trace."""
    chosen = Selection(**choices)
    trace = opened.trace(text, target or None, chat_template=chosen.chat, compact=True)
    return chosen, fitted(chosen, trace)[0], trace


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"unit": "word", "sinks": "hide"},
        {"unit": "sentence", "sinks": "value-norm", "kinds": ("special",)},
        {"sinks": "renormalise", "kinds": ("first", "special", "punctuation"), "sunk": (3, 4)},
        {"sinks": "hide", "kinds": (), "sunk": (5,)},
        {"layer": 2, "head": 8, "window": (2, 9, 0, 5), "palette": "viridis"},
        {"chat": True, "unit": "word"},
    ],
    ids=str,
)
@pytest.mark.parametrize("text", [IOI, HOSTILE], ids=["plain", "hostile"])
def test_the_lines_make_the_map_of_the_page(models: Any, text: str, choices: dict[str, Any]) -> None:
    chosen, focus, trace = looked_at(models["smollm2"], text, scale="linear", **choices)
    made = run(python_lines.map_lines(chosen, focus, text))
    assert made["trace"].text == trace.text
    row, below, col, right = focus.window or (0, None, 0, None)
    seen = focus.view.pattern(trace, focus.head).shown()[row:below, col:right]
    np.testing.assert_allclose(made["figure"].data[0].z, seen, atol=2e-6)


def test_the_map_has_the_colours_of_the_page(models: Any) -> None:
    chosen, focus, trace = looked_at(models["minilm"], IOI, model="minilm", scale="log", palette="cividis")
    made = run(python_lines.map_lines(chosen, focus, IOI))["figure"].data[0]
    expected = attnviz.figures.attention_map(trace, focus.head, scale="log", palette="cividis").data[0]
    np.testing.assert_allclose(made.z, expected.z, atol=1e-4)
    assert made.colorscale == expected.colorscale


@pytest.mark.parametrize("target", ["", "2024-02-29"])
@pytest.mark.parametrize("site", ["encoder", "decoder", "cross"])
def test_the_lines_read_the_site_of_an_encoder_decoder(models: Any, site: str, target: str) -> None:
    text = "February 29, 2024"
    chosen, focus, trace = looked_at(models["dates"], text, target, model="dates", site=site, layer=1, head=1)
    seen = focus.view.pattern(trace, focus.head).shown()
    made = run(python_lines.map_lines(chosen, focus, text, target))
    np.testing.assert_allclose(np.square(made["figure"].data[0].z), seen, atol=2e-6)
    row = run(python_lines.row_lines(chosen, focus, text, target))["figure"].data[0].y
    np.testing.assert_allclose(row, seen[focus.query], atol=2e-6)


@pytest.mark.parametrize("unit", ["token", "word", "sentence"])
def test_the_lines_make_the_row_of_the_page(models: Any, unit: str) -> None:
    chosen, focus, trace = looked_at(models["smollm2"], IOI, unit=unit, sinks="hide", query=9)
    seen = focus.view.row(trace, focus.head, 9).shown()[0]
    made = run(python_lines.row_lines(chosen, focus, IOI))
    np.testing.assert_allclose(made["figure"].data[0].y, seen, atol=2e-6)


@pytest.mark.parametrize("score", SCORES)
def test_the_lines_score_the_heads_as_the_page_does(models: Any, score: str) -> None:
    chosen, focus, trace = looked_at(
        models["minilm"], IOI, model="minilm", score=score, sinks="hide", queries=(3, 4), keys=(5, 6, 7, 8, 9)
    )
    made = run(python_lines.grid_lines(chosen, focus, IOI))
    if score == "between":
        expected = heads.attention_between(trace, focus.queries, focus.keys, view=focus.view)
    else:
        expected = heads.scores(trace, [score], view=focus.view)[score]
    np.testing.assert_allclose(made["figure"].data[0].z, expected, atol=2e-5)
    assert made["figure"].data[0].zmax == pytest.approx(float(np.nanmax(expected)), abs=2e-5)


def test_the_lines_make_the_gallery(models: Any) -> None:
    chosen, focus, trace = looked_at(
        models["dates"], "1 May 2020", model="dates", site="cross", sinks="hide", kinds=("special",)
    )
    made = run(python_lines.gallery_lines(chosen, focus, "1 May 2020"))
    expected = overview(trace, site="cross", view=focus.view)
    np.testing.assert_allclose(made["overview"].thumbnails.astype(int), expected.thumbnails.astype(int), atol=1)
    assert "cross-attention" in made["figure"].layout.title.text


@pytest.mark.parametrize("one", [False, True])
def test_the_lines_draw_the_edges_of_the_page(models: Any, one: bool) -> None:
    chosen, focus, trace = looked_at(
        models["smollm2"], IOI, heads=((23, 3), (5, 1)), share=0.4, unit="word", sinks="hide"
    )
    made = run(python_lines.lines_lines(chosen, focus, IOI, one=one))["edges"]
    query = focus.query if one else None
    expected = strongest_edges(trace, focus.heads, query=query, share=0.4, view=focus.view)
    assert made.heads == focus.heads
    np.testing.assert_array_equal(np.stack([made.head, made.query, made.key]), _places(expected))
    np.testing.assert_allclose(made.weight, expected.weight, atol=2e-6)


def _places(edges: Any) -> Any:
    return np.stack([edges.head, edges.query, edges.key])


@pytest.mark.parametrize("how", [{}, {"seed": 7, "warmth": 0.8, "length": 5, "chat": True}], ids=str)
def test_the_lines_write_the_same_text(models: Any, how: dict[str, Any]) -> None:
    chosen = Selection(**{"length": 4, **how})
    trace = models["smollm2"].generate(
        IOI,
        max_new_tokens=chosen.length,
        seed=chosen.seed,
        temperature=chosen.warmth,
        chat_template=chosen.chat,
    )
    focus = replace(fitted(chosen, trace)[0], view=View("word", Sinks("hide")))
    made = run(python_lines.movement_lines(chosen, focus, IOI))
    assert made["trace"].text == trace.text
    expected = attnviz.figures.movement_map(trace, focus.head, view=focus.view)
    np.testing.assert_allclose(made["figure"].data[0].z, expected.data[0].z, atol=1e-3)


@pytest.mark.parametrize("sinks", ["show", "hide"])
def test_the_lines_score_every_head_at_a_step(models: Any, sinks: str) -> None:
    chosen = Selection(model="dates", site="cross", sinks=sinks, kinds=("special",), length=4)
    trace = models["dates"].generate("the 3rd of May 1998", max_new_tokens=4)
    focus = replace(fitted(chosen, trace)[0], queries=(2,), keys=(11, 12))
    made = run(python_lines.step_lines(chosen, focus, "the 3rd of May 1998"))
    expected = heads.attention_between(trace, (2,), (11, 12), site="cross", view=focus.view)
    np.testing.assert_allclose(made["figure"].data[0].z, expected, atol=2e-6)


@pytest.mark.parametrize("kind", ["head", "model", "neuron"])
@pytest.mark.parametrize(
    ("model", "text"),
    [("minilm", IOI), ("minilm", HOSTILE), ("dates", "1 May 2020")],
    ids=["plain", "hostile", "cross"],
)
def test_the_lines_write_the_page_of_bertviz(
    models: Any, model: str, text: str, kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, focus, trace = looked_at(models[model], text, model=model, layer=1, head=1)
    wanted = bertviz.Wanted(kind, (0, 1), None if kind == "neuron" else (1, 2), 1, focus.head.site)
    lines = python_lines.bertviz_lines(chosen, focus, text, kind=kind, layers=wanted.layers, heads=wanted.heads)
    monkeypatch.chdir(tmp_path)
    run(lines)
    pages = Path(f"bertviz-{kind}-view.html").read_text("utf-8"), wanted.make(trace, "light").html
    # BertViz numbers its pages at random.
    assert len({re.sub("bertviz-[0-9a-f]{32}", "bertviz-", page) for page in pages}) == 1


@pytest.mark.parametrize("keys", [None, (0, 3, 13)])
def test_the_lines_make_the_products_of_the_page(models: Any, keys: tuple[int, ...] | None) -> None:
    chosen, focus, trace = looked_at(models["smollm2"], IOI, layer=23, head=3, query=9)
    made = run(python_lines.products_lines(chosen, focus, IOI, keys=keys))
    shown = list(range(10)) if keys is None else list(keys)
    expected = query_key(trace, focus.head, 9).products[shown]
    np.testing.assert_allclose(made["figure"].data[0].z, expected, atol=1e-4)


def test_a_saved_trace_is_opened_again(models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, focus, trace = looked_at(models["minilm"], IOI, model=SAVED)
    trace.save(tmp_path / "trace.safetensors")
    monkeypatch.chdir(tmp_path)
    made = run(python_lines.map_lines(chosen, focus, IOI))
    np.testing.assert_array_equal(made["figure"].data[0].customdata, focus.view.pattern(trace, focus.head).shown())


def test_a_second_text_is_no_target_of_a_model_without_a_decoder_of_its_own(models: Any) -> None:
    chosen, focus, _ = looked_at(models["minilm"], IOI, model="minilm")
    assert python_lines.map_lines(chosen, focus, IOI, "to compare") == python_lines.map_lines(chosen, focus, IOI)


def test_what_is_by_default_is_left_out(models: Any) -> None:
    chosen, focus, _ = looked_at(models["smollm2"], IOI, kinds=("special",), sunk=(3,), warmth=2.0)
    assert python_lines.map_lines(chosen, focus, IOI) == (
        "import attnviz\n"
        "\n"
        'model = attnviz.load_model("smollm2")\n'
        f'trace = model.trace("{IOI}")\n'
        "figure = attnviz.figures.attention_map(trace, attnviz.Head(23, 3))\n"
        "figure.show()\n"
    )
    assert 'model.generate("Hello")' in python_lines.movement_lines(chosen, focus, "Hello")
    assert "strongest_edges(trace, [attnviz.Head(23, 3)])" in python_lines.lines_lines(chosen, focus, "Hello")


def test_many_chosen_positions_and_long_names_stay_within_the_line() -> None:
    head = Head(0, 0)
    many = tuple(range(0, 600, 2))
    focus = Focus(head, 0, 0, many, tuple(range(5, 105)), (head,), View("word", Sinks("hide", tokens=many)))
    lines = python_lines.grid_lines(Selection(model="folder/" + "very long " * 25), focus, "text " * 100)
    assert all(len(line) <= 100 for line in lines.split("\n"))
    assert "range(5, 105)" in lines
    assert compile(lines, "copied.py", "exec")
