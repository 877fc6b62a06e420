"""What a map's Python hands to the browser's side, and what its callbacks are given; no browser is needed for it."""

import re
from typing import Any

import numpy as np
import pytest

from attnviz.figures.palette import SEQUENTIAL
from attnviz.ui.components import maps


def draw_map(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[dict[str, Any], list[object]]:
    """What matrix() hands to the browser's side, and what its callbacks get."""
    mounted: dict[str, Any] = {}
    got: list[object] = []
    monkeypatch.setattr(maps, "_mount", lambda **given: mounted.update(given))
    given = {
        "values": np.array([[0.5, np.nan], [0.25, 0.75]], np.float32),
        "key": "map",
        "row_labels": ["a", "b"],
        "col_labels": ["a", "b"],
        "row_axis": "query",
        "col_axis": "key",
        "value_name": "attention",
        "palettes": SEQUENTIAL,
        "low": 0.0,
        "high": 1.0,
        "selected": None,
        "label": "",
        "on_pick": lambda row, col: got.append((row, col)),
        "on_window": got.append,
        "on_box": got.append,
    }
    maps.matrix(**{**given, **changes})
    return mounted, got


MISFITS = {
    "values: two dimensions": {"values": np.zeros(3)},
    "neither empty": {"values": np.zeros((0, 2))},
    "2 x 2 values, but 1 row": {"row_labels": ["a"]},
    "shape: 1 to 4096": {"shape": (2, 5000)},
    "values: 3 x 2 expected": {"shape": (3, 2)},
    "values: 1 x 2 expected for the window (0, 2, 0, 2) in blocks of 2 x 1": {"pool": (2, 1)},
    "pool: two sizes": {"pool": (0, 1)},
    "window: row0 < row1": {"window": (0, 2, 1, 1)},
    "zoom: row0 < row1": {"zoom": (0, 2, 0, 3)},
    "box: row0 < row1": {"box": (2, 1, 0, 2)},
    "box_value: a finite number": {"box_value": float("nan")},
    "selected: (2, 0) is outside": {"selected": (2, 0)},
    "row_units: 2 pairs": {"row_units": [(0, 1)]},
    "col_units: 2 pairs": {"col_units": [(0, 1), (3, 2)]},
    "scale: one of": {"scale": "cubic"},
    "must be finite": {"high": float("inf")},
    "palettes": {"palettes": {"light": ["red"], "dark": ["#000000"]}},
}


@pytest.mark.parametrize("words", MISFITS)
def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        draw_map(monkeypatch, **MISFITS[words])


def test_callbacks_are_given_only_what_the_map_has(monkeypatch: pytest.MonkeyPatch) -> None:
    mounted, got = draw_map(monkeypatch)
    sent: dict[str, Any] = {}
    monkeypatch.setattr(maps, "sent", lambda key, trigger: sent)
    forged: list[dict[str, Any]] = [
        {},
        {"row": 0, "col": 1},  # NaN: no cell
        {"row": 2, "col": 0},
        {"row": True, "col": 0},
        {"row": "0", "col": 0},
        {"window": [0, 3, 0, 2], "box": [0, 0, 0, 1]},
        {"window": [0, 1], "box": "<b>"},
        {"window": [0, 1.5, 0, 1], "box": [False, True, False, True]},
    ]
    for value in forged:
        sent.clear()
        sent.update(value)
        for name in ("pick", "window", "box"):
            mounted[f"on_{name}_change"]()
    assert got == []
    sent.clear()
    sent.update({"row": 1, "col": 0, "window": None, "box": [0, 1, 0, 2]})
    for name in ("pick", "window", "box"):
        mounted[f"on_{name}_change"]()
    assert got == [(1, 0), None, (0, 1, 0, 2)]


def test_a_block_is_not_picked_but_a_single_cell_of_a_part_is(monkeypatch: pytest.MonkeyPatch) -> None:
    part = {"shape": (8, 8), "row_labels": list("abcdefgh"), "col_labels": list("abcdefgh")}
    for change, wanted in (({"window": (4, 6, 2, 4)}, [(5, 2)]), ({"window": (4, 8, 2, 6), "pool": (2, 2)}, [])):
        mounted, got = draw_map(monkeypatch, **part, **change)
        monkeypatch.setattr(maps, "sent", lambda key, trigger: {"row": 5, "col": 2})
        mounted["on_pick_change"]()
        assert got == wanted
