"""The Generation page as a person meets it: stepping, playing, picking, waiting and stopping, in a real Chromium."""

import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
import pytest
from driving import FIRST_PICTURE
from playwright.sync_api import BrowserContext, Locator, Page, expect

from attnviz import Head, Model
from attnviz.generated import movement, shift, steps

PROMPT = "The capital of France is"
LENGTH = 8
START = 4  # the query that writes the first token
HOSTILE = '</script><img src=x onerror="window.__pwned=1"> <b>x</b> \u202e \u2028 &amp; is'
# Watches the slider's step and the address, which the script sets: the one may be a step ahead, and no more.
_AHEAD = """([root, start]) => new Promise((done) => {
  const seen = new Set();
  let most = 0;
  const look = () => {
    const step = Number(root.dataset.step);
    seen.add(step);
    most = Math.max(most, step - (Number(new URL(location.href).searchParams.get("query")) - start));
    if (root.dataset.playing === "true") requestAnimationFrame(look);
    else done([[...seen], most]);
  };
  look();
})"""


class Generation:
    """The Generation page in one browser tab."""

    def __init__(self, page: Page, url: str, **params: object) -> None:
        self.page = page
        self.scrubber = page.get_by_test_id("scrubber")
        self.slider = self.scrubber.get_by_role("slider")
        self.strip = page.locator('[data-testid="token-strip"][data-key="strip"]')
        self.source = page.locator('[data-testid="token-strip"][data-key="source-strip"]')
        self.map = page.locator('[data-testid="matrix"][data-key="movement"]')
        page.goto(f"{url}/?{urlencode(params)}")  # not the page's own address: Streamlit asks for files that it lacks
        expect(self.strip).to_be_visible(timeout=FIRST_PICTURE)
        self.settled()
        page.get_by_role("link", name="Generation").click()

    def ready(self) -> "Generation":
        expect(self.map).to_be_visible(timeout=FIRST_PICTURE)
        self.settled()
        return self

    def settled(self) -> None:
        self.page.wait_for_function("document.querySelector('.stApp')?.dataset.testScriptState === 'notRunning'")

    def at(self, step: int) -> None:
        """Wait until this step is the one that slider, address and strip show."""
        expect(self.scrubber).to_have_attribute("data-step", str(step))
        self.page.wait_for_url(lambda url: parse_qs(urlsplit(url).query)["query"] == [str(START + step)])
        expect(self.strip.locator(".chip.query")).to_have_attribute("data-index", str(START + step))

    def press(self, name: str) -> None:
        self.scrubber.get_by_role("button", name=name).click()

    def chip(self, strip: Locator, index: int) -> Locator:
        return strip.locator(f'.chip[data-index="{index}"]')


@pytest.fixture
def generation(new_context: Callable[..., BrowserContext], app_url: str) -> Callable[..., Generation]:
    def make(**params: object) -> Generation:
        return Generation(new_context().new_page(), app_url, **params)

    return make


def test_buttons_keys_and_picks_go_to_steps(generation: Callable[..., Generation]) -> None:
    here = generation(with_text=PROMPT, length=LENGTH).ready()
    here.at(0)
    here.press("Next step")
    here.at(1)
    here.press("Previous step")
    here.at(0)
    expect(here.scrubber.get_by_role("button", name="Previous step")).to_be_disabled()
    here.slider.focus()
    here.page.keyboard.press("End")
    here.at(LENGTH - 1)
    here.page.keyboard.press("ArrowLeft")
    here.at(LENGTH - 2)
    here.chip(here.strip, START + 3).click()  # the third written token: step 2 wrote it
    here.at(2)
    here.chip(here.strip, 3).click()  # a token of the prompt: the key
    here.page.wait_for_url(re.compile(r"[?&]key=3(&|$)"))
    here.at(2)
    spot = here.map.evaluate("root => root.cellCenter(5, 2)")
    here.page.mouse.click(spot["x"], spot["y"])
    here.at(5)
    here.page.wait_for_url(re.compile(r"[?&]key=2(&|$)"))


def test_the_page_shows_what_the_library_computes(generation: Callable[..., Generation], smollm2: Model) -> None:
    here = generation(with_text=PROMPT, length=LENGTH, layer=20, head=4).ready()
    here.slider.fill("3")
    here.at(3)
    trace = smollm2.generate(PROMPT, max_new_tokens=LENGTH)
    table, moved, jumps = steps(trace), movement(trace, Head(20, 4)), shift(trace, Head(20, 4))
    expect(here.scrubber.locator("bdi.token")).to_have_text(table.token[3])
    expect(here.scrubber.locator(".detail")).to_have_text(
        f"rank 1, probability {table.probability[3]:.4f} · head moved {jumps[3]:.3f} nats"
    )
    for row in range(LENGTH):
        for col in range(len(trace.tokens)):
            value = here.map.evaluate("(root, [row, col]) => root.valueAt(row, col)", [row, col])
            value = np.nan if value is None else value
            np.testing.assert_allclose(value, moved.weights[row, col], atol=1e-6)
    row = moved.weights[3]
    shown = here.strip.locator(".readout").inner_text()
    key = int(re.match(r"key (\d+)", shown)[1])
    assert float(shown.rsplit(" ", 1)[1]) == pytest.approx(row[key], abs=5.1e-5)
    faded = here.strip.locator(".chip.unseen").count()
    assert faded == np.isnan(row).sum()


