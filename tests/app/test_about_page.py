"""About: what runs here and what the operator set, and nothing secret."""

import pandas as pd
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz.settings import settings
from attnviz.ui import about
from attnviz.ui.session import stores
from pages import assert_fine, opened, said


def column(test: AppTest, names: str, values: str) -> dict[str, str]:
    """Two columns of the table that has them."""
    tables = [pd.DataFrame(element.value) for element in test.dataframe]
    return next(dict(table[[names, values]].to_numpy()) for table in tables if {names, values} <= set(table.columns))


def test_the_page_shows_versions_memory_and_settings(held_models: None) -> None:
    test = opened("about")
    assert_fine(test)
    versions = column(test, "what", "version")
    assert versions["torch"]
    assert versions["Python"].startswith("3.")
    held = column(test, "what", "held")
    assert {f"Model {name}" for name in stores().models.names()} <= set(held)
    assert "Traces and results" in held
    here = column(test, "setting", "here")
    assert here["ATTNVIZ_MAX_TOKENS"] == str(settings().max_tokens)
    assert "/_stcore/health" in said(test)


def test_tied_weights_count_once(smollm2: attnviz.Model) -> None:
    assert about.model_bytes(smollm2) == 4 * smollm2.info.n_parameters
