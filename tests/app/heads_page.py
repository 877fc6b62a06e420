"""What tests of the Heads page share: short texts on a shelf of their own, and the page in Streamlit's test harness."""

from collections.abc import Iterator

import pytest
from streamlit.testing.v1 import AppTest

import attnviz
import pages
from attnviz.corpus import Item, Shelf, Summary
from attnviz.ui import measuring
from attnviz.ui.session import stores

HOSTILE = "</script><img src=x onerror=alert(1)> *bold* $x$, and so on, and on"
TEXTS = [
    "The cat sat on the mat, and the dog sat on the cat.",
    "Nobody came; nobody called.",
    HOSTILE,
    "A very unbelievable story about a storyteller",
    "One, two, three, four, five!",
    "Rain fell.",
]
DATES = [("the 3rd of May 1998", "1998-05-03"), ("June 1, 2001", "2001-06-01")]
MODELS: dict[str, attnviz.Model] = {}
KEYS: dict[str, str] = {}


def own_shelf(tmp_path_factory: pytest.TempPathFactory, minilm: attnviz.Model) -> Iterator[None]:
    """A shelf of its own for all of a module, and both models opened once."""
    shelf = Shelf(tmp_path_factory.mktemp("shelf") / "corpora.sqlite")
    MODELS["minilm"] = minilm
    MODELS.setdefault("dates", attnviz.load_model("dates"))
    KEYS["minilm"] = shelf.add([Item(text) for text in TEXTS], "Six <b>texts</b>")
    KEYS["dates"] = shelf.add([Item(text, "", pair) for text, pair in DATES], "Two dates")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "shelf", lambda: shelf)
        yield


def opened(**parameters: str) -> AppTest:
    parameters = {"model": "minilm"} | parameters
    name = parameters["model"]
    if name in MODELS:
        stores().models.put(name, MODELS[name])
        parameters = {"corpus": KEYS[name]} | parameters
    return pages.opened("heads", **parameters)


def summary_of(name: str, site: str | None = None) -> Summary:
    shelf, key = measuring.shelf(), KEYS[name]
    ran = attnviz.corpus.run(MODELS[name], shelf, key, site=site)
    return Summary.of(shelf.results(key, ran.run))


def card_of(test: AppTest) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in test.dataframe[0].value.itertuples(index=False, name=None)}
