"""The map and the strip by themselves, on a page of numpy's numbers: what is read, zoomed, boxed, marked and saved."""

import base64
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from conftest import NewTab
from harness_data import DIVERGING, HOSTILE_LABELS, SIDE, case_of, pattern
from playwright.sync_api import Page, expect
from tabs import Harness

from attnviz.figures.palette import SEQUENTIAL

SVG = "{http://www.w3.org/2000/svg}"


class Components(Harness):
    """The harness page with a map and a strip, in one tab."""

    def __init__(self, page: Page, url: str) -> None:
        super().__init__(page, url)
        self.map, self.strip = self.part("matrix"), self.part("token-strip")
        self.readout = self.map.locator(".readout")

    def at(self, row: int, col: int) -> tuple[float, float]:
        place = self.map.evaluate("(root, [row, col]) => root.cellCenter(row, col)", [row, col])
        return place["x"], place["y"]

    def read(self, row: int, col: int, begins: str) -> str:
        """Point at a cell; the line that reads it out, once it begins with these words."""
        self.page.mouse.move(*self.at(row, col))
        expect(self.readout).to_have_text(re.compile(f"^{begins}"))
        return self.readout.inner_text()

    def value(self, row: int, col: int) -> float:
        return float(self.read(row, col, rf"quer\w+ {row}\b.* · keys? {col}\b").rsplit(" ", 1)[1])

    def drag(self, *cells: tuple[int, int]) -> None:
        self.page.mouse.move(*self.at(*cells[0]))
        self.page.mouse.down()
        for cell in cells[1:]:
            self.page.mouse.move(*self.at(*cell), steps=4)
        self.page.mouse.up()

    def press(self, name: str) -> None:
        self.map.get_by_role("button", name=name).click()


NewComponents = Callable[..., Components]


@pytest.fixture
def show(tab: NewTab, harness_url: str) -> NewComponents:
    """show(case, **context options): a tab with the harness page of this case."""

    def make(case: str, **options: Any) -> Components:
        return Components(tab(harness_url, **options), harness_url).open(case=case)

    return make


def shown_digits(value: float) -> float:
    """The most that a readout of four decimals, or three digits, may be off by."""
    return 5.1e-5 if value >= 1e-3 else 1e-6


def block_max(values: np.ndarray, rows: range, cols: range) -> float:
    """The reference: every cell of the block, one by one."""
    return max(float(values[row, col]) for row in rows for col in cols)


# 1. Values and zoom.


def test_values_read_off_are_numpys_whole_and_zoomed(show: NewComponents) -> None:
    harness, values = show("small"), pattern(24)
    for row, col in [(0, 0), (10, 6), (23, 23), (9, 20)]:
        assert harness.value(row, col) == pytest.approx(values[row, col], abs=shown_digits(values[row, col]))
    harness.page.mouse.move(*harness.at(20, 4))
    harness.page.mouse.dblclick(*harness.at(20, 4))
    harness.wait_said("window", [10, 22, 2, 14])  # what was pointed at stays under the pointer
    for row, col in [(10, 2), (16, 6), (21, 13), (20, 4)]:
        assert harness.value(row, col) == pytest.approx(values[row, col], abs=shown_digits(values[row, col]))
    harness.press("Show the whole map")
    harness.wait_said("window", None)
    assert harness.value(0, 0) == pytest.approx(1)


