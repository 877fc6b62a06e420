"""Tables of a measured corpus to take along, and which measurement they are of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from attnviz.corpus import Choice, Result
from attnviz.edits import Head
from attnviz.heads import VARIANTS
from attnviz.ui.corpus.looked import Looked
from attnviz.ui.corpus.subject import Subject
from attnviz.ui.measuring import shelf


@dataclass(frozen=True, eq=False)
class OverTexts:
    """One head over the texts.

    values   number, label, value of each text
    far      those that stand apart, see `corpus.outliers`
    """

    values: pd.DataFrame
    far: pd.DataFrame

    @property
    def nbytes(self) -> int:
        return int(self.values.memory_usage(deep=True).sum())


def of_label(id: tuple[str, str], label: str | None) -> Iterator[Result]:
    """The results of a corpus's run, of the texts of one label; None: of all."""
    return (result for result in shelf().results(*id) if label is None or result.label == label)


def head_values(results: Iterable[Result], head: Head, choice: Choice) -> pd.DataFrame:
    """One detector's value of one head on every text: number, label, value; texts without one are left out."""
    found = [(r.number, r.label, float(choice.of(r.values)[0, 0, head.layer, head.head])) for r in results]
    table = pd.DataFrame(found, columns=["number", "label", "value"])
    return table[np.isfinite(table["value"])].reset_index(drop=True)


def over_texts(results: Iterable[Result], choice: Choice) -> pd.DataFrame:
    """One detector's value of every head on every text: text, label, layer, head, value; without those that are NaN."""
    numbers, labels, values = [], [], []
    for result in results:
        numbers.append(result.number)
        labels.append(result.label)
        values.append(choice.of(result.values)[0, 0])
    stacked = np.stack(values) if values else np.empty((0, 0, 0), np.float32)
    text, layer, head = np.nonzero(np.isfinite(stacked))
    return pd.DataFrame(
        {
            "text": np.array(numbers, np.int64)[text],
            "label": np.array(labels, dtype=object)[text],
            "layer": layer,
            "head": head,
            "value": stacked[text, layer, head],
        }
    )


def facts(looked: Looked) -> dict[str, Any]:
    """Which measurement a file is of."""
    label = {} if looked.label is None else {"label": looked.label}
    return {**run_facts(looked.subject), "detector": looked.detector, "variant": looked.choice.variant, **label}


def run_facts(subject: Subject) -> dict[str, Any]:
    """Which model measured which texts, and how."""
    info = subject.model.info
    return {
        "model": info.name,
        "revision": info.revision,
        "dtype": info.dtype,
        "site": subject.site,
        "corpus": subject.known.name,
        "texts": subject.known.n,
        "texts_measured": subject.measured,
        "sink_kinds": list(subject.sinks.kinds),
        "variants": list(VARIANTS),
    }
