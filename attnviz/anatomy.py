"""Where a model's heads write: the output projection, the norms and the residual stream around every attention block.

Nothing is looked up by name. One short run is watched, module by module, and a module is taken for what it does:

1. the *projection* of a block is the module that reads exactly the heads' outputs, side by side; it must be affine;
2. what it gives may pass one norm or a constant factor before it is added to the *residual stream*;
3. the sum is then left as it is (the norm stands before the next block: GPT-2, Llama), normalised on the spot (the
   norm stands behind: BERT), or the feed-forward block reads beside attention instead of after it (GPT-NeoX);
4. the feed-forward block must account for the rest of what the layer gives.

Every sum is checked on numbers. Where one does not come out, the block has no anatomy, with the reason: methods that
need it are not offered, those that need patterns alone still are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import nn

from attnviz.errors import Unsupported
from attnviz.layout import Layout, probe_inputs
from attnviz.tap import Call, Place, run
from attnviz.watching import Event, affine, chain, close, same, watching

Order = Literal["before", "behind", "beside"]


@dataclass(frozen=True, eq=False)
class Frozen:
    """A norm with its scale held at what it was in one run: linear in what it reads.

    gain, bias   [d_model]
    centred      whether the mean over d_model is taken off first
    scale        [position]
    """

    gain: torch.Tensor
    bias: torch.Tensor
    centred: bool
    scale: torch.Tensor

    @classmethod
    def of(cls, module: nn.Module, read: torch.Tensor, gave: torch.Tensor) -> Frozen | None:
        """The norm that turned `read` into `gave`, [position, d_model]; None if the module is no such norm.

        Its gain may be its weight, or one plus it (Gemma); its scale is read off the numbers, whatever its epsilon.
        """
        if read.shape != gave.shape:
            return None
        weight, bias = (getattr(module, name, None) for name in ("weight", "bias"))
        if any(isinstance(x, torch.Tensor) and x.shape != read.shape[-1:] for x in (weight, bias)):
            return None
        read32, gave32 = read.float(), gave.float()
        offset = bias.detach().float() if isinstance(bias, torch.Tensor) else torch.zeros_like(gave32[0])
        own = weight.detach().float() if isinstance(weight, torch.Tensor) else torch.ones_like(gave32[0])
        for centred in (False, True):
            base = read32 - read32.mean(-1, keepdim=True) if centred else read32
            for gain in (own, own + 1):
                shape, wanted = base * gain, gave32 - offset
                scale = (wanted * shape).sum(-1) / (shape * shape).sum(-1).clamp(min=1e-30)
                if close((shape * scale[:, None] + offset).to(gave.dtype), gave):
                    return cls(gain, offset, centred, scale)
        return None

    def linear(self, parts: torch.Tensor) -> torch.Tensor:
        """What it makes of parts of what it read, its bias aside: [position, ..., d_model] in and out."""
        if self.centred:
            parts = parts - parts.mean(-1, keepdim=True)
        return parts * self.gain * self.scale.view(-1, *[1] * (parts.dim() - 1))


@dataclass(frozen=True, eq=False)
class Wiring:
    """How one attention block is wired into the residual stream.

    around       the layer that it stands in, an element of a list of layers
    first        whether it is the layer's first block; a later one reads what the one before it left
    projection   the module that mixes the heads
    out_norm     the norm that its output passes before it is added; None where there is none
    factor       and the constant that it is multiplied by
    order        where the norm of the residual stream stands: "before" the next block, "behind" this one; or the
                 feed-forward block reads "beside" this one
    norm         the norm behind; None for the other orders
    mlp          of the layer's last block: the module whose output, times `mlp_factor`, is added last, and the norm
                 behind it; None for the others
    mlp_path     the modules that make that output of what the block left, one after the other; () where they cannot be
                 told, or where it does not depend on the block
    """

    place: Place
    around: nn.Module
    first: bool
    projection: nn.Module
    out_norm: nn.Module | None
    factor: float
    order: Order
    norm: nn.Module | None
    mlp: nn.Module | None = None
    mlp_path: tuple[nn.Module, ...] = ()
    mlp_factor: float = 1.0
    mlp_norm: nn.Module | None = None
    _kept: dict[Any, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict, init=False, repr=False)

    @torch.no_grad()
    def projected(self, width: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`affine` of the projection: worked out once for all runs, and anew when its weights have changed."""
        held = (*self.projection.parameters(), *self.projection.buffers())
        state = (width, like.dtype, *((x.data_ptr(), 0 if x.is_inference() else x._version) for x in held))
        found = self._kept.get(state)
        if found is None:
            found = affine(self.projection, width, like)
            self._kept.clear()
            self._kept[state] = found
        return found

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        found = (self.around, self.projection, self.out_norm, self.norm, self.mlp, self.mlp_norm)
        return tuple(dict.fromkeys(module for module in found if module is not None))


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The wiring of every block, in the order of the forward pass; or why it could not be told.

    final    the norm between the last layer and the output projection; None where the last layer is the last state
    reason   "" where all sums come out
    """

    wirings: tuple[Wiring, ...]
    final: nn.Module | None = None
    reason: str = ""

    def checked(self) -> Anatomy:
        """Itself; Unsupported with the reason where there is none."""
        if self.reason:
            raise Unsupported(
                f"What this model's heads write cannot be told apart: {self.reason}. Methods that need attention alone "
                "still hold: rollout, max-flow, gradients, and the yardsticks."
            )
        return self


@torch.no_grad()
def find(hf_model: Any, layout: Layout) -> Anatomy:
    """The anatomy of a model, from one short run of it; with the reason where it has none."""
    try:
        if not layout.exact:
            raise Unsupported(f"it is view-only ({layout.reason})")
        return _find(hf_model, layout)
    except Unsupported as error:
        return Anatomy((), reason=str(error))


def _find(hf_model: Any, layout: Layout) -> Anatomy:
    names = {module: name for name, module in hf_model.named_modules()}
    layers = {module: _layer_of(hf_model, names[module]) for module in layout.places}
    inside = {part for layer in layers.values() for part in layer.modules()}
    tops = {part for part in hf_model.modules() if part not in inside and not isinstance(part, nn.Embedding)}
    call = Call(places=layout.places, keep=False, keep_z=True)
    with watching([*inside, *tops]) as watch, run(call):
        hf_model(**probe_inputs(hf_model))
    wirings: list[Wiring] = []
    for layer in dict.fromkeys(layers.values()):
        mine = [places for module, places in layout.places.items() if layers[module] is layer]
        spans = [(first, last) for module, first, last in watch.spans if module is layer]
        for turn, (first, last) in enumerate(spans):
            places = [places[turn] for places in mine if turn < len(places)]
            heads = {place: call.z[place].flatten(-2) for place in places if place in call.z}
            order = [place for place in call.z if place in heads]
            wirings += _wire(layer, watch.events[last], watch.events[first:last], [(p, heads[p]) for p in order])
    order = list(call.z)
    wirings.sort(key=lambda wiring: order.index(wiring.place))
    missing = [f"{place.site} layer {place.layer}" for place in order if place not in {w.place for w in wirings}]
    if missing or not wirings:
        raise Unsupported(f"no layer was found around {', '.join(missing) or 'its attention'}")
    ends = [e for e in watch.events if e.module is wirings[-1].around]
    return Anatomy(tuple(wirings), final=_final(watch.events, ends[-1]))


def _layer_of(hf_model: Any, name: str) -> nn.Module:
    """The outermost element of a list of modules that holds the module of this name."""
    match = re.match(r"(.*?\.\d+)(\.|$)", name)
    if match is None:
        raise Unsupported("its attention stands in no list of layers")
    return hf_model.get_submodule(match[1])


def _wire(
    layer: nn.Module, whole: Event, events: Sequence[Event], blocks: Sequence[tuple[Place, torch.Tensor]]
) -> list[Wiring]:
    """The wiring of one layer's blocks, in order; Unsupported where no known one accounts for the numbers."""
    if not blocks:
        return []
    at = f"{blocks[0][0].site} layer {blocks[0][0].layer}"
    if whole.read is None or whole.gave is None:
        raise Unsupported(f"{at} does not pass states on")
    events = [e for e in events if e.read is not None and e.gave is not None and not same(e.read, e.gave)]
    projections = [_projection(at, events, heads, whole.gave) for _, heads in blocks]
    for orders in (["before"] * len(blocks), ["behind"] * len(blocks), ["beside"] * len(blocks)):
        wirings: list[Wiring] = []
        stream = whole.read
        for (place, _), projected, order in zip(blocks, projections, orders, strict=True):
            step = _added((layer, place, not wirings), events, projected, stream, order)  # type: ignore[arg-type]
            if step is None:
                break
            wirings.append(step[0])
            stream = step[1]
        else:
            last = _fed_forward(events, stream, whole.gave, wirings[-1])
            if last is not None:
                return [*wirings[:-1], last]
    raise Unsupported(f"the parts of {at} do not sum to what it gives")


