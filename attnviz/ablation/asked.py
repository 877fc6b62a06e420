"""What is asked: which heads of which run are replaced by what, and what it is measured by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, get_args

import torch

from attnviz.ablation.growing import Unit
from attnviz.ablation.held import Removal
from attnviz.ablation.outcome import Outcome
from attnviz.edits import Edit, Head, checked
from attnviz.encoding import Encoded
from attnviz.errors import HeadError, InputError, Unsupported
from attnviz.layout import forward_inputs
from attnviz.metrics import Metric, Outputs
from attnviz.models import Model
from attnviz.outputs import results
from attnviz.replacing import Outputs as Instead
from attnviz.replacing import donor_outputs, mean_outputs
from attnviz.tap import Place

How = Literal["zero", "mean", "resample"]
UnitName = Literal["head", "layer", "group"]
IN_WORDS = {
    "zero": "set to zero (off-distribution)",
    "mean": "set to its mean over reference texts",
    "resample": "set to what it is on the donor text",
}


class Question(TypedDict, total=False):
    """What `sweep`, `pieces` and `screen` are asked beside model, text and metric; `Asked.of` has what is left out.

    how           "zero" (off-distribution), "mean" over `texts`, or "resample" from the text `donor` (or its ids)
    texts         texts or ids, or the `Removal` that holds their mean already
    by_position   the mean is taken position by position, over texts of the run's length
    target        what the decoder of an encoder-decoder reads; None: what the model writes; or decoder_input_ids
    site          the site that `Sweep.effects` shows; None: the first one. All of them are measured
    edits         changes that hold in every run, the clean one too
    units         ablate single heads, whole layers, or the heads that share a key/value head
    """

    how: How
    donor: Any
    texts: Sequence[Any] | Removal | None
    by_position: bool
    target: str | None
    input_ids: Any
    decoder_input_ids: Any
    site: str | None
    edits: Iterable[Edit]
    units: UnitName


@dataclass(frozen=True, eq=False)
class Asked:
    """A question about one run, worked out as far as it can be without running the model on it.

    about   what two parts of one sweep must agree in
    edits   bound to the run
    """

    model: Model
    source: Encoded
    decoder: Encoded | None
    edits: tuple[Edit, ...]
    metric: Metric
    outcome: Outcome
    how: How
    instead: Instead | None
    site: str
    units: UnitName
    about: tuple[Any, ...]

    @classmethod
    def of(
        cls,
        model: Model,
        text: str | None,
        metric: Metric,
        *,
        how: How = "zero",
        donor: Any = None,
        texts: Sequence[Any] | Removal | None = None,
        by_position: bool = False,
        target: str | None = None,
        input_ids: Any = None,
        decoder_input_ids: Any = None,
        site: str | None = None,
        edits: Iterable[Edit] = (),
        units: UnitName = "head",
    ) -> Asked:
        """Model, text and metric as `attnviz.ablation.sweep`, and a `Question`."""
        given = checked(edits)
        _check(model, metric, how, donor, texts, units, edits=given, by_position=by_position)
        site = model.info.site(site)
        model.check_edits(given)
        source = model.encoded(text, input_ids, False)
        decoder = model.decoder_side(source, target, decoder_input_ids, given)
        own = decoder or source
        plan = metric.plan(model, own.ids, _clean(model, source, decoder) if metric.needs_clean else None)
        added = plan.ids[len(own.ids) :]  # what the metric reads behind the text; edits are tied to the text alone
        bound = model.ready(given, source, decoder, prompt=bool(added))
        held = texts if isinstance(texts, Removal) else None
        references: Sequence[Any] | None = texts.texts if isinstance(texts, Removal) else texts
        instead = None
        if donor is not None:
            instead = donor_outputs(model, source, decoder, donor, edits=given)
        elif by_position and references is not None:
            instead = mean_outputs(model, source, decoder, references, by_position=True, edits=given)
        run = _longer(model, own, added)
        source, decoder = (run, None) if decoder is None else (source, run)
        if held is not None:
            instead = held.outputs(model, source, decoder)
        elif instead is None and references is not None:
            instead = mean_outputs(model, source, decoder, references, by_position=False, edits=given)
        titles = tuple(edit.title for edit in given)
        stands_in = _plain(donor), None if references is None else tuple(map(_plain, references)), by_position
        read = source.ids, None if decoder is None else decoder.ids
        about = (model.name, *read, metric, how, *stands_in, units, titles)
        outcome = Outcome.of(model, plan)
        return cls(model, source, decoder, bound, metric, outcome, how, instead, site, units, about)

    @property
    def inputs(self) -> dict[str, Any]:
        """What the model's forward is given for this run."""
        device = self.model.hf_model.device
        sides = {"input_ids": torch.tensor([self.source.ids], device=device)}
        if self.decoder is not None:
            sides["decoder_input_ids"] = torch.tensor([self.decoder.ids], device=device)
        return forward_inputs(self.model.hf_model, sides)

    def all_units(self, heads: Iterable[Head] | None) -> list[Unit]:
        """What is ablated, in the order of the forward pass: what `heads` names or, for None, everything."""
        everything = [
            Unit(Place(site, layer), tuple(range(first, first + size)))
            for site in self.model.layout.sites
            for layer, n in self._heads(site)
            for size in [{"head": 1, "layer": n, "group": self._group(site, n)}[self.units]]
            for first in range(0, n, size)
        ]
        if heads is None:
            return everything
        named = {self.unit_of(head) for head in heads}
        return [unit for unit in everything if unit in named]

    def unit_of(self, head: Head) -> Unit:
        """The head, or the layer or group that it belongs to."""
        info = self.model.info
        if not isinstance(head, Head):
            raise HeadError(f"Heads are named as Head(layer, head); got {head!r}.")
        if head.site is None and info.family == "encoder-decoder":
            raise HeadError(f"{self.model.name} has attention at {', '.join(info.sites)}; give {head} a site.")
        site = info.check_head(head.layer, head.head, head.site)
        n = dict(self._heads(site))[head.layer]
        size = {"head": 1, "layer": n, "group": self._group(site, n)}[self.units]
        first = head.head // size * size
        return Unit(Place(site, head.layer), tuple(range(first, first + size)))

    def shape(self, site: str) -> tuple[int, int]:
        """Layers, and units a layer, of a site's effects."""
        layers = self.model.info.layers_of(site)
        n = self.model.info.heads_of(site)
        return layers, {"head": n, "layer": 1, "group": n // self._group(site, n)}[self.units]

    def _heads(self, site: str) -> list[tuple[int, int]]:
        layout = self.model.layout
        return list(zip(layout.layers[site], layout.layer_heads[site], strict=True))

    def _group(self, site: str, n: int) -> int:
        if self.units == "group" and len(set(self.model.layout.layer_heads[site])) > 1:
            raise Unsupported(
                f"The layers of {self.model.name} differ in their heads, so they have no groups: use heads."
            )
        return n // self.model.layout.n_kv_heads[site] or 1


def _check(
    model: Model,
    metric: Metric,
    how: str,
    donor: Any,
    texts: Any,
    units: str,
    *,
    edits: Sequence[Edit],
    by_position: bool,
) -> None:
    if not model.layout.exact:
        raise Unsupported(f"{model.name} is view-only, so its heads cannot be ablated: {model.info.reason}.")
    if how not in IN_WORDS:
        raise InputError(f"how is {', '.join(map(repr, IN_WORDS))}; got {how!r}.")
    if units not in get_args(UnitName):
        raise InputError(f"units is {', '.join(map(repr, get_args(UnitName)))}; got {units!r}.")
    if not isinstance(metric, Metric):
        raise InputError(f"metric is an attnviz.metrics value, such as LogitDiff(' Mary', ' John'); got {metric!r}.")
    if not getattr(metric, "batched", True):
        raise InputError(f"{type(metric).__name__} has to generate for every head, so it is no metric of a sweep.")
    if (how == "resample") != (donor is not None):
        raise InputError("A donor goes with how='resample', and that needs one: donor='A text of as many tokens.'.")
    if (how == "mean") != (texts is not None):
        raise InputError("Reference texts go with how='mean', and that needs them: texts=['A text.', 'Another.'].")
    if isinstance(texts, Removal) and (edits or by_position or not texts.texts):
        raise InputError("A mean that was taken before is overall and of unedited runs: give the texts themselves.")


def _clean(model: Model, source: Encoded, decoder: Encoded | None) -> Outputs:
    """What a metric that compares with the unedited run compares with."""
    found = results(model.forward(source, (), None, decoder), 0, model.info, model.origin.pooling)
    logits, classes, embedding = (None if x is None else x[None] for x in found)
    return Outputs(logits=logits, class_logits=classes, embedding=embedding)


def _longer(model: Model, run: Encoded, added: Sequence[int]) -> Encoded:
    """A run with ids added behind it; those it has keep their tokens."""
    if not added:
        return run
    made = model.reader.encode_ids([*run.ids, *added])
    kept = tuple(replace(a, template=b.template) for a, b in zip(made.tokens, run.tokens, strict=False))
    return replace(made, tokens=kept + made.tokens[len(run.ids) :])


def _plain(given: Any) -> Any:
    """A text or ids as something that can be compared."""
    return given if given is None or isinstance(given, str) else tuple(map(int, given))
