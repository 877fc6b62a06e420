"""How differently two rows attend: Jensen-Shannon divergence (Lin 1991), from 0, the same, to ln 2, nothing shared."""

from __future__ import annotations

import math

import torch

LN2 = math.log(2)


def entropy_nats(rows: torch.Tensor) -> torch.Tensor:
    """[..., key] -> [...]; a key without attention adds nothing."""
    return -torch.special.xlogy(rows, rows).sum(-1)


def divergence_nats(
    first: torch.Tensor, second: torch.Tensor, alone: tuple[torch.Tensor, torch.Tensor] | None = None
) -> torch.Tensor:
    """H((P + Q) / 2) - (H(P) + H(Q)) / 2 over the last axis: [..., key] and [..., key], broadcast, -> [...].

    alone    the two entropies, where they are known; rows laid end to end give the sum of their divergences
    """
    one, other = (entropy_nats(first), entropy_nats(second)) if alone is None else alone
    return (entropy_nats((first + second) / 2) - (one + other) / 2).clamp(min=0)  # rounding may go below
