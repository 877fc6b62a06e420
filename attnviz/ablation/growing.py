"""The growing pass: every head ablated exactly, and nothing below its layer computed twice.

A row starts at the layer of its head, from the clean run's states there, with the head's output replaced; from then on
it is a run of its own. So layer by layer the batch grows by the rows whose heads stand in that layer:

    layer 0   [L0H0 L0H1 ...]
    layer 1   [L0H0 L0H1 ... L1H0 L1H1 ...]
    ...       then the metric is read off every row

That is half the layers of one forward a head, and matrix products as large as wanted. The rows are taken in batches:
small enough to stay in the processor's cache and under the memory allowed, large enough to keep it busy. Any order of
rows will do, since a batch starts wherever its lowest head stands.

Unedited rows ride along. They must come to the clean result, and how far they miss it is the noise of all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch

from attnviz.ablation.layers import Layers, Visit, find, taking
from attnviz.edits import Edit
from attnviz.errors import EditNotApplied, Unsupported
from attnviz.layout import forward_inputs, main_output, probe_inputs
from attnviz.models import Model
from attnviz.replacing import Outputs
from attnviz.tap import Call, Place
from attnviz.watching import close


@dataclass(frozen=True)
class Unit:
    """What is ablated together, as one row: some heads of one attention block; none for an unedited copy."""

    place: Place
    heads: tuple[int, ...]


def stand_in(instead: Outputs, place: Place, shape: Sequence[int]) -> torch.Tensor:
    """What stands in for the heads of a block whose output is [query, head, d_head]: of its first queries, or of all.

    raises   Unsupported where it is of more queries, or of other heads
    """
    values = instead[place]
    if len(values) > shape[0] or tuple(values.shape[1:]) != tuple(shape[1:]):
        raise Unsupported(
            f"At {place.site} layer {place.layer} the run gives heads of shape {tuple(shape)}, and what stands in for "
            f"them is {tuple(values.shape)}: this model can be ablated by how='zero' alone."
        )
    return values


class Rows(Edit):
    """Other heads replaced in each row of a batch, by zeros or by what stands in for them.

    units     (row, what is ablated in it)
    instead   by place, [query, head, d_head], of the first queries or all of them; None for zeros
    """

    heads = ()
    title = "heads replaced, others in each row"

    def __init__(self, units: Sequence[tuple[int, Unit]], instead: Outputs | None) -> None:
        self._instead = instead
        self._pairs: dict[Place, list[tuple[int, int]]] = {}
        for row, unit in units:
            self._pairs.setdefault(unit.place, []).extend((row, head) for head in unit.heads)

    def touches(self, site: str, layer: int) -> bool:
        return bool(self._pairs.get(Place(site, layer)))

    def output(self, z: torch.Tensor, site: str, layer: int) -> torch.Tensor:
        place = Place(site, layer)
        rows, heads = torch.tensor(self._pairs[place], device=z.device).T
        edited = z.clone()
        if self._instead is None:
            edited[rows, :, heads] = 0.0
        else:
            values = stand_in(self._instead, place, z.shape[1:])[:, heads].transpose(0, 1)
            edited[rows, : values.shape[1], heads] = values
        return edited


@dataclass(frozen=True, eq=False)
class Clean:
    """The run that every row starts from.

    visits   its layer calls
    told     what its decoder read of the encoder's states, of an encoder-decoder; else None
    """

    visits: Sequence[Visit]
    told: torch.Tensor | None = None

    @classmethod
    def of(cls, layers: Layers, visits: Sequence[Visit]) -> Clean:
        """Of a run under `taking`; Unsupported where it is not a run through these layers."""
        visits = layers.checked(visits)
        with torch.no_grad():
            return cls(visits, layers.bridged(visits[layers.source - 1].gave) if layers.source else None)


@dataclass(frozen=True, eq=False)
class Growing:
    """A growing pass over one text: the model, its layers, and what every row has in common."""

    model: Model
    layers: Layers
    clean: Clean
    instead: Outputs | None
    edits: tuple[Edit, ...]

    def start(self, unit: Unit) -> int:
        """The layer call in which a unit's row starts."""
        return self.layers.index(unit.place)

    def run(self, units: Sequence[Unit]) -> Iterator[tuple[list[Unit], torch.Tensor, bool]]:
        """(the units by row, their states, whether it was the last layer) after each layer call.

        Nothing stays set between two calls, so the caller may do what it likes there, or stop.
        """
        layers, clean = self.layers, self.clean
        left = sorted(units, key=self.start)
        rows: list[Unit] = []
        states: torch.Tensor | None = None
        source: torch.Tensor | None = None
        for i in range(self.start(left[0]), len(layers)):
            visit = clean.visits[i]
            if i == layers.source and states is not None:  # the rows' own encoder states are read from here on
                with self.model.running(None):
                    source, states = layers.bridged(states), _rows(visit.read, len(rows))
            new = [unit for unit in left[len(rows) :] if self.start(unit) == i]
            if new:
                states = _grown(states, visit.read, len(new))
                if clean.told is not None and i >= layers.source:
                    source = _grown(source, clean.told, len(new))
            assert states is not None
            edit = Rows(list(enumerate(new, len(rows))), self.instead)
            rows += new
            call = Call(places=layers.places[i], edits=(*self.edits, edit), keep=False)
            with self.model.running(call):
                states = visit.again(states, clean.told, source)
            yield rows, states, i == len(layers) - 1

    def behind(self, states: torch.Tensor, inputs: Mapping[str, Any]) -> Any:
        """The model's outputs when its last layer gives these states, a row each; everything below runs once."""
        last, turns = self.layers.modules[-1], self.layers.modules.count(self.layers.modules[-1])
        call = Call(places=self.model.layout.places, edits=self.edits, keep=False)
        with self.model.running(call), taking([last], instead=(turns, states)):
            return self.model.hf_model(**inputs)


