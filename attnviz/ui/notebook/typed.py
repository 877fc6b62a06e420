"""What is typed or uploaded in the Notebook, read: heads, and the texts of a plan."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from attnviz.ablation.cases import rows_of
from attnviz.errors import InputError
from attnviz.findings import Case, HeadAt
from attnviz.findings.lines import plain
from attnviz.findings.records import MOST_CASES

FIELDS = ("text", "target", "donor", "answer", "foil", "query", "key", "marks")
_HEAD = re.compile(r"(?:(encoder|decoder|cross)\s+)?L(\d{1,4})H(\d{1,4})", re.IGNORECASE)
_SPLIT = re.compile(r"[,;\n]+")


def heads_of(typed: str) -> tuple[HeadAt, ...]:
    """L5H1, cross L0H2; each once. InputError for anything else."""
    found = []
    for piece in filter(None, (part.strip() for part in _SPLIT.split(typed))):
        match = _HEAD.fullmatch(piece)
        if match is None:
            raise InputError(
                f"Heads are written L5H1, L7H2, with a site before where there are several; got {piece!r:.60}."
            )
        site = match[1].lower() if match[1] else None
        found.append(HeadAt.model_validate({"layer": int(match[2]), "head": int(match[3]), "site": site}))
    return tuple(dict.fromkeys(found))


def cases_of_lines(typed: str, shared: Mapping[str, str]) -> tuple[Case, ...]:
    """One text a line, or one JSON object a line with the fields of FIELDS.

    shared   fields that hold for every plain line, as "answer" and "key"; "" for none
    raises   InputError naming the line
    """
    if typed.lstrip().startswith("{"):
        return cases_of_file(typed.encode(errors="replace"), "lines.jsonl")
    given = {name: value for name, value in shared.items() if value}
    lines = [(number, line) for number, line in enumerate(typed.split("\n"), 1) if line.strip()]
    return _checked([(f"line {number}", {"text": line.rstrip("\r"), **given}) for number, line in lines])


def cases_of_file(data: bytes, name: str) -> tuple[Case, ...]:
    """Texts of a .jsonl or .csv file with the fields of FIELDS; InputError naming the line."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"texts{Path(name).suffix}"
        copy.write_bytes(data)
        try:
            rows = rows_of(copy, "Texts of a plan")
        except InputError as error:
            raise InputError(str(error).replace(copy.name, name)) from error
    return _checked([(at.replace(copy.name, name), row) for at, row in rows])


def _checked(rows: list[tuple[str, Any]]) -> tuple[Case, ...]:
    if not 1 <= len(rows) <= MOST_CASES:
        raise InputError(f"A plan is measured on 1 to {MOST_CASES} texts; got {len(rows)}.")
    found = []
    for at, row in rows:
        if not isinstance(row, dict):
            raise InputError(f"{at}: expected an object with {', '.join(FIELDS)}; got {row!r:.60}.")
        known = {name: row[name] for name in FIELDS if row.get(name)}
        marks = known.get("marks")
        try:
            if isinstance(marks, str):  # of a CSV: weights with blanks between
                known["marks"] = tuple(float(part) for part in marks.split())
            found.append(Case.model_validate(known))
        except ValidationError as error:
            raise InputError(f"{at}: {plain(error)}") from error
        except ValueError as error:
            raise InputError(f"{at}: marks are numbers with blanks between; got {marks!r:.60}.") from error
    return tuple(found)
