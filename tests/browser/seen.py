"""What several files' tests ask of the Explore page: a picture, a message for a person, and text that is only text."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from driving import Explore
from playwright.sync_api import expect
from serving import ROOT

EXAMPLES: list[dict[str, Any]] = json.loads((ROOT / "assets" / "examples.json").read_text("utf-8"))
FIRST: str = EXAMPLES[0]["text"]
CATS = "The grey cat saw the white cat, and then the grey cat"
HOSTILE = (
    '</script><img src=x onerror="window.__pwned=1"> <b>x</b> ![i](http://evil.example/x.png) $x$ :material/home: '
    "\u202e\u2028"
)


def about(value: float) -> object:
    """A value as four decimals, or three digits of a small one, leave it in a readout."""
    return pytest.approx(float(value), abs=5.1e-5 if value >= 1e-3 else 1e-6)


def reading(line: str) -> float:
    """The number at the end of a readout."""
    return float(line.rsplit(" ", 1)[1])


def message(explore: Explore, words: str | re.Pattern[str]) -> str:
    """Wait for a message with these words; all that the page says in messages, without the icons' names."""
    expect(explore.alerts.filter(has_text=words)).to_be_visible()
    explore.settled()
    said = "\n".join(explore.alerts.get_by_test_id("stMarkdownContainer").all_inner_texts())
    return said.replace("\u2060", "")  # a word joiner may keep an address in it from becoming a link


def assert_plain(explore: Explore, said: str) -> None:
    """A message for a person: sentences, no trace of the program behind it."""
    assert said.strip().endswith("."), said
    page = explore.words()
    assert "Traceback" not in page
    assert re.search(r"\b[A-Za-z]+(Error|Exception|NotFound|Unsafe\w+):", page) is None
    assert explore.page.get_by_test_id("stException").count() == 0


def assert_no_script_ran(explore: Explore) -> None:
    assert explore.page.evaluate("window.__pwned === undefined")
    assert explore.page.locator('img[src="x"], img[src*="evil"], a[href*="evil"]').count() == 0


def assert_picture(explore: Explore, text: str) -> None:
    """Strip, grid, map and predictions of this text are there, and no complaint."""
    expect(explore.text).to_have_value(text)
    explore.settled()
    expect(explore.strip.locator(".flow")).to_be_visible()
    expect(explore.grid.locator("canvas")).to_be_visible()
    expect(explore.map.locator("canvas")).to_be_visible()
    expect(explore.caption).to_be_visible()
    expect(explore.alerts.filter(has_text="error")).to_have_count(0)
    assert "\ufffd" not in explore.words()
