"""Opening the Flow page in Streamlit's own test harness, and reading what it shows."""

import html
import re
from pathlib import Path

from streamlit.testing.v1 import AppTest

import attnviz
from attnviz.flow.methods import METHODS
from attnviz.ui.selection import SAVED
from attnviz.ui.session import examples, stores

ROOT = Path(__file__).parents[2]
SECONDS = 120
FIRST = examples()[0]["text"]
HOSTILE = "<img src=x onerror=alert(1)> </script> *bold* $x$"
SHORT = "Mary gave John a"
ALL = [method.title for method in METHODS.values()]

MODELS: dict[str, attnviz.Model] = {}


def hold(smollm2: attnviz.Model, minilm: attnviz.Model) -> None:
    """Open the models once: three in turn would push one another out of the server's pool."""
    MODELS.update(smollm2=smollm2, minilm=minilm)
    MODELS.setdefault("dates", attnviz.load_model("dates"))


def opened(**parameters: str) -> AppTest:
    name = parameters.get("model", "smollm2")
    if name != SAVED:
        stores().models.put(name, MODELS[name])
    test = AppTest.from_file(str(ROOT / "pages/flow.py"), default_timeout=SECONDS)
    for name, value in parameters.items():
        test.query_params[name] = value
    return test.run()


def assert_fine(test: AppTest) -> None:
    assert [exception.message for exception in test.exception] == []
    assert [error.value for error in test.error] == []


def params(test: AppTest) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value[-1] for name, value in test.query_params.items()}


def said(test: AppTest) -> str:
    """All that stands in captions, as people read it."""
    bodies = [element.proto.body for element in test.get("html")]
    return " ".join(html.unescape(re.sub(r"</?p[^>]*>", "", body)) for body in bodies)


def rows_of(test: AppTest) -> list[str]:
    """The rows of bars, by the names that the table of agreement has."""
    table = test.dataframe[0].value
    return list(dict.fromkeys([*table["a"], *table["b"]]))