def test_pooled_values_are_the_largest_of_their_block_and_said_to_be(show: NewComponents) -> None:
    harness, values = show("pooled"), pattern(200)
    line = harness.read(41, 22, "queries 40–43 ")
    assert re.search(r'^queries 40–43 "w40"…"w43" · keys 20–23 "w20"…"w23" · largest attention ', line)
    wanted = block_max(values, range(40, 44), range(20, 24))
    assert float(line.rsplit(" ", 1)[1]) == pytest.approx(wanted, abs=shown_digits(wanted))
    expect(harness.map.locator(".note")).to_have_text(re.compile("largest of 4 × 4 values; zoom in"))
    # A click on a block picks nothing: it goes in there, and the script sends what is then exact.
    harness.page.mouse.move(*harness.at(100, 60))
    harness.click()
    expect(harness.said_line).to_have_text(re.compile(r'"window", \['))
    harness.settled()
    name, window = harness.said()[-1]
    assert name == "window"
    row0, row1, col0, col1 = window  # type: ignore[misc]
    assert (row1 - row0, col1 - col0) == (50, 50)
    assert row0 <= 100 < row1
    assert col0 <= 60 < col1
    expect(harness.map.locator(".note")).to_be_hidden()
    assert harness.value(100, 60) == pytest.approx(values[100, 60], abs=shown_digits(values[100, 60]))
    harness.click()
    harness.wait_said("pick", [100, 60])


def test_a_signed_map_pools_to_the_value_furthest_from_zero(show: NewComponents) -> None:
    harness = show("signed-pooled")
    values = pattern(64) - pattern(64).T
    line = harness.read(1, 9, "queries 0–3 ")
    block = values[0:4, 8:12]
    furthest = float(block.flat[np.abs(block).argmax()])
    assert furthest < 0
    assert "attention furthest from zero" in line
    assert float(line.rsplit(" ", 1)[1]) == pytest.approx(furthest, abs=5.1e-5)


def test_wheel_keys_and_drags_zoom_and_pan_within_bounds(show: NewComponents) -> None:
    harness = show("small")
    harness.page.mouse.move(*harness.at(12, 12))
    harness.page.mouse.wheel(0, -300)  # without a key the page scrolls
    assert harness.map.evaluate("root => root.cellCenter(1, 0).y - root.cellCenter(0, 0).y") < 40
    harness.page.mouse.move(*harness.at(23, 23))
    harness.page.keyboard.down("Control")
    for _ in range(8):
        harness.page.mouse.wheel(0, -300)
    harness.page.keyboard.up("Control")
    harness.wait_said("window", [16, 24, 16, 24])  # never under 8 x 8, and what was pointed at stays in
    expect(harness.map.get_by_role("button", name="Zoom in")).to_be_disabled()
    harness.map.locator(".stage").focus()
    harness.page.keyboard.press("Shift+ArrowUp")
    harness.wait_said("window", [14, 22, 16, 24])
    harness.page.keyboard.down("Shift")
    harness.drag((18, 20), (18, 23))
    harness.page.keyboard.up("Shift")
    harness.wait_said("window", [14, 22, 13, 21])
    harness.page.keyboard.press("0")
    harness.wait_said("window", None)
    harness.page.keyboard.press("+")
    harness.wait_said("window", [0, 12, 0, 12])
    assert "box" not in [name for name, _ in harness.said()]


def test_a_reload_of_the_script_keeps_the_window_that_python_gives(show: NewComponents) -> None:
    harness = show("small")
    harness.press("Zoom in")
    name, window = "window", [0, 12, 0, 12]
    harness.wait_said(name, window)
    harness.strip.locator('.chip[data-index="5"]').click()
    harness.wait_said("pick", 5)
    assert harness.value(11, 11) == pytest.approx(pattern(24)[11, 11], abs=1e-4)
    assert harness.map.evaluate("root => root.cellCenter(12, 0).y") > harness.map.evaluate(
        "root => root.querySelector('canvas').getBoundingClientRect().bottom - 12"
    )


def test_the_largest_map_is_read_in_blocks_and_cell_by_cell(show: NewComponents) -> None:
    harness, values = show("huge"), pattern(SIDE)
    harness.map.locator("canvas").wait_for()
    wanted = block_max(values, range(2048, 2056), range(1024, 1032))
    line = harness.read(2050, 1030, "queries 2048–2055 ")
    assert float(line.rsplit(" ", 1)[1]) == pytest.approx(wanted, abs=shown_digits(wanted))
    for times in (1, 2):
        harness.page.mouse.move(*harness.at(2050, 1030))
        harness.click()
        expect(harness.said_line).to_have_text(re.compile(f'("window".*){{{times}}}'))
        harness.settled()
    expect(harness.map.locator(".note")).to_be_hidden()
    assert harness.value(2050, 1030) == pytest.approx(values[2050, 1030], abs=shown_digits(values[2050, 1030]))


