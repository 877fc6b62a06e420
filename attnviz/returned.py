"""The attentions that a model returns by itself: the reference for the tap, and all there is of a view-only model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from attnviz.edits import SITES
from attnviz.errors import Unsupported

_ATTENTIONS = {
    "encoder": ("encoder_attentions", "attentions"),
    "decoder": ("decoder_attentions", "attentions"),
    "cross": ("cross_attentions",),
}


def attentions_by_site(hf_model: Any, outputs: Any) -> dict[str, list[torch.Tensor]]:
    """The attentions a model returned, by site; layers without attention left out."""
    seen: dict[str, list[torch.Tensor]] = {}
    encoder_decoder = getattr(hf_model.config, "is_encoder_decoder", False)
    for site in SITES if encoder_decoder else ("decoder",):
        kept = returned_attentions(hf_model, outputs, site)
        if kept:
            seen[site] = kept
    if not encoder_decoder and seen and not causal(seen["decoder"]):
        seen = {"encoder": seen["decoder"]}
    return seen


def returned_attentions(hf_model: Any, outputs: Any, site: str) -> list[torch.Tensor]:
    """The attentions in a model's outputs at one site, [batch, head, query, key] each; [] if there are none."""
    config = hf_model.config
    banded = getattr(config, "attention_window", None) is not None and (
        site == "encoder" or not config.is_encoder_decoder
    )
    for name in _ATTENTIONS[site]:
        kept = [w for w in getattr(outputs, name, None) or () if isinstance(w, torch.Tensor) and w.dim() == 4]
        if kept:
            return [_unrolled(w) for w in kept] if banded else kept
    return []


def _unrolled(band: torch.Tensor) -> torch.Tensor:
    """Sliding-window attention kept as a band (Longformer, LED), [batch, head, query, 1 + window], as a full pattern.

    Column c of row i is the key i + c - window / 2.
    """
    length, width = band.shape[-2:]
    full = band.new_zeros((*band.shape[:-1], length + width - 1))
    columns = torch.arange(length, device=band.device)[:, None] + torch.arange(width, device=band.device)
    full.scatter_(-1, columns.expand_as(band), band)
    return full[..., width // 2 : width // 2 + length]


def causal(patterns: Sequence[torch.Tensor]) -> bool:
    return all(float(w.float().triu(1).abs().max()) == 0 for w in patterns)


def sizes_by_site(inputs: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """(queries, keys) of each site."""
    source, target = (inputs[n].shape[1] if n in inputs else 0 for n in ("input_ids", "decoder_input_ids"))
    return {"encoder": (source, source), "decoder": (target or source,) * 2, "cross": (target, source)}


def check_returned(hf_model: Any, inputs: Mapping[str, Any], seen: Mapping[str, list[torch.Tensor]], why: str) -> None:
    """Refuse a model whose attentions are not patterns: a wrong picture is worse than none."""
    sizes = sizes_by_site(inputs)
    for site, patterns in seen.items():
        for weights in patterns:
            rows = weights.float().sum(-1)
            if weights.shape[-2:] != sizes[site] or float(weights.min()) < 0 or float(rows.max()) > 1.01:
                raise Unsupported(
                    f"{type(hf_model).__name__} cannot be read: {why}, and the attentions it returns are no shares "
                    f"of a query's attention (shape {tuple(weights.shape)}, rows sum to up to {float(rows.max()):.3g})."
                )
