"""Opening the Flow page with models that are opened once."""

from streamlit.testing.v1 import AppTest

import attnviz
import pages
from attnviz.flow.methods import METHODS
from attnviz.ui.selection import SAVED
from attnviz.ui.session import examples, stores

FIRST = examples()[0]["text"]
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
    return pages.opened("flow", **parameters)


def rows_of(test: AppTest) -> list[str]:
    """The rows of bars, by the names that the table of agreement has."""
    table = test.dataframe[0].value
    return list(dict.fromkeys([*table["a"], *table["b"]]))
