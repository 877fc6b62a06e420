"""Reading times against every head, layer and method: a folder of CSV files, one a reader.

    python benchmarks/gaze.py FOLDER            how many words are found, and the table, of every third sentence
    python benchmarks/gaze.py FOLDER --table    the same, and writes docs/GAZE.md
    python benchmarks/gaze.py FOLDER --every 1  all sentences

Words are looked for in two texts: the file's own, and one of ours with other case and punctuation, where it is known
which word is which. The table is of the file's own text.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

import attnviz
from attnviz.errors import InputError
from attnviz.flow import METHODS
from attnviz.human.gaze import Reading, read_gaze
from attnviz.human.gaze_alignment import align
from attnviz.human.gaze_correlation import Correlation, Progress, correlate
from attnviz.human.gaze_scores import MEAN
from attnviz.human.gaze_sentence import LEAST_WORDS
from attnviz.human.gaze_statistics import correlation

PAGE = Path(__file__).resolve().parents[1] / "docs" / "GAZE.md"
MODELS = ("smollm2", "minilm")
TITLES = {name: method.title for name, method in METHODS.items()}
TITLES |= {"last": "Last layer", MEAN: "All layers"}
TITLES |= {"norms": "Norms, residual and norm counted in", "rarity": "Rarity (minus log frequency)"}
TITLES |= {"length": "Length in letters", "position": "Position", "surprisal": "Surprisal"}
SINK = {"in": "Sink left in", "out": "Sink taken out"}


def republished(words: Sequence[str]) -> tuple[str, list[tuple[int, int] | None]]:
    """(a text of the same words that another editor might have set, where each row's word stands in it).

    Capitals at the start and on every third word, every tenth in capitals alone; none of the file's punctuation rows,
    but commas after every seventh word; typographic quotes and dashes, no brackets, spaces that do not break, and a
    bracketed word that the file does not have behind every eleventh.
    """
    text, places = "", []
    marks = str.maketrans({"'": "’", '"': None, "-": "–", "(": None, ")": None, "[": None, "]": None})
    for n, word in enumerate(words):
        shown = word.translate(marks)
        if not any(c.isalnum() for c in shown):
            places.append(None)
            continue
        shown = shown.upper() if n % 10 == 9 else shown[:1].upper() + shown[1:] if n % 3 == 0 else shown
        text += ("\u00a0" if n % 8 == 4 else " ") if text else ""
        places.append((len(text), len(text) + len(shown)))
        text += shown + (" [sic]" if n % 11 == 10 else "," if n % 7 == 6 else "")
    return f"“{text}.”", [None if place is None else (place[0] + 1, place[1] + 1) for place in places]


def found(model: attnviz.Model, readings: Sequence[Reading]) -> str:
    """How many words are found, in either text, and how many of them where they are known to be."""
    total = own = other = right = refused = 0
    for one in readings:
        words = [i for i, mark in enumerate(one.punctuation) if not mark]
        if not words:
            continue
        total += len(words)
        text, places = republished(one.words)
        try:
            own += len(words) - len(align(one.words, model.encode(one.text).tokens, one.text).missing)
            there = align(one.words, model.encode(text).tokens, text)
        except InputError:
            refused += 1
            continue
        other += len(words) - len(there.missing)
        right += sum(_meet(there.spans[i], places[i]) for i in words)
    return (
        f"{model.name}: {own / total:.2%} of {total:,} words in the file's own text; {other / total:.2%} in ours with "
        f"other case and punctuation, {right / total:.2%} where they are known to be; {refused} sentences refused."
    )


def _meet(a: tuple[int, int] | None, b: tuple[int, int] | None) -> bool:
    """Whether two places overlap by more than half of the second."""
    return a is not None and b is not None and min(a[1], b[1]) - max(a[0], b[0]) > (b[1] - b[0]) / 2


def with_punctuation(readings: Sequence[Reading]) -> str:
    """What rows of punctuation make of the simplest baseline: length against time, all sentences and rows."""
    lines = []
    for reader in dict.fromkeys(one.reader for one in readings):
        found: tuple[list[float], list[float]] = ([], [])
        for one in readings:
            if one.reader != reader or len(one.words) - sum(one.punctuation) < LEAST_WORDS:
                continue
            lengths = np.array([[float(sum(c.isalnum() for c in word)) for word in one.words]])
            times, words = np.array(one.times_ms), ~np.array(one.punctuation)
            for kept, values in zip((words, np.isfinite(times)), found, strict=True):
                values.append(float(correlation(lengths[:, kept], times[kept])[0]))
        alone, all_rows = (np.nanmean(values) for values in found)
        lines.append(
            f"- {reader}: length against time {alone:.2f} over words, {all_rows:.2f} with the rows of punctuation"
        )
    return "\n".join(lines)


def table(made: Correlation, sink: str) -> str:
    frame = made.frame()
    frame = frame[(frame["sink"] == sink) & ~frame["kind"].isin(["head", "layer"])]
    readers = [*made.readers, ""]
    heads = [f"{reader or 'all'}, {measure}" for reader in readers for measure in ("raw", "partial")]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for (kind, name), group in frame.groupby(["kind", "name"], sort=False):
        cells = [
            _cell(group[(group["reader"] == reader) & (group["measure"] == measure)])
            for reader in readers
            for measure in ("raw", "partial")
        ]
        title = f"Readers: {name}" if kind == "readers" else TITLES[name]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(rows: pd.DataFrame) -> str:
    if rows.empty or rows["sentences"].iloc[0] == 0:
        return ""
    one = rows.iloc[0]
    return f"{one['mean']:.2f} ({one['low']:.2f} to {one['high']:.2f})"


def best(made: Correlation, sink: str) -> str:
    lines = []
    n_heads = sum(row.kind == "head" for row in made.rows)
    for measure in ("raw", "partial"):
        one = made.best[sink, measure]
        lines.append(
            f"- best of {n_heads} heads, {measure}: {one.head} with {one.value:.2f} on the sentences it was chosen on; "
            f"by chance the best stays below {one.band:.2f} in 95% of the draws (p = {one.p:.3f}). Chosen on one half "
            f"and read on the other ({one.chosen[0]}, {one.chosen[1]}): {one.elsewhere:.2f} ({one.low:.2f} to "
            f"{one.high:.2f})"
        )
    return "\n".join(lines)


def report(folder: Path, every: int) -> str:
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise SystemExit(f"No CSV files in {folder.name}. Give the folder that holds one file a reader.")
    readings = [reading for file in files for reading in read_gaze(file)]
    names = list(dict.fromkeys(one.sentence for one in readings))
    chosen = set(names[::every])
    taken = [one for one in readings if one.sentence in chosen]
    models = {name: attnviz.load_model(name, device="cpu") for name in MODELS}
    first = [one for one in readings if one.reader == readings[0].reader]
    parts = ["## Words found\n\n" + "\n".join(f"- {found(model, first)}" for model in models.values())]
    parts += [f"## Punctuation\n\n{with_punctuation(readings)}"]
    for name, model in models.items():
        made = correlate(
            model, taken, surprisal_by=None if model.has_vocabulary else models["smollm2"], progress=_progress(name)
        )
        skipped = len(names[::every]) - len(made.sentences)
        said = (
            f"{len(made.sentences)} sentences, {sum(made.n_words):,} words: every {every}. of {len(names)} sentences, "
            f"{skipped} of them left out for want of words with times. Partial: given {', '.join(made.controls)}."
        )
        parts += [f"## {model.name}\n\n{said}"]
        parts += [f"{SINK[sink]}:\n\n{table(made, sink)}\n\n{best(made, sink)}" for sink in SINK]
        parts += [f"Not offered: {method}: {why}" for method, why in made.refused.items()]
    return "\n\n".join(parts)


def _progress(name: str) -> Progress:
    start = time.perf_counter()

    def say(done: int, total: int) -> None:
        print(f"\r{name}: {done} of {total}, {time.perf_counter() - start:.0f} s", end="", file=sys.stderr)

    return say


def main() -> None:
    warnings.simplefilter("ignore")
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--every", type=int, default=3)
    options.add_argument("--table", action="store_true")
    given = options.parse_args()
    body = report(given.folder, given.every)
    print(body)
    if given.table:
        before, _, rest = PAGE.read_text("utf-8").partition("<!-- table -->")
        after = rest.partition("<!-- end of table -->")[2]
        made = f"{datetime.now(UTC):%Y-%m-%d}, attnviz {attnviz.__version__}."
        PAGE.write_text(f"{before}<!-- table -->\n\n{made}\n\n{body}\n\n<!-- end of table -->{after}", "utf-8")


if __name__ == "__main__":
    main()
