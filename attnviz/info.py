"""What a model is: its family, its sizes, where its attention is, and what to say of it in a caption."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attnviz.edits import SITES
from attnviz.errors import HeadError
from attnviz.layout import Layout


@dataclass(frozen=True)
class Origin:
    """Where a model came from, for captions."""

    name: str = ""
    revision: str = ""
    note: str = ""
    pooling: str = "mean"


@dataclass(frozen=True)
class ModelInfo:
    """What a model is; for encoder-decoders n_layers, n_heads, n_kv_heads are dicts by site.

    family      "decoder", "encoder" or "encoder-decoder"
    sites       ("decoder",), ("encoder",) or ("encoder", "decoder", "cross")
    layers      by site, the layers that have attention; the others of `n_layers` have none
    layer_heads by site, the number of heads in each of `layers`; n_heads is the largest
    status      "exact": recorded and editable; "partial": so, but not at every site; "view-only": patterns can be
                read, nothing can be edited
    reason      why a model is view-only or partial
    max_tokens  the longest input the model reads; None where it has no limit
    """

    name: str
    family: str
    sites: tuple[str, ...]
    n_layers: int | dict[str, int]
    n_heads: int | dict[str, int]
    n_kv_heads: int | dict[str, int]
    d_head: int
    d_model: int
    device: str
    dtype: str
    layers: Mapping[str, tuple[int, ...]]
    layer_heads: Mapping[str, tuple[int, ...]]
    model_type: str = ""
    revision: str = ""
    note: str = ""
    kernel: str = ""
    status: str = "exact"
    reason: str = ""
    max_tokens: int | None = None
    n_parameters: int = 0
    has_vocabulary: bool = False
    has_chat_template: bool = False

    def layers_of(self, site: str) -> int:
        return self.n_layers[site] if isinstance(self.n_layers, dict) else self.n_layers

    def heads_of(self, site: str) -> int:
        return self.n_heads[site] if isinstance(self.n_heads, dict) else self.n_heads

    def site(self, site: str | None) -> str:
        """The site meant by `site`; None is the only one, or the first."""
        if site is None:
            return self.sites[0]
        if site not in self.sites:
            raise HeadError(f"{self.name} has attention at {', '.join(self.sites)}; got site {site!r}.")
        return site

    def check_head(self, layer: int, head: int | None, site: str | None = None) -> str:
        """The site, if the model has this layer and head there; HeadError otherwise."""
        site = self.site(site)
        n_layers = self.layers_of(site)
        if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < n_layers:
            raise HeadError(f"{self.name} has layers 0 to {n_layers - 1}; got layer {layer!r}.")
        if layer not in self.layers[site]:
            raise HeadError(f"Layer {layer} of {self.name} has no attention; layers with it: {self.layers[site]}.")
        n_heads = self.layer_heads[site][self.layers[site].index(layer)]
        if head is not None and (isinstance(head, bool) or not isinstance(head, int) or not 0 <= head < n_heads):
            raise HeadError(f"{self.name} has heads 0 to {n_heads - 1} in layer {layer}; got head {head!r}.")
        return site


def describe(hf_model: Any, tokenizer: Any, layout: Layout, origin: Origin) -> ModelInfo:
    """What a model is, from what the probe found and what its configuration says."""
    config = hf_model.config.get_text_config()
    several = layout.family == "encoder-decoder"
    site = layout.sites[0]
    missing = ""
    if several and set(layout.sites) != set(SITES):
        absent = " and ".join(name for name in SITES if name not in layout.sites)
        missing = f"its {absent} attention works on blocks, outside transformers' AttentionInterface, and is not shown"
    return ModelInfo(
        name=origin.name,
        family=layout.family,
        sites=layout.sites,
        n_layers=dict(layout.n_layers) if several else layout.n_layers[site],
        n_heads=dict(layout.n_heads) if several else layout.n_heads[site],
        n_kv_heads=dict(layout.n_kv_heads) if several else layout.n_kv_heads[site],
        d_head=layout.d_head,
        d_model=int(getattr(config, "hidden_size", None) or hf_model.get_input_embeddings().embedding_dim),
        device=str(hf_model.device),
        dtype=str(hf_model.dtype).removeprefix("torch."),
        layers=dict(layout.layers),
        layer_heads=dict(layout.layer_heads),
        model_type=str(hf_model.config.model_type),
        revision=origin.revision,
        note=origin.note,
        kernel=layout.kernel,
        status="view-only" if not layout.exact else "partial" if missing else "exact",
        reason=layout.reason or missing,
        max_tokens=_max_tokens(hf_model, config),
        n_parameters=sum(p.numel() for p in hf_model.parameters()),
        has_vocabulary=hf_model.get_output_embeddings() is not None,
        has_chat_template=bool(getattr(tokenizer, "chat_template", None)),
    )


def _max_tokens(hf_model: Any, config: Any) -> int | None:
    """The number of positions the model has; relative positions (T5) have no end."""
    for name in ("max_position_embeddings", "n_positions", "n_ctx"):
        value = getattr(config, name, None)
        if isinstance(value, int) and 0 < value < 10**9 and "t5" not in str(config.model_type):
            # RoBERTa's family keeps the first positions, up to the padding id, for itself.
            table = next((m for n, m in hf_model.named_modules() if n.endswith("embeddings.position_embeddings")), None)
            reserved = getattr(table, "padding_idx", None)
            return value - reserved - 1 if isinstance(reserved, int) else value
    return None