def _projection(at: str, events: Sequence[Event], heads: torch.Tensor, states: torch.Tensor) -> Event:
    for event in events:
        assert event.read is not None
        assert event.gave is not None
        if event.gave.shape == (*states.shape[:-2], heads.shape[-2], states.shape[-1]) and close(event.read, heads):
            matrix, bias = affine(event.module, heads.shape[-1], heads)
            if close((heads.float() @ matrix + bias).to(event.gave.dtype), event.gave):
                return event
    raise Unsupported(f"no output projection reads the heads of {at} as they are")


def _added(
    at: tuple[nn.Module, Place, bool], events: Sequence[Event], projected: Event, stream: torch.Tensor, order: Order
) -> tuple[Wiring, torch.Tensor] | None:
    """How a block's output joins the stream, and the stream after it; None if it does not join in this order."""
    (layer, place, first), given = at, projected.gave
    assert given is not None
    normed = next((e for e in events if e is not projected and e.read is given and _norm(e)), None)
    normed = normed or next((e for e in events if same(e.read, given) and _norm(e)), None)
    added = given if normed is None or normed.gave is None else normed.gave
    out_norm = None if normed is None else normed.module
    if order == "beside":
        return Wiring(place, layer, first, projected.module, out_norm, 1.0, order, None), stream + added
    for event in events:
        assert event.read is not None
        factor = _factor(event.read, stream, added)
        if factor is None or (order == "behind" and not _norm(event)):
            continue
        norm = event.module if order == "behind" else None
        after = event.gave if order == "behind" else event.read
        assert after is not None
        return Wiring(place, layer, first, projected.module, out_norm, factor, order, norm), after
    return None


