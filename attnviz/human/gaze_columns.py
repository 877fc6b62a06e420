"""Which columns of a table of reading times hold what, guessed from their names.

Nothing is standard here: ZuCo's features have `sentence_id`, `word` and `TRT`; eyekit's reports `trial_id`,
`interest_area_text` and `total_fixation_duration`; the SR Data Viewer `TRIAL_INDEX`, `IA_LABEL` and `IA_DWELL_TIME`;
GECO `PP_NR`, `SENTENCE_ID`, `WORD` and `WORD_TOTAL_READING_TIME`. Names are compared without case and punctuation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from attnviz.errors import InputError

TimeUnit = Literal["ms", "s"]
TIME_UNITS: tuple[TimeUnit, ...] = get_args(TimeUnit)

# In the order of preference; the measure is the total time on a word, and measures of a part of it come last.
_SENTENCE = ("sentenceid", "sentence", "sentencenumber", "sentencenr", "sentenceindex", "sentid", "sentnum")
_TRIAL = ("trialid", "trial", "trialindex", "trialnumber", "itemid", "item", "itemnumber", "stimulusid", "stimulus")
_TEXT = ("textid", "passageid", "passage", "storyid", "story", "documentid", "paragraphid", "paragraph")
_WORD = (
    "word",
    "words",
    "wordtext",
    "ialabel",
    "interestareatext",
    "interestarealabel",
    "interestarea",
    "token",
    "wordform",
    "label",
    "text",
)
_TIME = (
    "trt",
    "totalreadingtime",
    "wordtotalreadingtime",
    "readingtime",
    "iadwelltime",
    "dwelltime",
    "totalfixationduration",
    "totalduration",
    "totaltime",
    "tt",
    "tft",
    "duration",
    "time",
    "rt",
    "gazeduration",
    "gd",
    "firstpassduration",
    "ffd",
)
_READER = (
    "reader",
    "readerid",
    "participant",
    "participantid",
    "subject",
    "subjectid",
    "subj",
    "subid",
    "ppnr",
    "ppid",
    "recordingsessionlabel",
    "worker",
    "workerid",
)
_WORD_ID = ("wordid", "wordnumber", "wordindex", "wordnr", "wordnum", "iaid", "interestareaid", "widx")
_UNIT = re.compile(r"[\W_]+(ms|msec|s|sec|seconds)\W*$", re.IGNORECASE)  # behind a measure's name, as in "time (ms)"
_NAMED = 20  # columns that an error lists


@dataclass(frozen=True)
class Columns:
    """Where a table of reading times has what.

    sentence   one column, or several that name a sentence together (a text, and a number in it)
    word       a row's word, as it was shown; punctuation may stand in rows of its own
    time       how long the word was looked at, in all; 0 where it was skipped, empty where it was not recorded
    unit       of the time: "ms" or "s"
    reader     who read; None: one reader, whose name is the file's
    word_id    the word's number; None: the rows are counted
    """

    sentence: tuple[str, ...]
    word: str
    time: str
    unit: TimeUnit = "ms"
    reader: str | None = None
    word_id: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that are read."""
        given = (*self.sentence, self.word, self.time, self.reader, self.word_id)
        return tuple(dict.fromkeys(name for name in given if name is not None))

    def check(self, known: Sequence[str]) -> None:
        """Raises InputError for a column that a table does not have, and for columns that cannot be meant."""
        if isinstance(self.sentence, str) or not self.sentence:
            raise InputError(f"sentence is a tuple of one or more columns; got {self.sentence!r}.")
        if self.unit not in TIME_UNITS:
            raise InputError(f"A unit of time is one of {', '.join(TIME_UNITS)}; got {self.unit!r}.")
        if self.word == self.time:
            raise InputError(f"Words and times cannot both stand in '{self.word:.80}': choose another column for one.")
        for name in self.names:
            if name not in known:
                raise InputError(f"There is no column '{name:.80}'; the columns are {_listed(known)}.")


def guess_columns(names: Sequence[str]) -> Columns:
    """The columns of a table by their names; what is guessed is to be looked at.

    raises   InputError where there is no likely column of sentences, words or times, with what there is
    """
    known: dict[str, str] = {}
    for name in names:
        known.setdefault(_plain(_UNIT.sub("", name)), name)

    def first(likely: Iterable[str]) -> str | None:
        return next((known[name] for name in likely if name in known), None)

    number, text = first(_SENTENCE), first(_TEXT)
    # A trial's number may differ from reader to reader, so that it names a sentence only where nothing better does.
    sentence = tuple(name for name in (text, number) if name is not None)
    sentence = sentence if number is not None else tuple(name for name in (first(_TRIAL), text) if name)[:1]
    word, time = first(_WORD), first(_TIME)
    missing = [
        what
        for what, found in (
            ("sentences (such as sentence_id or trial_id)", sentence),
            ("words (such as word or IA_LABEL)", word),
            ("reading times (such as TRT or IA_DWELL_TIME)", time),
        )
        if not found
    ]
    if missing or word is None or time is None:
        raise InputError(
            f"There is no likely column of {' or '.join(missing)}; the columns are {_listed(names)}. "
            "Say which column holds it."
        )
    said = _UNIT.search(time)
    unit: TimeUnit = "ms" if said is None or said[1].lower().startswith("m") else "s"
    return Columns(sentence, word, time, unit, first(_READER), first(_WORD_ID))


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(f"'{name:.40}'" for name in names[:_NAMED]) + more
