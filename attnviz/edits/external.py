"""A person's attention beside the model's: added to its scores, or mixed into its patterns.

With a query's scores s over the keys it sees and a person's weights e, one a key:

    beta    softmax(s + beta e)
    alpha   alpha softmax(s) + (1 - alpha) e / sum(e), over the same keys
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch

from attnviz.edits.base import Edit, Head, Lengths, Mixture
from attnviz.edits.tied import Tied, heads_or_site, sites_of, unbound, where
from attnviz.errors import InputError

_MOST = 1e4  # nats: whatever adds more has long decided a softmax, and float16 ends at 65,504


@dataclass(frozen=True)
class ExternalAttention(Edit):
    """Bring weights from outside into the attention of some heads, before the softmax (beta) or after it (alpha).

    weights   one finite number a key of the run, 0 or more; a sequence, or a 1-D array or tensor. While a text is
              being continued they are those of what was given, and new keys weigh 0
    beta      nats that a weight of 1 adds to a score; 0 changes nothing, and below 0 it takes away
    alpha     in [0, 1], the share that the head's own pattern keeps; 1 changes nothing. Exactly one of the two
    heads     where; None: all heads of the site, in all layers
    site      with heads=None, and needed there for an encoder-decoder

    For alpha the weights are normalised over the keys that each query sees. A query that sees no key with a weight
    keeps its own attention, so that no row becomes empty. On a model with sinks a mixed row sums to more than its own
    did, since the weights' part always sums to 1.
    """

    weights: tuple[float, ...]
    beta: float | None
    alpha: float | None
    heads: tuple[Head, ...]
    site: str | None

    def __init__(
        self,
        weights: Sequence[float],
        beta: float | None = None,
        alpha: float | None = None,
        heads: Iterable[Head] | None = None,
        site: str | None = None,
    ) -> None:
        if (beta is None) == (alpha is None):
            raise InputError(
                "ExternalAttention takes exactly one of beta (added to the scores) and alpha (the share that a head's "
                f"own pattern keeps); got beta={beta!r}, alpha={alpha!r}."
            )
        if beta is not None and not _finite(beta):
            raise InputError(f"ExternalAttention's beta is a finite number, in nats a weight of 1; got {beta!r}.")
        if alpha is not None and not (_finite(alpha) and 0 <= alpha <= 1):
            raise InputError(f"ExternalAttention's alpha lies within 0 and 1, which changes nothing; got {alpha!r}.")
        object.__setattr__(self, "heads", heads_or_site(heads, site, "ExternalAttention"))
        object.__setattr__(self, "weights", _weights(weights))
        object.__setattr__(self, "beta", None if beta is None else float(beta))
        object.__setattr__(self, "alpha", None if alpha is None else float(alpha))
        object.__setattr__(self, "site", site)

    @property
    def title(self) -> str:
        n = sum(weight > 0 for weight in self.weights)
        given = f"external weights on {n} of {len(self.weights)} keys"
        if self.beta is not None:
            return f"{given} added to the scores (beta {self.beta:g}) in {where(self)}"
        return f"{given} mixed into the patterns (own share {self.alpha:g}) in {where(self)}"

    @property
    def tied(self) -> bool:
        return True

    def bound(self, lengths: Lengths, values: object = None, *, prompt: bool = False) -> Edit:
        own = tuple(range(len(self.weights)))
        for site in sites_of(self, lengths):
            n_key = lengths[site][1]
            if len(own) != n_key:
                which = "what was given" if prompt else "the run"
                raise InputError(
                    f"ExternalAttention takes one weight a key: {which} has {n_key} {site} keys, and "
                    f"{len(own)} weight{'s were' if len(own) != 1 else ' was'} given."
                )
        return _External(self, dict.fromkeys(sites_of(self, lengths), (None, own)), external=self)

    def bias(self, site: str, layer: int, n_heads: int, n_query: int, n_key: int) -> torch.Tensor | None:
        raise unbound(self)


@dataclass(frozen=True, eq=False, kw_only=True)
class _External(Tied):
    """An ExternalAttention for one run."""

    external: ExternalAttention

    def bias(self, site: str, layer: int, n_heads: int, n_query: int, n_key: int) -> torch.Tensor | None:
        beta, weights = self.external.beta, self._weights(site, n_query, n_key)
        if not beta or not bool(weights.any()):
            return None
        chosen = self.chosen(site, layer, n_heads)[:, None, None]
        added = (weights * beta).clamp(-_MOST, _MOST).float()
        return torch.where(chosen, added, 0.0).expand(-1, n_query, -1)

    def mixture(self, site: str, layer: int, n_heads: int, n_query: int, n_key: int) -> Mixture | None:
        alpha, weights = self.external.alpha, self._weights(site, n_query, n_key)
        if alpha is None or alpha == 1 or not bool(weights.any()):
            return None
        share = self.chosen(site, layer, n_heads) * (1 - alpha)
        # Normalised here once, so that no weight, however large or small, is lost where rows are.
        return Mixture((weights / weights.max()).float()[None, None, None], share[None, :, None, None])

    def _weights(self, site: str, n_query: int, n_key: int) -> torch.Tensor:
        """[key], float64, of the forward pass's keys."""
        first = self.first_key(site, n_query, n_key)
        held = torch.tensor(self.external.weights[first : first + n_key], dtype=torch.float64)
        return torch.nn.functional.pad(held, (0, n_key - len(held)))


def _finite(given: Any) -> bool:
    return isinstance(given, Real) and not isinstance(given, bool) and math.isfinite(given)


def _weights(given: Any) -> tuple[float, ...]:
    listed = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(listed, str) or not isinstance(listed, Iterable):
        raise InputError(f"ExternalAttention takes weights, one a key, e.g. [0, 0.5, 1]; got {given!r:.80}.")
    kept = tuple(listed)
    if not kept:
        raise InputError("ExternalAttention takes one weight a key, so at least one; got none.")
    for weight in kept:
        if not _finite(weight) or weight < 0:
            raise InputError(f"ExternalAttention's weights are finite numbers, 0 or more; got {weight!r:.80}.")
    return tuple(map(float, kept))
