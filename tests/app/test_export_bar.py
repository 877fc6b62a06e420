"""Taking a view along: nothing is made before somebody asks, and the page says what there is and how large."""

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest


def page(rows: int) -> None:
    import streamlit as st

    from attnviz.ui.export import export_bar

    def refuse():
        st.session_state["made"] = True
        raise AssertionError("made before anybody asked for it")

    export_bar("Map of <L5H1> / 'x'", refuse, refuse, "import attnviz\n", rows=rows)
    export_bar("Map of <L5H1> / 'x'", refuse, refuse, "import attnviz\n", rows=rows, key="second")


def drawn(rows: int) -> tuple[AppTest, list[Any], str]:
    """The page, the download buttons of its first bar, and what it says."""
    test = AppTest.from_function(page, kwargs={"rows": rows}, default_timeout=60).run()
    assert not test.exception
    assert "made" not in test.session_state
    buttons = [element.proto for element in test.get("download_button")]
    said = " ".join(element.proto.body for element in test.get("html"))
    return test, buttons[: len(buttons) // 2], said


def test_every_kind_of_file_is_offered_with_the_lines_of_python() -> None:
    test, buttons, said = drawn(100)
    assert [button.label for button in buttons] == ["HTML", "CSV", "JSON", "Parquet"]
    assert all(button.deferred_file_id for button in buttons)
    assert [code.value for code in test.code] == ["import attnviz"] * 2
    assert [code.language for code in test.code] == ["python"] * 2
    assert "no network" in said
    assert "rows" not in said


def test_a_large_table_says_its_size_first() -> None:
    _, buttons, said = drawn(400_000)
    assert len(buttons) == 4
    assert "400,000 rows: CSV about 14 MB, JSON about 38 MB, Parquet about 2 MB" in said


@pytest.mark.parametrize("rows", [1_000_001, 2048 * 2048])
def test_a_table_too_large_for_spreadsheets_comes_as_parquet_alone(rows: int) -> None:
    _, buttons, said = drawn(rows)
    assert [button.label for button in buttons] == ["HTML", "Parquet"]
    assert f"{rows:,} rows, more than a spreadsheet takes" in said
