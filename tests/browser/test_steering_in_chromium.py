"""The Steering page in a real Chromium: a word is painted, the prediction changes, and a refresh keeps all of it."""

from collections.abc import Callable

import pytest
from conftest import NewTab
from driving import FIRST_PICTURE, Tab
from playwright.sync_api import Page, expect

from attnviz import Model, steering
from attnviz.edits import Head, Steer

TEXT = "Anna says Monday. Peter says Friday. It is on"


class Steering(Tab):
    """The Steering page in one browser tab."""

    PATH, TITLE, SECTION = "steering", "Steering", "You and the model"
    DONE = (".st-key-steering-kind",)

    def __init__(self, page: Page, url: str) -> None:
        super().__init__(page, url)
        self.marker = self.part("marker")
        self.chips = self.marker.locator(".chip")

    def settled(self) -> "Steering":
        """Wait until the script is done and says what the maps, or their absence, are."""
        expect(self.noted("Nothing is marked yet").or_(self.noted("Rows are queries"))).to_be_visible(
            timeout=FIRST_PICTURE
        )
        expect(self.chips.first).to_be_visible(timeout=FIRST_PICTURE)
        return super().settled()


NewSteering = Callable[..., Steering]


@pytest.fixture
def opened(tab: NewTab, app_url: str) -> NewSteering:
    """opened(**address): a person who opens the Steering page."""
    return lambda **params: Steering(tab(app_url), app_url).open(**params)


def test_a_painted_word_changes_the_text_and_a_refresh_keeps_it(opened: NewSteering, smollm2: Model) -> None:
    here = opened(with_text=TEXT, steered="heads", heads="L23H0.L24H5")
    words = here.chips.all_text_contents()
    here.chips.nth(words.index("Monday")).click()
    here.wait_for_params(emphasised=2)
    clean, steered = smollm2.trace(TEXT), smollm2.trace(TEXT, edits=[Steer(2, [Head(23, 0), Head(24, 5)])])
    moved = f"{steering.moved(clean, steered):.4f}"
    assert float(moved) > 0.01
    expect(here.says(moved)).to_be_visible()
    expect(here.says("Writes:")).to_have_count(2)
    here.look().reload()
    here.wait_for_params(emphasised=2, steered="heads", heads="L23H0.L24H5")
    expect(here.says(moved)).to_be_visible()
    expect(here.chips.nth(words.index("Monday"))).to_have_attribute("data-weight", "1")
    here.marker.get_by_role("button", name="Clear").click()
    here.wait_for_params(emphasised=None)
    expect(here.noted("Nothing is marked yet")).to_be_visible()