# 2. The box.


def test_a_box_adds_up_its_cells(show: NewComponents) -> None:
    harness, values = show("small"), pattern(24)
    harness.drag((18, 3), (20, 7))
    harness.wait_said("box", [18, 21, 3, 8])
    wanted = np.mean([sum(float(values[row, col]) for col in range(3, 8)) for row in range(18, 21)])
    line = harness.map.locator(".boxline")
    expect(line).to_contain_text(
        f"queries 18–20 × keys 3–7: {wanted:.4f} (sum over keys, mean over queries)", use_inner_text=True
    )
    harness.press("Remove the box")
    harness.wait_said("box", None)
    expect(line).to_contain_text("Drag over cells")
    harness.drag((20, 7), (20, 3))
    harness.wait_said("box", [20, 21, 3, 8])
    expect(line).to_contain_text(f"query 20 × keys 3–7: {sum(values[20, 3:8]):.4f} (sum over keys)")
    harness.map.locator(".stage").focus()
    harness.page.keyboard.press("Escape")
    harness.wait_said("box", None)
    assert "pick" not in [name for name, _ in harness.said()]


def test_blocks_mark_all_their_tokens_and_a_box_of_them_is_not_made_up(show: NewComponents) -> None:
    harness = show("pooled")
    harness.read(12, 5, "queries 12–15 ")
    expect(harness.strip.locator(".chip.at-query")).to_have_count(4)
    expect(harness.strip.locator(".chip.at-key")).to_have_count(4)
    harness.drag((100, 40), (120, 60))
    harness.wait_said("box", [100, 124, 40, 64])
    expect(harness.map.locator(".boxline")).to_contain_text("queries 100–123 × keys 40–63: zoom in to add it up")


# 3. Colours.


def colour_at(stops: tuple[str, ...], share: float) -> np.ndarray:
    """The colour of a palette at a share of its length, by numpy."""
    table = np.array([list(bytes.fromhex(stop[1:])) for stop in stops], float)
    places = np.linspace(0, 1, len(stops))
    return np.array([np.interp(share, places, table[:, channel]) for channel in range(3)])


SHARES = {
    "linear": lambda v: v,
    "sqrt": lambda v: v**0.5,
    "log": lambda v: max(0.0, np.log10(v / 1e-4) / 4) if v else 0.0,
}


@pytest.mark.parametrize("scale", SHARES)
def test_colours_follow_the_scale(show: NewComponents, scale: str) -> None:
    harness, case = show(f"steps-{scale}"), case_of(f"steps-{scale}")
    for row, col in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 3), (2, 1)]:
        wanted = colour_at(tuple(SEQUENTIAL["light"]), SHARES[scale](float(case.values[row, col])))
        np.testing.assert_allclose(harness.pixel(harness.map, row, col), wanted, atol=3)
    words = {"linear": "attention", "sqrt": "square-root colour scale", "log": "logarithmic colour scale, from 0.0001"}
    expect(harness.map.locator(".legend")).to_contain_text(words[scale])
    assert (harness.map.locator(".tick").count() > 0) == (scale == "log")


@pytest.mark.parametrize("scale", SHARES)
def test_signed_colours_have_zero_in_the_middle(show: NewComponents, scale: str) -> None:
    harness, case = show(f"signed-{scale}"), case_of(f"signed-{scale}")
    for row, col in [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2)]:
        value = float(case.values[row, col])
        wanted = colour_at(DIVERGING["light"], 0.5 + np.sign(value) * SHARES[scale](abs(value)) / 2)
        np.testing.assert_allclose(harness.pixel(harness.map, row, col), wanted, atol=3)


