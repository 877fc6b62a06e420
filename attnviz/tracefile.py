"""Traces on disk: one safetensors file, its description as JSON in the file's header.

A layer is kept as queries, keys and values together with the name of the eager function that turns them into a
pattern, when that function is one of transformers' own; otherwise the pattern itself is kept. Opening a file never
runs code that the file brings: the function's name must be that of a transformers modelling file.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from attnviz.checks import appearing
from attnviz.edits import SITES
from attnviz.errors import InputError
from attnviz.info import ModelInfo
from attnviz.outputs import TopK
from attnviz.recorded import Recorded
from attnviz.tokens import Token
from attnviz.trace import LayerAttention, Stored, Trace

FORMAT = 1
_MODELLING = re.compile(r"transformers\.models\.[a-z0-9_]+\.modeling_[a-z0-9_]+")
_OUTPUTS = ("raw_logits", "class_logits", "embedding")


def write(trace: Trace, path: Path) -> Path:
    """Write a trace; the file appears whole or not at all. InputError where it cannot be written."""
    shelf = _Shelf()
    top = (trace if trace.raw_logits is None else trace.compact(min(50, trace.raw_logits.shape[-1]))).top
    about = {
        "format": FORMAT,
        "info": dataclasses.asdict(trace.info),
        "text": trace.text,
        "source_text": trace.source_text,
        "tokens": [dataclasses.astuple(token) for token in trace.tokens],
        "source_tokens": [dataclasses.astuple(token) for token in trace.source_tokens],
        "key_tokens": [dataclasses.astuple(token) for token in trace.key_tokens],
        "edit_titles": list(trace.edit_titles),
        "prompt_length": trace.prompt_length,
        "outputs": {name: shelf.put(getattr(trace, name)) for name in _OUTPUTS},
        "top": None if top is None else {f.name: shelf.put(getattr(top, f.name)) for f in dataclasses.fields(top)},
        "strings": _strings(trace, top),
        "layers": {
            site: {str(layer): _layer_to_json(attention, shelf) for layer, attention in layers.items()}
            for site, layers in trace.attention.items()
        },
    }
    with appearing(path) as partial:
        try:
            save_file(shelf.tensors, partial, metadata={"attnviz": json.dumps(about)})
        except SafetensorError as error:  # safetensors' own for a disk that is full and a folder that is not there
            raise OSError(str(error)) from error
    return path


def load_trace(path: str | os.PathLike[str]) -> Trace:
    """Open a trace that `Trace.save` wrote; tensors on the CPU, no model needed.

    raises   InputError for a file that is missing, is not a trace, or was written by
             a version that this one does not know
    """
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("attnviz", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a file that Trace.save wrote ({error}).") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise InputError(f"{path} is not a trace of format {FORMAT}; save it again with this version of AttnViz.")
    try:
        trace = _trace_from_json(about, tensors)
        _check_shapes(trace)
        return trace
    except (KeyError, TypeError, ValueError, AttributeError, ImportError, IndexError, RuntimeError) as error:
        raise InputError(f"{path} is damaged: {error!r}. Save the trace again.") from error


def _check_shapes(trace: Trace) -> None:
    """Raise unless every layer can be drawn on its axes: a file may come from anywhere."""
    for site in trace.attention:
        queries, keys = (len(tokens) for tokens in trace.axes(site))
        for layer, attention in trace.attention[site].items():
            trace.info.check_head(layer, attention.n_heads - 1, site)
            shape = tuple(attention.pattern(0, slice(0, 1)).shape)
            if shape != (1, 1, 1, keys) or attention.tensors()[0].shape[2] != queries:
                raise ValueError(f"{site} layer {layer} does not fit its {queries} queries and {keys} keys")
    for token in (*trace.tokens, *trace.source_tokens, *trace.key_tokens):
        if not isinstance(token.text, str) or not isinstance(token.id, int) or len(token.span) != 2:
            raise ValueError(f"{token!r} is no token")
        token.text.encode()  # a lone surrogate is a ValueError: no page and no table could hold it


class _Shelf:
    """Tensors by name, one that several layers share (a mask) only once."""

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._names: dict[tuple[Any, ...], str] = {}
        self._seen: list[torch.Tensor] = []  # kept alive: a freed tensor's address may name the next one

    def put(self, x: torch.Tensor | None) -> str | None:
        if x is None:
            return None
        same = (x.data_ptr(), x.shape, x.stride(), x.dtype)
        if same not in self._names:
            self._seen.append(x)
            self._names[same] = f"t{len(self._names)}"
            self.tensors[self._names[same]] = x.detach().cpu().clone(memory_format=torch.contiguous_format)
        return self._names[same]


def _strings(trace: Trace, top: TopK | None) -> dict[str, str]:
    if top is None:
        return {}
    return {str(i): trace.decode(i) for i in top.ids.unique().tolist()}


def _layer_to_json(layer: LayerAttention, shelf: _Shelf) -> dict[str, Any]:
    if isinstance(layer, Recorded):
        extras = {**vars(layer.module), **layer.keywords}
        plain = all(x is None or isinstance(x, bool | int | float | torch.Tensor) for x in extras.values())
        if plain and _MODELLING.fullmatch(layer.eager.__module__):
            held = {name: shelf.put(getattr(layer, name)) for name in ("query", "key", "value", "mask")}
            module, keywords = (_mapping_to_json(x, shelf) for x in (vars(layer.module), layer.keywords))
            eager = layer.eager.__module__
            return {"tensors": held, "causal": layer.causal, "eager": eager, "module": module, "keywords": keywords}
    return {"weights": shelf.put(layer.pattern())}


def _mapping_to_json(values: Any, shelf: _Shelf) -> dict[str, Any]:
    return {k: {"tensor": shelf.put(v)} if isinstance(v, torch.Tensor) else v for k, v in values.items()}


def _trace_from_json(about: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Trace:
    def get(name: str | None) -> Any:
        return None if name is None else tensors[name]

    def mapping(values: dict[str, Any]) -> dict[str, Any]:
        return {k: tensors[v["tensor"]] if isinstance(v, dict) else v for k, v in values.items()}

    def layer(held: dict[str, Any]) -> LayerAttention:
        if "weights" in held:
            return Stored(tensors[held["weights"]])
        if not _MODELLING.fullmatch(held["eager"]):
            raise ValueError(f"{held['eager']!r} is not a modelling file of transformers")
        return Recorded(
            **{name: get(key) for name, key in held["tensors"].items()},
            causal=bool(held["causal"]),
            eager=importlib.import_module(held["eager"]).eager_attention_forward,
            module=SimpleNamespace(**mapping(held["module"])),
            keywords=mapping(held["keywords"]),
        )

    if not set(about["layers"]) <= set(SITES):
        raise ValueError(f"its sites are {sorted(about['layers'])}")
    info = dict(about["info"])
    info["sites"] = tuple(info["sites"])
    info["layers"] = {site: tuple(layers) for site, layers in info["layers"].items()}
    info["layer_heads"] = {site: tuple(heads) for site, heads in info["layer_heads"].items()}
    strings = {int(i): text for i, text in about["strings"].items()}
    top = about["top"]
    return Trace(
        info=ModelInfo(**info),
        text=about["text"],
        source_text=about["source_text"],
        tokens=tuple(_token(x) for x in about["tokens"]),
        source_tokens=tuple(_token(x) for x in about["source_tokens"]),
        key_tokens=tuple(_token(x) for x in about["key_tokens"]),
        attention={
            site: {int(i): layer(held) for i, held in layers.items()} for site, layers in about["layers"].items()
        },
        edit_titles=tuple(about["edit_titles"]),
        prompt_length=about["prompt_length"],
        **{name: get(key) for name, key in about["outputs"].items()},
        top=None if top is None else TopK(**{name: tensors[key] for name, key in top.items()}),
        decode=lambda i: strings.get(i, f"#{i}"),
    )


def _token(values: list[Any]) -> Token:
    kept: list[Any] = [tuple(x) if isinstance(x, list) else x for x in values]
    return Token(*kept)
