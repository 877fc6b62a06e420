"""What was learned: a gate for every head, how it came about, and what it is good for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attnviz.ablation import Baked, bake
from attnviz.edits import SITES, Head, ScaleHeads
from attnviz.errors import InputError
from attnviz.fingerprint import fingerprint
from attnviz.gates import files
from attnviz.gates.examples import asked, scored
from attnviz.gates.scores import NUMBERS, Elsewhere, Tested, Values
from attnviz.measuring import measure
from attnviz.metrics import KL
from attnviz.models import Model

OPEN = 0.995  # a gate from here on counts as not changed
CLOSED = 0.1
COLUMNS = ["step", "train", "held_out", "penalty", "changed", "closed"]


@dataclass(frozen=True, eq=False)
class Gates:
    """Learned gates, and how they came about.

    values     by site, [layer, head] in [0, 1]; 1 changes nothing, NaN where there is no head
    history    a row a step: step, train (the batch's loss before the step, nats), held_out (loss after it, nats),
               penalty (nats), changed (gates below .995) and closed (at most .1)
    best       the step that was kept; 0 where no step was better than the untouched model
    stopped    "early", "after all steps" or "on request"
    held_out   the examples that chose the step, before and after
    n_train    examples learned from
    settings   of `learn`
    model, revision, weights   what they were learned on; `weights` is its `attnviz.fingerprint`
    """

    values: Mapping[str, Values]
    history: pd.DataFrame
    best: int
    stopped: str
    held_out: Tested
    n_train: int
    seed: int
    settings: Mapping[str, Any]
    model: str
    revision: str
    weights: str

    @property
    def title(self) -> str:
        """What was learned, in words, for captions."""
        n, kind = len(self.held_out.outcome_before), str(self.settings["penalty"]).upper()
        penalty = f"{kind} {self.settings['weight']:g}"
        return (
            f"gates of {self.model} learned from {self.n_train} examples, {n} held out ({penalty}, seed {self.seed}, "
            f"step {self.best}): {len(self.changed())} changed, {len(self.closed())} closed"
        )

    def frame(self) -> pd.DataFrame:
        """Columns site, layer, head, gate: a row for each head."""
        rows = [
            (site, layer, head, float(gates[layer, head]))
            for site, gates in self.values.items()
            for layer, head in np.argwhere(np.isfinite(gates)).tolist()
        ]
        return pd.DataFrame(rows, columns=["site", "layer", "head", "gate"])

    def changed(self, below: float = OPEN) -> dict[Head, float]:
        """The heads whose gate is below a number, the most closed first; with sites where the model has several."""
        frame = self.frame()
        frame = frame[frame.gate < below].sort_values("gate", kind="stable")
        several = len(self.values) > 1
        rows = frame.itertuples(index=False, name=None)
        return {Head(layer, head, site if several else None): gate for site, layer, head, gate in rows}

    def closed(self, threshold: float = CLOSED) -> list[Head]:
        """The heads whose gate is at most a threshold, the most closed first."""
        return list(self.changed(math.nextafter(threshold, math.inf)))

    def edit(self) -> ScaleHeads:
        """The gates as an edit of every head whose gate is not 1; InputError where all are."""
        scales = self.changed(1.0)
        if not scales:
            raise InputError("All gates are 1, so there is no edit: learning found nothing better than the model.")
        return ScaleHeads(scales)

    def edits(self) -> tuple[ScaleHeads, ...]:
        """The same for `edits=`: () where all gates are 1."""
        return (self.edit(),) if self.changed(1.0) else ()

    def check(self, model: Model) -> str:
        """What to say where the gates are used on a model: "" on the one that they were learned on.

        raises   InputError for a model with other sites, layers or heads
        """
        mine, its = self.values, ones_of(model)
        if mine.keys() != its.keys() or any(_there(mine[site]) != _there(its[site]) for site in its):
            raise InputError(
                f"These gates are of the heads of {self.model} ({_counted(mine)}), and {model.name} has others "
                f"({_counted(its)}): load the gates with the model that they were learned on."
            )
        if fingerprint(model) == self.weights:
            return ""
        return f"The gates were learned on other weights, those of {self.model}: what they do here is untested."

    def test(self, model: Model, examples: Iterable[Any]) -> Tested:
        """Examples that were not learned from, without and with the gates; `learn` says what examples are."""
        self.check(model)
        items = asked(model, examples)
        return Tested.of(scored(model, items, ()), scored(model, items, self.edits()), items)

    def elsewhere(self, model: Model, texts: Iterable[str | tuple[str, str]]) -> Elsewhere:
        """What the gates do to texts that have nothing to do with them.

        texts    of an encoder-decoder (text, target); a text alone goes with what the model writes without gates
        raises   InputError for no text; as `Model.measure`
        """
        self.check(model)
        given = [(text, None) if isinstance(text, str) else tuple(text) for text in texts]
        if not given or isinstance(texts, str) or any(len(pair) != 2 for pair in given):
            raise InputError("texts is a list of one or more texts, such as ['The weather is fine.'].")
        found = []
        for text, target in given:
            source = model.encode(text)
            decoder = model.decoder_side(source, target, None, ())
            found.append(measure(model, KL(position=None), source, decoder, self.edits()))
        return Elsewhere(tuple(text for text, _ in given), np.array(found))

    def bake(self, model: Model, *, folder: str | Path | None = None) -> Baked:
        """A copy of the model with the gates in its weights: `attnviz.ablation.bake`, whose errors it has."""
        self.check(model)
        return bake(model, self.edit(), folder=folder)

    def to_tensorboard(self, folder: str | Path) -> Path:
        """Write the history as TensorBoard scalars into a folder, which is made if need be; returns the folder.

        Steps keep no times of their own: all have that of the export. What is not a finite number is left out.
        raises   InputError where the folder cannot be written to
        """
        from torch.utils.tensorboard import SummaryWriter  # a second of imports that nothing else needs

        tags = {"train": "loss/train", "held_out": "loss/held_out", "penalty": "loss/penalty"}
        tags |= {name: f"heads/{name}" for name in ("changed", "closed")}
        try:
            with SummaryWriter(str(folder)) as writer:
                for row in self.history.to_dict("records"):
                    for name, tag in tags.items():
                        if math.isfinite(row[name]):
                            writer.add_scalar(tag, row[name], int(row["step"]))
        except OSError as error:
            raise InputError(
                f"The training curve cannot be written to {folder}: {error}. Choose another folder."
            ) from error
        return Path(folder)

    def save(self, path: str | Path) -> Path:
        """Write the gates as one safetensors file with a JSON header; it appears whole or not at all."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        arrays = {f"values.{site}": gates for site, gates in given.pop("values").items()}
        arrays |= {f"history.{name}": column.to_numpy(float) for name, column in given.pop("history").items()}
        arrays |= {f"held_out.{name}": getattr(self.held_out, name).astype(float) for name in NUMBERS}
        return files.write(Path(path), {**given, "held_out": self.held_out.foils}, arrays)

    @classmethod
    def load(cls, path: str | Path) -> Gates:
        """Read what `save` wrote; InputError for a file that is missing, damaged, or something else."""
        with files.reading(Path(path)) as (about, arrays):
            parts: dict[str, dict[str, Any]] = {"values": {}, "history": {}, "held_out": {}}
            for name, array in arrays.items():
                part, _, rest = name.partition(".")
                parts[part][rest] = array
            tested = Tested.read(parts["held_out"], about.pop("held_out"))
            history = pd.DataFrame(parts["history"])[COLUMNS]
            history = history.astype(dict.fromkeys(("step", "changed", "closed"), int))
            return cls(**about, values=_sound(parts["values"]), history=history, held_out=tested)._sound()

    def _sound(self) -> Gates:
        """The same, or ValueError: a file may come from anywhere."""
        texts, numbers = (self.model, self.revision, self.weights, self.stopped), (self.best, self.n_train, self.seed)
        if not all(isinstance(x, str) for x in texts) or not all(type(x) is int and x >= 0 for x in numbers):
            raise ValueError("its model, seed or counts are none")
        if self.settings["penalty"] not in ("l1", "l2") or not isinstance(self.settings["weight"], float):
            raise ValueError("its settings are none of these")
        if self.best not in self.history.step.tolist():
            raise ValueError(f"its history has no step {self.best}")
        return self


def ones_of(model: Model) -> dict[str, Values]:
    """Gates that change nothing: by site, [layer, head] float64, 1, and NaN where there is no head."""
    info = model.info
    found = {site: np.full((info.layers_of(site), info.heads_of(site)), np.nan) for site in info.sites}
    for site, gates in found.items():
        for layer, n_heads in zip(info.layers[site], info.layer_heads[site], strict=True):
            gates[layer, :n_heads] = 1.0
    return found


def _sound(values: Mapping[str, Values]) -> dict[str, Values]:
    """Gates by site in the order of `SITES`, or ValueError."""
    for site, gates in values.items():
        there = gates[np.isfinite(gates)]
        if site not in SITES or gates.dtype != np.float64 or gates.ndim != 2 or np.isinf(gates).any():
            raise ValueError(f"{site!r} holds no gates, [layer, head]")
        if not there.size or there.min() < 0 or there.max() > 1:
            raise ValueError("gates lie between 0 and 1")
    if not values:
        raise ValueError("it has no gates")
    return {site: values[site] for site in SITES if site in values}


def _there(gates: Values) -> list[list[bool]]:
    return np.isfinite(gates).tolist()


def _counted(values: Mapping[str, Values]) -> str:
    return ", ".join(f"{site}: {len(gates)} layers of up to {gates.shape[1]} heads" for site, gates in values.items())
