"""Examples as people bring them: lines that are pasted, files, feedback, and the app's own."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
_NAMES = {  # the first of each as the page has it, some others as feedback and pairs do
    "text": ("text", "clean", "prompt", "question", "sentence", "input", "context", "source"),
    "answer": ("answer", "wanted", "target", "completion", "label", "output", "correct", "gold"),
    "foil": ("foil", "distractor", "counterfactual", "incorrect", "rejected"),
}
_PLAIN = ("text", "clean", "answer", "wanted")  # nothing need be said of these
_LIKE_A_NAME = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True)
class Brought:
    """Examples of a file or a paste; `remark`: how its first line was taken, where that is not plain, or ""."""

    rows: list[Row]
    remark: str = ""


def rows_of(text: str, name: str = "What was pasted") -> Brought:
    """Examples of JSON Lines, of CSV or tab-separated lines with or without a first line of names.

    A first line of names that are not known is taken for one all the same where it looks like it, with a remark.

    name     what to call it in messages
    raises   InputError naming the line and what is wrong with it
    """
    lines = [line for line in text.lstrip("\ufeff").splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{name} holds no line: give one example a line, such as: The keys, are, is")
    found = Brought(_of_json(lines, name)) if lines[0].lstrip().startswith("{") else _of_table(lines, name)
    n = len(found.rows)
    if n > MOST_ROWS:
        raise InputError(f"{name} has {n:,} examples, and at most {MOST_ROWS} are taken: leave some out.")
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
        return list(_asset("gate_dates.jsonl"))
    if model.family == "encoder":
        mask = getattr(model.tokenizer, "mask_token", None) or "[MASK]"
        return [row.model_copy(update={"text": f"{row.text} {mask} here."}) for row in agreement()]
    return list(agreement())


def agreement() -> tuple[Row, ...]:
    """Sentence starts with the verb that agrees and the one that does not: small models get about half of them wrong.

    Ones that a model has right already would leave nothing to be learned.
    """
    return _asset("gate_examples.jsonl")


@cache
def _asset(name: str) -> tuple[Row, ...]:
    lines = (_ASSETS / name).read_text("utf-8").splitlines()
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


def _of_table(lines: list[str], name: str) -> Brought:
    mark = "\t" if "\t" in lines[0] else ";" if lines[0].count(";") in (1, 2) and "," not in lines[0] else ","
    try:
        table = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=mark, strict=True))
    except csv.Error as error:
        raise InputError(
            f"{name} cannot be read as a table: {error}. Put texts with quotes into JSON Lines."
        ) from error
    head = [cell.strip().lower() for cell in table[0]]
    columns, remark = _columns(head), ""
    if not (columns.get("text") in _PLAIN and columns.get("answer") in _PLAIN):
        if not _looks_like_names(table, bool(columns)):
            return Brought(_in_order(table, name))
        columns, remark = _completed(head, columns, name)
    parts = [head.index(column) for column in columns.values()]
    rows = []
    for number, cells in enumerate(table[1:], 2):
        given = {part: cells[at] if at < len(cells) else "" for part, at in zip(columns, parts, strict=True)}
        rows.append(_row(given, f"{name}, row {number}"))
    return Brought(rows, remark)


def _columns(head: Sequence[str]) -> dict[str, str]:
    """Part of an example -> the column that holds it, as far as names are known."""
    known = {part: next((one for one in names if one in head), "") for part, names in _NAMES.items()}
    return {part: column for part, column in known.items() if column}


def _looks_like_names(table: Sequence[Sequence[str]], known: bool) -> bool:
    """Whether a first row is single lower-case words above rows of something else.

    known   one of them is a name that is known
    A cell that begins with a space is an answer that continues its text.
    """
    first, rest = [cell.lower() if known else cell for cell in table[0]], table[1:]
    if not rest or len(first) < 2 or not all(_LIKE_A_NAME.fullmatch(cell) for cell in first):
        return False
    return known or all(cells and len(cells[0].split()) > 1 for cells in rest)


def _completed(head: Sequence[str], columns: Mapping[str, str], name: str) -> tuple[dict[str, str], str]:
    """Where text or answer is missing, columns of unknown names in their order take what is; and that in words."""
    missing, left = [], [one for one in head if one not in columns.values()]
    if not {"text", "answer"} <= columns.keys():
        missing = [part for part in _NAMES if part not in columns]
        if len(left) > len(missing) or not {"text", "answer"} <= {*columns, *missing[: len(left)]}:
            raise InputError(
                f"{name}, row 1: of the columns {', '.join(head):.120} it is not plain which hold the text and the "
                "answer: call them text, answer and, if there is one, foil."
            )
    found = {**columns, **dict(zip(missing, left, strict=False))}
    taken = ", ".join(f"{part} from “{found[part]:.40}”" for part in _NAMES if part in found)
    over = ", ".join(one for one in left if one not in found.values())
    more = f" Passed over: {over:.120}." if over else ""
    return found, f"Row 1 looks like column names, so it is no example: {taken}.{more}"


def _in_order(table: Sequence[Sequence[str]], name: str) -> list[Row]:
    """Rows of text, answer and, if wanted, foil."""
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
