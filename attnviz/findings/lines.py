"""Findings as JSON Lines, one a line: what is exported, sent to somebody else, and verified again.

    to_lines([finding, ...])      a text that ends with a line feed
    of_lines(text, name="a.jsonl")

Lines are separated by line feeds alone: U+2028 and its kin may stand in a claim. What is read is checked as it was when
it was made: a line whose status its own evidence does not hold up is refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from attnviz.errors import InputError
from attnviz.findings.finding import Finding

MOST_LINES = 10_000
_SHOWN_LETTERS = 200


def to_lines(findings: Iterable[Finding]) -> str:
    """One finding a line; `of_lines` gives the same values back."""
    return "".join(finding.model_dump_json() + "\n" for finding in findings)


def of_lines(text: str, *, name: str = "these lines") -> list[Finding]:
    """Findings of JSON Lines, in their order; blank lines are none.

    name     what the text is, for messages: a file's name
    raises   InputError, naming the line, for what is no finding, a finding that comes twice, or too many lines
    """
    found: list[Finding] = []
    places: dict[str, int] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if not line.strip():
            continue
        if len(found) == MOST_LINES:
            raise InputError(f"{name} holds more than {MOST_LINES:,} findings: split it.")
        try:
            finding = Finding.model_validate_json(line)
        except ValidationError as error:
            raise InputError(f"{name}, line {number}: {plain(error)}") from error
        first = places.setdefault(finding.id, number)
        if first != number:
            raise InputError(f"{name}, line {number}: the finding {finding.id} stands in line {first} already.")
        found.append(finding)
    return found


def plain(error: ValidationError) -> str:
    """What is wrong with a record, in a sentence: the first thing, and how many more there are."""
    first, *others = error.errors(include_url=False, include_context=False, include_input=False)
    where = ".".join(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ")[:_SHOWN_LETTERS].rstrip(".")
    more = f", and {len(others)} more" if others else ""
    return f"{where}: {said}{more}." if where else f"{said}{more}."
