"""What the person is looking at: one Selection through all pages and in the URL.

The text itself is not in the URL; `text` is an unguessable key into the server's text store. A Selection is a value:
`from_params` reads one from untrusted URL parameters, `fit` makes it one that a trace can show, and both say in plain
words what they could not take.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attnviz.edits import Head
from attnviz.embedded import EMBEDDED
from attnviz.errors import HeadError
from attnviz.info import ModelInfo
from attnviz.tokens import Token
from attnviz.trace import Trace

SAVED = "saved trace"  # stands for a model where a file of Trace.save is looked at; `text` is then its key
SCORES = ("between", "sink", "entropy")
_KEY = re.compile(r"[A-Za-z0-9_-]{16,64}")
_NUMBERS = ("layer", "head", "query", "key")
_MODEL_CHARS = 300


@dataclass(frozen=True)
class Focus:
    """One head, one query and one key that a trace has."""

    head: Head
    query: int
    key: int


@dataclass(frozen=True)
class Selection:
    """Model, text, head, query and key; None leaves the choice to `fit`.

    text    key of the text in the text store; "" before there is one
    other   key of the second text: one to compare with, or the target of an encoder-decoder
    score   what colours the grid of heads: one of SCORES
    chat    the text is wrapped in the model's chat template
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

    @classmethod
    def from_params(cls, params: Mapping[str, str]) -> tuple[Selection, list[str]]:
        """The selection that URL parameters stand for, and what in them could not be read."""
        values: dict[str, Any] = {}
        problems: list[str] = []
        for name in _NUMBERS:
            if name in params:
                if re.fullmatch(r"[0-9]{1,6}", params[name]):
                    values[name] = int(params[name])
                else:
                    problems.append(f"{name} in the address is not a whole number")
        for name in ("text", "other"):
            if name in params:
                if _KEY.fullmatch(params[name]):
                    values[name] = params[name]
                else:
                    problems.append(f"the {name} key in the address is not one of this app's")
        if params.get("model"):
            if len(params["model"]) <= _MODEL_CHARS:
                values["model"] = params["model"]
            else:
                problems.append("the model's name in the address is too long")
        if "score" in params:
            if params["score"] in SCORES:
                values["score"] = params["score"]
            else:
                problems.append(f"score in the address is none of {', '.join(SCORES)}")
        if "site" in params:
            values["site"] = params["site"][:20] or None
        values["chat"] = params.get("chat") == "1"
        return cls(**values), problems

    def to_params(self) -> dict[str, str]:
        """URL parameters that `from_params` reads back."""
        values = {name: getattr(self, name) for name in ("model", "text", "other", "site", *_NUMBERS, "score")}
        params = {name: str(value) for name, value in values.items() if value is not None and value != ""}
        return params | ({"chat": "1"} if self.chat else {})

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
        if key is not None and key > query and (info.family == "decoder" or site == "decoder"):
            key = None  # a query that moved back cannot see it
        if key is None:
            key = _strongest(trace, site, layer, head, query)
        return Focus(Head(layer, head, None if len(info.sites) == 1 else site), query, key), problems

    def at(self, focus: Focus) -> Selection:
        """The selection with every choice made as `focus` has it."""
        head = focus.head
        return replace(self, site=head.site, layer=head.layer, head=head.head, query=focus.query, key=focus.key)


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
    itself = -1 if site == "cross" else query
    keys = [i for i, token in enumerate(trace.axes(site)[1]) if i not in (0, itself) and not token.special]
    return max(keys, key=row.__getitem__, default=0)
