"""What the person is looking at: one Selection through all pages and in the URL.

The text itself is not in the URL; `text` is an unguessable key into the server's text store. A Selection is a value:
`from_params` reads one from untrusted URL parameters, `fit` makes it one that a trace can show, and both say in plain
words what they could not take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

from attnviz.edits import Head
from attnviz.embedded import EMBEDDED
from attnviz.errors import HeadError
from attnviz.figures.drawing import Scale
from attnviz.figures.palette import PALETTES, Palette
from attnviz.heads.detectors import DETECTORS
from attnviz.info import ModelInfo
from attnviz.tokens import Token
from attnviz.trace import Trace
from attnviz.ui import address
from attnviz.units import UNITS, Units
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
METRICS = ("difference", "continuation", "kl", "loss", "similarity", "class")
HOWS = ("resample", "mean", "zero")
_NUMBERS = ("layer", "head", "query", "key", "other_layer", "other_head", "goal", "level", "answer", "foil")
_LATER = ("later_layer", "later_head")
_LABELS = ("labelled", "first_label", "other_label")
_KEY = address.matching(r"[A-Za-z0-9_-]{16,64}", "a key of this app")
_NAME = address.matching(r".{1,300}", "a name of at most 300 characters")


@dataclass(frozen=True)
class Focus:
    """One head, one query and one key that a trace has, the sets around them, and how patterns are read.

    queries, keys   positions chosen together: the attention "between" them is the mean over queries of the sum over
                    keys; never empty: where nothing was chosen, the tokens of the unit that query and key belong to
    heads           heads chosen together, of the same site; never empty: (head,) where none were chosen
    window          the part of the map that is shown, in units of the view: (row, row, col, col), half-open
    """

    head: Head
    query: int
    key: int
    queries: tuple[int, ...]
    keys: tuple[int, ...]
    heads: tuple[Head, ...]
    view: View
    window: Window | None = None


@dataclass(frozen=True)
class Selection:
    """Model, text, head, query and key; None leaves the choice to `fit`.

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
                for a proposed one; later_layer, later_head: the head whose map is shown clean and edited
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
    later_layer: int | None = None
    later_head: int | None = None

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

    def fit(self, trace: Trace) -> tuple[Focus, list[str]]:
        """What to look at within this trace, and what of the selection it does not have."""
        info, problems = trace.info, []
        site = self.site
        if site is not None and site not in info.sites:
            problems.append(f"{info.name} has no attention at {site!r}")
            site = None
        site = site or info.sites[-1]  # of an encoder-decoder, cross-attention: what it is opened for
        first_layer, first_head = start_head(info, site)
        layer = first_layer if self.layer is None else self.layer
        head = (first_head if layer == first_layer else 0) if self.head is None else self.head
        if not _has(info, layer, head, site):
            problems.append(f"{info.name} has no head L{layer}H{head}")
            layer, head = first_layer, first_head
        queries, keys = trace.axes(site)
        query, key = self.query, self.key
        if query is not None and query >= len(queries):
            problems.append(f"the text has {len(queries)} tokens, so there is no query {query}")
            query = None
        if key is not None and key >= len(keys):
            problems.append(f"the text has {len(keys)} tokens, so there is no key {key}")
            key = None
        if query is None:
            query = 0 if site == "cross" else _last_word(queries)  # the step that writes the first token
        before = len(keys) - len(queries) if site != "cross" else 0  # keys that a cache held
        if key is not None and key > query + before and (info.family == "decoder" or site == "decoder"):
            key = None  # a query that moved back cannot see it
        if key is None:
            key = _strongest(trace, site, layer, head, query)
        named = None if len(info.sites) == 1 else site
        chosen_heads = tuple(Head(*pair, named) for pair in self.heads if _has(info, *pair, site))
        if len(chosen_heads) < len(self.heads):
            problems.append(f"{info.name} does not have all the heads that were chosen")
        query_units, key_units = self.view.axes(trace, site)
        focus = Focus(
            head=Head(layer, head, named),
            query=query,
            key=key,
            queries=tuple(i for i in self.queries if i < len(queries)) or _unit_around(query_units, query),
            keys=tuple(i for i in self.keys if i < len(keys)) or _unit_around(key_units, key),
            heads=chosen_heads or (Head(layer, head, named),),
            view=self.view,
        )
        return replace(focus, window=_inside(self.window, len(query_units), len(key_units))), problems

    def at(self, focus: Focus) -> Selection:
        """The selection with every choice made as `focus` has it."""
        head = focus.head
        return replace(self, site=head.site, layer=head.layer, head=head.head, query=focus.query, key=focus.key)


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
}
_DEFAULTS = {field.name: field.default for field in fields(Selection)}


def _unit_around(units: Units, position: int) -> tuple[int, ...]:
    return tuple(range(*units.spans[units.at(position)]))


def _inside(window: Window | None, rows: int, cols: int) -> Window | None:
    """The window as far as the map goes; None where nothing of it is left, or all of the map is in it."""
    if window is None:
        return None
    row, below, col, right = window
    below, right = min(below, rows), min(right, cols)
    whole = (row, below, col, right) == (0, rows, 0, cols)
    return None if whole or row >= below or col >= right else (row, below, col, right)


def start_head(info: ModelInfo, site: str) -> tuple[int, int]:
    """The head to open with: the one that an embedded model names, else the first."""
    for entry in EMBEDDED.values():
        if entry.title == info.name and _has(info, *entry.start, site):
            return entry.start
    return info.layers[site][0], 0


def _has(info: ModelInfo, layer: int, head: int, site: str) -> bool:
    try:
        info.check_head(layer, head, site)
    except HeadError:
        return False
    return True


def _last_word(tokens: Sequence[Token]) -> int:
    """The last token that is text; the last one where none is."""
    return next((i for i in reversed(range(len(tokens))) if not tokens[i].special), len(tokens) - 1)


def _strongest(trace: Trace, site: str, layer: int, head: int, query: int) -> int:
    """The key that the query attends to most, itself, the first token and special ones aside: there heads rest."""
    row = trace.layer(layer, site).pattern(head, slice(query, query + 1))[0, 0, 0].tolist()
    queries, all_keys = trace.axes(site)
    itself = -1 if site == "cross" else query + len(all_keys) - len(queries)
    keys = [i for i, token in enumerate(all_keys) if i not in (0, itself) and not token.special]
    return max(keys, key=row.__getitem__, default=0)
