"""The Notebook in a real Chromium: a finding is kept, planned, measured, carried to another server, and restored."""

import json
import re
from pathlib import Path

from conftest import NewTab
from driving import FIRST_PICTURE, Tab
from playwright.sync_api import expect
from serving import running_app
from tabs import Ablation

CLAIM = 'Without L23H3 the name is lost <img src=x onerror="window.__pwned=1">'
PEOPLE = (("Mary", "John"), ("Anna", "Peter"), ("Laura", "Paul"), ("Sarah", "David"), ("Emma", "James"))
PLACES = (("store", "drink"), ("park", "flower"), ("school", "book"), ("office", "letter"), ("garden", "spade"))


TEXT = "When Mary and John went to the store, John gave a drink to"
OTHERS = [  # for the plan: the same with other names, each with a donor in which the other one gives
    {
        "text": f"When {one} and {two} went to the {place}, {two} gave a {thing} to",
        "donor": f"When {one} and {two} went to the {place}, {one} gave a {thing} to",
        "answer": f" {one}",
        "foil": f" {two}",
    }
    for (one, two), (place, thing) in list(zip(PEOPLE, PLACES, strict=True))[1:]
]


class Notebook(Tab):
    """The Notebook in one browser tab."""

    PATH, TITLE = "notebook", "Notebook"

    def call_me(self, name: str) -> "Notebook":
        field = self.page.get_by_role("textbox", name="Your name")
        field.fill(name)
        field.press("Enter")
        expect(self.noted("You are a guest here")).to_be_hidden()
        return self.settled()

    def choose(self, key: str, option: str) -> None:
        self.keyed(key).get_by_role("combobox").click()
        self.page.get_by_role("option", name=re.compile(option)).first.click()
        self.settled()

    def type_in(self, key: str, words: str) -> None:
        field = self.keyed(key).locator("input, textarea").first
        field.fill(words)
        field.press("Control+Enter" if "\n" in words else "Enter")
        self.settled()

    def card(self, words: str) -> "Notebook":
        self.page.locator('[class*="st-key-notebook-card"]', has_text=words).get_by_role(
            "button", name="Open it"
        ).click()
        expect(self.button("All findings")).to_be_visible()
        return self.settled()


def test_a_finding_is_supported_carried_away_and_restored(tab: NewTab, app_url: str, tmp_path: Path) -> None:
    lab = Ablation(tab(app_url), app_url).open(model="smollm2", heads="L23H3", layer=23, head=3, with_text=TEXT)
    expect(lab.button("Try every method and random heads")).to_be_visible(timeout=FIRST_PICTURE)
    lab.settled().button("Try every method and random heads").click()
    expect(lab.says("A set is called important only where")).to_be_visible(timeout=FIRST_PICTURE)
    lab.settled()
    page = lab.page
    lab.keyed("keep-ablated-popover").get_by_role("button", name="Keep this").click()
    expect(lab.button("Keep it")).to_be_visible()
    lab.settled()
    lab.keyed("keep-ablated-claim").locator("textarea").fill(CLAIM)
    lab.button("Keep it").click()
    lab.button("Open it").click()
    book = lab.arrived(Notebook)
    expect(book.page.get_by_role("heading", name=CLAIM)).to_be_visible()
    expect(book.keyed("notebook-figure").locator(".main-svg").first).to_be_visible()
    expect(book.noted("Beside the plan: it decides nothing").first).to_be_visible()  # seen before it was planned
    expect(book.button("Mark supported")).to_be_disabled()

    page.get_by_text("Plan a measurement").click()
    book.choose("notebook-plan-kind", "Ablation")
    book.type_in("notebook-plan-texts", "\n".join(map(json.dumps, OTHERS)))
    book.choose("notebook-plan-direction", "below")
    book.type_in("notebook-plan-bound", "-0.5")
    book.button("State this plan").click()
    expect(book.noted("before it was measured, on 4 texts")).to_be_visible()
    book.settled()
    book.button("Measure as planned").click()
    expect(book.noted("As planned: As expected, and beyond the control")).to_be_visible(timeout=FIRST_PICTURE)
    book.settled()
    book.button("Mark supported").click()
    expect(book.button("Mark hypothesis")).to_be_visible()
    book.settled()
    with page.expect_download() as download:
        book.button("Export (JSON Lines)").click()
    file = tmp_path / "findings.jsonl"
    download.value.save_as(file)
    (line,) = file.read_text("utf-8").splitlines()
    kept = json.loads(line)
    assert (kept["claim"], kept["status"]) == (CLAIM, "supported")
    assert [one["planned"] for one in kept["evidence"]] == [False] * (len(kept["evidence"]) - 1) + [True]
    assert len(kept["evidence"]) > 1
    assert lab.params()["text"] not in line
    assert page.evaluate("window.__pwned") is None

    with running_app(ATTNVIZ_DATA_DIR=str(tmp_path / "empty")) as elsewhere:
        theirs = Notebook(tab(elsewhere), elsewhere).open().call_me("Bo")
        expect(theirs.alerts.filter(has_text="Nothing is kept yet")).to_be_visible()
        theirs.page.get_by_text("Import findings", exact=True).click()
        theirs.page.set_input_files("input[type=file]", file)
        expect(theirs.button("Import")).to_be_enabled()
        theirs.settled()
        theirs.button("Import").click()
        expect(theirs.says(re.compile("1 imported, 0 here already"))).to_be_visible()
        theirs.settled().card("the name is lost")
        expect(theirs.noted("As planned: As expected, and beyond the control")).to_be_visible()
        expect(theirs.button("Mark hypothesis")).to_be_visible()  # so it is supported here too
        theirs.button("Restore this view").click()
        restored = theirs.arrived(Ablation)
        restored.wait_for_params(model="smollm2", layer="23", head="3", heads="L23H3")
        expect(restored.keyed("ablation-set").locator("input")).to_have_value("L23H3", timeout=FIRST_PICTURE)
        assert restored.page.evaluate("window.__pwned") is None
        restored.page.goto("about:blank")  # before its server ends
