"""Where a model's attention is, found by running it once, and whether the tap reads it right.

`probe` runs a short made-up input three times and believes nothing that it did not see:

1. eager, with `output_attentions`: transformers' own patterns, the reference;
2. through the tap: which modules call attention, in which order, with which shapes, and whether the patterns made from
   the recorded queries and keys equal the reference and their rows sum to at most 1;
3. through the tap with one head at zero: whether an edit changes the output.

A model that fails 2 or 3 but returned attentions in 1 is view-only; one that returned none is refused.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from attnviz.edits import SITES, Head, ZeroHeads
from attnviz.errors import Unsupported
from attnviz.recorded import Recorded
from attnviz.returned import attentions_by_site, causal, check_returned, sizes_by_site
from attnviz.tap import Call, Place, implementations, install, kernel_name, restore, run, text_model

SOURCE_LENGTH, TARGET_LENGTH = 8, 5  # unequal, so that cross-attention shows itself by its shape
# How far the tap's float32 patterns may lie from eager's in the model's own dtype: at most, on average, and at most in
# a site's first layer, which both runs reach alike. Two kernels in bfloat16 drift apart from layer to layer (SmolLM2's
# 30: at most 0.15, on average 0.003); a mask, a sink or a soft-cap gone wrong shows in the first layer or the average.
TOLERANCE = {
    torch.float64: (1e-4, 1e-4, 1e-4),
    torch.float32: (1e-4, 1e-4, 1e-4),
    torch.float16: (1e-1, 2e-3, 1e-2),
    torch.bfloat16: (5e-1, 1e-2, 6e-2),
}


@dataclass(frozen=True)
class Layout:
    """What the probe found; sizes are by site.

    places    attention module -> its place, or its places in order for a module that several layers share
    reason    why the model is view-only; "" where recording and editing are exact
    gap       the largest difference between the tap's patterns and eager's on the probe
    """

    kernel: str
    sites: tuple[str, ...]
    family: str
    places: Mapping[nn.Module, tuple[Place, ...]]
    layers: Mapping[str, tuple[int, ...]]
    n_layers: Mapping[str, int]
    n_heads: Mapping[str, int]
    n_kv_heads: Mapping[str, int]
    layer_heads: Mapping[str, tuple[int, ...]]
    d_head: int
    gap: float
    reason: str = ""

    @property
    def exact(self) -> bool:
        return not self.reason


def probe_inputs(hf_model: Any) -> dict[str, torch.Tensor]:
    """A short input of ordinary token ids for any text model."""
    config = hf_model.config.get_text_config()
    special: set[int | None] = set()
    for name in ("pad", "bos", "eos", "decoder_start"):
        value = getattr(config, f"{name}_token_id", None)
        special |= set(value) if isinstance(value, list | tuple) else {value}
    vocabulary = int(config.vocab_size)
    ordinary = [i for i in range(min(vocabulary, 64)) if i not in special] or [0]
    ids = [ordinary[(7 * i + 3) % len(ordinary)] for i in range(SOURCE_LENGTH)]
    inputs = {"input_ids": torch.tensor([ids], device=hf_model.device)}
    if getattr(hf_model.config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = inputs["input_ids"][:, :TARGET_LENGTH].flip(1)
    return forward_inputs(hf_model, inputs)


def forward_inputs(hf_model: Any, inputs: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The inputs with what every forward of ours adds, as far as the model's forward takes it."""
    accepted = inspect.signature(hf_model.forward).parameters
    extra: dict[str, Any] = {"use_cache": False, "attention_mask": torch.ones_like(inputs["input_ids"])}
    return {**inputs, **{name: value for name, value in extra.items() if name in accepted and name not in inputs}}


def main_output(outputs: Any) -> torch.Tensor:
    """The output that an edit must reach: logits where there are any, else the last hidden states."""
    for name in ("logits", "last_hidden_state", "prediction_logits"):
        if getattr(outputs, name, None) is not None:
            return getattr(outputs, name)
    raise Unsupported("The model returns neither logits nor hidden states.")


@torch.no_grad()
def probe(hf_model: Any) -> Layout:
    """Find the layout of a model and install the tap; raises Unsupported for one whose attention cannot be seen."""
    before = implementations(hf_model)
    try:
        return _probe(hf_model)
    except Exception:
        restore(before)  # a model that is refused computes what it computed before
        raise


