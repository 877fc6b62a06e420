"""The Gaze page in a real Chromium: the made-up example is played, correlated, and a head of the map is picked."""

import re

from conftest import NewTab
from driving import FIRST_PICTURE, Explore, Tab
from playwright.sync_api import Page, expect


class Gaze(Tab):
    """The Gaze page in one browser tab."""

    PATH, TITLE, SECTION = "gaze", "Gaze", "You and the model"
    DONE = ('[data-testid="stFileUploader"], [data-testid="stAlert"]',)

    def __init__(self, page: Page, url: str) -> None:
        super().__init__(page, url)
        self.player = self.part("reading")
        self.map = self.matrix("gaze-map")

    def tool(self, name: str) -> None:
        self.player.get_by_role("button", name=name, exact=True).click()


def test_a_reading_is_played_and_correlated_and_a_head_is_picked(tab: NewTab, app_url: str) -> None:
    here = Gaze(tab(app_url), app_url).open(model="minilm")
    here.button("Try a made-up example").click()
    expect(here.button("Correlate")).to_be_visible(timeout=FIRST_PICTURE)
    expect(here.alerts.filter(has_text="made up")).to_be_visible()
    here.settled()
    here.tool("Next word")
    chips = here.player.locator(".chip")
    expect(here.player).to_have_attribute("data-at", "0")
    expect(here.player.locator(".now")).to_contain_text("skipped")
    expect(chips.nth(0)).to_have_class(re.compile("current"))
    expect(here.part("token-strip").locator(".chip").nth(0)).to_have_class(re.compile("at-key"))
    here.player.get_by_label("Speed").select_option("4")
    here.tool("Play")
    expect(here.player).to_have_attribute("data-at", "")  # it has come to the end: all of it is shown again
    expect(here.player).to_have_attribute("data-playing", "false")
    read = chips.filter(has_text="northern")
    assert re.fullmatch(r"rgb\(.+\)", read.evaluate("chip => chip.style.backgroundColor"))
    assert here.player.locator(".moves g").count() > 3
    here.button("Correlate").click()
    expect(here.map).to_be_visible(timeout=FIRST_PICTURE)
    here.settled()
    here.reload()  # what was made is in the address, and the figures are kept
    expect(here.alerts.filter(has_text="The best head")).to_be_visible()
    here.pick(here.map, 2, 5)
    here.wait_for_params(layer=2, head=5)
    expect(here.noted("L2H5: the attention that each word receives")).to_be_visible()
    expect(here.says("L2H5 on sentence 1")).to_be_visible()  # its words stand below the map too
    below = here.part("token-strip").last
    below.scroll_into_view_if_needed()
    expect(here.map).to_be_in_viewport()
    below.locator(".chip", has_text="ferry").click()
    explore = here.arrived(Explore).wait_for_params(layer=2, head=5, key=2)
    expect(explore.text).to_have_value(re.compile(r"^The ferry to the northern islands"))