def _fed_forward(events: Sequence[Event], stream: torch.Tensor, gave: torch.Tensor, wiring: Wiring) -> Wiring | None:
    """The wiring with what the layer adds last; None if nothing accounts for what the layer gives."""
    ends: list[tuple[torch.Tensor, nn.Module | None]] = [(gave, None)]
    if wiring.order == "behind":
        ends = [(e.read, e.module) for e in events if e.read is not None and same(e.gave, gave) and _norm(e)]
        if same(stream, gave):
            return wiring
    for end, norm in ends:
        for event in reversed(events):
            assert event.gave is not None
            factor = _factor(end, stream, event.gave)
            if factor is not None:
                path = () if wiring.order == "beside" else chain(events, stream, event)
                return replace(wiring, mlp=event.module, mlp_path=path, mlp_factor=factor, mlp_norm=norm)
    # Last, since a small part of a large stream would pass for rounding.
    return wiring if wiring.order != "behind" and close(stream, gave) else None


def _factor(total: torch.Tensor, stream: torch.Tensor, part: torch.Tensor) -> float | None:
    """c with total = stream + c part; None if there is none."""
    if total.shape != stream.shape or part.shape != stream.shape:
        return None
    left, flat = (total.float() - stream.float()).flatten(), part.float().flatten()
    size = float(flat @ flat)
    if size == 0.0:
        return None
    factor = float(left @ flat) / size
    # The rounding of the sum is that of the total, but the part must be there: else anything would fit a large stream.
    if abs(factor) < 1e-3 or not close((stream.float() + factor * part.float()).to(total.dtype), total):
        return None
    if float((left - factor * flat).norm()) > 0.05 * float(left.norm()):
        return None
    return 1.0 if abs(factor - 1) < 1e-3 else factor


def _norm(event: Event) -> bool:
    if event.read is None or event.gave is None:
        return False
    return Frozen.of(event.module, event.read[0], event.gave[0]) is not None


def _final(events: Sequence[Event], last: Event) -> nn.Module | None:
    """The norm that reads the last layer's states; None where there is none."""
    assert last.gave is not None
    return next(
        (e.module for e in events if same(e.read, last.gave) and not same(e.gave, last.gave) and _norm(e)), None
    )
