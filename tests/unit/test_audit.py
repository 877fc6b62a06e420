"""The audit fails for a weakness, and does not pass for having looked where it has not."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from audit import verdict

FINE: dict[str, Any] = {"name": "fine", "version": "1", "vulns": []}
WEAK: dict[str, Any] = {"name": "weak", "version": "2", "vulns": [{"id": "CVE-0"}]}
UNKNOWN: dict[str, Any] = {"name": "own", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        ([FINE, UNKNOWN], 0, "1 packages looked up, 1 unknown, 0 with"),
        ([FINE, WEAK], 1, "weak 2: [{'id': 'CVE-0'}]"),
        ([UNKNOWN, UNKNOWN], 0, "Not audited: the database that is reached here knows none of 2"),
    ],
)
def test_the_verdict(found: list[dict[str, Any]], code: int, words: str) -> None:
    said, ended = verdict(found)
    assert ended == code
    assert words in said
