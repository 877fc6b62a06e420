"""How states mix from layer to layer: the one form in which every layered method is handed on.

A method that says how much of a state comes from each state below it is a source of Steps, bottom first: those of an
encoder, then for each decoder layer its self-attention and its cross-attention. What reaches the tokens through many
steps is for `attnviz.flow.rollout`, `maxflow` and `graph` to say, whatever the method.

Levels are counted in steps: level 0 is the embeddings, level n is above the n-th step. The embeddings of a decoder that
reads an encoder stand beside the encoder's top states, at the level of the last encoder step:

    source columns   0 - 1 - 2            encoder steps
                             | \\  \\      cross steps read level 2
    text columns             2 - 3 - 4    decoder and cross steps
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from attnviz.edits import SITES, Head
from attnviz.errors import HeadError, InputError, ShapeError, Unsupported
from attnviz.trace import Trace, checked_position
from attnviz.units import Units
from attnviz.view import View

_ROW_EXCESS = 1e-3  # attention of bfloat16 models sums to a little more than 1


@dataclass(frozen=True, eq=False)
class Step:
    """How the states above one attention block come from those below it; shares, none below 0.

    site      "encoder", "decoder" or "cross", whose keys are the encoder's top states
    layer     the model's number of it
    weights   [query, key], what comes through attention from each key's state
    kept      [query], what is the query's own old state: the residual
    raises    ShapeError or InputError for what no step can be

    A query's weights and what it kept sum to 1; to less where the pattern's row does.
    """

    site: str
    layer: int
    weights: torch.Tensor
    kept: torch.Tensor

    def __post_init__(self) -> None:
        name = f"{self.site} layer {self.layer}"
        shape = tuple(self.weights.shape)
        if self.site not in SITES:
            raise InputError(f"A step's site is one of {', '.join(SITES)}; got {self.site!r}.")
        if len(shape) != 2 or 0 in shape or (self.site != "cross" and shape[0] != shape[1]):
            expected = "[query, key]" if self.site == "cross" else "[token, token]"
            raise ShapeError(f"The weights of {name} have to be {expected}; got the shape {list(shape)}.")
        if tuple(self.kept.shape) != shape[:1]:
            raise ShapeError(f"What {name} keeps has to be [{shape[0]}], one a query; got {list(self.kept.shape)}.")
        rows = self.weights.sum(-1) + self.kept
        if not bool(torch.isfinite(rows).all()) or min(float(self.weights.min()), float(self.kept.min())) < 0:
            raise InputError(
                f"The shares of {name} have to be finite and not below 0: give patterns after the softmax."
            )
        if float(rows.max()) > 1 + _ROW_EXCESS:
            raise InputError(
                f"The shares of a query of {name} have to sum to at most 1; got {float(rows.max()):.4f}. "
                "Give patterns after the softmax, keys on the last axis."
            )

    def matrix(self) -> torch.Tensor:
        """[query, key] with what is kept on the diagonal: for steps whose keys are the queries' own axis."""
        return self.weights + torch.diag(self.kept)


@dataclass(frozen=True, eq=False)
class Scores:
    """How much each token counts for one target; not normalised unless the method says so.

    text     float64 [token], of the decoder's text, or of the only one
    source   float64 [source token], of the encoder's text; None where there is one text
    """

    text: torch.Tensor
    source: torch.Tensor | None = None

    def by(self, text: Units, source: Units | None = None) -> Scores:
        """Words or sentences: the scores of their tokens summed; a None source stays single tokens."""
        own = self.source if self.source is None or source is None else source.sum(self.source)
        return Scores(text.sum(self.text), own)


