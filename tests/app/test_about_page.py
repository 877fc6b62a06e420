"""About: what runs here and what the operator set, and nothing secret."""

import pandas as pd
import pytest
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


def test_where_folders_lie_and_the_store_s_address_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNVIZ_DATA_DIR", "/srv/ann/kept")
    monkeypatch.setenv("ATTNVIZ_MODEL_DIRS", '["/srv/ann/models", "/opt/weights"]')
    monkeypatch.setenv("ATTNVIZ_STORE_URL", "postgresql+psycopg://ann:hunter2@db.example/notes")
    settings.cache_clear()
    try:
        rows = {row["setting"]: row for row in about.set_by_operator()}
    finally:
        monkeypatch.undo()
        settings.cache_clear()
    assert rows["ATTNVIZ_DATA_DIR"]["here"] == "kept"
    assert rows["ATTNVIZ_MODEL_DIRS"]["here"] == "models, weights"
    assert rows["ATTNVIZ_STORE_URL"]["set"] == "by the operator"
    assert not any(word in str(rows) for word in ("srv", "ann", "hunter2", "db.example"))
