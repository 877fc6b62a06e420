"""Made-up values for the parameters of AttnViz, by the parameter's name: mostly ones that fit, now and then others.

A value is of the kind that the annotation names, and odd within it: any number that a float can be, any text, arrays of
any shape and dtype. Where an annotation leaves the kind open (`input_ids: Any`), so do the values. Counts of work are
small or impossible, never huge: nobody waits for them.
"""

from __future__ import annotations

import atexit
import inspect
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import tiny
import torch
from hypothesis import strategies as st
from texts import TEXTS

import attnviz
from attnviz import ablation, edits, flow, human, metrics, steering
from attnviz.errors import Cancelled

Values = Mapping[str, st.SearchStrategy[Any]]
WORLDS = ("dates", "grouped", "worded", "minilm")
NASTY = [text for text in TEXTS.values() if text]
FOLDER = Path(tempfile.mkdtemp(prefix="attnviz-fuzzed-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


@dataclass(frozen=True)
class Call:
    """A call that is still to be made; Calls among its arguments are made first."""

    target: Callable[..., Any]
    arguments: Mapping[str, Any]
    method: str = ""

    def __call__(self) -> Any:
        given = {name: _made(value) for name, value in self.arguments.items()}
        target = getattr(given.pop("self"), self.method) if self.method else self.target
        rest = given.pop("*", ())
        found = target(*rest, **given)
        return list(islice(found, 3)) if isinstance(found, Iterator) else found

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={_told(value)}" for name, value in self.arguments.items())
        return f"{self.method or getattr(self.target, '__name__', self.target)}({told})"


def _told(value: Any) -> str:
    return value.name if isinstance(value, attnviz.Model) else f"{value!r:.300}"


def _made(value: Any) -> Any:
    if isinstance(value, Call):
        return value()
    if type(value) in (list, tuple):
        return type(value)(_made(each) for each in value)
    return {_made(key): _made(each) for key, each in value.items()} if type(value) is dict else value


def mostly(good: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One in eight is odd."""
    return st.integers(0, 7).flatmap(lambda draw: odd if draw == 7 else good)


def _some(one: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return mostly(st.lists(one, min_size=1, max_size=3), st.just([]))


def calls(target: Callable[..., Any], values: Values, /, **own: st.SearchStrategy[Any]) -> st.SearchStrategy[Call]:
    """Calls with all that is needed and some of the rest; `own` for parameters that mean something else here."""
    needed, rest = {}, {}
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        strategy = own[name] if name in own else values[name]
        if name == "text" and parameter.annotation == "str":
            strategy = strategy.map(lambda text: "a" if text is None else text)
        always = parameter.default is parameter.empty or name in ("text", "input_ids")
        (needed if always else rest)[name] = strategy
    needed |= {name: strategy for name, strategy in own.items() if name not in rest}
    drawn = st.fixed_dictionaries(needed, optional=rest)
    if inspect.isfunction(target) and "self" in needed:
        return drawn.map(lambda given: Call(target, given, target.__name__))
    return drawn.map(lambda given: Call(target, given))


@dataclass(frozen=True, eq=False)
class World:
    """A model, and what was read from it once."""

    name: str
    model: attnviz.Model
    texts: tuple[Any, ...]
    keywords: Mapping[str, Any]
    traces: tuple[attnviz.Trace, ...]
    runs: tuple[Any, ...]

    def __repr__(self) -> str:
        return self.name


@cache
def world(name: str) -> World:
    if name == "worded":  # the tiny decoder again, over the words of another model: one that reads texts
        tokenizer = attnviz.load_model("minilm", device="cpu", dtype="float32").tokenizer
        model = attnviz.wrap_model(tiny.grouped(vocab_size=len(tokenizer)), tokenizer)
        texts = ("The dog saw the cat.", "a")
        asked = [{"text": text} for text in texts]
    elif name == "grouped":
        model, texts = attnviz.wrap_model(tiny.grouped()), (None,)
        asked = [{"input_ids": tiny.ids(n)} for n in (7, 5)]
    elif name == "dates":
        model, texts = attnviz.load_model("dates", device="cpu", dtype="float32"), ("3 May 2021", "monday, 7.4.99")
        asked = [{"text": text, "target": "2021-05-03"} for text in texts]
    else:
        model, texts = attnviz.load_model("minilm", device="cpu", dtype="float32"), ("The dog saw the cat.", "a")
        asked = [{"text": text} for text in texts]
    traces = [model.trace(**each) for each in asked]
    written = [] if name == "minilm" else [model.generate(**{k: v for k, v in asked[0].items() if k != "target"})]
    told = [{"decoder_text" if k == "target" else k: v for k, v in each.items()} for each in asked]
    runs = tuple(flow.take_apart(model, **each) for each in told)
    return World(name, model, texts, asked[0], (*traces, *written, traces[0].compact()), runs)


FLOATS = st.floats() | st.integers(-3, 3)
COUNTS = st.integers(-2, 4) | st.sampled_from([-(10**9), True])
TEXT = st.sampled_from(NASTY) | st.text(max_size=20)
POSITION = mostly(st.integers(-5, 4), st.integers() | st.booleans())
POSITIONS = st.one_of(POSITION, st.lists(POSITION, max_size=4))
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    shape = draw(SHAPES)
    kind = draw(st.sampled_from(["float32", "float64", "float16", "int64", "bool", "uint8"]))
    seen = draw(st.sampled_from(["random", "nan", "inf", "negative", "zero"]))
    made = np.random.default_rng(7).random(shape)
    made = made * {"random": 1.0, "nan": np.nan, "inf": np.inf, "negative": -1.0, "zero": 0.0}[seen]
    with np.errstate(invalid="ignore"):
        return np.asarray(made).astype(kind)


TENSORS = arrays().map(torch.from_numpy)
IDS = st.one_of(
    st.lists(st.integers(3, 90), min_size=1, max_size=8),
    st.lists(st.integers() | st.floats() | st.booleans() | st.none(), max_size=4),
    TENSORS,
    arrays(),
    TENSORS.map(lambda x: x.unsqueeze(0)),
    st.sampled_from([3, 3.5, {}, "ids", [[3, 4], [5]], object]),
    st.text(max_size=4),
)
NUMBERS = st.one_of(arrays(), TENSORS, st.lists(FLOATS, max_size=6), st.lists(st.lists(FLOATS, max_size=3), max_size=3))


def progress(*counted: Any) -> None:
    """Somebody who changed their mind."""
    raise Cancelled("Stopped.")


_ROWS = st.fixed_dictionaries({"sentence": TEXT, "word": TEXT, "time": FLOATS | TEXT})
FRAMES = st.one_of(
    st.builds(pd.DataFrame),
    st.lists(_ROWS, max_size=5).map(pd.DataFrame),
    arrays().filter(lambda x: x.ndim in (1, 2)).map(pd.DataFrame),
)


def heads_of(here: World) -> st.SearchStrategy[Call]:
    info = here.model.info
    site = st.sampled_from([*info.sites, None] if len(info.sites) > 1 else [None])
    good = {"layer": st.integers(0, 1), "head": st.integers(0, 3), "site": site}
    odd = {"layer": st.integers(), "head": st.integers() | st.booleans(), "site": TEXT | st.sampled_from(edits.SITES)}
    return mostly(st.fixed_dictionaries(good), st.fixed_dictionaries(odd)).map(lambda given: Call(edits.Head, given))


@cache
def values_of(name: str) -> Values:
    """By a parameter's name, values for it, of this model, its traces and its texts."""
    here = world(name)
    head = heads_of(here)
    heads = mostly(st.lists(head, min_size=1, max_size=3), st.just([]) | st.lists(head | TEXT, max_size=2))
    fits = st.sampled_from(here.texts) if here.texts[0] else st.none()
    text = mostly(fits, TEXT | st.just(""))
    said = TEXT | st.sampled_from([" Mary", "2", "a", "the"])
    answer = mostly(st.integers(3, 90) | said, st.lists(st.integers(), max_size=3) | st.integers())
    site = mostly(st.sampled_from([*here.model.info.sites, None]), st.sampled_from(edits.SITES) | TEXT)
    ids = mostly(st.just(here.keywords.get("input_ids")), IDS)
    flags = st.booleans()
    basic: dict[str, st.SearchStrategy[Any]] = {
        "model": mostly(st.just(here.model), st.sampled_from(WORLDS[:2]).map(lambda other: world(other).model)),
        "trace": st.sampled_from(here.traces),
        "run": st.sampled_from(here.runs),
        "text": text,
        "answer": answer, "foil": answer, "other": TEXT, "other_site": site,
        "target": mostly(st.none() | st.just("2021"), TEXT), "decoder_text": mostly(st.none() | st.just("2021"),
            TEXT), "phrase": said, "input_ids": ids,
        "decoder_input_ids": mostly(st.none(), IDS), "head": head, "heads": heads, "order": heads, "site": site,
        **dict.fromkeys(("query", "position", "key"), POSITION),
        **dict.fromkeys(("keys", "queries", "tokens", "positions"), POSITIONS),
        **dict.fromkeys(("k", "n", "most", "samples", "rows", "steps", "batch", "patience", "piece", "memory", "side",
                         "max_new_tokens", "layer", "layers", "n_random", "draws", "replicates", "start",
                         "least_words", "limit", "offset"), COUNTS),
        "length": st.integers(-2, 12), "seed": st.integers(), "draws": st.integers(-1, 30),
        **dict.fromkeys(("temperature", "share", "residual", "threshold", "strength", "weight", "lr", "level",
                         "held_out", "least", "least_score", "seconds", "high", "beta", "alpha"), st.floats(0,
                         1) | FLOATS),
        **dict.fromkeys(("compact", "anywhere", "estimate", "repeats", "timed", "feed_forward", "ignore",
                         "by_position", "leading"), flags),
        **dict.fromkeys(("title", "caption", "about", "name", "language", "by"), TEXT),
        "chat_template": mostly(st.just(False), flags), "language": mostly(st.just("en"), TEXT),
            "progress": mostly(st.none(), st.just(progress)),
        "report": mostly(st.none(), st.just(progress)), "theme": st.sampled_from(["light", "dark"]),
        "shares": st.lists(FLOATS, max_size=3),
        "palette": mostly(st.just("indigo"), TEXT), "scale": mostly(st.just("sqrt"), TEXT),
        "window": mostly(st.none(), st.lists(st.integers(-2, 9), max_size=5).map(tuple)),
        "units": mostly(st.sampled_from(["head", "layer", "group"]), TEXT),
        "how": mostly(st.sampled_from(["zero", "mean", "resample", "delete", "replace"]), TEXT),
        "donor": mostly(fits | st.just(here.keywords.get("input_ids")), TEXT | IDS),
        "names": st.lists(st.sampled_from(["entropy", "sink", "previous", "distance"]) | TEXT, max_size=3),
        "methods": st.lists(mostly(st.sampled_from(sorted(flow.METHODS)), TEXT), max_size=3),
        "weights": st.lists(FLOATS, max_size=8), "done": st.none(),
        "scales": st.lists(st.tuples(head, FLOATS), max_size=3).map(lambda pairs: Call(dict, {"*": (pairs,)})),
        "path": st.sampled_from([str(FOLDER / "out"), "", "\0", str(FOLDER), str(FOLDER / "no" / "folder" / "out")]),
        "folder": st.none(), "label": st.integers(-2, 3) | TEXT, "best": st.integers(-2, 3) | TEXT,
        "block": st.sampled_from(here.runs).flatmap(lambda run: st.sampled_from(run.blocks)),
        "words": st.lists(TEXT, max_size=4), "figure": st.just(go.Figure()), "frame": FRAMES,
    }  # fmt: skip
    return {**basic, **_composed(here, basic)}


def _composed(here: World, basic: Values) -> dict[str, st.SearchStrategy[Any]]:
    """Values that are made by calls themselves."""
    fits = st.sampled_from(here.texts) if here.texts[0] else st.just(here.keywords["input_ids"])
    texts = _some(mostly(fits, TEXT | IDS))
    made: dict[str, st.SearchStrategy[Any]] = {"texts": texts}
    known = {**basic, **made}
    edit = st.one_of(*(calls(kind, known) for kind in EDITS))
    metric = st.one_of(*(calls(kind, known, **own) for kind, own in METRICS))
    sinks = calls(
        attnviz.Sinks,
        known,
        how=mostly(st.sampled_from(["show", "hide", "renormalise", "value-norm"]), TEXT),
        kinds=mostly(st.just(("special", "first")), st.lists(TEXT, max_size=2).map(tuple)),
        tokens=st.lists(st.integers(-2, 9), max_size=3).map(tuple),
    )
    view = calls(attnviz.View, {"unit": mostly(st.sampled_from(["token", "word", "sentence"]), TEXT), "sinks": sinks})
    case = calls(
        ablation.Case,
        {
            **known,
            **dict.fromkeys(("clean", "corrupted"), mostly(st.sampled_from(here.texts), TEXT).map(str)),
            "answer": st.just(" cat") | TEXT,
            "foil": TEXT,
        },
    )
    emphasis = st.just("dog") | TEXT | st.lists(st.integers(-2, 9), min_size=1, max_size=3).map(tuple)
    example = calls(
        steering.Example,
        {
            **known,
            "text": mostly(st.sampled_from(here.texts), TEXT).map(str),
            "emphasis": emphasis,
            "answer": TEXT,
            "foil": TEXT,
        },
    )
    marks = st.dictionaries(mostly(st.integers(0, 2), st.integers()), mostly(st.floats(0, 1), FLOATS), max_size=3)
    target = calls(flow.Target, known)
    aim = st.fixed_dictionaries({"self": target, "model": basic["model"], "trace": basic["trace"]})
    return {
        **made,
        "aim": aim.map(lambda given: Call(flow.Target.aim, given, "aim")),
        "metric": metric,
        "hows": st.lists(basic["how"], max_size=2),
        "edits": mostly(st.just([]), st.lists(edit, max_size=2)),
        "some_edits": st.lists(edit, min_size=1, max_size=2),
        "sinks": sinks,
        "view": view,
        "cases": _some(case),
        "written": st.just(here.traces[-2]),
        "case": case,
        "examples": _some(example),
        "aim_target": target,
        "marked": calls(human.Marked, known, marks=marks, passage=st.none() | st.tuples(st.integers(), st.integers())),
    }


EDITS: Sequence[Callable[..., Any]] = (
    edits.ZeroHeads, edits.ScaleHeads, edits.MeanHeads, edits.ResampleHeads, edits.KnockOut, edits.Steer,
    edits.ExternalAttention,
)  # fmt: skip
METRICS: Sequence[tuple[Callable[..., Any], Mapping[str, Any]]] = (
    (metrics.KL, {}), (metrics.ClassProb, {}), (metrics.ExactMatch, {}), (metrics.LogProb, {}), (metrics.LogitDiff, {}),
    (metrics.Loss, {}), (metrics.Similarity, {}),
    (metrics.SimilarityRank, {"texts": st.lists(TEXT, max_size=3), "by": mostly(st.just("margin"), TEXT)}),
)  # fmt: skip
