"""Reading times of people, word by word, out of a table that any eye tracker's software may have made.

    rows of a table -> grouped by reader and sentence, in the order of the rows -> Reading

Total times alone: which word was looked at first, and which again, is not in such a table. Punctuation that stands in
rows of its own is kept in its place and marked, and has no part in a word's share: it may share its word's number, and
it is hardly looked at, so that counting it in would make every measure look better than it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from attnviz.corpus import tables
from attnviz.corpus.reading import Layout, inspect
from attnviz.corpus.source import Encoding, Source, clean, lines_of, opened
from attnviz.errors import InputError
from attnviz.human.gaze_columns import Columns, guess_columns

Doubles = npt.NDArray[np.float64]
MOST_ROWS = 1_000_000
MOST_WORDS = 2_000  # of one sentence
MOST_NAME = 100  # characters of a reader's or a sentence's name
_MOST_WORD = 200  # characters
_MOST_MS = 1_000_000.0
_NOT_RECORDED = frozenset(("", "na", "n/a", "nan", "null", "none", ".", "-"))
_THOUSANDS = re.compile(r"\d+(,\d{3})+(\.\d*)?")
_CLOSING = frozenset(".,;:!?)]}%’”…。，、；：？！）")
_OPENING = frozenset("([{“‘（")


@dataclass(frozen=True)
class Moment:
    """One row of a reading as it is played.

    row          its number in the reading
    start_ms     when it begins, all words being read once, in their order
    duration_ms  how long; 0 where it was skipped or not recorded
    intensity    its time as a share of the sentence's longest, in [0, 1]
    """

    row: int
    word: str
    start_ms: float
    duration_ms: float
    intensity: float


@dataclass(frozen=True)
class Reading:
    """One sentence as one person read it; everything is by row, punctuation's rows included.

    times_ms   the total time on each row, in ms; 0: skipped, NaN: not recorded
    word_ids   the table's own numbers; rows may share one
    raises     InputError where the three differ in length, and for times below 0
    """

    reader: str
    sentence: str
    words: tuple[str, ...]
    times_ms: tuple[float, ...]
    word_ids: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.words) == len(self.times_ms) == len(self.word_ids) or not self.words:
            raise InputError(
                f"A reading has a time and a number for each of its words; got {len(self.words)} words, "
                f"{len(self.times_ms)} times and {len(self.word_ids)} numbers."
            )
        if any(time < 0 or math.isinf(time) for time in self.times_ms):
            raise InputError(f"Reading times are 0 or more, NaN where not recorded; got {min(self.times_ms)}.")

    @cached_property
    def punctuation(self) -> tuple[bool, ...]:
        """Which rows hold no letter and no digit."""
        return tuple(not any(c.isalnum() for c in word) for word in self.words)

    @property
    def text(self) -> str:
        """The sentence put together from its rows: a space between words, none before a comma or after a bracket."""
        out = ""
        for word in self.words:
            close = not out or out[-1] in _OPENING or (len(word) == 1 and word in _CLOSING)
            out += word if close else f" {word}"
        return out

    def shares(self) -> Doubles:
        """[row]: each word's share of the time on all words; NaN for punctuation, and for times not recorded.

        All NaN where no word was looked at: such a sentence was not read, or not recorded.
        """
        times = np.where(self.punctuation, np.nan, np.array(self.times_ms))
        total = float(np.nansum(times))
        return times / total if total > 0 else np.full(len(times), np.nan)

    def timeline(self) -> tuple[Moment, ...]:
        """The reading to be played over the text, a Moment for each row.

        Words come in the order of the text, each once and for its total time: total times do not tell in which order
        the eye went, nor when it went back.
        """
        longest = max((time for time in self.times_ms if time > 0), default=1.0)
        out, start = [], 0.0
        for row, (word, time) in enumerate(zip(self.words, self.times_ms, strict=True)):
            lasted = 0.0 if math.isnan(time) else time
            out.append(Moment(row, word, start, lasted, lasted / longest))
            start += lasted
        return tuple(out)


def read_gaze(
    source: Source | pd.DataFrame, columns: Columns | None = None, *, reader: str | None = None
) -> tuple[Reading, ...]:
    """Readings out of a table with a row for each word.

    source    a path, bytes, an open file or pasted CSV or TSV, in any encoding; or a pandas table
    columns   where what stands; None: `guess_columns`
    reader    the name of the one reader where no column has it; None: the file's name, else "reader"
    returns   in the order in which the table has them
    raises    InputError for a table that cannot be read, columns that are not there, times that are no numbers of
              milliseconds, an empty word, more than MOST_ROWS rows or MOST_WORDS words in a sentence, and a sentence
              that comes several times, where readers seem to be mixed
    """
    known = header(source)
    chosen = guess_columns(known) if columns is None else columns
    chosen.check(known)
    name = (reader or _name_of(source)).strip()[:MOST_NAME]
    groups: dict[tuple[str, str], list[tuple[str, float, str]]] = {}
    for number, (line, fields) in enumerate(_rows(source, known)):
        if number == MOST_ROWS:
            raise InputError(f"The table has more than {MOST_ROWS:,} rows. Split it by readers and read the parts.")
        sentence = " ".join(_field(fields[column]) for column in chosen.sentence)[:MOST_NAME]
        who = name if chosen.reader is None else _field(fields[chosen.reader])[:MOST_NAME]
        rows = groups.setdefault((who, sentence), [])
        word_id = str(len(rows)) if chosen.word_id is None else _field(fields[chosen.word_id])[:MOST_NAME]
        rows.append((_word(fields[chosen.word], line), _time(fields[chosen.time], line, chosen), word_id))
        if len(rows) > MOST_WORDS:
            raise InputError(
                f"Sentence '{sentence}' has more than {MOST_WORDS:,} rows. Check that '{chosen.sentence[-1]:.80}' "
                "is the column that tells sentences apart."
            )
    if not groups:
        raise InputError("The table has a header and no rows. Choose a file with a row for each word.")
    found = tuple(Reading(*key, *zip(*rows, strict=True)) for key, rows in groups.items())
    _check(found, chosen)
    return found


def header(source: Source | pd.DataFrame) -> tuple[str, ...]:
    """The names of a table's columns, for `guess_columns` and for choosing; raises InputError as `read_gaze`."""
    if isinstance(source, pd.DataFrame):
        tables.check_columns(len(source.columns), "The table")
        names = tuple(str(name) for name in source.columns)
        tables.check_names(names)
        return names
    layout = _layout(source)
    if layout.kind not in ("csv", "tsv"):
        raise InputError(f"Reading times are read from CSV or TSV; this looks like {layout.kind}. Save it as CSV.")
    return layout.columns


