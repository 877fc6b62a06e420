"""Examples as people bring them: lines that are pasted, files, feedback, and the app's own."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from attnviz import feedback
from attnviz.errors import InputError
from attnviz.models import Model
from attnviz.ui.feedback import given
from attnviz.ui.gates.course import MOST_ROWS, Row
from attnviz.ui.session import model_name

_ASSETS = Path(__file__).resolve().parents[3] / "assets"
_OWN = 16
_NAMES = {"text": ("text", "clean"), "answer": ("answer", "wanted"), "foil": ("foil",)}  # as feedback and pairs have it


def rows_of(text: str, name: str = "What was pasted") -> list[Row]:
    """Examples of JSON Lines, of CSV or tab-separated lines with or without a first line of names.

    name     what to call it in messages
    raises   InputError naming the line and what is wrong with it
    """
    lines = [line for line in text.lstrip("\ufeff").splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{name} holds no line: give one example a line, such as: The keys, are, is")
    found = _of_json(lines, name) if lines[0].lstrip().startswith("{") else _of_table(lines, name)
    if len(found) > MOST_ROWS:
        raise InputError(f"{name} has {len(found):,} examples, and at most {MOST_ROWS} are taken: leave some out.")
    return found


def of_feedback() -> list[Row]:
    """What this person said was wanted, as far as a table can hold it."""
    found = []
    for case in feedback.examples(given(), model=model_name()):
        try:
            found.append(Row(text=case.clean, answer=case.answer, foil=case.foil))
        except ValidationError:
            continue  # longer than an example may be
    return found


def own(model: Model) -> list[Row]:
    """The app's own: number agreement in English; for an encoder at its mask, for an encoder-decoder dates."""
    if model.family == "encoder-decoder":
        lines = (_ASSETS / "dates" / "dates.tsv").read_text("utf-8").splitlines()[:_OWN]
        return [Row(text=text, answer=answer) for text, answer in (line.split("\t") for line in lines)]
    if model.family == "encoder":
        mask = getattr(model.tokenizer, "mask_token", None) or "[MASK]"
        return [row.model_copy(update={"text": f"{row.text} {mask} here."}) for row in agreement()]
    return list(agreement())


@cache
def agreement() -> tuple[Row, ...]:
    """Sixteen sentence starts with the verb that agrees and the one that does not."""
    lines = (_ASSETS / "gate_examples.jsonl").read_text("utf-8").splitlines()
    return tuple(Row.model_validate_json(line) for line in lines)


def _of_json(lines: list[str], name: str) -> list[Row]:
    found = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{name}, line {number}: not JSON ({error}).") from error
        if not isinstance(row, dict):
            raise InputError(f'{name}, line {number}: expected {{"text": ..., "answer": ..., "foil": ...}}.')
        found.append(_named(row, f"{name}, line {number}"))
    return found


def _of_table(lines: list[str], name: str) -> list[Row]:
    mark = "\t" if "\t" in lines[0] else ";" if lines[0].count(";") in (1, 2) and "," not in lines[0] else ","
    try:
        table = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=mark, strict=True))
    except csv.Error as error:
        raise InputError(
            f"{name} cannot be read as a table: {error}. Put texts with quotes into JSON Lines."
        ) from error
    head = [cell.strip().lower() for cell in table[0]]
    if any(one in head for one in _NAMES["text"]) and any(one in head for one in _NAMES["answer"]):
        return [
            _named(dict(zip(head, cells, strict=False)), f"{name}, row {number}")
            for number, cells in enumerate(table[1:], 2)
        ]
    found = []
    for number, cells in enumerate(table, 1):
        if len(cells) not in (2, 3):
            raise InputError(
                f"{name}, row {number}: expected text, answer and, if wanted, foil; got {len(cells)} field"
                f"{'s' * (len(cells) != 1)}. Divide them by tabs, or put a text that has commas into quotes."
            )
        found.append(_row(dict(zip(("text", "answer", "foil"), cells, strict=False)), f"{name}, row {number}"))
    return found


def _named(given: Mapping[str, Any], at: str) -> Row:
    """A row by the names of its parts; others are passed over."""
    parts = {}
    for part, names in _NAMES.items():
        value = next((given[one] for one in names if given.get(one) is not None), "")
        if not isinstance(value, str):
            raise InputError(f"{at}: {part} is a text; got {value!r:.60}.")
        parts[part] = value
    return _row(parts, at)


def _row(parts: Mapping[str, str], at: str) -> Row:
    for part in ("text", "answer"):
        if not parts.get(part, "").strip():
            raise InputError(f"{at}: there is no {part}. Each example needs a text and the answer that was wanted.")
    try:
        return Row(**parts)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=True, include_input=False)[0]
        raise InputError(f"{at}: {first.get('ctx', {}).get('error', first['msg'])}") from error
