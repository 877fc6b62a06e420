"""What stands in for a head's output: what the same head gives on a donor text, or on the mean over reference texts.

Outputs are z, before the output projection mixes the heads. Each donor and each reference text runs once, by itself, so
that nothing is padded. These runs leave nothing on the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Protocol

import torch

from attnviz.edits import Edit, MeanHeads, ResampleHeads
from attnviz.encoding import Encoded, Reader
from attnviz.errors import HeadError, InputError, Unsupported
from attnviz.info import ModelInfo
from attnviz.layout import Layout
from attnviz.tap import Call, Place

Outputs = dict[Place, torch.Tensor]

_WRITTEN = 64  # tokens of a reference text's target, which the model writes itself


class Runner(Protocol):
    """What must be known of a model to run it on other texts: `attnviz.Model` is one."""

    @property
    def layout(self) -> Layout: ...
    @property
    def reader(self) -> Reader: ...
    def forward(self, source: Encoded, edits: tuple[Edit, ...], call: Call | None, decoder: Encoded | None) -> Any: ...
    def decoder_side(
        self, source: Encoded, target: str | None, ids: Any, edits: tuple[Edit, ...], *, most: int
    ) -> Encoded | None: ...


def donor_outputs(
    model: Runner,
    source: Encoded,
    decoder: Encoded | None,
    donor: str | Sequence[int],
    donor_decoder: Sequence[int] | None = None,
    *,
    edits: Sequence[Edit] = (),
) -> Outputs:
    """What every head gives on a donor text, token by token beside the run that it stands in for.

    source          what the run reads
    decoder         and its decoder, of an encoder-decoder
    donor           a text, in the chat template where the run is in it, or ids
    donor_decoder   ids that the decoder reads beside the donor; None: what the run's own decoder reads
    edits           hold in the donor's run too
    returns         by place, [query, head, d_head] in the model's dtype and on its device; no gradients
    raises          InputError where a donor has not as many tokens as the run; as `Model.trace`
    """
    given = _read(model, donor, source)
    _align(source, given, "donor")
    beside = decoder
    if decoder is not None and donor_decoder is not None:
        beside = model.reader.encode_ids(donor_decoder)
        _align(decoder, beside, "donor's target")
    return _outputs(model, given, beside, edits)


def mean_outputs(
    model: Runner,
    source: Encoded,
    decoder: Encoded | None,
    texts: Sequence[str | Sequence[int]],
    *,
    by_position: bool,
    edits: Sequence[Edit] = (),
) -> Outputs:
    """What every head gives on the mean over reference texts.

    texts         texts or ids; special tokens count like any other, and nothing is padded
    by_position   False: the mean over all tokens of all texts, each counting once, the same for every query of the run.
                  The decoder of an encoder-decoder reads what the model writes for each text, 64 tokens at most.
                  True: the mean over texts, query by query; each text has as many tokens as the run, and the decoder
                  reads what the run's own does
    edits         hold in the texts' runs too, save those tied to tokens of the run unless the mean is by position
    returns       by place, [query, head, d_head] in the model's dtype and on its device; no gradients
    raises        InputError for no text, and by position for texts of another length
    """
    if isinstance(texts, str) or not texts:
        raise InputError(f"A mean is taken over one or more texts, e.g. texts=['A text.', 'Another.']; got {texts!r}.")
    held = tuple(edit for edit in edits if by_position or not edit.tied)
    totals: dict[Place, torch.Tensor] = {}
    counts: dict[Place, int] = {}
    for text in texts:
        given = _read(model, text, source)
        beside = decoder
        if by_position:
            _align(source, given, "reference text")
        elif decoder is not None:
            beside = model.decoder_side(given, None, None, held, most=_WRITTEN)
        for place, z in _outputs(model, given, beside, held).items():
            wide = z.to(torch.promote_types(z.dtype, torch.float32))
            part = wide if by_position else wide.sum(0, keepdim=True)
            totals[place] = totals[place] + part if place in totals else part
            counts[place] = counts.get(place, 0) + (1 if by_position else len(z))
            dtype = z.dtype
    lengths = lengths_of(model, source, decoder)
    return {
        place: (total / counts[place]).to(dtype).expand(lengths[place.site][0], -1, -1)
        for place, total in totals.items()
    }


def check(info: ModelInfo, edits: Sequence[Edit]) -> None:
    """Raise unless every edit is one that a model can apply."""
    several = info.family == "encoder-decoder"
    for edit in edits:
        if info.status == "view-only":
            raise Unsupported(f"{info.name} is view-only, so '{edit.title}' cannot be applied: {info.reason}.")
        # Tokens are those of one site; an edit that means none may act at all of them.
        if not edit.heads and (edit.site not in (None, *info.sites) or (several and edit.tied and edit.site is None)):
            raise HeadError(
                f"{info.name} has attention at {', '.join(info.sites)}; '{edit.title}' needs one of these as its site, "
                f"or heads; got {edit.site!r}."
            )
        for head in edit.heads:
            if several and head.site is None:
                raise HeadError(f"{info.name} has attention at {', '.join(info.sites)}; give {head} a site.")
            info.check_head(head.layer, head.head, head.site)


def ready(
    model: Runner, edits: Sequence[Edit], source: Encoded, decoder: Encoded | None, *, prompt: bool = False
) -> tuple[Edit, ...]:
    """The edits bound to a run; the edits before one hold in the runs that its donor or texts need.

    prompt   the run is the beginning of a longer one
    """
    lengths = lengths_of(model, source, decoder)
    made: list[Edit] = []
    for number, edit in enumerate(edits):
        outputs, before = None, edits[:number]
        if isinstance(edit, MeanHeads):
            outputs = mean_outputs(model, source, decoder, edit.texts, by_position=edit.by_position, edits=before)
        elif isinstance(edit, ResampleHeads):
            outputs = donor_outputs(model, source, decoder, edit.donor, edits=before)
        values = None if outputs is None else {(site, layer): z for (site, layer), z in outputs.items()}
        made.append(edit.bound(lengths, values, prompt=prompt))
    return tuple(made)


def lengths_of(model: Runner, source: Encoded, decoder: Encoded | None) -> dict[str, tuple[int, int]]:
    """By site, how many queries and keys a run has."""
    n_source = len(source.ids)
    n_own = n_source if decoder is None else len(decoder.ids)
    known = {"encoder": (n_source, n_source), "decoder": (n_own, n_own), "cross": (n_own, n_source)}
    return {site: known[site] for site in model.layout.sites}


def _read(model: Runner, given: str | Sequence[int], like: Encoded) -> Encoded:
    if isinstance(given, str):
        return model.reader.encode(given, chat_template=any(token.template for token in like.tokens))
    return model.reader.encode_ids(given)


def _align(run: Encoded, other: Encoded, what: str) -> None:
    if len(run.ids) == len(other.ids):
        return
    at = next(i for i, (a, b) in enumerate(zip_longest(run.ids, other.ids)) if a != b)
    here, there = (repr(x.tokens[at].text) if at < len(x.tokens) else "nothing more" for x in (run, other))
    raise InputError(
        f"The {what} has {len(other.ids)} tokens and the run has {len(run.ids)}, so they do not stand side by side; "
        f"they part at token {at}, where the run has {here} and the {what} {there}. Give one of as many tokens."
    )


def _outputs(model: Runner, source: Encoded, decoder: Encoded | None, edits: Sequence[Edit]) -> Outputs:
    call = Call(places=model.layout.places, edits=tuple(edits), keep=False, keep_z=True)
    model.forward(source, tuple(edits), call, decoder)
    return {place: z[0] for place, z in call.z.items()}