def _layout(source: Source) -> Layout:
    layout = inspect(source, header=True)
    # Pasted tables, and exports whose name ends in .txt.
    return inspect(source, kind="csv", header=True) if layout.kind == "txt" else layout


def _rows(source: Source | pd.DataFrame, known: tuple[str, ...]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if isinstance(source, pd.DataFrame):
        for number, fields in enumerate(source.itertuples(index=False, name=None), 1):
            yield number, dict(zip(known, fields, strict=True))
        return

    def ragged(line: int) -> None:
        raise InputError(
            f"The row at line {line:,} has more or fewer fields than the first. A word that holds the delimiter stands "
            "in quotes."
        )

    layout = _layout(source)
    with opened(source) as file:
        found = tables.csv_rows(lines_of(file, Encoding(layout.encoding), keep_ends=True), layout.delimiter)
        yield from tables.named_rows(islice(found, 1, None), known, ragged)


def _field(value: Any) -> str:
    """A name as text; whole numbers alike whether pandas made floats of them or not."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return clean(str(value)).strip()


def _word(value: Any, line: int) -> str:
    word = "" if value is None or (isinstance(value, float) and math.isnan(value)) else clean(str(value)).strip()
    if not word or len(word) > _MOST_WORD:
        got = "is empty" if not word else f"has {len(word):,} characters"
        raise InputError(
            f"The word in row {line:,} {got}; expected one word of at most {_MOST_WORD}. Check the column of words."
        )
    return word


def _time(value: Any, line: int, columns: Columns) -> float:
    said = str(value).strip()
    if said.lower() in _NOT_RECORDED:
        return math.nan
    # "1,234" may be a thousand or one and a bit, so it is refused; "12,5" is a decimal comma.
    plain = said if _THOUSANDS.fullmatch(said) else said.replace(",", ".")
    try:
        time = float(plain) * (1000.0 if columns.unit == "s" else 1.0)
    except ValueError:
        time = -1.0
    if math.isnan(time):
        return time
    if not 0 <= time <= _MOST_MS:
        raise InputError(
            f"The time in row {line:,} is {said!r:.60}; '{columns.time:.80}' has to hold a number of {columns.unit} "
            f"from 0 to {_MOST_MS / (1000 if columns.unit == 's' else 1):.0f}, without marks between thousands; or "
            "nothing, where it was not recorded."
        )
    return time


def _check(readings: tuple[Reading, ...], columns: Columns) -> None:
    longest = max((time for one in readings for time in one.times_ms if not math.isnan(time)), default=0.0)
    if columns.unit == "ms" and 0 < longest < 20:
        raise InputError(
            f"The longest time in '{columns.time:.80}' is {longest:g} ms, which no eye rests: if times are in seconds, "
            'say unit "s".'
        )
    for one in readings:
        n = len(one.words)
        if any(n % part == 0 and one.words == one.words[:part] * (n // part) for part in range(3, n // 2 + 1)):
            raise InputError(
                f"Sentence '{one.sentence}' of reader '{one.reader}' holds its words several times. If the table has "
                "several readers, or texts that number their sentences anew, name those columns too."
            )


def _name_of(source: Source | pd.DataFrame) -> str:
    name = source.name if isinstance(source, Path) else getattr(source, "name", "")
    return (clean(Path(name).stem) if isinstance(name, str) else "") or "reader"