# 4. Text is text.


def test_hostile_labels_are_text_everywhere(show: NewComponents, tmp_path: Path) -> None:
    harness = show("small")
    for i, label in enumerate(HOSTILE_LABELS):
        harness.read(i, 0, f"query {i} ")
        assert f'"{label}"' in (harness.readout.text_content() or "")
        expect(harness.strip.locator(f'.chip[data-index="{i}"]')).to_have_text(label)
    harness.page.mouse.move(0, 0)
    with harness.page.expect_download() as caught:
        harness.press("SVG")
    assert caught.value.suggested_filename == "a-map-of-mine-.svg"
    caught.value.save_as(tmp_path / "map.svg")
    tree = ET.parse(tmp_path / "map.svg")
    texts = ["".join(node.itertext()) for node in tree.iter(f"{SVG}text")]
    assert f"A title {HOSTILE_LABELS[0]}" in texts
    for label in (HOSTILE_LABELS[2], HOSTILE_LABELS[3], HOSTILE_LABELS[4], HOSTILE_LABELS[5]):
        assert label in texts
    assert {node.tag.removeprefix(SVG) for node in tree.iter()} <= {
        *("svg", "g", "rect", "text", "path", "image", "clipPath")
    }
    hrefs = [node.get("href") for node in tree.iter(f"{SVG}image")]
    assert hrefs
    assert all(href and href.startswith("data:image/png;base64,") for href in hrefs)
    assert harness.page.evaluate("window.__pwned === undefined")
    assert harness.page.locator('img[src="x"]').count() == 0


