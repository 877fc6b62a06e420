"""Edits as one would write them without the library: hooks on the output projection, and eager attention by hand."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

Change = tuple[torch.nn.Module, int, Callable[[torch.Tensor], torch.Tensor]]


def projections(hf_model: Any, ending: str) -> list[torch.nn.Module]:
    return [module for name, module in hf_model.named_modules() if name.endswith(ending)]


@contextmanager
def changed(n_heads: int, changes: Sequence[Change]) -> Iterator[None]:
    """Change heads where they enter a projection: `(projection, head, what [batch, query, d_head] becomes)`."""

    def hook(head: int, new: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., Any]:
        def change(module: Any, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            z = args[0].clone()
            width = z.shape[-1] // n_heads
            columns = slice(head * width, (head + 1) * width)
            z[..., columns] = new(z[..., columns])
            return (z,)

        return change

    handles = [module.register_forward_pre_hook(hook(head, new)) for module, head, new in changes]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def reading(modules: Sequence[torch.nn.Module]) -> Iterator[list[torch.Tensor]]:
    """What each projection reads, [query, heads side by side], in the order of the modules, once the run is over."""
    found: dict[torch.nn.Module, torch.Tensor] = {}
    handles = [
        module.register_forward_pre_hook(lambda module, args: found.__setitem__(module, args[0][0].clone()))
        for module in modules
    ]
    read: list[torch.Tensor] = []
    try:
        yield read
    finally:
        read += [found[module] for module in modules]
        for handle in handles:
            handle.remove()


@dataclass
class Eager:
    """transformers' eager attention with scores set to minus infinity by hand.

    edges     (which call of the forward pass, heads, queries, keys)
    weights   of each call of the last forward pass
    """

    edges: Sequence[tuple[int, Any, Any, Any]]
    weights: list[torch.Tensor] = field(default_factory=list)

    def put(self, hf_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        assert hf_model.config._attn_implementation == "eager"
        modelling = sys.modules[type(hf_model).__module__]
        plain = modelling.eager_attention_forward

        def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, *more: Any, **keywords: Any) -> Any:
            number = len(self.weights)
            shape = (*query.shape[:3], key.shape[2])
            mask = torch.zeros(shape) if mask is None else mask.expand(shape).clone()
            for call, heads, queries, keys in self.edges:
                if call == number:
                    rows = torch.zeros(shape, dtype=torch.bool)
                    index = [torch.as_tensor(x).reshape(-1) for x in (heads, queries, keys)]
                    rows[0][torch.meshgrid(*index, indexing="ij")] = True
                    mask[rows] = -torch.inf
            blank = (mask < -1e30).all(-1)
            mask[blank] = 0.0  # anything finite: what comes of it is put to zero below
            out, weights = plain(module, query, key, value, mask, *more, **keywords)
            weights = weights.masked_fill(blank[..., None], 0.0)
            self.weights.append(weights[0])
            return out.masked_fill(blank.transpose(1, 2)[..., None], 0.0), weights

        monkeypatch.setattr(modelling, "eager_attention_forward", attend)
