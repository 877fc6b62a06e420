"""One run taken apart: what every block read, what its heads wrote, and what became of it.

    before + written = after            norm before the next block, or beside it
    norm(before + written) = after      norm behind; held at its scale in this run it is linear, so parts stay parts

`written` is the sum over heads and keys of pattern x value x output projection, plus the projection's bias. That sum,
and every other, is checked on this very run before anything is made of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from attnviz.anatomy import Anatomy, Frozen, Wiring
from attnviz.edits import Edit, checked
from attnviz.errors import Unsupported
from attnviz.models import Model
from attnviz.recorded import Recorded
from attnviz.tap import Call, Progress
from attnviz.trace import Trace
from attnviz.watching import Event, Watch, close, tolerance, watching


@dataclass(frozen=True, eq=False)
class FeedForward:
    """What a layer adds last, with its norm behind: [position, d_model].

    beside   whether it reads what the block before it read, not what that block gave
    """

    written: torch.Tensor
    after: torch.Tensor
    norm: Frozen | None
    beside: bool = False


@dataclass(frozen=True, eq=False)
class Block:
    """One attention block of one run; states are [query, d_model], float32.

    attention    as it was recorded
    z            [query, head, d_value], the heads' outputs, after the run's edits
    weight       [head, d_value, d_model], the output projection by head; `bias` is [d_model]
    before       the residual stream that the block's output is added to
    written      what it adds, its bias included
    after        the residual stream behind it; beside a feed-forward block, without that block's part
    out          the norm that its output passes before it is added, None where there is none; and `factor`
    norm         the norm behind the sum, None where there is none
    mlp          what the layer adds after its last block; None after the others
    """

    site: str
    layer: int
    attention: Recorded
    z: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    before: torch.Tensor
    written: torch.Tensor
    after: torch.Tensor
    out: Frozen | None
    factor: float
    norm: Frozen | None
    mlp: FeedForward | None

    @property
    def n_heads(self) -> int:
        return self.attention.n_heads

    def values(self) -> torch.Tensor:
        """What each head would write if it read one key alone, before norms: [head, key, d_model]."""
        value = self.attention.value[0].float().repeat_interleave(self.attention.group, dim=0)
        return value @ self.weight

    def weights(self, queries: slice = slice(None)) -> torch.Tensor:
        """[head, query, key]: the pattern, times what the run's edits scaled each head by.

        raises   Unsupported where pattern x values is not what the heads gave, scaled
        """
        pattern, value = self.attention.pattern(queries=queries)[0], self.attention.value
        read = pattern @ value[0].float().repeat_interleave(self.attention.group, dim=0)
        gave = self.z[queries].transpose(0, 1)
        scale = (gave * read).sum((1, 2)) / (read * read).sum((1, 2)).clamp(min=1e-30)
        scale = torch.where((scale - 1).abs() <= tolerance(value.dtype), 1.0, scale)[:, None, None]
        if not close((scale * read).to(value.dtype), gave.to(value.dtype)):
            raise Unsupported(
                f"What the heads of {self.site} layer {self.layer} read is not their pattern times their values, so "
                "their parts cannot be told by key. Methods that need attention alone still hold."
            )
        return pattern * scale

    def added(self, parts: torch.Tensor) -> torch.Tensor:
        """Parts of the projection's output as parts of what the block adds: [query, ..., d_model] in and out."""
        return (parts if self.out is None else self.out.linear(parts)) * self.factor

    def behind(self, parts: torch.Tensor) -> torch.Tensor:
        """Parts of `before + written` as parts of `after`, the norm's bias aside."""
        return parts if self.norm is None else self.norm.linear(parts)

    def heads(self) -> torch.Tensor:
        """What each head adds: [query, head, d_model]; with `bias_part` they sum to `written`."""
        return self.added(torch.einsum("qhv,hvd->qhd", self.z, self.weight))

    def bias_part(self) -> torch.Tensor:
        """What the projection's bias, and that of its norm, add: [query, d_model]."""
        part = self.added(self.bias.expand_as(self.before))
        return part if self.out is None else part + self.factor * self.out.bias