def _probe(hf_model: Any) -> Layout:
    inputs = probe_inputs(hf_model)
    kernel = kernel_name(hf_model)
    reference = _eager(hf_model, inputs)
    seen = attentions_by_site(hf_model, reference)
    try:
        install(hf_model)
        call = Call(places=None)
        with run(call):
            hf_model(**inputs)
        if not call.recorded:
            raise Unsupported("its attention does not go through transformers' AttentionInterface")
        order = [(module, recorded) for module, _, recorded in call.recorded]
        layout = _layout(hf_model, kernel, order, seen, sizes_by_site(inputs))
        _check_edit(hf_model, layout, inputs)
        return layout
    except Unsupported as error:
        reason = str(error)
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        reason = f"its attention could not be recorded ({type(error).__name__}: {error})"
    if not seen:
        raise Unsupported(
            f"{type(hf_model).__name__} cannot be read: {reason}, and it returns no attentions either. Models whose "
            "attention goes through transformers' AttentionInterface are supported exactly, models that return "
            "attentions are view-only."
        )
    check_returned(hf_model, inputs, seen, reason)
    hf_model.set_attn_implementation("eager")
    return _view_only(hf_model, seen, reason)


def _eager(hf_model: Any, inputs: Mapping[str, Any]) -> Any:
    before = implementations(hf_model)
    try:
        if any(name != "eager" for _, name in before):
            hf_model.set_attn_implementation("eager")
        if text_model(hf_model).config._attn_implementation != "eager":
            # Falcon's other path returns attentions that its mask was added to as numbers: plausible, and wrong.
            raise Unsupported(
                f'{type(hf_model).__name__} can only be read when it was loaded with attn_implementation="eager"; '
                "load it so."
            )
        return hf_model(**inputs, output_attentions=True)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise Unsupported(
            f"{type(hf_model).__name__} does not run with output_attentions=True ({type(error).__name__}: {error}), so "
            "nothing could be checked against it."
        ) from error
    finally:
        restore(before)  # not by name: a part of the model may refuse the name that it had (vibevoice_asr)


def start_token(hf_model: Any) -> int:
    """The id that an encoder-decoder's decoder starts with."""
    for config in (hf_model.generation_config, hf_model.config, hf_model.config.get_text_config(decoder=True)):
        for name in ("decoder_start_token_id", "bos_token_id"):
            value = getattr(config, name, None)
            if isinstance(value, int):
                return value
    raise Unsupported(f"{type(hf_model).__name__} names no decoder_start_token_id, so a target cannot be given to it.")


def _layout(
    hf_model: Any,
    kernel: str,
    order: list[tuple[nn.Module, Recorded]],
    seen: Mapping[str, list[torch.Tensor]],
    sizes: Mapping[str, tuple[int, int]],
) -> Layout:
    if not seen:
        raise Unsupported("it returns no attentions to check the recording against")
    patterns = [recorded.pattern() for _, recorded in order]
    encoder_decoder = bool(getattr(hf_model.config, "is_encoder_decoder", False))
    sites = [_site(w, encoder_decoder) for w in patterns]
    if not encoder_decoder:
        sites = ["decoder" if causal(patterns) else "encoder"] * len(patterns)
    names = {module: name for name, module in hf_model.named_modules()}
    gap = 0.0
    layers: dict[str, tuple[int, ...]] = {}
    for site in dict.fromkeys(sites):
        mine = [i for i, s in enumerate(sites) if s == site]
        for i in mine:
            if tuple(patterns[i].shape[-2:]) != sizes[site]:
                raise Unsupported(
                    f"its {site} patterns are {tuple(patterns[i].shape[-2:])} for {sizes[site]} queries and keys: its "
                    "keys are not the tokens that it reads"
                )
        given = seen.get(site, []) if encoder_decoder else next(iter(seen.values()))
        # Linear layers of a hybrid may return their state in the place of attentions (minimax).
        expected = [w for w in given if tuple(w.shape[-2:]) == sizes[site]]
        if len(expected) != len(mine):
            raise Unsupported(f"{len(expected)} layers returned attentions at the {site}, {len(mine)} were recorded")
        layers[site] = _numbers([names.get(order[i][0], "") for i in mine])
        for i, reference in zip(mine, expected, strict=True):
            gap = max(gap, _difference(patterns[i], reference, hf_model.dtype, first=i == mine[0]))
    places: dict[nn.Module, list[Place]] = {}
    counters: Counter[str] = Counter()
    for (module, _), site in zip(order, sites, strict=True):
        places.setdefault(module, []).append(Place(site, layers[site][counters[site]]))
        counters[site] += 1
    first = {site: [r for (_, r), s in zip(order, sites, strict=True) if s == site] for site in layers}
    ordered = tuple(site for site in SITES if site in layers)
    return Layout(
        kernel=kernel,
        sites=ordered,
        family="encoder-decoder" if encoder_decoder else ordered[0],
        places={module: tuple(at) for module, at in places.items()},
        layers=layers,
        n_layers={site: _depth(hf_model, numbers) for site, numbers in layers.items()},
        n_heads={site: max(r.n_heads for r in first[site]) for site in layers},
        n_kv_heads={site: max(r.key.shape[1] for r in first[site]) for site in layers},
        layer_heads={site: tuple(r.n_heads for r in first[site]) for site in layers},
        d_head=order[0][1].query.shape[-1],
        gap=gap,
    )


