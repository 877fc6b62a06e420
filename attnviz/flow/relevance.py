"""Gradient relevance: attention times the outcome's gradient, added up over layers.

Chefer, Gur & Wolf 2021 (arXiv 2103.15679), whose equations are numbered here.

1. The model runs once on its own kernel, the tap keeping each head's output z = A v in the graph.
2. One backward pass gives dM/dz of every layer, M being the outcome; dM/dA[h, i, j] = dM/dz[h, i] . v[h, j], exactly.
3. C = mean over heads of (dM/dA * A)+ (5), layer by layer, the encoder first:
   within a text      R <- R + C R, from the identity (6; the decoder's rows of source relevance likewise, 7)
   cross-attention    S <- S + N(R)' C N(E), R the decoder's and E the encoder's relevance (10), where N(R) is
                      I + (R - I) with its rows made to sum to 1 (8, 9)

Only dM/dz is asked of autograd: nothing is left on the model's weights, which may be frozen and shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from attnviz.edits import Edit, checked
from attnviz.encoding import Encoded
from attnviz.errors import Unsupported
from attnviz.flow.mixing import Scores
from attnviz.flow.target import Aim
from attnviz.models import Model
from attnviz.recorded import Recorded
from attnviz.tap import Call, Place, Progress
from attnviz.trace import Trace
from attnviz.watching import close


@dataclass(frozen=True, eq=False)
class Gradients:
    """How the outcome of one run changes with every attention weight.

    outcome     M, in the unit of its aim
    places      in the order of the forward pass
    of_z        by place, dM/dz [query, head, d_value], before the run's edits
    attention   by place, as it was recorded
    reads       [text position], the share with which each position's last state enters the outcome
    """

    outcome: float
    places: tuple[Place, ...]
    of_z: dict[Place, torch.Tensor]
    attention: dict[Place, Recorded]
    reads: torch.Tensor

    def at(self, place: Place) -> torch.Tensor:
        """dM/dA of one block: [head, query, key], float32; what a weight would do, whether or not there is any."""
        return torch.einsum("qhv,hkv->hqk", self.of_z[place], _values(self.attention[place]))

    def weighted(self, place: Place) -> torch.Tensor:
        """dM/dA * A of one block: [head, query, key], float32; to first order, what each weight adds to the outcome."""
        return self.at(place) * self.attention[place].pattern()[0]

    def relevance(self) -> Scores:
        """Relevance of each token, at least 0, in the outcome's unit over products of layers: its scale means nothing.

        The identity that the rule starts from is taken off: it is the same for every outcome. Positions read by their
        share in the outcome (a mean-pooled embedding reads all). With a causal decoder, equation 10's transpose leaves
        the cross-attention of the explained position alone; what others read comes in through the layers above (7).
        """
        rules: dict[str, torch.Tensor] = {}
        for place in self.places:
            mixed = self.weighted(place).clamp(min=0).mean(0).double().cpu()
            n_query, n_key = mixed.shape
            if place.site == "cross":
                text = rules.setdefault("text", torch.eye(n_query, dtype=torch.float64))
                source = rules.setdefault("cross", torch.zeros(n_query, n_key, dtype=torch.float64))
                rules["cross"] = source + _rows_to_one(text).T @ mixed @ _rows_to_one(rules["source"])
                continue
            side = "source" if self._of_source(place) else "text"
            own = rules.setdefault(side, torch.eye(n_query, dtype=torch.float64))
            rules[side] = own + mixed @ own
            if side == "text" and "cross" in rules:
                rules["cross"] = rules["cross"] + mixed @ rules["cross"]
        reads = self.reads.double().cpu()
        text = reads @ (rules["text"] - torch.eye(len(reads), dtype=torch.float64))
        return Scores(text, reads @ rules["cross"] if "cross" in rules else None)

    def _of_source(self, place: Place) -> bool:
        """Whether a block's keys are the source's tokens, of an encoder-decoder."""
        return place.site == "cross" or (place.site == "encoder" and any(p.site != "encoder" for p in self.places))


def gradients(
    model: Model, aim: Aim, trace: Trace, *, edits: Sequence[Edit] = (), progress: Progress | None = None
) -> Gradients:
    """Run the model once more on a trace's tokens, with gradients, and differentiate the outcome.

    aim, edits   those of the trace
    progress     called with (layers done, layers in all) on the way up; raise from it to stop
    raises       Unsupported for a view-only model, and where a kernel's heads are not patterns times values;
                 MetricError where the model has no such outcome; OutOfMemory
    """
    if not model.layout.exact:
        raise Unsupported(f"{model.name} is view-only ({model.info.reason}), so its attention has no gradient here.")
    kept = checked(edits)
    # Not the ids alone: a donor is in the chat template where the run is.
    own = Encoded(trace.text, tuple(trace.input_ids), trace.tokens)
    given = trace.source_tokens
    source = Encoded(trace.source_text, tuple(token.id for token in given), given) if given else own
    call = Call(places=model.layout.places, edits=kept, progress=progress, keep_z=True)
    outputs = model.forward(source, kept, call, own if trace.source_tokens else None, grad=True)
    with torch.enable_grad():
        outcome, reads = _outcome(model, aim, outputs, len(own.ids))
        found = torch.autograd.grad(outcome, list(call.z.values()), allow_unused=True)
    attention = {place: one.row(0) for _, place, one in call.recorded if place is not None}
    of_z = {}
    for (place, z), slope in zip(call.z.items(), found, strict=True):
        # The last decoder block's other positions, say, may not reach the outcome at all.
        slope = torch.zeros_like(z) if slope is None else slope
        of_z[place] = _before_edits(place, call.applied, attention[place], z.detach(), slope)[0].float()
    return Gradients(float(outcome.detach()), tuple(call.z), of_z, attention, reads)


def relevance(
    model: Model, aim: Aim, trace: Trace, *, edits: Sequence[Edit] = (), progress: Progress | None = None
) -> Scores:
    """Relevance of each token for an outcome; arguments and errors as `gradients`, meaning as `Gradients.relevance`."""
    return gradients(model, aim, trace, edits=edits, progress=progress).relevance()


def _outcome(model: Model, aim: Aim, outputs: Any, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(the outcome in the graph, the share with which each position enters it)."""
    reads = torch.zeros(length)
    if aim.query is not None:
        reads[aim.query] = 1.0
        return aim.of_logits(outputs.logits[:, aim.query])[0], reads
    states = outputs.last_hidden_state[0]
    reads[...] = torch.eye(length)[0] if model.origin.pooling == "cls" else 1.0 / length
    return aim.of_embeddings((reads.to(states.device) @ states.float())[None])[0], reads


