"""The Corpus page in a real Chromium: a file is uploaded, measured in view, stopped, resumed, and a text opened."""

import re
from collections.abc import Callable
from pathlib import Path

from driving import FIRST_PICTURE, Explore
from playwright.sync_api import BrowserContext, Page, expect

NewContext = Callable[..., BrowserContext]
MANY = 3_000  # far more than can be measured before somebody presses Cancel
HOSTILE = '<img src=x onerror="window.__pwned=1">'


class CorpusPage:
    """The Corpus page in one browser tab, opened at its own address."""

    def __init__(self, page: Page, url: str, address: str) -> None:
        self.explore, self.page = Explore(page, url), page
        self.means = self.explore.matrix("corpus-means")
        self.page.goto(address)
        self.settled()

    def settled(self) -> None:
        """Wait until the page has run to its end."""
        expect(self.page.locator(".st-key-corpus-against")).to_be_visible(timeout=FIRST_PICTURE)
        self.page.wait_for_function("() => document.querySelector('.stApp').dataset.testScriptState === 'notRunning'")

    def button(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def upload(self, file: Path) -> None:
        """Choose a file and take its texts."""
        self.page.get_by_role("radio", name="Upload a file").click()
        self.page.set_input_files("input[type=file]", file)
        expect(self.page.locator(".attnviz-caption", has_text="These are the first rows")).to_be_visible()

    def take(self) -> None:
        self.button("Take these texts")
        self.page.wait_for_function("() => new URL(location.href).searchParams.has('corpus')")
        self.settled()

    def done(self, of: str) -> int:
        """How many texts are said to be done."""
        said = self.page.get_by_text(re.compile(rf"[\d,]+ of {of} texts done"))
        expect(said).to_be_visible()
        return int(said.inner_text().partition(" ")[0].replace(",", ""))


def test_texts_are_uploaded_watched_stopped_resumed_and_found_again(
    new_context: NewContext, app_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "many.txt"
    file.write_text("\n".join(f"Dog {i} sat by the door of house {i}." for i in range(MANY)))
    corpus = CorpusPage(new_context().new_page(), app_url, f"{app_url}/corpus?model=minilm")
    corpus.upload(file)
    corpus.take()
    first = corpus.done("3,000")
    corpus.button("Run")
    bar = corpus.page.get_by_test_id("stProgress")
    expect(bar).to_contain_text(re.compile(r"[\d,]+ of 3,000 texts · .* left"))
    corpus.button("Cancel")
    expect(corpus.page.get_by_role("button", name="Resume")).to_be_visible()
    corpus.settled()
    stopped = corpus.done("3,000")
    assert first < stopped < MANY
    # Another person, and another browser: the address is all there is.
    again = CorpusPage(new_context().new_page(), app_url, corpus.page.url)
    assert stopped <= again.done("3,000") < MANY
    again.button("Resume")
    expect(again.page.get_by_test_id("stProgress")).to_contain_text("of 3,000 texts")
    again.button("Cancel")
    expect(again.page.get_by_role("button", name="Resume")).to_be_visible()


def test_a_table_is_split_by_label_and_its_outlier_opened(
    new_context: NewContext, app_url: str, tmp_path: Path
) -> None:
    rows = [
        f'"The {a} dog sat near the {b}.";calm' for a in ("old", "big", "wet", "sad") for b in ("sea", "door", "hill")
    ]
    odd = f"Stop, {HOSTILE}! No, no, no!"
    rows += [f'"{odd.replace(chr(34), chr(34) * 2)}";"{HOSTILE.replace(chr(34), chr(34) * 2)}"']
    file = tmp_path / "moods.csv"
    file.write_text("text;mood\n" + "\n".join(rows), encoding="utf-8-sig")
    look = "model=minilm&detector=punctuation&sink_in=1&layer=0&head=0"
    corpus = CorpusPage(new_context().new_page(), app_url, f"{app_url}/corpus?{look}")
    corpus.upload(file)
    corpus.page.get_by_role("combobox", name="Labels to split by").click()
    corpus.page.get_by_role("option", name="mood").click()
    corpus.settled()
    corpus.take()
    assert corpus.explore.values(corpus.means, (6, 12)).max() > 0
    corpus.explore.pick(corpus.means, 2, 1)
    corpus.page.wait_for_function("() => new URL(location.href).searchParams.get('layer') === '2'")
    corpus.settled()
    expect(corpus.page.get_by_text("L2H1 over the texts")).to_be_visible()
    corpus.button("Open in Explore")
    expect(corpus.explore.text).to_have_value(odd)
    corpus.explore.settled()
    assert (corpus.explore.params()["layer"], corpus.explore.params()["head"]) == ("2", "1")
    assert corpus.page.evaluate("() => window.__pwned") is None
