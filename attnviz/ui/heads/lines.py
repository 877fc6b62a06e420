"""The Heads page's pictures as lines of Python that make them again."""

from __future__ import annotations

from collections.abc import Sequence

from attnviz.figures.heads import Measure
from attnviz.heads import DETECTORS
from attnviz.settings import settings
from attnviz.ui import python_lines as python
from attnviz.ui.heads.asking import Asked
from attnviz.ui.measuring import OWN_DATES, OWN_NAME
from attnviz.ui.selection import Selection
from attnviz.view import Sinks

_IMPORTS = ["import attnviz", "import attnviz.figures.heads"]
_OWN = {  # from the folder of the repository
    OWN_NAME: 'texts = corpus.read(Path("assets/sentences.txt"))',
    OWN_DATES: 'texts = corpus.read(Path("assets/dates/dates.tsv"), header=False, text="column 1", pair="column 2")',
}
_YOURS = 'texts = corpus.read(Path("texts.txt"))  # your texts, one a line'


def detector_lines(chosen: Selection, ask: Asked, *, parted: bool) -> str:
    """The map of one detector over the texts: `figures.heads.detector_map`; `parted` where chance parts its colours."""
    texts = _YOURS if chosen.corpus else _OWN.get(ask.about.name, _YOURS)
    numpy = ["import numpy as np", ""] * parted
    lines = ["from pathlib import Path", "", *numpy, *_IMPORTS, "from attnviz import corpus", ""]
    lines += _model(chosen)
    given = [*_site(ask), *_sinks(ask.sinks)]
    lines += [texts, "shelf = corpus.Shelf()", 'key = shelf.add(texts, "texts")']
    lines.append(python.assigned("ran", "corpus.run", ["model", "shelf", "key", *given]))
    lines.append("summary = corpus.Summary.of(shelf.results(key, ran.run))")
    at = f"[{ask.variant}, {list(DETECTORS).index(chosen.detector)}]"
    name = DETECTORS[chosen.detector].title.lower()
    lines.append(f"values = summary.mean{at}  # the sink is {'in' if ask.sink_in else 'taken away'}")
    chance = [f"chance=np.nanmean(summary.chance{at})"] if parted else []
    return python.shown(lines, "heads.detector_map", ["values", *chance, f'name="{name}"', *python.looks(chosen)])


def probe_lines(chosen: Selection, ask: Asked, *, parted: bool) -> str:
    """The map of a measure on random tokens: `figures.heads.detector_map`."""
    lines = [*_IMPORTS, "", *_model(chosen)]
    lines.append(python.assigned("probed", "attnviz.heads.induction", ["model", *_sinks(ask.sinks)]))
    lines.append(f'values = probed.scores["{chosen.detector}"].mean(0)[{ask.variant}]')
    chance = [f'chance=probed.chance["{chosen.detector}"][{ask.variant}]'] if parted else []
    return python.shown(
        lines, "heads.detector_map", ["values", *chance, f'name="{chosen.detector}"', *python.looks(chosen)]
    )


def family_lines(
    chosen: Selection, ask: Asked, texts: Sequence[tuple[str, str]], *, layer: int | None, measure: Measure, drawn: str
) -> str:
    """How alike heads are: `figures.heads.family_map` or `family_places`, which `drawn` names.

    texts   (text, what the decoder reads or "") of each text that was compared
    """
    lines = [*_IMPORTS, "", *_model(chosen), "texts = ["]
    for text, pair in texts:
        both = [python.literal(one, 90) for one in (text, pair) if one]
        lines.append(f"    ({', '.join(both)})," if pair else f"    {both[0]},")
    lines.append("]")
    given = "*text" if texts and texts[0][1] else "text"
    site = [*_site(ask), *([] if layer is None else [f"layer={layer}"])]
    if measure == "cosine":
        lines.append(f"runs = (attnviz.flow.take_apart(model, {given}) for text in texts)")
        lines.append(python.assigned("pairs", "attnviz.heads.output_similarity", ["runs", *site]))
    else:
        lines.append(f"traces = (model.trace({given}, compact=True) for text in texts)")
        view = python.view_argument(ask.view)
        lines.append(python.assigned("pairs", "attnviz.heads.pattern_distance", ["traces", *site, *view]))
    head = [f"selected=({ask.head.layer}, {ask.head.head})"] if drawn == "family_places" else []
    arguments = ["pairs", f'measure="{measure}"', *head, *python.looks(chosen)]
    return python.shown(lines, f"heads.{drawn}", arguments)


def _model(chosen: Selection) -> list[str]:
    lines: list[str] = []
    name = python.named("name", chosen.model or settings().default_model, lines, len("model = attnviz.load_model()"))
    return [*lines, f"model = attnviz.load_model({name})"]


def _site(ask: Asked) -> list[str]:
    return [] if ask.head.site is None else [f'site="{ask.head.site}"']


def _sinks(sinks: Sinks) -> list[str]:
    return [] if sinks.kinds == Sinks().kinds else [f"sinks=attnviz.Sinks(kinds={sinks.kinds!r})"]