@dataclass(frozen=True, eq=False)
class Run:
    """A run taken apart.

    trace       what it recorded, logits included
    blocks      bottom first; of an encoder-decoder the encoder's, then each decoder layer's own and its cross block
    final       the norm before the output projection, at the trace's tokens; None where there is none
    embedded    [position, d_model], what the first block of the trace's tokens read
    last        [position, d_model], what the last layer gave, before `final`
    kept        what readers have worked out of this run, by name, so that they need not again
    """

    trace: Trace
    blocks: tuple[Block, ...]
    final: Frozen | None
    embedded: torch.Tensor
    last: torch.Tensor
    kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of what this run alone holds, its trace included and shared tensors counted once.

        The blocks' projections are the model's, or shared by all its runs, and are not counted.
        """
        states = [self.embedded, self.last]
        for block in self.blocks:
            states += [block.z, block.before, block.written, block.after]
            states += [] if block.mlp is None else [block.mlp.written, block.mlp.after]
        storages = [state.untyped_storage() for state in states]
        return self.trace.nbytes + sum({one.data_ptr(): one.nbytes() for one in storages}.values())


def take_apart(
    model: Model,
    text: str | None = None,
    decoder_text: str | None = None,
    *,
    input_ids: Any = None,
    decoder_input_ids: Any = None,
    edits: Sequence[Edit] = (),
    chat_template: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Run a model on a text and take the run apart; arguments as `Model.trace` has them.

    raises   Unsupported where the model's parts cannot be told (`attnviz.anatomy`), or do not sum up in this run
    """
    anatomy = model.anatomy.checked()
    source = model.encoded(text, input_ids, chat_template)
    kept = checked(edits)
    decoder = model.decoder_side(source, decoder_text, decoder_input_ids, kept)
    # Before the watching: a donor's run is not this one.
    bound = model.ready(kept, source, decoder)
    call = Call(model.layout.places, kept, progress=progress, keep_z=True, bound=bound)
    modules = {module for wiring in anatomy.wirings for module in wiring.modules}
    with watching([*modules, *([anatomy.final] if anatomy.final else [])]) as watch:
        outputs = model.forward(source, kept, call, decoder)
    trace = model.traces(call, outputs, [source], [decoder] if decoder else [])[0]
    with torch.no_grad():
        blocks = _blocks(anatomy, watch, call)
    mine = [block for block in blocks if block.site != "encoder" or trace.info.family == "encoder"]
    end = mine[-1]
    last = end.after if end.mlp is None else end.mlp.after
    return Run(trace, tuple(blocks), _final(anatomy, watch), mine[0].before, last)


def _blocks(anatomy: Anatomy, watch: Watch, call: Call) -> list[Block]:
    recorded = {place: one for _, place, one in call.recorded if place is not None}
    turns: Counter[tuple[torch.nn.Module, torch.nn.Module]] = Counter()
    blocks: list[Block] = []
    for wiring in anatomy.wirings:
        turn = turns[wiring.around, wiring.projection]  # a layer that is used several times
        turns[wiring.around, wiring.projection] += 1
        first, last = [(a, b) for module, a, b in watch.spans if module is wiring.around][turn]
        inside = {event.module: event for event in watch.events[first : last + 1]}
        before = _states(inside[wiring.around].read) if wiring.first else blocks[-1].after
        blocks.append(_block(wiring, inside, before, recorded[wiring.place], call.z[wiring.place][0].float()))
    return blocks


def _block(
    wiring: Wiring, inside: Mapping[torch.nn.Module, Event], before: torch.Tensor, attention: Recorded, z: torch.Tensor
) -> Block:
    width = z.shape[1] * z.shape[2]
    projected = inside[wiring.projection]
    assert projected.gave is not None
    matrix, bias = wiring.projected(width, projected.gave)
    given = _states(projected.gave)
    out, added = None, given
    if wiring.out_norm is not None:
        added = _states(inside[wiring.out_norm].gave)
        out = _frozen(wiring.out_norm, given, added, projected.gave.dtype)
    written = added if wiring.factor == 1.0 else added * wiring.factor
    norm, after = None, before + written
    if wiring.norm is not None:
        after = _states(inside[wiring.norm].gave)
        norm = _frozen(wiring.norm, before + written, after, projected.gave.dtype)
    block = Block(
        site=wiring.place.site,
        layer=wiring.place.layer,
        attention=attention.row(0),
        z=z,
        weight=matrix.view(*z.shape[1:], -1),
        bias=bias,
        before=before,
        written=written,
        after=after,
        out=out,
        factor=wiring.factor,
        norm=norm,
        mlp=_fed(wiring, inside, after),
    )
    if not _close(block.heads().sum(1) + block.bias_part(), written, projected.gave.dtype):
        raise Unsupported(f"What the heads of {block.site} layer {block.layer} write does not sum up in this run.")
    return block


def _fed(wiring: Wiring, inside: Mapping[torch.nn.Module, Event], stream: torch.Tensor) -> FeedForward | None:
    if wiring.mlp is None:
        return None
    gave = inside[wiring.around].gave
    assert gave is not None
    written, after = _states(inside[wiring.mlp].gave) * wiring.mlp_factor, _states(gave)
    norm = None if wiring.mlp_norm is None else _frozen(wiring.mlp_norm, stream + written, after, gave.dtype)
    if norm is None and not _close(stream + written, after, gave.dtype):
        raise Unsupported(f"The parts of {wiring.place.site} layer {wiring.place.layer} do not sum up in this run.")
    return FeedForward(written, after, norm, wiring.order == "beside")


def _close(a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether float32 states are the same up to rounding in the dtype that the model computes in."""
    return close(a.to(dtype), b.to(dtype))


def _frozen(module: torch.nn.Module, read: torch.Tensor, gave: torch.Tensor, dtype: torch.dtype) -> Frozen:
    norm = Frozen.of(module, read.to(dtype), gave.to(dtype))
    if norm is None:
        raise Unsupported(f"The norm {type(module).__name__} did something else in this run than in the check.")
    return norm


def _final(anatomy: Anatomy, watch: Watch) -> Frozen | None:
    if anatomy.final is None:
        return None
    event = next(event for event in reversed(watch.events) if event.module is anatomy.final)
    assert event.gave is not None
    return _frozen(anatomy.final, _states(event.read), _states(event.gave), event.gave.dtype)


def _states(given: torch.Tensor | None) -> torch.Tensor:
    """[position, d_model] float32 of the only text of a batch."""
    assert given is not None
    return given[0].float()
