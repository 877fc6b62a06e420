"""How entry points are called with made-up inputs: with which models, by which files, and several calls as one.

For `fuzzed.ENTRIES`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import tiny
from hypothesis import strategies as st
from odd import FLOATS, FOLDER, TEXT, Call, Values, calls, mostly, values_of, world

import attnviz
from attnviz import corpus, findings, flow, gates, human, settings, store
from attnviz.ui import drafts, selection

Entry = st.SearchStrategy[Call]
# minilm is twenty times as slow as the other two.
_WORLDS = st.integers(0, 23).map(lambda draw: "minilm" if draw == 23 else ("dates", "grouped", "worded")[draw % 3])
_WORDED = st.integers(0, 9).map(lambda draw: "minilm" if draw == 9 else ("dates", "worded", "worded")[draw % 3])


def anywhere(
    target: Callable[..., Any],
    own: Callable[[Values], Values] | None = None,
    worlds: st.SearchStrategy[str] = _WORLDS,
) -> Entry:
    """Calls of it with any of the models; `own` gives the parameters that mean something else here."""
    return worlds.flatmap(lambda name: calls(target, values_of(name), **(own(values_of(name)) if own else {})))


def worded(target: Callable[..., Any], own: Callable[[Values], Values] | None = None) -> Entry:
    """The same with models that read texts."""
    return anywhere(target, own, _WORDED)


def method(target: Callable[..., Any], value: str, **own: st.SearchStrategy[Any]) -> Entry:
    """Calls of a method of the model, or of a trace, as `value` says."""
    return anywhere(target, lambda values: {"self": values[value], **own})


def plain(target: Callable[..., Any], **given: st.SearchStrategy[Any]) -> Entry:
    """Calls with just these arguments."""
    return st.fixed_dictionaries(given).map(lambda arguments: Call(target, arguments))


def several(name: str, one: str) -> Callable[[Values], Values]:
    return lambda values: {name: st.lists(values[one], max_size=2)}


def two_traces(values: Values) -> Values:
    return {"first": values["trace"], "second": values["trace"]}


def two_heads(values: Values) -> Values:
    return {**two_traces(values), "other": values["head"]}


def moved(values: Values) -> Values:
    return {"before": values["trace"], "after": values["trace"]}


def writing(values: Values) -> Values:
    return {"trace": mostly(values["written"], values["trace"])}


def ablated(values: Values) -> Values:
    """What a Question says is passed on as keywords."""
    keywords = ("model", "text", "metric", "how", "donor", "input_ids", "target", "heads")
    return {name: values[name] for name in keywords}


def faithful_to(model: attnviz.Model, marked: Any, shares: Any) -> Any:
    found = human.candidates(model, marked, methods=("last",))
    return human.faithful(model, marked, found.words, shares=shares, n_random=1)


def traced_down(run: Any, model: attnviz.Model, query: Any, share: Any, most: Any, layer: Any) -> flow.Graph:
    names = [token.text for token in (*run.trace.source_tokens, *run.trace.tokens)]
    made = flow.steps("norms", run.trace, run=run, model=model)
    return flow.trace_down(made, names, query, share=share, most=most, level=layer)


def read_corpus(**given: Any) -> list[Any]:
    reading = corpus.read(**given)
    return [*reading, reading.notes]


def settings_from(given: Mapping[str, str]) -> Any:
    with mock.patch.dict(os.environ, given):
        return settings.settings.__wrapped__()


def selection_of(params: Mapping[str, str]) -> Any:
    found, problems = selection.Selection.from_params(params)
    again, none = selection.Selection.from_params(found.to_params())
    assert not none
    assert again == found, f"{found} became {again}"
    return found.view, problems


def draft_of(kind: type[drafts.Draft], name: str, text: str) -> drafts.Draft:
    """As a page reads it, from a link that anybody may have made."""
    told = mock.Mock(selection=lambda: mock.Mock(**{name: "key"}), stores=lambda: mock.Mock(texts={"key": text}))
    with mock.patch.multiple(drafts, selection=told.selection, stores=told.stores, note=told.note, select=told.select):
        return drafts.read(kind, name)


def finding_of(text: str) -> findings.Finding:
    return findings.Finding.model_validate_json(text)


def in_store(name: str, arguments: Mapping[str, Any]) -> Any:
    return getattr(_store(), name)(**arguments)


@cache
def _store() -> store.Store:
    return store.open_store(f"sqlite:///{FOLDER / 'findings.sqlite'}")


def stored(name: str, **given: st.SearchStrategy[Any]) -> Entry:
    return plain(in_store, name=st.just(name), arguments=st.fixed_dictionaries(given))


def wrapped(kind: str) -> Any:
    return attnviz.wrap_model(tiny.EXACT[kind](num_hidden_layers=1))


def two_rows(scores: Any) -> Any:
    return [scores, scores] if isinstance(scores, list) else scores


def json_like(whole: str) -> st.SearchStrategy[str]:
    held = st.recursive(st.none() | FLOATS | TEXT, lambda one: st.lists(one) | st.dictionaries(TEXT, one), max_leaves=4)
    changed = mangled(whole.encode()).map(lambda data: data.decode("utf-8", "replace"))
    return st.one_of(changed, changed, held.map(json.dumps))


def saved_trace() -> bytes:
    return world("dates").traces[0].save(FOLDER / "whole").read_bytes()


def saved_gates() -> bytes:
    examples = [("3 May 2021", "2021-05-03"), ("4 May 2021", "2021-05-04"), ("5 May 2021", "2021-05-05")]
    return gates.learn(world("dates").model, examples, steps=1).save(FOLDER / "gates").read_bytes()


def mangled(whole: bytes) -> st.SearchStrategy[bytes]:
    """A file as it was, cut, with bytes changed, with bytes put in, or another one altogether."""

    @st.composite
    def broken(draw: st.DrawFn) -> bytes:
        at = draw(st.integers(0, len(whole)))
        piece = draw(st.binary(max_size=6))
        skipped = draw(st.sampled_from([0, len(piece), len(whole)]))
        return whole[:at] + piece + whole[at + skipped :]

    words = TEXT.map(lambda text: text.encode("utf-8", "surrogatepass"))
    return st.one_of(broken(), broken(), st.just(whole), st.binary(max_size=60), words)


def file_of(data: st.SearchStrategy[bytes], suffix: str = "") -> st.SearchStrategy[Call]:
    """A path to a file with these bytes, written when the call is made; now and then to none, or to a folder."""
    paths = st.sampled_from(["", "no/such/file", "\0", "x" * 300, str(FOLDER)])
    return mostly(data.map(lambda held: Call(_written, {"data": held, "suffix": suffix})), paths)


def _written(data: bytes, suffix: str) -> Path:
    path = FOLDER / f"file{suffix}"
    path.write_bytes(data)
    return path
