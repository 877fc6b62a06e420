"""What tests of the Corpus page share: texts of two labels, and the page with MiniLM."""

from functools import partial
from typing import Any

from streamlit.testing.v1 import AppTest

import pages
from attnviz.corpus import Item

HOSTILE = '<img src=x onerror="alert(1)">'
MOODS = [
    Item(f"The {a} {b} sat near the {c}{d}", mood)
    for a in ("old", "small", "quiet")
    for b in ("dog", "sailor")
    for c in ("door", "sea", "window")
    for mood, d in (("calm", "."), (HOSTILE, ", shouting, and the dog, too, shouted!"))
]

page = partial(pages.opened, "corpus", model="minilm")


def said(test: AppTest) -> str:
    """Everything in small print and in Markdown, as it is read."""
    return f"{pages.said(test)} {pages.words_of(test.markdown)}"


def turn_to(test: AppTest, key: str, value: str) -> AppTest:
    return test.button_group(key=key).set_value(value).run()


def choose(test: AppTest, label: str, value: Any) -> AppTest:
    return next(box for box in test.selectbox if box.label == label).set_value(value).run()
