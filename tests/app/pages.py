"""Opening a page of the app in Streamlit's own test harness, and reading what it shows."""

import html
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).parents[2]
SECONDS = 240  # a run of a page; the first one reads a model
HOSTILE = "<img src=x onerror=alert(1)> </script> *bold* $x$"


def opened(page: str, **parameters: str) -> AppTest:
    """A new session that has opened a page, named as its file is, at this address."""
    test = AppTest.from_file(str(ROOT / "pages" / f"{page}.py"), default_timeout=SECONDS)
    for name, value in parameters.items():
        test.query_params[name] = value
    return test.run()


def assert_fine(test: AppTest) -> None:
    assert [exception.message for exception in test.exception] == []
    assert [error.value for error in test.error] == []


def params(test: AppTest) -> dict[str, str]:
    """The address; Streamlit keeps its values as lists here."""
    return {name: value if isinstance(value, str) else value[-1] for name, value in test.query_params.items()}


def said(test: AppTest) -> str:
    """All that stands in captions, as people read it."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", str(element.proto.body))) for element in test.get("html"))


def words_of(elements: Iterable[Any]) -> str:
    """Messages or Markdown as people read them, without the escapes."""
    return " ".join(re.sub(r"\\(.)", r"\1", str(element.value)) for element in elements)


def press(test: AppTest, label: str) -> AppTest:
    return next(button for button in test.button if button.label == label).click().run()