@dataclass(frozen=True, eq=False)
class Stack:
    """Steps, bottom first, that belong to one run: a column for each source token, then one for each of the text."""

    steps: tuple[Step, ...]
    n_source: int
    n_text: int

    @classmethod
    def of(cls, steps: Iterable[Step] | Stack) -> Stack:
        """Hold steps, all at once; raises ShapeError or InputError where they do not fit each other."""
        if isinstance(steps, Stack):
            return steps
        held = tuple(steps)
        if not held:
            raise InputError("A flow needs at least one layer of attention; got none.")
        sites = [step.site for step in held]
        several = "cross" in sites or len(set(sites)) > 1
        if several and "encoder" in sites[sites.count("encoder") :]:
            raise InputError("Steps come bottom first: those of the encoder, then those of the decoder.")
        sizes: dict[str, set[int]] = {"source": set(), "text": set()}
        for step in held:
            reads_source = several and step.site in ("encoder", "cross")
            sizes["source" if several and step.site == "encoder" else "text"].add(step.weights.shape[0])
            sizes["source" if reads_source else "text"].add(step.weights.shape[1])
        if max(map(len, sizes.values())) > 1:
            raise ShapeError(f"All steps have to be of the same tokens; got {sizes} tokens.")
        return cls(held, *(next(iter(found), 0) for found in sizes.values()))

    @property
    def n_columns(self) -> int:
        return self.n_source + self.n_text

    @property
    def text_level(self) -> int:
        """The level of the text's embeddings: 0, or that of the encoder's top."""
        return sum(step.site == "encoder" for step in self.steps) if self.n_source else 0

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels in words, bottom first."""
        if not self.n_source:
            return ("embeddings", *(f"after layer {step.layer}" for step in self.steps))
        blocks = {"encoder": "source after layer", "decoder": "after self-attention", "cross": "after cross-attention"}
        return ("source embeddings", *(f"{blocks[step.site]} {step.layer}" for step in self.steps))

    def sides(self, step: Step) -> tuple[slice, slice]:
        """The columns of a step's queries and keys."""
        source, text = slice(0, self.n_source), slice(self.n_source, self.n_columns)
        if not self.n_source:
            return text, text
        return source if step.site == "encoder" else text, text if step.site == "decoder" else source

    def key_level(self, place: int) -> int:
        """The level that the keys of a step are at."""
        return self.text_level if self.steps[place].site == "cross" else place

    def scores(self, values: torch.Tensor) -> Scores:
        """[column] of embeddings -> Scores."""
        return Scores(values[self.n_source :], values[: self.n_source] if self.n_source else None)

    def target(self, query: int | None, level: int | None = None) -> tuple[int, torch.Tensor]:
        """What is explained, as (level, mass of each column there): float64, 1 in all.

        query    a position of the text, or of the source at a level up to the encoder's top; None: all in equal parts
        level    from 1; None: the top
        raises   InputError for a position or a level that there is not
        """
        top = len(self.steps)
        level = top if level is None else level
        if isinstance(level, bool) or not isinstance(level, int) or not 1 <= level <= top:
            raise InputError(f"A level is the number of steps below it, from 1 to {top}; got {level!r}.")
        columns, _ = self.sides(self.steps[level - 1])
        mass = torch.zeros(self.n_columns, dtype=torch.float64)
        if query is None:
            mass[columns] = 1 / (columns.stop - columns.start)
        else:
            mass[columns][checked_position(query, columns.stop - columns.start, "query")] = 1
        return level, mass

    def fall(self, mass: torch.Tensor, place: int) -> torch.Tensor:
        """[column] mass above a step -> mass below it, both float64."""
        step = self.steps[place]
        queries, keys = self.sides(step)
        below = mass.clone()
        below[queries] *= step.kept.double()
        below[keys] += mass[queries] @ step.weights.double()
        return below