def _rows(states: torch.Tensor, n: int) -> torch.Tensor:
    """Copies of one row's states: a layer may write into what it is given."""
    return states.repeat(n, *[1] * (states.dim() - 1))


def _grown(states: torch.Tensor | None, clean: torch.Tensor, n: int) -> torch.Tensor:
    if states is None:
        return _rows(clean, n)
    return torch.cat([states, clean.expand(n, *clean.shape[1:])])


def whole(
    model: Model, inputs: Mapping[str, Any], units: Sequence[Unit], instead: Outputs | None, edits: tuple[Edit, ...]
) -> Any:
    """The model's outputs for these units, a whole run each, in one batch."""
    batch = {
        name: x.expand(len(units), *x.shape[1:]) if isinstance(x, torch.Tensor) and x.dim() > 1 else x
        for name, x in inputs.items()
    }
    call = Call(places=model.layout.places, edits=(*edits, Rows(list(enumerate(units)), instead)), keep=False)
    with model.running(call):
        return model.hf_model(**batch)


_FOUND: WeakKeyDictionary[Model, Layers | str] = WeakKeyDictionary()


def layers_of(model: Model) -> Layers | str:
    """The model's layers, found and tried once; or why it has to run whole."""
    if model not in _FOUND:
        try:
            _FOUND[model] = _tried(model)
        # What a layer raises that is called by itself is the modelling file's own affair.
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
            _FOUND[model] = f"its layers cannot be called by themselves ({type(error).__name__})"
        except (Unsupported, EditNotApplied) as error:
            _FOUND[model] = str(error).rstrip(".")
    return _FOUND[model]


def _tried(model: Model) -> Layers:
    inputs = forward_inputs(model.hf_model, probe_inputs(model.hf_model))
    layers = find(model, inputs)
    with model.running(None), taking(layers.modules) as visits:
        model.hf_model(**inputs)
    clean = Clean.of(layers, visits)
    units = [Unit(place, tuple(range(n))) for place, n in _heads(model).items()]
    units.append(Unit(units[0].place, ()))
    growing = Growing(model, layers, clean, None, ())
    *_, (rows, states, _) = growing.run(units)
    expected = main_output(whole(model, inputs, rows, None, ()))
    if layers.tail == "model":
        found = main_output(growing.behind(states, inputs))
    else:
        with model.running(None):
            found = layers.finished(states)
            found = found if layers.head is None else layers.head(found)
    if not close(found, expected):
        raise Unsupported("its layers do not come to the same when they are called by themselves")
    return layers


def _heads(model: Model) -> dict[Place, int]:
    """By place, how many heads there are."""
    layout = model.layout
    return {
        Place(site, layer): n
        for site in layout.sites
        for layer, n in zip(layout.layers[site], layout.layer_heads[site], strict=True)
    }
