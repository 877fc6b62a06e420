"""The Corpus page in a real Chromium: a file is uploaded, measured in view, stopped, resumed, and a text opened."""

import re
from pathlib import Path

from conftest import NewTab
from driving import Explore, Tab
from playwright.sync_api import Page, expect

MANY = 3_000  # far more than can be measured before somebody presses Cancel
HOSTILE = '<img src=x onerror="window.__pwned=1">'


class Corpus(Tab):
    """The Corpus page in one browser tab, opened at its own address."""

    PATH, TITLE, SECTION = "corpus", "Corpus", "Many texts"
    DONE = (".st-key-corpus-against",)

    def __init__(self, page: Page, url: str) -> None:
        super().__init__(page, url)
        self.means = self.matrix("corpus-means")

    def upload(self, file: Path) -> None:
        """Choose a file and take its texts."""
        self.page.get_by_role("radio", name="Upload a file").click()
        self.page.set_input_files("input[type=file]", file)
        expect(self.noted("These are the first rows")).to_be_visible()
        self.settled()

    def take(self) -> None:
        self.button("Take these texts").click()
        self.page.wait_for_function("() => new URL(location.href).searchParams.has('corpus')")
        self.settled()

    def done(self, of: str) -> int:
        """How many texts are said to be done."""
        said = self.says(re.compile(rf"[\d,]+ of {of} texts done"))
        return int(said.inner_text().partition(" ")[0].replace(",", ""))


def test_texts_are_uploaded_watched_stopped_resumed_and_found_again(tab: NewTab, app_url: str, tmp_path: Path) -> None:
    file = tmp_path / "many.txt"
    file.write_text("\n".join(f"Dog {i} sat by the door of house {i}." for i in range(MANY)))
    corpus = Corpus(tab(app_url), app_url).open(model="minilm")
    corpus.upload(file)
    corpus.take()
    first = corpus.done("3,000")
    corpus.button("Run").click()
    expect(corpus.bar).to_contain_text(re.compile(r"[\d,]+ of 3,000 texts · .* left"))
    corpus.button("Cancel").click()
    expect(corpus.button("Resume")).to_be_visible()
    corpus.settled()
    stopped = corpus.done("3,000")
    assert first < stopped < MANY
    # Another person, and another browser: the address is all there is.
    again = Corpus(tab(app_url), app_url).open_link(corpus.page.url)
    assert stopped <= again.done("3,000") < MANY
    again.button("Resume").click()
    expect(again.bar).to_contain_text("of 3,000 texts")
    again.button("Cancel").click()
    expect(again.button("Resume")).to_be_visible()


def test_a_table_is_split_by_label_and_its_outlier_opened(tab: NewTab, app_url: str, tmp_path: Path) -> None:
    rows = [
        f'"The {a} dog sat near the {b}.";calm' for a in ("old", "big", "wet", "sad") for b in ("sea", "door", "hill")
    ]
    odd = f"Stop, {HOSTILE}! No, no, no!"
    rows += [f'"{odd.replace(chr(34), chr(34) * 2)}";"{HOSTILE.replace(chr(34), chr(34) * 2)}"']
    file = tmp_path / "moods.csv"
    file.write_text("text;mood\n" + "\n".join(rows), encoding="utf-8-sig")
    corpus = Corpus(tab(app_url), app_url)
    corpus.open(model="minilm", detector="punctuation", sink_in=1, layer=0, head=0)
    corpus.upload(file)
    corpus.page.get_by_role("combobox", name="Labels to split by").click()
    corpus.page.get_by_role("option", name="mood").click()
    corpus.settled()
    corpus.take()
    if corpus.button("Run").is_visible():  # the first batch took long: the rest waits to be asked for
        corpus.button("Run").click()
        expect(corpus.button("Run")).to_be_hidden()
    corpus.until(lambda: corpus.values(corpus.means, (6, 12)).max() > 0)
    corpus.pick(corpus.means, 2, 1)
    corpus.wait_for_params(layer=2)
    expect(corpus.says("L2H1 over the texts")).to_be_visible()
    corpus.button("Open in Explore").click()
    explore = corpus.arrived(Explore).wait_for_params(layer=2, head=1)
    expect(explore.text).to_have_value(odd)
    assert explore.page.evaluate("() => window.__pwned") is None
