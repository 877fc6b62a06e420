"""Tables of reading times as eye trackers' software writes them: columns guessed, rows kept, faults refused."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attnviz.errors import InputError
from attnviz.human.gaze import Reading, header, read_gaze
from attnviz.human.gaze_columns import Columns, guess_columns

# As ZuCo's features come: an index without a name, and punctuation that shares the number of the word behind it.
FEATURES = """,sentence_id,word_id,word,TRT,relFix
0,0,0,with,166.0,0.5
1,0,1,cars,0.0,0.0
2,0,2,",",12.0,0.0
3,0,2,he,83.0,0.2
4,0,3,"(born",NaN,
5,1,0,Ford,100.0,1.0
"""
EYEKIT = (
    "trial_id;interest_area_id;interest_area_text;total_fixation_duration\np1;w1;The;120\np1;w2;cat;0\np2;w1;sat;90\n"
)
DATA_VIEWER = (
    "RECORDING_SESSION_LABEL\tTRIAL_INDEX\tIA_ID\tIA_LABEL\tIA_DWELL_TIME\tIA_FIRST_FIXATION_DURATION\n"
    "s1\t1\t1\tThe\t210\t200\ns1\t1\t2\tdog.\t.\t.\ns2\t1\t1\tThe\t90\t90\ns2\t1\t2\tdog.\t0\t0\n"
)


def test_features_of_words_are_read_by_row() -> None:
    first, second = read_gaze(FEATURES, reader="A")
    assert (first.reader, first.sentence, second.sentence) == ("A", "0", "1")
    assert first.words == ("with", "cars", ",", "he", "(born")
    assert first.word_ids == ("0", "1", "2", "2", "3")
    assert first.punctuation == (False, False, True, False, False)
    assert first.times_ms[:4] == (166, 0, 12, 83)
    assert math.isnan(first.times_ms[4])
    assert first.text == "with cars, he (born"


def test_punctuation_and_missing_times_have_no_share() -> None:
    first, _ = read_gaze(FEATURES)
    shares = first.shares()
    assert np.isnan(shares[[2, 4]]).all()
    assert shares[[0, 1, 3]] == pytest.approx([166 / 249, 0, 83 / 249])


def test_a_sentence_that_nobody_looked_at_has_no_shares() -> None:
    assert np.isnan(Reading("A", "1", ("a", "b"), (0.0, 0.0), ("0", "1")).shares()).all()


def test_other_exports_are_understood_by_their_names() -> None:
    eyekit = read_gaze(EYEKIT)
    assert [(one.sentence, one.words, one.times_ms) for one in eyekit] == [
        ("p1", ("The", "cat"), (120, 0)),
        ("p2", ("sat",), (90,)),
    ]
    viewer = read_gaze(DATA_VIEWER)
    assert [(one.reader, one.sentence, one.words) for one in viewer] == [
        ("s1", "1", ("The", "dog.")),
        ("s2", "1", ("The", "dog.")),
    ]
    assert math.isnan(viewer[0].times_ms[1])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("", "sentence_id", "word_id", "word", "TRT"), Columns(("sentence_id",), "word", "TRT", word_id="word_id")),
        (
            ("PP_NR", "TRIAL", "SENTENCE_ID", "WORD_ID", "WORD", "WORD_FIRST_FIX", "WORD_TOTAL_READING_TIME"),
            Columns(("SENTENCE_ID",), "WORD", "WORD_TOTAL_READING_TIME", reader="PP_NR", word_id="WORD_ID"),
        ),
        (
            ("Participant_ID", "Text_ID", "Sentence_Number", "Word_Number", "Word", "IA_DWELL_TIME"),
            Columns(
                ("Text_ID", "Sentence_Number"), "Word", "IA_DWELL_TIME", reader="Participant_ID", word_id="Word_Number"
            ),
        ),
        (("Trial", "Text", "FFD", "Dwell time"), Columns(("Trial",), "Text", "Dwell time")),
        (("sentence", "word", "duration_s"), Columns(("sentence",), "word", "duration_s", unit="s")),
    ],
)
def test_columns_are_guessed(names: tuple[str, ...], expected: Columns) -> None:
    assert guess_columns(names) == expected


def test_what_cannot_be_guessed_is_named_with_what_there_is() -> None:
    with pytest.raises(InputError, match=r"column of reading times .*'sentence_id', 'word', 'fixations'"):
        guess_columns(["sentence_id", "word", "fixations"])


def test_chosen_columns_replace_guessed_ones_and_are_checked() -> None:
    table = "s,w,first,all\n1,Hello,80,0.2\n1,there,0,0.05\n"
    chosen = Columns(("s",), "w", "all", unit="s")
    assert read_gaze(table, chosen)[0].times_ms == pytest.approx((200, 50))
    with pytest.raises(InputError, match=r"no column 'total'; the columns are 's', 'w', 'first', 'all'"):
        read_gaze(table, Columns(("s",), "w", "total"))


def test_a_pandas_table_and_a_file_of_another_encoding_are_read_alike(tmp_path: Path) -> None:
    rows = "sentence;word;reading_time\n1;Größe;12,5\n1;zählt;100\n"
    file = tmp_path / "anna.csv"
    file.write_bytes(rows.encode("utf-16"))
    (by_file,) = read_gaze(file)
    table = pd.DataFrame({"sentence": [1.0, 1.0], "word": ["Größe", "zählt"], "reading_time": [12.5, 100]})
    (by_table,) = read_gaze(table, reader="anna")
    assert by_file == by_table
    assert by_file.reader == "anna"
    exported = file.rename(tmp_path / "anna.txt")
    assert read_gaze(exported) == (by_file,)
    assert header(exported) == ("sentence", "word", "reading_time")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("sentence,word,TRT\n1,a,soon\n", r"row 2 is 'soon'; 'TRT' has to hold a number of ms"),
        ("sentence,word,TRT\n1,a,-5\n", r"row 2 is '-5'"),
        ('sentence,word,TRT\n1,a,"1,234"\n', r"row 2 is '1,234'.*thousands"),
        ("sentence,word,TRT\n1,,5\n", r"word in row 2 is empty"),
        ("sentence,word,TRT\n1,a,50\n1,b,5,9\n1,c,0\n", r"line 3 has more or fewer fields"),
        ("sentence,word,TRT\n1,a,0.2\n1,b,0.4\n", r"in seconds"),
        ("sentence,word,TRT\n", r"no rows"),
        ("sentence,word,TRT\n" + "1,a,50\n1,b,50\n1,c,50\n" * 2, r"several times"),
        ("sentence,word,word\n1,a,5\n", r"Two columns are called 'word'"),
    ],
)
def test_faults_are_refused_with_their_place(table: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_gaze(table)


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnviz.human.gaze.MOST_WORDS", 4)
    with pytest.raises(InputError, match="more than 4 rows"):
        read_gaze("sentence,word,TRT\n" + "".join(f"1,w{i},50\n" for i in range(5)))
    monkeypatch.setattr("attnviz.human.gaze.MOST_ROWS", 2)
    with pytest.raises(InputError, match="more than 2 rows"):
        read_gaze("sentence,word,TRT\n" + "".join(f"{i},w,50\n" for i in range(3)))


def test_a_reading_is_played_in_the_order_of_its_words() -> None:
    reading = Reading("A", "1", ("one", "two", ",", "three"), (100.0, 0.0, math.nan, 200.0), ("0", "1", "2", "2"))
    moments = reading.timeline()
    assert [(m.row, m.word, m.start_ms, m.duration_ms, m.intensity) for m in moments] == [
        (0, "one", 0, 100, 0.5),
        (1, "two", 100, 0, 0),
        (2, ",", 100, 0, 0),
        (3, "three", 100, 200, 1),
    ]


def test_a_reading_that_does_not_fit_together_is_refused() -> None:
    with pytest.raises(InputError, match="2 words, 1 times"):
        Reading("A", "1", ("a", "b"), (1.0,), ("0", "1"))
    with pytest.raises(InputError, match="0 or more"):
        Reading("A", "1", ("a",), (-1.0,), ("0",))
