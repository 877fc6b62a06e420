"""What tests of the Corpus page share: a shelf of their own, texts of two labels, and the page in a test harness."""

import html
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz import corpus
from attnviz.corpus import Item, Shelf
from attnviz.settings import settings
from attnviz.ui import measuring

SECONDS = 240  # a run of the page; the first one reads a model
HOSTILE = '<img src=x onerror="alert(1)">'
MOODS = [
    Item(f"The {a} {b} sat near the {c}{d}", mood)
    for a in ("old", "small", "quiet")
    for b in ("dog", "sailor")
    for c in ("door", "sea", "window")
    for mood, d in (("calm", "."), (HOSTILE, ", shouting, and the dog, too, shouted!"))
]

Page = Callable[..., AppTest]


def own_shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """A shelf of this module's own, not the one of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTNVIZ_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        settings.cache_clear()
        measuring.shelf.clear()
        yield measuring.shelf()
    settings.cache_clear()
    measuring.shelf.clear()


def measured_moods(shelf: Shelf, minilm: attnviz.Model) -> tuple[str, str]:
    """(key, run) of texts of two labels, measured."""
    key = shelf.add(MOODS, f"Moods {HOSTILE}")
    return key, corpus.run(minilm, shelf, key).run


def opener() -> Page:
    """page(**parameters): a new session that has opened the Corpus page with MiniLM at this address."""

    def open_at(**parameters: str) -> AppTest:
        test = AppTest.from_file("../../pages/corpus.py", default_timeout=SECONDS)
        for name, value in {"model": "minilm", **parameters}.items():
            test.query_params[name] = value
        return test.run()

    return open_at


def assert_fine(test: AppTest) -> None:
    assert [exception.message for exception in test.exception] == []
    assert [error.value for error in test.error] == []


def said(test: AppTest) -> str:
    """Everything in small print and in Markdown, as it is read."""
    small = [html.unescape(re.sub(r"<[^>]*>", "", str(element.proto.body))) for element in test.get("html")]
    return " ".join([*small, *(re.sub(r"\\(.)", r"\1", str(element.value)) for element in test.markdown)])


def params(test: AppTest) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value[-1] for name, value in test.query_params.items()}


def turn_to(test: AppTest, key: str, value: str) -> AppTest:
    return test.button_group(key=key).set_value(value).run()


def press(test: AppTest, label: str) -> AppTest:
    return next(button for button in test.button if button.label == label).click().run()


def choose(test: AppTest, label: str, value: Any) -> AppTest:
    return next(box for box in test.selectbox if box.label == label).set_value(value).run()
