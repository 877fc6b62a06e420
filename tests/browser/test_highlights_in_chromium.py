"""The Highlights page in a real Chromium: words are marked, survive a refresh, are ranked by, and lead to Explore."""

import re

from conftest import NewTab
from driving import FIRST_PICTURE, Explore, Tab
from playwright.sync_api import Page, expect

TEXT = '<img src=x onerror="window.__pwned=1"> The keeper painted the door red, then bought fresh bread.'
QUESTION = "What did he paint?"


class Highlights(Tab):
    """The Highlights page in one browser tab."""

    PATH, TITLE, SECTION = "highlights", "Highlights", "You and the model"
    DONE = ('[data-testid="stForm"]',)

    def __init__(self, page: Page, url: str) -> None:
        super().__init__(page, url)
        self.marker = self.part("marker")
        self.told = self.marker.locator(".readout")
        self.dots = self.keyed("highlights-dots")

    def use(self, text: str, question: str) -> None:
        self.page.get_by_role("textbox", name="Text to mark").fill(text)
        self.page.get_by_role("textbox", name="Question about it").fill(question)
        self.button("Use this text").click()
        expect(self.marker.locator(".chip", has_text="painted")).to_be_visible()
        self.settled()

    def paint(self, first: str, last: str) -> None:
        """Drag the brush from one word to another."""
        ends = [self.marker.locator(".chip", has_text=re.compile(rf"^{word}\W*$")) for word in (first, last)]
        ends[0].hover()
        self.page.mouse.down()
        ends[1].hover()
        self.page.mouse.up()

    def brush(self, name: str) -> None:
        self.marker.get_by_role("radio", name=name).click()


def test_marks_survive_a_refresh_and_the_best_head_opens_in_explore(tab: NewTab, app_url: str) -> None:
    here = Highlights(tab(app_url), app_url).open(model="minilm")
    here.use(TEXT, QUESTION)
    here.paint("door", "red")
    here.brush("Somewhat")
    here.paint("keeper", "keeper")
    told = re.compile(r"Matters: 2 · Somewhat: 1 of \d+ words")
    expect(here.told).to_have_text(told)
    expect(here.noted(re.compile(r"3 of \d+ words marked"))).to_be_visible()  # the server has them, and the address
    here.settled()
    here.reload()
    expect(here.told).to_have_text(told)
    assert here.dots.count() == 0
    here.button("Reveal").click()
    expect(here.dots).to_be_visible(timeout=FIRST_PICTURE)
    expect(here.alerts.filter(has_text="No head is named from one text")).to_be_visible()
    assert here.page.evaluate("window.__pwned") is None
    here.settled()
    name = here.says(re.compile(r"^L\d+H\d+ agrees most")).inner_text().split()[0]
    here.keyed("highlights-explore").get_by_role("button").click()
    layer, head = re.fullmatch(r"L(\d+)H(\d+)", name).groups()  # type: ignore[union-attr]
    explore = here.arrived(Explore).wait_for_params(layer=layer, head=head)
    expect(explore.text).to_have_value(TEXT)
    again = Highlights(explore.page, explore.url).open(**explore.params())
    expect(again.told).to_have_text(told)
    again.paint("bread", "bread")
    expect(again.alerts.filter(has_text="changed after the model's view was shown")).to_be_visible()