def steps(
    patterns: Any, *, residual: float = 0.5, view: View | None = None, heads: Sequence[Head] | None = None
) -> Iterator[Step]:
    """Attention itself as steps: heads averaged, `residual` of every state kept (Abnar & Zuidema 2020).

    patterns   [layer, head, query, key] or, averaged, [layer, query, key], after the softmax; or a Trace, whose layers
               are read and let go one at a time. A layer without attention mixes nothing and gives no step
    residual   share of the skip connection, in [0, 1], around self- and cross-attention alike
    view       of a trace: what becomes of sinks, before averaging; "hide" leaves rows that sum to less. Steps are of
               tokens whatever its unit
    heads      average these only; a layer with none of them keeps every state as it was
    raises     InputError, ShapeError, HeadError; Unsupported for a trace without all of a model's attention
    """
    if isinstance(residual, bool) or not isinstance(residual, (int, float)) or not 0 <= residual <= 1:
        raise InputError(f"residual is the share that is kept, from 0 to 1; got {residual!r}.")
    if isinstance(patterns, Trace):
        return _of_trace(patterns, residual, view, heads)
    if view is not None:
        raise InputError("A view needs the tokens, so give the trace instead of its patterns, or no view.")
    return _of_array(patterns, residual, heads)


def _of_array(patterns: Any, residual: float, heads: Sequence[Head] | None) -> Iterator[Step]:
    try:
        array = torch.as_tensor(patterns).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ShapeError(f"Patterns are a trace, or numbers in an array [layer, head, query, key]: {error}.") from error
    if array.ndim not in (3, 4) or 0 in array.shape or (heads is not None and array.ndim == 3):
        wanted = "[layer, head, query, key]" + ("" if heads is not None else " or [layer, query, key]")
        raise ShapeError(f"Patterns have to be {wanted}, none of these 0; got the shape {list(array.shape)}.")
    array = array if array.dtype == torch.float64 else array.float()
    array = array if array.ndim == 4 else array[:, None]
    n_layers, n_heads = array.shape[:2]
    for head in heads or ():
        if head.layer >= n_layers or head.head >= n_heads or head.site is not None:
            raise HeadError(f"The patterns have {n_layers} layers of {n_heads} heads and no sites; got {head}.")
    chosen = [_chosen(heads, "", layer) for layer in range(n_layers)]
    return (_step("decoder", layer, _mean(array[layer], of), residual, of) for layer, of in enumerate(chosen))


def _of_trace(trace: Trace, residual: float, view: View | None, heads: Sequence[Head] | None) -> Iterator[Step]:
    info = trace.info
    if trace.key_tokens:
        raise Unsupported("This call read keys from a cache, which have no states here; trace the whole text instead.")
    if info.family == "encoder-decoder" and set(info.sites) != set(SITES):
        raise Unsupported(f"A flow needs encoder, decoder and cross-attention of {info.name}, but {info.reason}.")
    named = None if heads is None else [replace(h, site=info.check_head(h.layer, h.head, h.site)) for h in heads]
    places = [(site, layer) for site in info.sites[:1] for layer in trace.layers(site)]
    if info.family == "encoder-decoder":
        own = [(layer, site) for site in ("decoder", "cross") for layer in trace.layers(site)]
        places += [(site, layer) for layer, site in sorted(own, key=lambda place: (place[0], place[1] == "cross"))]
    sinks = View(sinks=view.sinks) if view is not None else View()

    def read() -> Iterator[Step]:
        for site, layer in places:
            of = _chosen(named, site, layer)
            parts = [_mean(rows.weights, of).cpu() for rows in sinks.rows(trace, layer, site=site)]
            yield _step(site, layer, torch.cat(parts), residual, of)

    return read()


def _chosen(heads: Sequence[Head] | None, site: str, layer: int) -> list[int] | None:
    """The heads of one layer; None for all of them."""
    return None if heads is None else sorted({h.head for h in heads if h.layer == layer and (h.site or "") == site})


def _mean(weights: torch.Tensor, heads: list[int] | None) -> torch.Tensor:
    """[head, query, key] -> [query, key]; zero without a head."""
    return weights.mean(0) if heads is None else weights[heads].sum(0) / max(1, len(heads))


def _step(site: str, layer: int, mean: torch.Tensor, residual: float, heads: list[int] | None) -> Step:
    kept = 1.0 if heads == [] else residual
    return Step(site, layer, (1 - kept) * mean, mean.new_full(mean.shape[:1], kept))
