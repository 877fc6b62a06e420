"""Changes of heads' outputs, at all queries or at some, and the two that need no other run: zero and a factor."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from attnviz.edits.base import Edit, Head, Lengths, Values, heads_of, listed, positions_of, within
from attnviz.errors import HeadError, InputError

MOST_SCALE = 65_504  # what half precision holds


class HeadEdit(Edit):
    """Puts something in the place of some heads' outputs.

    positions      the queries where it does so, negative ones from the run's end; None: all of them. While a text is
                   being continued they are positions of what was given, and nothing is edited after it
    needs_values   whether other runs must say first what stands in
    """

    positions: tuple[int, ...] | None
    needs_values = False

    @property
    @abstractmethod
    def doing(self) -> str:
        """What happens to the heads, in words, without where."""

    @abstractmethod
    def new(self, z: torch.Tensor, site: str, layer: int, values: torch.Tensor | None) -> torch.Tensor:
        """What stands in for z, broadcastable to `[batch, query, head, d_head]`; read only at the edit's heads.

        values   [query, head, d_head], of a bound edit that needs such
        """

    @property
    def title(self) -> str:
        if self.positions is None:
            return self.doing
        return f"{self.doing}, at position{'s' if len(self.positions) > 1 else ''} {listed(self.positions)}"

    @property
    def tied(self) -> bool:
        return self.positions is not None

    def bound(self, lengths: Lengths, values: Values | None = None, *, prompt: bool = False) -> Edit:
        return Bound.of(self, lengths, values, prompt=prompt) if self.tied or self.needs_values else self

    def output(self, z: torch.Tensor, site: str, layer: int) -> torch.Tensor:
        if self.tied or self.needs_values:
            raise InputError(
                f"'{self.title}' is not bound to a run: pass it through `model.ready(edits, source)` first."
            )
        return self.placed(z, site, layer)

    def placed(
        self,
        z: torch.Tensor,
        site: str,
        layer: int,
        *,
        queries: torch.Tensor | None = None,
        values: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`output`, at the queries that are True alone, `[query]`; None for all."""
        chosen = torch.zeros(z.shape[2], dtype=torch.bool)
        chosen[self.at(site, layer)] = True
        acts = chosen[:, None] if queries is None else (queries[:, None] & chosen)[..., None]
        return torch.where(acts.to(z.device), self.new(z, site, layer, values), z)


@dataclass(frozen=True, eq=False)
class Bound(HeadEdit):
    """An edit of heads' outputs for one run; nothing but the tap need know of it.

    acts     by site, [query], whether it acts there; beyond them as `beyond` says
    values   by site and layer, what stands in, [query, head, d_head]; None where the edit needs none
    first    the position of the forward pass's first query
    prompt   whether the run is the beginning of a longer one
    """

    asked: HeadEdit
    acts: Mapping[str, torch.Tensor]
    values: Values | None
    beyond: bool
    prompt: bool
    first: int = 0

    @classmethod
    def of(cls, asked: HeadEdit, lengths: Lengths, values: Values | None, *, prompt: bool) -> Bound:
        acts = {site: torch.ones(n, dtype=torch.bool) for site, (n, _) in lengths.items()}
        if asked.positions is not None:
            for site in {h.site for h in asked.heads}:
                for place in acts if site is None else [site]:
                    n = len(acts[place])
                    acts[place] = torch.zeros(n, dtype=torch.bool)
                    acts[place][within(asked.positions, n, "An edit's position", prompt=prompt)] = True
        kept = {place: value for place, value in (values or {}).items() if asked.touches(*place)}
        return cls(asked, acts, kept if values is not None else None, not asked.tied, prompt)

    @property
    def heads(self) -> tuple[Head, ...]:  # type: ignore[override]
        return self.asked.heads

    @property
    def positions(self) -> tuple[int, ...] | None:  # type: ignore[override]
        return self.asked.positions

    @property
    def doing(self) -> str:
        return self.asked.doing

    @property
    def title(self) -> str:
        return self.asked.title + (" (within what was given)" if self.prompt and not self.beyond else "")

    @property
    def tied(self) -> bool:
        return self.asked.tied

    def bound(self, lengths: Lengths, values: Values | None = None, *, prompt: bool = False) -> Edit:
        return self

    def starting(self, first: int) -> Edit:
        return replace(self, first=first)

    def new(self, z: torch.Tensor, site: str, layer: int, values: torch.Tensor | None) -> torch.Tensor:
        return self.asked.new(z, site, layer, values)

    def output(self, z: torch.Tensor, site: str, layer: int) -> torch.Tensor:
        acts = self.acts[site]
        at = torch.arange(self.first, self.first + z.shape[1])
        known = at < len(acts)
        at = at.clamp(max=len(acts) - 1)
        queries = torch.where(known, acts[at], torch.tensor(self.beyond))
        if not bool(queries.any()):
            return z
        values = None if self.values is None else self.values[site, layer]
        values = values if values is None or len(values) == z.shape[1] == int(known.sum()) else values[at]
        return self.asked.placed(z, site, layer, queries=queries, values=values)


@dataclass(frozen=True)
class ZeroHeads(HeadEdit):
    """Set the outputs of some heads to zero.

    A zero is something the model never met in training: zero ablation is off-distribution, and its effect is an upper
    bound on nothing.
    """

    heads: tuple[Head, ...]
    positions: tuple[int, ...] | None = None

    def __init__(self, heads: Iterable[Head], positions: int | Sequence[int] | None = None) -> None:
        object.__setattr__(self, "heads", heads_of(heads, "ZeroHeads"))
        object.__setattr__(self, "positions", positions_of(positions, "positions"))

    @property
    def doing(self) -> str:
        return f"{names(self.heads)} set to zero (off-distribution)"

    def new(self, z: torch.Tensor, site: str, layer: int, values: torch.Tensor | None) -> torch.Tensor:
        return z.new_zeros(())


@dataclass(frozen=True)
class ScaleHeads(HeadEdit):
    """Multiply the outputs of some heads: 1 changes nothing, 0 is `ZeroHeads`."""

    heads: tuple[Head, ...]
    scales: tuple[float, ...]
    positions: tuple[int, ...] | None = None

    def __init__(self, scales: Mapping[Head, float], positions: int | Sequence[int] | None = None) -> None:
        if not isinstance(scales, Mapping):
            raise HeadError("ScaleHeads takes a mapping of heads to factors, e.g. ScaleHeads({Head(0, 0): 0.5}).")
        for head, scale in scales.items():
            if isinstance(scale, bool) or not isinstance(scale, int | float) or not abs(scale) <= MOST_SCALE:
                raise InputError(f"A head's scale is a number of at most ±{MOST_SCALE:,}; {head} got {scale!r:.80}.")
        object.__setattr__(self, "heads", heads_of(scales, "ScaleHeads"))
        object.__setattr__(self, "scales", tuple(map(float, scales.values())))
        object.__setattr__(self, "positions", positions_of(positions, "positions"))

    @property
    def doing(self) -> str:
        return ", ".join(f"{head} scaled by {scale:g}" for head, scale in zip(self.heads, self.scales, strict=True))

    def new(self, z: torch.Tensor, site: str, layer: int, values: torch.Tensor | None) -> torch.Tensor:
        factors = torch.ones(z.shape[2], dtype=z.dtype, device=z.device)
        for head, scale in zip(self.heads, self.scales, strict=True):
            if head.layer == layer and head.site in (None, site):
                factors[head.head] = scale
        return z * factors[:, None]


def names(heads: Sequence[Head]) -> str:
    return ", ".join(map(str, heads))
