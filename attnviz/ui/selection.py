"""What the person is looking at: one Selection through all pages and in the URL.

The text itself is not in the URL; `text` is an unguessable key into the server's text store. A Selection is a value:
`from_params` reads one from untrusted URL parameters and says in plain words what it could not take; `attnviz.ui.focus`
makes of it what a trace can show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

from attnviz.figures.drawing import Scale
from attnviz.figures.palette import PALETTES, Palette
from attnviz.heads.detectors import DETECTORS
from attnviz.ui import address
from attnviz.units import UNITS
from attnviz.view import SINK_KINDS, SINKING, Sinks, View

Window = tuple[int, int, int, int]
SAVED = "saved trace"  # stands for a model where a file of Trace.save is looked at; `text` is then its key
SCORES = ("between", "sink", "entropy", "previous", "distance")
SCALES: tuple[Scale, ...] = get_args(Scale)
COMPARISONS = ("texts", "models", "templates")
# The layered ones of attnviz.flow.methods.
GRAPHS = ("position", "rollout", "norms", "norms-attention", "alti", "routes", "zeroing")
ASPECTS = ("graph", "methods", "writes")
PROBES = ("induction", "copy", "position")  # detectors with texts of their own
FACETS = ("detectors", "families")
LIKENESS = ("attends", "writes")
AGAINST = ("corpus", "labels", "model")
METRICS = ("difference", "continuation", "kl", "loss", "match", "similarity", "class")
HOWS = ("resample", "mean", "zero")
PARTS = ("head", "group", "layer")
STEERED = ("all", "layer", "heads", "profiled")
_NUMBERS = ("layer", "head", "query", "key", "other_layer", "other_head", "goal", "level", "answer", "foil")
_LATER = ("later_layer", "later_head")
_LABELS = ("labelled", "first_label", "other_label")
_KEY = address.matching(r"[A-Za-z0-9_-]{16,64}", "a key of this app")
_NAME = address.matching(r".{1,300}", "a name of at most 300 characters")


@dataclass(frozen=True)
class Selection:
    """Model, text, head, query and key; None leaves the choice to `attnviz.ui.focus`.

    text        key of the text in the text store; "" before there is one
    other       key of a text beside it: the target of an encoder-decoder, or for Similarity one to measure against
    second      key of the second text of a comparison
    chat        the text is wrapped in the model's chat template
    queries     positions chosen together, and `keys` likewise; () for the one query, the one key
    heads       (layer, head) chosen together; () for the one head
    score       what colours or orders heads: one of SCORES
    unit, sinks, kinds, sunk   how patterns are read: see attnviz.View; `sunk` are chosen positions of keys
    window      the part of the map that is shown
    share       of the mass, held by the edges that are drawn
    length, seed, warmth       of a generation: most tokens, the seed or None for greedy, the temperature
    comparison  what is compared: one of COMPARISONS; other_model; second and filling, keys of texts; and
                other_layer and other_head, the other side's head
    goal        position of the token whose prediction is explained; None: the last. `level`: how many layers its state
                has passed, None: all. answer, foil: ids of the tokens that are explained and compared with
    method      that draws the graph of an explanation: one of GRAPHS; "" leaves the choice to the page
    aspect      of an explanation: one of ASPECTS
    detector    what heads are measured by over many texts: one of attnviz.heads.DETECTORS or PROBES; sink_in: with the
                sink left in
    facet, likeness        what the Heads page shows, one of FACETS; by what heads are alike, one of LIKENESS
    corpus, other_corpus   keys of texts that the shelf holds; "" for the embedded sentences, or for none beside them.
                labelled: number of the label whose texts are shown; None: all of them
    against     what a corpus is compared with: one of AGAINST, "" for nothing yet; first_label, other_label: numbers of
                the two labels that are compared
    metric      what an ablation is measured by: one of METRICS, "" for what fits the model; answer, foil and other say
                of what. how: one of HOWS, "" leaves the choice to the page; donor: key of the text resampled from, ""
                for a proposed one; parts: what is taken out one by one, one of PARTS; later_layer, later_head: the head
                whose map is shown clean and edited
    emphasised, ignored   positions that attention is steered to and away from; strength: what the others' scores are
                multiplied by, before normalising; steered: the heads where, one of STEERED
    study, gaze, course, plan, feedback   keys of drafts (`attnviz.ui.drafts`): marked texts, reading data, examples of
                gates, how attention is steered, and what was said of predictions; "" before there are any
    finding     the id of the finding that is open on the Notebook page; "" for none
    """

    model: str = ""
    text: str = ""
    other: str = ""
    site: str | None = None
    layer: int | None = None
    head: int | None = None
    query: int | None = None
    key: int | None = None
    score: str = SCORES[0]
    chat: bool = False
    queries: tuple[int, ...] = ()
    keys: tuple[int, ...] = ()
    heads: tuple[tuple[int, int], ...] = ()
    unit: str = "token"
    sinks: str = "show"
    kinds: tuple[str, ...] = ("first",)
    sunk: tuple[int, ...] = ()
    scale: Scale = "sqrt"
    palette: Palette = "indigo"
    window: Window | None = None
    share: float = 0.7
    length: int = 20
    seed: int | None = None
    warmth: float = 1.0
    comparison: str = COMPARISONS[0]
    other_model: str = ""
    second: str = ""
    filling: str = ""
    other_layer: int | None = None
    other_head: int | None = None
    goal: int | None = None
    level: int | None = None
    answer: int | None = None
    foil: int | None = None
    method: str = ""
    aspect: str = ASPECTS[0]
    detector: str = "previous"
    sink_in: bool = False
    facet: str = FACETS[0]
    likeness: str = LIKENESS[0]
    corpus: str = ""
    other_corpus: str = ""
    labelled: int | None = None
    against: str = ""
    first_label: int | None = None
    other_label: int | None = None
    metric: str = ""
    how: str = ""
    donor: str = ""
    parts: str = PARTS[0]
    later_layer: int | None = None
    later_head: int | None = None
    emphasised: tuple[int, ...] = ()
    ignored: tuple[int, ...] = ()
    strength: float = 0.01
    steered: str = STEERED[0]
    study: str = ""
    gaze: str = ""
    course: str = ""
    plan: str = ""
    feedback: str = ""
    finding: str = ""

    @classmethod
    def from_params(cls, params: Mapping[str, str]) -> tuple[Selection, list[str]]:
        """The selection that URL parameters stand for, and what in them could not be read."""
        values: dict[str, Any] = {}
        problems: list[str] = []
        for name, field in _FIELDS.items():
            if name in params:
                try:
                    read = field.read(params[name])
                    values[name] = _DEFAULTS[name] if read == "" else read
                except ValueError:
                    problems.append(f"{name} in the address is not {field.expected}")
        return cls(**values), problems

    def to_params(self) -> dict[str, str]:
        """URL parameters that `from_params` reads back."""
        values = {name: getattr(self, name) for name in _FIELDS}
        return {
            name: _FIELDS[name].write(value)
            for name, value in values.items()
            if value is not None and value != _DEFAULTS[name]
        }

    @property
    def view(self) -> View:
        """How patterns are read."""
        return View(self.unit, Sinks(self.sinks, self.kinds, self.sunk))  # type: ignore[arg-type]


_FIELDS: dict[str, address.Field] = {
    "model": _NAME,
    "text": _KEY,
    "other": _KEY,
    "site": address.matching(r"[a-z]{1,20}", "a site of attention"),
    **{name: address.number(999_999) for name in (*_NUMBERS, *_LABELS, *_LATER)},
    "score": address.one_of(SCORES),
    "chat": address.switch(),
    "queries": address.positions(),
    "keys": address.positions(),
    "heads": address.heads(),
    "unit": address.one_of(UNITS),
    "sinks": address.one_of(SINKING),
    "kinds": address.some_of(SINK_KINDS),
    "sunk": address.positions(),
    "scale": address.one_of(SCALES),
    "palette": address.one_of(tuple(PALETTES)),
    "window": address.window(),
    "share": address.fraction(0.05, 1.0),
    "length": address.number(500),
    "seed": address.number(999_999_999),
    "warmth": address.fraction(0.01, 5.0),
    "comparison": address.one_of(COMPARISONS),
    "other_model": _NAME,
    "second": _KEY,
    "filling": _KEY,
    "method": address.one_of(GRAPHS),
    "aspect": address.one_of(ASPECTS),
    "detector": address.one_of((*DETECTORS, *PROBES)),
    "sink_in": address.switch(),
    "facet": address.one_of(FACETS),
    "likeness": address.one_of(LIKENESS),
    "corpus": _KEY,
    "other_corpus": _KEY,
    "against": address.one_of(AGAINST),
    "metric": address.one_of(METRICS),
    "how": address.one_of(HOWS),
    "donor": _KEY,
    "parts": address.one_of(PARTS),
    **{name: address.positions() for name in ("emphasised", "ignored")},
    "strength": address.fraction(0.001, 1.0),
    "steered": address.one_of(STEERED),
    "finding": address.matching(r"[0-9a-f]{32}", "a finding's id"),
    **dict.fromkeys(("study", "gaze", "course", "plan", "feedback"), _KEY),
}
_DEFAULTS = {field.name: field.default for field in fields(Selection)}
