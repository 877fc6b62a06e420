"""Heads really removed: smaller matrices, less work, the same numbers as with those heads at zero.

A head is rows of the query, key and value matrices and columns of the output projection. Heads that share a key/value
head leave together. Nothing is looked up by name: the projection is the one of `attnviz.anatomy`, and query, key and
value are the three plain matrices of the attention block whose rows make up its heads. The copy is held against the
zeroed original before it is handed out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import nn

from attnviz.ablation.baking import copied, difference, input_axis, probed
from attnviz.edits import Head, ZeroHeads
from attnviz.errors import Unsupported
from attnviz.models import Model
from attnviz.tap import Place

_LIMIT = 1e-5
_COUNTS = ("num_attention_heads", "num_heads", "n_heads")  # what a block may call its number of heads


def take_out(model: Model, heads: Iterable[Head]) -> Model:
    """A copy without these heads; the others are numbered anew in their layers, in order. The model is untouched.

    raises   Unsupported where the matrices of a block hold more than its heads (GPT-2's are one, T5's heads have
             biases of their own), where a layer would keep none or a group would be torn, or where the copy differs
             from the model with these heads at zero by more than 1e-5 of its largest output; HeadError
    Its layers may differ in their heads, which no configuration says: it lives in memory and is not for saving.
    """
    edit = ZeroHeads(heads)
    model.check_edits([edit])
    if model.anatomy.reason:
        raise Unsupported(f"Heads cannot be taken out of {model.name}: {model.anatomy.reason}.")
    blocks = {place: module for module, places in model.layout.places.items() for place in places}
    leaving: dict[Place, set[int]] = defaultdict(set)
    for head in edit.heads:
        leaving[Place(model.info.site(head.site), head.layer)].add(head.head)
    made = copied(model, f"without {', '.join(map(str, edit.heads))}")
    for wiring in model.anatomy.wirings:
        if wiring.place in leaving:
            module = blocks[wiring.place]
            if len(model.layout.places[module]) > 1:
                raise Unsupported(f"Layers of {model.name} share their weights, so none of them can lose a head alone.")
            _shrink(model, made[module], made[wiring.projection], wiring.place, leaving[wiring.place])
    try:
        smaller = probed(made.model)
        gap, largest = difference(smaller, model, [edit])
    except (RuntimeError, Unsupported) as error:
        raise Unsupported(
            f"{model.name} does not run without these heads: {error}. Use ZeroHeads as an edit."
        ) from error
    if not gap <= _LIMIT * max(1.0, largest):
        raise Unsupported(
            f"{model.name} without these heads is not the model with them at zero (they differ by {gap:.2g}): "
            "something else reads the same weights. Use ZeroHeads as an edit."
        )
    return smaller


def _shrink(model: Model, block: nn.Module, projection: nn.Module, place: Place, leaving: set[int]) -> None:
    site, layer = place
    at = f"{site} layer {layer} of {model.name}"
    n_heads = model.layout.layer_heads[site][model.layout.layers[site].index(layer)]
    groups = model.layout.n_kv_heads[site] or n_heads
    size = n_heads // groups
    if len(leaving) == n_heads:
        raise Unsupported(f"All heads of {at} cannot be taken out: a layer keeps one at least.")
    staying = [head for head in range(n_heads) if head not in leaving]
    left = sorted({head // size for head in staying})
    if len(left) * size != len(staying):
        raise Unsupported(f"{size} heads share each key/value head in {at}: they leave together or not at all.")
    if input_axis(projection) != 1 or not isinstance(projection, nn.Linear):
        raise Unsupported(f"The matrices of {at} hold more than its heads, which cannot be told apart.")
    width = projection.in_features // n_heads
    readers = [
        part
        for part in block.modules()
        if isinstance(part, nn.Linear) and part is not projection and part.out_features % width == 0
    ]
    counts = [part.out_features // width for part in readers]
    if sorted(counts) != sorted([n_heads, groups, groups]):
        raise Unsupported(f"{at} has no three plain matrices for queries, keys and values.")
    for part, count in zip(readers, counts, strict=True):
        _keep(part, staying if count == n_heads else left, width, axis=0)
    _keep(projection, staying, width, axis=1)
    sizes = dict.fromkeys(_COUNTS, len(staying)) | {
        "num_key_value_heads": len(left),
        "all_head_size": width * len(staying),
    }
    for name, size in sizes.items():
        if isinstance(getattr(block, name, None), int):
            setattr(block, name, size)


@torch.no_grad()
def _keep(part: nn.Module, heads: list[int], width: int, *, axis: int) -> None:
    """Keep the rows (axis 0, with their biases) or columns (axis 1) of these heads alone."""
    assert isinstance(part, nn.Linear)
    index = torch.tensor([head * width + i for head in heads for i in range(width)], device=part.weight.device)
    part.weight = nn.Parameter(part.weight.index_select(axis, index), requires_grad=part.weight.requires_grad)
    if axis == 0:
        part.out_features = len(index)
        if part.bias is not None:
            part.bias = nn.Parameter(part.bias.index_select(0, index), requires_grad=part.bias.requires_grad)
    else:
        part.in_features = len(index)
