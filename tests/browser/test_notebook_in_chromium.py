"""The Notebook in a real Chromium: a finding is kept, planned, measured, carried to another server, and restored."""

import json
import re
from pathlib import Path

from conftest import NewTab
from driving import FIRST_PICTURE, Explore, Tab
from playwright.sync_api import expect
from serving import running_app

CLAIM = 'L0H2 attends to the token before <img src=x onerror="window.__pwned=1">'
TEXT = "Mary and John went to the store."
OTHERS = (
    "The keeper painted the door red.",
    "Nobody came home before the rain.",
    "A dog slept under our old table.",
    "She bought bread at the harbour.",
)


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
    explore = Explore(tab(app_url), app_url)
    explore.open(model="minilm", layer=0, head=2, with_text=TEXT)
    page = explore.page
    page.get_by_role("button", name="Keep this").click()
    expect(explore.button("Keep it")).to_be_visible()
    explore.settled()
    explore.keyed("keep-explore-claim").locator("textarea").fill(CLAIM)
    explore.button("Keep it").click()
    explore.button("Open it").click()
    book = explore.arrived(Notebook)
    expect(book.page.get_by_role("heading", name=CLAIM)).to_be_visible()
    expect(book.keyed("notebook-figure").locator(".main-svg").first).to_be_visible()
    expect(book.button("Mark supported")).to_be_disabled()

    page.get_by_text("Plan a measurement").click()
    book.choose("notebook-plan-kind", "detector")
    book.type_in("notebook-plan-texts", "\n".join(OTHERS))
    book.type_in("notebook-plan-bound", "0.5")
    book.button("State this plan").click()
    expect(book.noted("before it was measured, on 4 texts")).to_be_visible()
    book.settled()
    book.button("Measure as planned").click()
    expect(book.noted("As planned: As expected, and beyond the control")).to_be_visible()
    book.settled()
    book.button("Mark supported").click()
    expect(book.button("Mark hypothesis")).to_be_visible()
    book.settled()
    with page.expect_download() as download:
        book.button("Export (JSON Lines)").click()
    file = tmp_path / "findings.jsonl"
    download.value.save_as(file)
    (line,) = file.read_text("utf-8").splitlines()
    assert (json.loads(line)["claim"], json.loads(line)["status"]) == (CLAIM, "supported")
    assert explore.params()["text"] not in line
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
        theirs.settled().card("the token before")
        expect(theirs.noted("As planned: As expected, and beyond the control")).to_be_visible()
        expect(theirs.button("Mark hypothesis")).to_be_visible()  # so it is supported here too
        theirs.button("Restore this view").click()
        restored = theirs.arrived(Explore)
        expect(restored.text).to_have_value(TEXT, timeout=FIRST_PICTURE)
        restored.wait_for_params(model="minilm", layer="0", head="2")
        assert restored.page.evaluate("window.__pwned") is None
        restored.page.goto("about:blank")  # before its server ends
