"""What people say of predictions and explanations: a thumb, a reason and, where there is one, what was wanted instead.

    up       it is right: `wanted` is the answer that is confirmed, if any
    down     it is not: `wanted` is the right answer, if known, and `foil` what the model said

Kept as JSON Lines, one object a line. `examples` makes of it what gates (`attnviz.gates.learn`) and head profiles are
learned from: whatever names a wanted answer to a text.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from attnviz.ablation import Case
from attnviz.errors import InputError, TextError
from attnviz.text import check_text

Kind = Literal["prediction", "explanation"]
Verdict = Literal["up", "down"]

MOST_CHARS = {"text": 50_000, "reason": 2_000, "wanted": 2_000, "foil": 2_000, "model": 500, "at": 40}
MOST_LINES = 100_000
_MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class Feedback:
    """One judgement.

    text      what the model read
    kind      "prediction" or "explanation"
    verdict   "up" or "down"
    reason    in the person's words; "" for none
    wanted    the right answer, as it continues the text (" Mary"), fills its mask, or is its target; "" if not said
    foil      what should not have come; "" if not said
    model     its name
    at        when: ISO 8601, with the offset from UTC, given by the caller
    raises    InputError for another kind or verdict, a text that no tokenizer takes or that is too long (MOST_CHARS), a
              foil that is wanted, or a time without an offset
    """

    text: str
    kind: Kind
    verdict: Verdict
    reason: str = ""
    wanted: str = ""
    foil: str = ""
    model: str = ""
    at: str = ""

    def __post_init__(self) -> None:
        for name, known in (("kind", get_args(Kind)), ("verdict", get_args(Verdict))):
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {' or '.join(map(repr, known))}; got {getattr(self, name)!r:.80}.")
        for name, most in MOST_CHARS.items():
            _check(name, getattr(self, name), most, needed=name == "text")
        if self.wanted and self.wanted == self.foil:
            raise InputError(
                f"wanted and foil are the same, {self.wanted!r:.80}: give what was wrong, or leave it out."
            )
        if self.at:
            try:
                offset = datetime.fromisoformat(self.at).utcoffset()
            except ValueError as error:
                raise InputError(f"at is a time such as '2026-01-31T12:00:00+00:00'; got {self.at!r}.") from error
            if offset is None:
                raise InputError(f"at needs its offset from UTC, such as '2026-01-31T12:00:00+00:00'; got {self.at!r}.")


_NAMES = [field.name for field in fields(Feedback)]
_NEEDED = ("text", "kind", "verdict")


def examples(feedback: Iterable[Feedback], *, model: str | None = None) -> list[Case]:
    """The examples in feedback, each once, in its order: Cases without a corrupted text.

    model   of this model alone; None: of all, which may want different answers of one text

    Feedback on a prediction counts where it says what was wanted. The last word on a text and a model holds, also where
    it takes back what was wanted before. What is said of explanations teaches no answer.
    """
    latest: dict[tuple[str, str], Feedback] = {}
    for one in feedback:
        if one.kind == "prediction" and model in (None, one.model):
            latest.pop((one.text, one.model), None)
            latest[one.text, one.model] = one
    return list(dict.fromkeys(Case(one.text, "", one.wanted, one.foil) for one in latest.values() if one.wanted))


def to_lines(feedback: Iterable[Feedback]) -> str:
    """JSON Lines, UTF-8 when written, one object a line."""
    return "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in feedback)


def of_lines(text: str, name: str = "feedback") -> list[Feedback]:
    """What `to_lines` gave, in its order; empty lines are passed over.

    name     what to call it in messages
    raises   InputError naming the line and what is wrong with it; for more than 100,000 lines
    """
    lines = text.split("\n")
    if len(lines) > MOST_LINES + 1:
        raise InputError(f"{name} has {len(lines):,} lines, and at most {MOST_LINES:,} are read: split it.")
    return [_of_line(line, f"{name}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]


def write(feedback: Iterable[Feedback], path: str | Path) -> Path:
    """Write a .jsonl file, whole or not at all; InputError where it cannot be written."""
    file = Path(path)
    partial = file.with_name(f"{file.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.write_text(to_lines(feedback), "utf-8", newline="\n")
        os.replace(partial, file)
    except OSError as error:
        raise InputError(f"Feedback cannot be written to {file.name!r}: {error}. Choose another place.") from error
    finally:
        partial.unlink(missing_ok=True)
    return file


def read(path: str | Path) -> list[Feedback]:
    """Feedback of a .jsonl file; InputError as `of_lines`, and for a file that cannot be read."""
    file = Path(path)
    try:
        text = file.read_text("utf-8-sig") if file.stat().st_size <= _MOST_BYTES else None
    except (OSError, ValueError) as error:  # ValueError: bytes that are no text, and a path with a null byte
        raise InputError(f"{file.name!r} cannot be read as a UTF-8 text: {error}.") from error
    if text is None:
        raise InputError(f"{file.name!r} has more than {_MOST_BYTES:,} bytes: split it.")
    return of_lines(text, file.name)


def _of_line(line: str, at: str) -> Feedback:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{at}: not JSON ({error}).") from error
    if not isinstance(row, dict) or not set(_NEEDED) <= row.keys() <= set(_NAMES):
        raise InputError(
            f"{at}: expected an object with {', '.join(_NEEDED)} and, if wanted, {', '.join(_NAMES[len(_NEEDED) :])}; "
            f"got {row!r:.120}."
        )
    try:
        return Feedback(**row)
    except InputError as error:
        raise InputError(f"{at}: {error}") from error


def _check(name: str, value: Any, most: int, *, needed: bool) -> None:
    if not isinstance(value, str):
        raise InputError(f"{name} is a text; got {value!r:.80}.")
    if value.strip() or needed:
        try:
            check_text(value, max_chars=most)
        except TextError as error:
            raise TextError(f"{name}: {error}") from error
    elif len(value) > most:
        raise TextError(f"{name}: expected at most {most} characters, got {len(value)}. Shorten it.")