def test_playing_goes_through_all_steps_and_never_ahead_of_the_picture(
    generation: Callable[..., Generation],
) -> None:
    here = generation(with_text=PROMPT, length=LENGTH).ready()
    here.at(0)
    here.scrubber.get_by_role("combobox", name="Speed").select_option("4")
    here.slider.focus()
    here.page.keyboard.press("Space")
    seen, ahead = here.scrubber.evaluate(_AHEAD.replace("([root, start])", f"(root, start = {START})"))
    assert seen == list(range(min(seen), LENGTH))
    assert min(seen) <= 1
    assert ahead <= 1
    here.at(LENGTH - 1)
    here.scrubber.get_by_role("combobox", name="Speed").select_option("0.5")
    here.press("Play")  # from the end it starts again
    expect(here.scrubber).to_have_attribute("data-step", "1")
    here.press("Pause")
    expect(here.scrubber).to_have_attribute("data-playing", "false")
    here.settled()
    stopped = int(here.scrubber.get_attribute("data-step"))
    assert stopped < LENGTH - 1
    here.page.wait_for_timeout(1_000)
    here.at(stopped)


def test_an_encoder_decoder_steps_through_what_it_writes(generation: Callable[..., Generation]) -> None:
    here = generation(model="dates").ready()
    assert "".join(here.strip.locator(".chip").all_text_contents()) == "<s>1998-05-03</s>"
    here.chip(here.strip, 6).click()
    expect(here.scrubber).to_have_attribute("data-step", "5")
    expect(here.scrubber.locator("bdi.token")).to_have_text("0")
    here.chip(here.source, 11).click()
    here.page.wait_for_url(re.compile(r"[?&]key=11(&|$)"))
    assert "query=5" in here.page.url


def test_a_long_generation_tells_how_far_it_is_and_can_be_stopped(generation: Callable[..., Generation]) -> None:
    here = generation(with_text=PROMPT, length=2).ready()
    text = here.page.get_by_role("textbox", name="Text", exact=True)
    text.fill("A very long story about a small grey cat begins when")
    slider = here.page.locator(".st-key-generation-length").get_by_role("slider")
    slider.focus()
    here.page.keyboard.press("End")
    here.page.get_by_role("button", name="Generate").click()
    bar = here.page.get_by_test_id("stProgress")
    expect(bar).to_contain_text(re.compile(r"Generating: \d+ of at most 200 tokens written.*about \d+ s left"))
    here.page.get_by_role("button", name="Cancel").click()
    expect(here.page.get_by_test_id("stAlert")).to_contain_text("Your text is kept")
    expect(text).to_have_value(re.compile("small grey cat"))
    slider.focus()
    here.page.keyboard.press("Home")
    here.page.get_by_role("button", name="Generate").click()
    here.page.wait_for_url(re.compile(r"[?&]length=1(&|$)"))
    expect(here.strip).to_contain_text("grey")
    expect(here.map).to_be_visible()
    expect(here.scrubber).to_have_attribute("data-step", "0")


def test_hostile_text_stays_text_on_a_narrow_page(generation: Callable[..., Generation]) -> None:
    here = generation(with_text=HOSTILE, length=6).ready()
    here.page.set_viewport_size({"width": 390, "height": 844})
    here.press("Next step")
    expect(here.scrubber).to_have_attribute("data-step", "1")
    here.settled()
    assert here.page.evaluate("window.__pwned === undefined")
    assert here.page.locator('img[src="x"]').count() == 0
    assert here.page.evaluate("document.documentElement.scrollWidth") <= 390
    box, page = here.scrubber.bounding_box(), here.page.viewport_size
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= page["width"]
    stops = [stop.bounding_box() for stop in here.scrubber.locator(".stop").all()]
    assert len(stops) > 1
    assert all(a["x"] + a["width"] <= b["x"] for a, b in zip(_in_order(stops), _in_order(stops)[1:], strict=False))


def _in_order(boxes: list[dict[str, float]]) -> list[dict[str, float]]:
    return sorted(boxes, key=lambda box: box["x"])
