"""Head scales written into the weights, so that a checkpoint needs nothing of AttnViz to act on them.

A head's output z meets its own columns of the output projection W_O and nothing else before them, so

    W_O (s z) = (s W_O) z        columns head * d_head to (head + 1) * d_head, times s

This holds where W_O reads the heads as they are (`attnviz.anatomy`). Where a norm or a gate stands between (BitNet,
MiniMax) scaling a head also moves the share of others, so no weight can say it, and baking is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from attnviz.edits import Edit, Head, ScaleHeads
from attnviz.errors import InputError, Unsupported
from attnviz.layout import main_output, probe, probe_inputs
from attnviz.models import Model
from attnviz.watching import tolerance

# Of the largest output, or of 1 where that is smaller; narrower dtypes by `attnviz.watching.tolerance`.
_LIMITS = {torch.float64: 1e-6, torch.float32: 1e-3}


@dataclass(frozen=True, eq=False)
class Baked:
    """A copy of a model with head scales in its weights.

    model    traceable like any other; no edit is needed
    title    what was written into it
    gap      the largest difference between its output and that of the edited original, in float32, on a short run
    folder   where it was saved; None where it was not
    """

    model: Model
    title: str
    gap: float
    folder: Path | None = None


def bake(model: Model, scales: ScaleHeads | Mapping[Head, float], *, folder: str | Path | None = None) -> Baked:
    """A copy of a model that does without edits what `ScaleHeads(scales)` does to it; the model itself is untouched.

    scales   0 takes a head out of the sum (its weights stay in the file, as zeros); 1 changes nothing
    folder   where to save it, empty or new: an ordinary checkpoint, with the tokenizer, for `from_pretrained`
    raises   Unsupported where the output projection does not read the heads as they are, where layers share one and
             scales differ, or where the copy does not compute what the edit does (they differ by more than 1e-3 of
             the largest output in float32, 1e-6 in float64); InputError for scales at positions or a folder that
             holds files; HeadError. The copy takes the memory of a second model.
    """
    edit = scales if isinstance(scales, ScaleHeads) else ScaleHeads(scales)
    if edit.positions is not None:
        raise InputError("Weights act at every position: bake scales without positions.")
    model.check_edits([edit])
    where = None if folder is None else _empty(Path(folder))
    made = copied(model, f"{edit.doing}, in the weights")
    for projection, factors in _factors(model, edit).items():
        _scale(made[projection], factors)
    baked = probed(made.model)
    gap, largest = difference(baked, model, [edit])
    dtype = model.hf_model.dtype
    if not gap <= _LIMITS.get(dtype, tolerance(dtype)) * max(1.0, largest):
        raise Unsupported(
            f"The scales were written into a copy of {model.name}, but it does not compute what the edit does (they "
            f"differ by {gap:.2g}): something else reads the same weights. Keep the edit."
        )
    if where is not None:
        baked.hf_model.save_pretrained(where)
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(where)
    return Baked(baked, edit.doing, gap, where)


@dataclass(frozen=True, eq=False)
class Copied:
    """A deep copy of a model, and where each of the original's modules is in it; its layout is still the original's."""

    model: Model
    names: Mapping[nn.Module, str]

    def __getitem__(self, original: nn.Module) -> nn.Module:
        found: nn.Module = self.model.hf_model.get_submodule(self.names[original])
        return found


def copied(model: Model, note: str) -> Copied:
    """A copy whose weights may be changed; `note` says in captions what was done to them."""
    notes = "; ".join(part for part in (model.origin.note, note) if part)
    twin = Model(copy.deepcopy(model.hf_model), model.tokenizer, model.layout, replace(model.origin, note=notes))
    return Copied(twin, {module: name for name, module in model.hf_model.named_modules()})


def probed(model: Model) -> Model:
    """The model with a layout of its own."""
    return replace(model, layout=probe(model.hf_model))


def difference(changed: Model, model: Model, edits: list[Edit]) -> tuple[float, float]:
    """(largest |difference| between one model and another with edits, largest |number|), on a short run."""
    outputs = []
    for one, held in ((changed, ()), (model, tuple(edits))):
        ids = {name: row[0].tolist() for name, row in probe_inputs(model.hf_model).items() if name.endswith("ids")}
        source = one.encoded(None, ids["input_ids"], False)
        decoder = one.decoder_side(source, None, ids.get("decoder_input_ids"), ())
        outputs.append(main_output(one.forward(source, held, None, decoder)).double())
    return float((outputs[0] - outputs[1]).abs().max()), float(outputs[1].abs().max())


def input_axis(projection: nn.Module) -> int:
    """Which axis of a projection's weight stands for what it reads; Unsupported for one that holds no plain matrix."""
    weight = getattr(projection, "weight", None)
    if isinstance(weight, nn.Parameter) and weight.dim() == 2 and weight.is_floating_point():
        if isinstance(projection, nn.Linear):
            return 1
        if isinstance(projection, Conv1D):
            return 0
    raise Unsupported(f"An output projection of kind {type(projection).__name__} holds no plain matrix to write into.")


@torch.no_grad()
def _scale(projection: nn.Module, factors: tuple[float, ...]) -> None:
    """Scale the columns of each head, in place; `factors` [head]."""
    axis, weight = input_axis(projection), projection.weight
    assert isinstance(weight, nn.Parameter)
    each = torch.tensor(factors, dtype=weight.dtype, device=weight.device)
    each = each.repeat_interleave(weight.shape[axis] // len(factors))
    weight.mul_(each if axis == 1 else each[:, None])


def _factors(model: Model, edit: ScaleHeads) -> dict[nn.Module, tuple[float, ...]]:
    """By output projection, the factor of every head; Unsupported where one projection would need two."""
    anatomy, layout = model.anatomy, model.layout
    if anatomy.reason:
        raise Unsupported(
            f"Scales cannot be written into the weights of {model.name}: {anatomy.reason}. Use ScaleHeads as an edit."
        )
    found: dict[nn.Module, tuple[float, ...]] = {}
    for wiring in anatomy.wirings:
        site, layer = wiring.place
        factors = [1.0] * layout.layer_heads[site][layout.layers[site].index(layer)]
        for head, scale in zip(edit.heads, edit.scales, strict=True):
            if head.layer == layer and head.site in (None, site):
                factors[head.head] = scale
        if found.setdefault(wiring.projection, tuple(factors)) != tuple(factors):
            raise Unsupported(
                f"Layers of {model.name} share one output projection, so a head is scaled in all of them or in none: "
                "give its scale for every layer."
            )
    return {projection: factors for projection, factors in found.items() if set(factors) != {1.0}}


def _empty(folder: Path) -> Path:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"A baked model is saved into a new or empty folder; {folder.name!r} holds something already.")
    return folder
