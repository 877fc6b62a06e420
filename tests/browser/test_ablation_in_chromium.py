"""The Ablation page in a real Chromium: from the grid to a set, its text and maps, its controls and files, and back."""

import csv
import re
from pathlib import Path

import numpy as np
from conftest import NewExplore, NewTab
from driving import FIRST_PICTURE
from playwright.sync_api import expect
from tabs import Ablation

SHORT = "Mary gave a pen to"
HOSTILE = '</script><img src=x onerror="window.__pwned=1"> 7 *b* $x$ <svg/onload=window.__pwned=1>'
EDITED = re.compile("Edited run: L\\d+H\\d")


def test_from_the_strongest_head_to_its_text_its_maps_its_controls_and_a_file(
    visit: NewExplore, tmp_path: Path
) -> None:
    explore = visit()
    explore.run(SHORT)
    tokens = explore.chips.count()
    lab = explore.go(Ablation).swept()
    page = lab.page
    effects = lab.values(lab.grid, (30, 9))
    layer, head = (int(i) for i in np.unravel_index(np.abs(effects).argmax(), effects.shape))
    lab.pick(lab.grid, layer, head)
    lab.wait_for_params(heads=f"L{layer}H{head}", layer=layer, head=head)
    expect(lab.says("Clean run", exact=True)).to_be_visible(timeout=FIRST_PICTURE)
    expect(lab.says(EDITED).first).to_be_visible()
    assert abs(float(effects[layer, head])) > 0.1
    change = lab.fresh.get_by_test_id("stMetric").nth(2)
    lab.until(lambda: abs(float(change.inner_text().removeprefix("Change")) - float(effects[layer, head])) < 1e-3)
    expect(lab.says("Writes:")).to_have_count(2)
    maps = [lab.values(lab.matrix(f"ablation-map-{which}"), (tokens, tokens)) for which in ("clean", "edited")]
    assert not np.allclose(*maps, atol=1e-3, equal_nan=True)
    lab.button("Try every method and random heads").click()
    expect(lab.says("Not shown to be important")).to_be_visible(timeout=FIRST_PICTURE)
    lab.settled()
    page.locator(".st-key-ablation-grid").locator("xpath=following::button[contains(., 'Take it along')][1]").click()
    file = lab.saved(page.get_by_role("button", name="CSV", exact=True), tmp_path / "effects.csv")
    rows = list(csv.DictReader(file.read_text("utf-8").splitlines()))
    assert len(rows) == effects.size
    found = {(int(row["layer"]), int(row["head"])): float(row["effect"]) for row in rows}
    assert abs(found[layer, head] - float(effects[layer, head])) < 1e-4
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="CSV", exact=True)).to_be_hidden()  # else a click would only close the list
    lab.pick(lab.grid, layer, head)
    lab.wait_for_params(heads=None)


def test_the_text_changes_and_the_address_restores_set_and_metric_in_a_new_tab(tab: NewTab, app_url: str) -> None:
    lab = Ablation(tab(app_url), app_url)
    layer = [f"L1H{head}" for head in range(4)]  # all of the last cross-attention: nothing says where to look
    lab.open(model="dates", metric="kl", how="zero", site="cross", heads=".".join(layer)).swept()
    params = lab.params()
    wanted = {"metric": "kl", "how": "zero", "heads": ".".join(layer)}
    assert params | wanted == params
    expect(lab.says(re.compile("Marked is the first that differs"))).to_be_visible()
    clean, edited = lab.says("Writes:").all_inner_texts()
    assert clean != edited
    again = lab.beside().swept()
    assert again.params() == params
    expect(again.keyed("ablation-set").locator("input")).to_have_value(", ".join(layer))
    expect(again.keyed("ablation-metric").get_by_role("combobox")).to_have_value("How far predictions move (KL)")
    expect(again.says(re.compile("Edited run: cross L1H0"))).to_be_visible()


def test_hostile_text_is_text_also_on_a_narrow_page(visit: NewExplore) -> None:
    explore = visit("?model=minilm&heads=L1H1&how=zero", viewport={"width": 390, "height": 844})
    explore.run(HOSTILE)
    lab = Ablation(explore.page, explore.url).open(**explore.params())
    expect(lab.says("Attention against effect")).to_be_visible(timeout=FIRST_PICTURE)
    lab.settled()
    assert lab.page.evaluate("window.__pwned") is None
    assert lab.page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
