"""The Gaze page's correlations as lines of Python that make them again, from the files as they were uploaded."""

from __future__ import annotations

from collections.abc import Mapping

from attnviz.human import Columns
from attnviz.human.gaze_sentence import LEAST_WORDS
from attnviz.settings import settings
from attnviz.ui import python_lines as python
from attnviz.ui.gaze.asking import Asked
from attnviz.ui.selection import Selection


def correlation_lines(chosen: Selection, ask: Asked, refused: Mapping[str, str], *, number: int, of: str) -> str:
    """The map of heads: `figures.heads.detector_map`.

    refused   sentences that are left out from the start
    number    of the others that are compared, spread evenly; 0 for all
    of        the reader whose figures are drawn; "" for all
    """
    lines = ["from pathlib import Path", "", "import attnviz", "import attnviz.figures.heads"]
    lines += ["from attnviz import human", ""]
    name = python.named("name", chosen.model or settings().default_model, lines, len("model = attnviz.load_model()"))
    lines += [f"model = attnviz.load_model({name})", "readings = []"]
    for table in ask.gaze.tables:
        assert table.columns is not None
        lines.append(python.assigned("columns", "human.Columns", _columns(table.columns)))
        lines.append(f"readings += human.read_gaze(Path({python.literal(table.name)}), columns)")
    lines.append(f"readings = [one for one in readings if one.punctuation.count(False) >= {LEAST_WORDS}]")
    if refused:
        listed = ", ".join(python.literal(one) for one in refused)
        lines += [python.assigned("left_out", "set", [f"[{listed}]"])]
        lines.append("readings = [one for one in readings if one.sentence not in left_out]")
    if number:
        lines += [
            "names = list(dict.fromkeys(one.sentence for one in readings))",
            f"chosen = {{names[i * len(names) // {number}] for i in range({number})}}",
            "readings = [one for one in readings if one.sentence in chosen]",
        ]
    language = [f'language="{ask.gaze.language}"'] if ask.gaze.language != "en" else []
    lines.append(python.assigned("correlation", "human.correlate", ["model", "readings", *language]))
    lines += [
        "frame = correlation.frame()",
        'heads = frame[frame["kind"] == "head"]',
        f'heads = heads[(heads["sink"] == "{ask.gaze.sink}") & (heads["measure"] == "{ask.gaze.measure}")]',
        f'heads = heads[heads["reader"] == {python.literal(of, 60)}]',
        'values = heads.pivot(index="layer", columns="head", values="mean").to_numpy(float)',
    ]
    return python.shown(lines, "heads.detector_map", ["values", "chance=0.0", 'name="correlation"'])


def _columns(columns: Columns) -> list[str]:
    sentence = ", ".join(python.literal(name) for name in columns.sentence) + "," * (len(columns.sentence) == 1)
    more = [f'unit="{columns.unit}"'] if columns.unit != "ms" else []
    more += [f"reader={python.literal(columns.reader)}"] if columns.reader is not None else []
    more += [f"word_id={python.literal(columns.word_id)}"] if columns.word_id is not None else []
    return [f"({sentence})", python.literal(columns.word), python.literal(columns.time), *more]
