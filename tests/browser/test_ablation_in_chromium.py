"""The Ablation page in a real Chromium: from the grid to a set, its text and maps, its controls and files, and back."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from driving import FIRST_PICTURE, Explore
from playwright.sync_api import Page, expect

NewExplore = Callable[..., Explore]
SHORT = "When Mary and John met, John gave a pen to"
TOKENS = 11
HOSTILE = '</script><img src=x onerror="window.__pwned=1"> 7 *b* $x$ <svg/onload=window.__pwned=1>'
EDITED = re.compile("Edited run: L\\d+H\\d")


class Ablation:
    """The Ablation page in one browser tab."""

    def __init__(self, explore: Explore) -> None:
        self.explore, self.page = explore, explore.page
        self.grid = explore.matrix("ablation-grid")

    def by_menu(self) -> "Ablation":
        self.page.get_by_role("link", name="Ablation").click()
        return self.swept()

    def swept(self) -> "Ablation":
        """Wait until every head was measured."""
        exact = self.page.locator(".attnviz-caption", has_text="Unedited copies differ")
        expect(exact).to_be_visible(timeout=FIRST_PICTURE)
        expect(self.page.locator(".st-key-ablation-cancel")).to_have_count(0, timeout=FIRST_PICTURE)
        return self.still()

    def still(self) -> "Ablation":
        self.page.wait_for_function("document.querySelector('.stApp').dataset.testScriptState === 'notRunning'")
        return self

    def until(self, **wanted: object) -> None:
        self.page.wait_for_function(
            "wanted => Object.entries(wanted).every("
            "([name, value]) => new URL(location.href).searchParams.get(name) === value)",
            arg={name: None if value is None else str(value) for name, value in wanted.items()},
        )
        self.still()


def test_from_the_strongest_head_to_its_text_its_maps_its_controls_and_a_file(
    visit: NewExplore, tmp_path: Path
) -> None:
    explore = visit()
    explore.run(SHORT)
    lab = Ablation(explore).by_menu()
    page = lab.page
    effects = explore.values(lab.grid, (30, 9))
    layer, head = (int(i) for i in np.unravel_index(np.abs(effects).argmax(), effects.shape))
    explore.pick(lab.grid, layer, head)
    lab.until(heads=f"L{layer}H{head}", layer=layer, head=head)
    expect(page.get_by_text("Clean run", exact=True)).to_be_visible(timeout=FIRST_PICTURE)
    expect(page.get_by_text(EDITED).first).to_be_visible()
    assert abs(float(effects[layer, head])) > 0.1
    change = page.get_by_test_id("stMetric").nth(2)
    assert abs(float(change.inner_text().removeprefix("Change")) - float(effects[layer, head])) < 1e-3
    expect(page.get_by_text("Writes:")).to_have_count(2)
    clean, edited = (explore.matrix(f"ablation-map-{which}") for which in ("clean", "edited"))
    assert not np.allclose(
        *(explore.values(one, (TOKENS, TOKENS)) for one in (clean, edited)), atol=1e-3, equal_nan=True
    )
    page.get_by_role("button", name="Try every method and random heads").click()
    expect(page.get_by_text("Not shown to be important")).to_be_visible(timeout=FIRST_PICTURE)
    lab.still()
    page.locator(".st-key-ablation-grid").locator("xpath=following::button[contains(., 'Take it along')][1]").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV", exact=True).click()
    file = tmp_path / "effects.csv"
    download.value.save_as(file)
    rows = list(csv.DictReader(file.read_text("utf-8").splitlines()))
    assert len(rows) == effects.size
    found = {(int(row["layer"]), int(row["head"])): float(row["effect"]) for row in rows}
    assert abs(found[layer, head] - float(effects[layer, head])) < 1e-4
    page.keyboard.press("Escape")
    explore.pick(lab.grid, layer, head)
    lab.until(heads=None)


def test_the_address_restores_set_and_metric_in_a_new_tab(visit: NewExplore) -> None:
    explore = visit("?model=dates&metric=kl&how=zero&site=cross&heads=L0H1.L1H2")
    lab = Ablation(explore).by_menu()
    params = explore.params()
    wanted = {"metric": "kl", "how": "zero", "heads": "L0H1.L1H2"}
    assert params | wanted == params
    other: Page = explore.page.context.new_page()
    other.goto(lab.page.url)
    again = Ablation(Explore(other, explore.url)).swept()
    assert again.explore.params() == params
    expect(other.locator(".st-key-ablation-set input")).to_have_value("L0H1, L1H2")
    expect(other.locator(".st-key-ablation-metric").get_by_role("combobox")).to_have_value(
        "How far predictions move (KL)"
    )
    expect(other.get_by_text(re.compile("Edited run: cross L0H1"))).to_be_visible()


def test_hostile_text_is_text_also_on_a_narrow_page(visit: NewExplore) -> None:
    explore = visit("?model=minilm&heads=L1H1&how=zero", viewport={"width": 390, "height": 844})
    explore.run(HOSTILE)
    page = explore.page
    page.goto(page.url.replace("/?", "/ablation?"))
    expect(page.get_by_text("Attention against effect")).to_be_visible(timeout=FIRST_PICTURE)
    Ablation(explore).still()
    assert page.evaluate("window.__pwned") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