def _site(pattern: torch.Tensor, encoder_decoder: bool) -> str:
    n_query, n_key = pattern.shape[-2:]
    if encoder_decoder and n_query == TARGET_LENGTH:
        return "decoder" if n_key == TARGET_LENGTH else "cross"
    return "encoder"


def _numbers(names: list[str]) -> tuple[int, ...]:
    """Layer numbers from the modules' names; a gap stays a gap (hybrids). By order where names do not tell."""
    found = [re.search(r"\.(\d+)\.", f".{name}.") for name in names]
    numbers = tuple(int(match[1]) if match else -1 for match in found)
    rising = all(a < b for a, b in pairwise(numbers))
    return numbers if numbers and numbers[0] >= 0 and rising else tuple(range(len(names)))


def _depth(hf_model: Any, numbers: tuple[int, ...]) -> int:
    """All layers, also those after the last one with attention."""
    depth = getattr(hf_model.config.get_text_config(), "num_hidden_layers", None)
    gaps = numbers != tuple(range(len(numbers)))
    return max(numbers[-1] + 1, int(depth)) if gaps and isinstance(depth, int) else numbers[-1] + 1


def _difference(mine: torch.Tensor, reference: torch.Tensor, dtype: torch.dtype, *, first: bool) -> float:
    most, average, undrifted = TOLERANCE.get(dtype, TOLERANCE[torch.bfloat16])
    most = undrifted if first else most
    if mine.shape != reference.shape:
        raise Unsupported(f"its patterns have shape {tuple(reference.shape)}, the recording's {tuple(mine.shape)}")
    if float(mine.sum(-1).max()) > 1 + 1e-3 or not bool(torch.isfinite(mine).all()):
        raise Unsupported("the rows of its recorded patterns sum to more than 1")
    differences = (mine - reference.float()).abs()
    gap = float(differences.max())
    if gap > most or float(differences.mean()) > average:
        raise Unsupported(f"its recorded patterns lie up to {gap:.2g} from its own eager attention")
    return gap


def _check_edit(hf_model: Any, layout: Layout, inputs: Mapping[str, Any]) -> None:
    def output(*edits: ZeroHeads) -> torch.Tensor:
        with run(Call(places=layout.places, edits=edits, keep=False)):
            return main_output(hf_model(**inputs))

    clean = output()
    for site in layout.sites:
        head = Head(layout.layers[site][0], 0, site)
        if torch.equal(clean, output(ZeroHeads([head]))):
            raise Unsupported(f"setting {head} to zero does not change its output")


def _view_only(hf_model: Any, seen: Mapping[str, list[torch.Tensor]], reason: str) -> Layout:
    depth = {site: len(weights) for site, weights in seen.items()}
    heads = {site: max(w.shape[1] for w in weights) for site, weights in seen.items()}
    config = hf_model.config.get_text_config()
    encoder_decoder = getattr(hf_model.config, "is_encoder_decoder", False)
    return Layout(
        kernel="eager",
        sites=tuple(seen),
        family="encoder-decoder" if encoder_decoder else next(iter(seen)),
        places={},
        layers={site: tuple(range(n)) for site, n in depth.items()},
        n_layers=depth,
        n_heads=heads,
        n_kv_heads=heads,
        layer_heads={site: tuple(w.shape[1] for w in weights) for site, weights in seen.items()},
        d_head=int(getattr(config, "head_dim", None) or config.hidden_size // next(iter(heads.values()))),
        gap=0.0,
        reason=reason,
    )