def test_an_svg_shows_what_the_canvas_shows(show: NewComponents, tmp_path: Path) -> None:
    harness = show("small")
    with harness.page.expect_download() as svg:
        harness.press("SVG")
    with harness.page.expect_download() as png:
        harness.press("PNG")
    data = Path(png.value.path()).read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    root = ET.parse(svg.value.path()).getroot()
    assert (width, height) == (2 * float(root.get("width", 0)), 2 * float(root.get("height", 0)))
    canvas = harness.map.locator("canvas").bounding_box()
    assert canvas is not None
    assert width >= 2 * canvas["width"]
    assert height > 2 * canvas["height"]
    page = harness.page.context.new_page()
    page.set_viewport_size({"width": width // 2, "height": height // 2})
    difference = page.evaluate(
        """async ([svg, png]) => {
          const draw = async (address) => {
            const image = new Image();
            image.src = address;
            await image.decode();
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [400, 400];
            const ctx = canvas.getContext('2d');
            ctx.drawImage(image, 0, 0, 400, 400);
            return ctx.getImageData(0, 0, 400, 400).data;
          };
          const [a, b] = [await draw(svg), await draw(png)];
          return a.reduce((sum, value, i) => sum + Math.abs(value - b[i]), 0) / a.length;
        }""",
        [
            "data:image/svg+xml;utf8," + quote(Path(svg.value.path()).read_text("utf-8")),
            "data:image/png;base64," + _base64(data),
        ],
    )
    assert difference < 4  # of 255: letters are not drawn alike to the last pixel


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# 5. The strip.


def test_pointing_in_one_picture_marks_the_other(show: NewComponents) -> None:
    harness = show("small")
    harness.value(10, 6)
    expect(harness.strip.locator(".chip.at-query")).to_have_attribute("data-index", "10")
    expect(harness.strip.locator(".chip.at-key")).to_have_attribute("data-index", "6")
    before = harness.map.locator("canvas").evaluate("canvas => canvas.toDataURL()")
    harness.page.mouse.move(0, 0)
    expect(harness.strip.locator(".chip.at-query, .chip.at-key")).to_have_count(0)
    harness.strip.locator('.chip[data-index="12"]').hover()
    harness.page.wait_for_function(
        "([root, before]) => root.querySelector('canvas').toDataURL() !== before",
        arg=[harness.map.element_handle(), before],
    )
    x, y = harness.at(2, 12)
    rails = harness.page.evaluate(
        """([root, x, y, half]) => {
          const canvas = root.querySelector('canvas');
          const box = canvas.getBoundingClientRect();
          const at = [x - half - box.left, y - box.top].map(size => Math.floor(size * devicePixelRatio));
          return Array.from(canvas.getContext('2d').getImageData(at[0], at[1], 2, 1).data);
        }""",
        [harness.map.element_handle(), x, y, (harness.at(2, 13)[0] - x) / 2],
    )
    assert min(rails[0], rails[4]) < 200  # a dark rail at the column's edge, where the page is nearly white


def test_a_cell_of_words_marks_their_tokens_and_the_pages_box_value_is_read_out(show: NewComponents) -> None:
    harness = show("words")
    harness.value(7, 4)
    queries, keys = (harness.strip.locator(f".chip.at-{role}") for role in ("query", "key"))
    expect(queries).to_have_count(2)
    assert [chip.get_attribute("data-index") for chip in queries.all()] == ["14", "15"]
    assert [chip.get_attribute("data-index") for chip in keys.all()] == ["8", "9"]
    harness.drag((7, 4), (9, 5))
    harness.wait_said("box", [7, 10, 4, 6])
    expect(harness.map.locator(".boxline")).to_contain_text("queries 7–9 × keys 4–5: 0.6250 (sum over keys")


def test_marked_tokens_are_added_up(show: NewComponents) -> None:
    harness = show("small")
    weights = [(i / 23) ** 2 for i in range(23)] + [0.0]
    chip = {i: harness.strip.locator(f'.chip[data-index="{i}"]') for i in range(24)}
    line = harness.strip.locator(".marks")
    expect(line).to_be_hidden()
    chip[7].click(modifiers=["Control"])
    harness.wait_said("mark", [7])
    chip[10].click(modifiers=["Shift"])
    harness.wait_said("mark", [7, 8, 9, 10])
    expect(line).to_contain_text(f"4 tokens marked: attention {sum(weights[7:11]):.4f} in all")
    chip[8].click(modifiers=["Control"])
    harness.wait_said("mark", [7, 9, 10])
    chip[23].click(modifiers=["Control"])
    harness.wait_said("mark", [7, 9, 10, 23])
    expect(line).to_contain_text(f"4 tokens marked: attention {sum(weights[i] for i in (7, 9, 10)):.4f} in all")
    expect(harness.strip.locator(".chip.marked")).to_have_count(4)
    line.get_by_role("button", name="Clear the marks").click()
    harness.wait_said("mark", [])
    expect(line).to_be_hidden()
    chip[12].hover()
    harness.page.mouse.down()
    for i in (13, 14):
        chip[i].hover()
    harness.page.mouse.up()
    harness.wait_said("mark", [12, 13, 14])
    harness.strip.locator(".flow").focus()
    harness.page.keyboard.press("Home")
    harness.page.keyboard.press("Shift+Enter")
    harness.wait_said("mark", [0, 12, 13, 14])
    harness.page.keyboard.press("Escape")
    harness.wait_said("mark", [])
    assert "pick" not in [name for name, _ in harness.said()]
    expect(harness.strip.locator(".legend")).to_contain_text("faded: taken away or not seen")


def test_a_long_touch_marks_and_a_short_one_picks_and_draws_no_box(show: NewComponents) -> None:
    harness = show("small", viewport={"width": 390, "height": 1800}, has_touch=True, is_mobile=True)
    assert harness.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    box = harness.strip.locator('.chip[data-index="9"]').bounding_box()
    assert box is not None
    touch = harness.page.context.new_cdp_session(harness.page)
    point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    harness.wait_said("mark", [9])
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    harness.strip.locator('.chip[data-index="10"]').tap()
    harness.wait_said("pick", 10)
    harness.page.touchscreen.tap(*harness.at(10, 6))
    harness.wait_said("pick", [10, 6])
    assert [name for name, _ in harness.said()] == ["mark", "pick", "pick"]
