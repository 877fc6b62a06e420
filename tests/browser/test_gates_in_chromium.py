"""The Gates page in a real Chromium: learning draws a curve that grows, is cancelled, and loses nothing."""

from collections.abc import Callable

import pytest
from conftest import NewTab
from driving import FIRST_PICTURE, Tab
from playwright.sync_api import Page, expect

LINES = "The lists of the name, are, is\nThe boxes with the letter, are, is\nThe key to the cabinets, is, are"


class Teaching(Tab):
    """The Gates page in one browser tab."""

    PATH, TITLE, SECTION = "gates", "Gates", "You and the model"
    DONE = (".st-key-gates-own",)

    def __init__(self, page: Page, url: str) -> None:
        super().__init__(page, url)
        self.curve = self.keyed("gates-curve-so-far").locator(".scatterlayer .trace .point")
        self.held_out = self.keyed("gates-held-out")


NewTeaching = Callable[..., Teaching]


@pytest.fixture
def opened(tab: NewTab, app_url: str) -> NewTeaching:
    """opened(**address): a person who opens the Gates page."""
    return lambda **params: Teaching(tab(app_url), app_url).open(**params)


def test_learning_shows_its_curve_and_what_was_learned_stays_when_it_is_cancelled(opened: NewTeaching) -> None:
    here = opened()
    page = here.page
    page.get_by_role("button", name="Paste or upload").click()
    page.get_by_role("textbox", name="Lines").fill(LINES)
    here.button("Add these lines").click()
    expect(here.noted("3 of 3 examples")).to_be_visible(timeout=FIRST_PICTURE)
    page.keyboard.press("Escape")
    here.settled()
    steps = here.keyed("gates-steps").locator("input")
    steps.fill("100")
    steps.press("Enter")
    expect(here.says("at most 100 steps")).to_be_visible()
    here.settled()
    course = here.params()["course"]
    here.button("Learn").click()
    here.until(lambda: here.curve.count() >= 3)
    before = here.curve.count()
    here.until(lambda: here.curve.count() > before)
    here.button("Cancel").click()
    expect(here.held_out).to_be_visible(timeout=FIRST_PICTURE)
    expect(here.says("It was stopped before its end").or_(here.says("Learning stopped by itself"))).to_be_visible()
    expect(here.held_out).to_contain_text("Right after")
    after = here.held_out.inner_text()
    here.look().reload()
    assert here.params()["course"] == course
    expect(here.noted("3 of 3 examples")).to_be_visible()
    expect(here.held_out).to_be_visible(timeout=FIRST_PICTURE)
    expect(here.held_out).to_have_text(after, use_inner_text=True)
