"""Claims as tests: findings of a file, measured again on a model, as a table that people and programs can read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnviz.errors import InputError
from attnviz.findings.again import Again, Repeated, measure_again, rests_on
from attnviz.findings.finding import Finding
from attnviz.findings.keeping import model_record
from attnviz.findings.lines import of_lines
from attnviz.findings.records import Outcome
from attnviz.models import Model

MOST_BYTES = 512 << 20
_ID_LETTERS, _CLAIM_LETTERS, _WHAT_LETTERS = 8, 44, 34
_COLUMNS = {"finding": _ID_LETTERS, "claim": _CLAIM_LETTERS, "measured": _WHAT_LETTERS}
HEADER = "  ".join([*(name.ljust(width) for name, width in _COLUMNS.items()), f"{'then':>9}", f"{'now':>9}", "result"])


@dataclass(frozen=True)
class Verified:
    """One finding, measured again.

    holds   None where nothing of it is counted
    """

    again: Repeated
    everything: bool

    @property
    def counted(self) -> tuple[Again, ...]:
        return tuple(one for one in self.again.evidence if one.counts or self.everything)

    @property
    def holds(self) -> bool | None:
        return all(one.holds is True for one in self.counted) if self.counted else None

    def rows(self) -> Iterator[str]:
        """The table's lines: one for each piece of evidence, and under it why it is not as it was."""
        finding = self.again.finding
        if not self.again.evidence:
            yield f"{self._name}  {'-':<{_WHAT_LETTERS}}  {'-':>9}  {'-':>9}  nothing was measured of it"
        for one in self.again.evidence:
            then = one.evidence.outcome.mean
            now = "-" if one.now is None else f"{one.now.mean:+.3f}"
            what = _cut(_what(one), _WHAT_LETTERS)
            yield f"{self._name}  {what:<{_WHAT_LETTERS}}  {then:>+9.3f}  {now:>9}  {self._result(one)}"
            if one.holds is not True:
                yield f"{'':<{_ID_LETTERS}}  {_why(one, finding)}"

    @property
    def _name(self) -> str:
        finding = self.again.finding
        return f"{finding.id[:_ID_LETTERS]}  {_cut(finding.claim, _CLAIM_LETTERS):<{_CLAIM_LETTERS}}"

    def _result(self, one: Again) -> str:
        said = {True: "holds", False: "no longer", None: "cannot be measured"}[one.holds]
        then, now = _n_texts(one.evidence.outcome), 0 if one.now is None else _n_texts(one.now)
        said += f" on {now} of {then} texts" if 0 < now < then else ""
        return said if one in self.counted else f"({said}; not counted)"

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        finding = self.again.finding
        evidence = [
            {
                "kind": one.evidence.measurement.kind,
                "what": one.evidence.measurement.what,
                "heads": [str(head) for head in one.evidence.measurement.heads],
                "then": _numbers(one.evidence.outcome),
                "now": _numbers(one.now),
                "difference": one.difference,
                "holds": one.holds,
                "counted": one in self.counted,
                "rule": one.rule,
                "reason": one.reason,
                "other_model": list(one.model),
            }
            for one in self.again.evidence
        ]
        return {
            "id": finding.id,
            "claim": finding.claim,
            "status": finding.status,
            "holds": self.holds,
            "evidence": evidence,
        }


def read_findings(path: str | Path, only: Sequence[str] = ()) -> list[Finding]:
    """The findings of an exported file; `only` those whose id begins with one of these.

    raises   InputError for a file that cannot be read, or has none, or none with such an id
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"There is no file {file.name} there. Expected findings, exported as JSON Lines.")
    if file.suffix.lower() == ".csv":
        raise InputError(f"{file.name} is a table; findings are read from JSON Lines: export them as that.")
    try:
        if file.stat().st_size > MOST_BYTES:
            raise InputError(f"{file.name} has more than {MOST_BYTES >> 20} MB: split it.")
        found = of_lines(file.read_text("utf-8"), name=file.name)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file.name} cannot be read as a UTF-8 text: {error}.") from error
    if not found:
        raise InputError(f"{file.name} holds no finding: export some as JSON Lines first.")
    for name in only:
        if not any(finding.id.startswith(name) for finding in found):
            raise InputError(f"{file.name} holds no finding whose id begins with {name!r:.40}.")
    return [finding for finding in found if not only or finding.id.startswith(tuple(only))]


def check_counted(findings: Sequence[Finding], *, everything: bool = False) -> None:
    """InputError where nothing would be counted: a test that can only pass is none.

    everything   as of `verified`
    """
    if everything and not any(finding.evidence for finding in findings):
        raise InputError("There is nothing to verify: nothing was measured of any of these findings.")
    if not everything and all(rests_on(finding) is None for finding in findings):
        raise InputError(
            "There is nothing to verify: none of these findings is supported or refuted, and a hypothesis rests on "
            "nothing yet. --all counts the evidence of hypotheses too."
        )


def verified(model: Model, findings: Sequence[Finding], *, everything: bool = False) -> Iterator[Verified]:
    """Each finding measured again, as soon as it is.

    everything   count all evidence, not that alone which a status rests on
    """
    for finding in findings:
        yield Verified(measure_again(model, finding), everything)


def ending(found: Sequence[Verified]) -> str:
    """What all came to, and what is another model than it was, in words."""
    counted = [one for one in found if one.holds is not None]
    held = sum(one.holds is True for one in counted)
    lines = [f"{held} of {len(counted)} counted findings still hold." if counted else "No finding is counted."]
    if len(counted) < len(found):
        lines.append(
            f"{len(found) - len(counted)} not counted: hypotheses rest on nothing yet; --all counts their evidence."
        )
    others = dict.fromkeys(word for one in found for again in one.again.evidence for word in again.model)
    lines += [f"Not as it was: {_cut(word, 200)}." for word in others]
    return "\n".join(lines)


def as_json(model: Model, found: Sequence[Verified]) -> str:
    made = {"model": model_record(model).model_dump(mode="json"), "findings": [one.plain() for one in found]}
    return json.dumps(made, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def _n_texts(outcome: Outcome) -> int:
    return sum(value is not None for value in outcome.values)


def _numbers(outcome: Outcome | None) -> dict[str, Any] | None:
    fields = {"mean", "low", "high", "control_low", "control_high", "unit", "verdict", "words"}
    return None if outcome is None else outcome.model_dump(mode="json", include=fields)


def _what(one: Again) -> str:
    asked = one.evidence.measurement
    heads = " + ".join(map(str, asked.heads[:3])) + (" ..." if len(asked.heads) > 3 else "")
    detail = f"{asked.how} {asked.what}".strip() if asked.kind == "ablation" else asked.what
    return " ".join(part for part in (asked.kind, detail, heads) if part)


def _why(one: Again, finding: Finding) -> str:
    if one.now is None:
        return _cut(one.reason, 400)
    planned = f", now “{one.now.verdict}”" if one.rule.startswith("still") else ""
    lost = f"{one.reason}; " if one.reason else ""
    return f"{lost}{_cut(one.rule, 200)}{planned}: {_cut(one.now.words, 400)}"


def _cut(words: str, most: int) -> str:
    """On one line, without what a terminal would obey."""
    shown = "".join(letter if letter.isprintable() else " " for letter in words)
    return shown if len(shown) <= most else shown[: most - 1] + "…"