def _values(attention: Recorded) -> torch.Tensor:
    """[head, key, d_value], float32."""
    value = attention.value[0].float()
    return value.repeat_interleave(attention.n_heads // value.shape[0], dim=0)


def _before_edits(
    place: Place, edits: Sequence[Edit], attention: Recorded, z: torch.Tensor, slope: torch.Tensor
) -> torch.Tensor:
    """The gradient before a block's edits: what the weights change is edited afterwards."""
    made = torch.einsum("hqk,hkv->qhv", attention.pattern()[0], _values(attention))[None].to(z.dtype)
    with torch.enable_grad():
        made.requires_grad_()
        edited = made
        for edit in edits:
            if edit.touches(*place):
                edited = edit.output(edited, *place)
        if not close(edited.detach(), z):
            raise Unsupported(
                f"The heads of {place.site} layer {place.layer} are not their patterns times their values in this run, "
                "so the gradient of the weights cannot be told."
            )
        return slope if edited is made else torch.autograd.grad(edited, made, slope)[0]


def _rows_to_one(relevance: torch.Tensor) -> torch.Tensor:
    """The identity, plus the rest with rows that sum to 1; a row without a rest stays the identity's."""
    eye = torch.eye(len(relevance), dtype=relevance.dtype)
    rest = relevance - eye
    return eye + rest / rest.sum(-1, keepdim=True).clamp(min=torch.finfo(rest.dtype).tiny)
