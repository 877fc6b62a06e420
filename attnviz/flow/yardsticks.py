"""Yardsticks: what becomes of a target's outcome when one token of the text is taken away.

    delete     the text without the token; what follows moves up, and is read at other positions
    replace    a neutral token in its place
    resample   other tokens in its place, drawn from the model itself or from a list; the mean over the draws

Each is a real change of a real run, measured exactly, and each leaves the texts that the model knows in a way of its
own: a deletion breaks the grammar and shifts positions, a neutral token brings a meaning of its own, a drawn token
suits what stands before it and not what comes after. So none of them is the truth about a token; where they agree,
a method can be held against them (blank-out: Abnar & Zuidema 2020, arXiv 2005.00928).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from attnviz.checks import seeded
from attnviz.edits import Edit
from attnviz.encoding import Encoded
from attnviz.errors import InputError
from attnviz.flow.target import Aim, Target
from attnviz.flow.variants import Variant, Variants
from attnviz.models import Model
from attnviz.tap import Progress
from attnviz.trace import Trace

HOWS = ("delete", "replace", "resample")
# Frequent, and nearly without content. An end-of-text token would tell a decoder to forget all that came before it.
_FREQUENT = (" the", "the", ",", ".")

_Place = tuple[str, int]  # "text" or "source", and the token's position there
_Change = int | None  # the id that comes in its place; None: nothing does


@dataclass(frozen=True, eq=False)
class Effects:
    """How far one target's outcome falls when one token is taken away; negative where it rises.

    text, source     float64 [token]: clean outcome minus changed one, of the decoder's text (or the only one) and of
                     an encoder's source (None without one). NaN: the token cannot be changed so. Exactly 0: it comes
                     after the target's position, where a causal model does not look.
    spread, source_spread   float64 [token]: standard deviation over the draws; NaN where there are fewer than two
    clean            the outcome of the clean run, in `unit`
    title, note      what was measured, and what it is not, in words
    """

    how: str
    text: torch.Tensor
    source: torch.Tensor | None
    spread: torch.Tensor
    source_spread: torch.Tensor | None
    clean: float
    unit: str
    title: str
    note: str


def yardstick(
    model: Model,
    text: str | None = None,
    decoder_text: str | None = None,
    *,
    aim_target: Target,
    how: str = "delete",
    input_ids: Any = None,
    decoder_input_ids: Any = None,
    neutral: int | str | None = None,
    samples: int = 2,
    words: Sequence[int | str] | None = None,
    seed: int = 0,
    edits: Sequence[Edit] = (),
    chat_template: bool = False,
    progress: Progress | None = None,
) -> Effects:
    """The effect of taking each token away, by runs of the changed texts; see the module for what each `how` does.

    text, decoder_text, input_ids, decoder_input_ids, chat_template   as `explain` and `Model.trace` have them
    aim_target  the outcome; its position moves along with deletions. Its answer is fixed on the clean text
    neutral     for replace: a token id or a text of one token. None: the mask token of a model that has one, else
                " the" where that is one token, else "the", a comma or a full stop. A token that is the neutral one
                itself has no effect to measure: NaN
    samples     for resample: draws for each token
    words       for resample: ids, or texts of one token, to draw from, each at most once for a place. None: a
                decoder's own next-token distribution at temperature 1, so nothing for a first token; a masked
                encoder's distribution with the token masked. The token itself and special tokens are never drawn.
                Where a model predicts no tokens (an encoder's source, a sentence encoder), other tokens of the same
                text stand in
    seed        of the draws; torch's global random state is neither read nor changed
    edits       hold in the clean and in every changed run
    progress    called with (runs done, runs in all) after each batch; raise from it to stop
    raises      InputError, MetricError and what `Model.trace` raises

    Special tokens, and an encoder-decoder's start token, hold the model's format together and are not changed (NaN).
    """
    if how not in HOWS:
        raise InputError(f"how is one of {', '.join(HOWS)}; got {how!r}.")
    _check_count(samples, "samples", 1)
    seeded(seed)
    trace = model.trace(
        text,
        decoder_text,
        input_ids=input_ids,
        decoder_input_ids=decoder_input_ids,
        edits=edits,
        chat_template=chat_template,
        compact=how != "resample" or words is not None,
    )
    bench = _Bench(model, trace, aim_target.aim(model, trace), edits)
    if how == "delete":
        changes: dict[_Place, list[_Change]] = {place: [None] for place in bench.places}
        note = (
            "Each token is deleted and the rest moves up: positions shift, and the text is often no longer a sentence."
        )
    elif how == "replace":
        by = _neutral(model, neutral)
        changes = {place: [by] for place in bench.places if bench.id_at(place) != by}
        note = f"Each token is replaced by {trace.decode(by)!r}, which is not quite neutral: it says something itself."
    else:
        changes, note = _drawn(bench, words, samples, torch.Generator().manual_seed(seed), progress)
    clean, effects, spreads = bench.measured(changes, progress)
    done = {"delete": "deleted", "replace": "replaced", "resample": "resampled"}[how]
    return Effects(
        how=how,
        text=effects["text"],
        source=effects.get("source"),
        spread=spreads["text"],
        source_spread=spreads.get("source"),
        clean=clean,
        unit=bench.aim.unit,
        title=f"Clean minus changed {bench.aim.title}, each token {done} in turn",
        note=note,
    )


def _sides(trace: Trace) -> tuple[Encoded, Encoded | None]:
    """What a run read: its text, or its source and its decoder's text."""
    own, given = Encoded(trace.text, tuple(trace.input_ids), trace.tokens), trace.source_tokens
    return (Encoded(trace.source_text, tuple(t.id for t in given), given), own) if given else (own, None)


class _Bench:
    """One text and its target, ready for changes.

    ids      by side, what a run reads; a causal text ends at the target's position, since nothing after it is seen
    places   the tokens that can be changed
    """

    def __init__(self, model: Model, trace: Trace, aim: Aim, edits: Sequence[Edit]) -> None:
        self.model, self.trace, self.aim = model, trace, aim
        self.tokens = {"text": trace.tokens}
        if model.family == "encoder-decoder":
            self.tokens["source"] = trace.source_tokens
        self.ids = {side: tuple(token.id for token in tokens) for side, tokens in self.tokens.items()}
        self.causal = model.family != "encoder"
        if self.causal and aim.query is not None:
            self.ids["text"] = self.ids["text"][: aim.query + 1]
        start = model.family == "encoder-decoder"
        self.places = [
            (side, j)
            for side, ids in self.ids.items()
            for j in range(len(ids))
            if not self.tokens[side][j].special and not (start and side == "text" and j == 0)
        ]
        position = len(self.ids["text"]) - 1 if aim.query is None else aim.query
        self.clean = Variant(self.ids["text"], position, 0, self.ids.get("source", ()))
        self.variants = Variants(model, self.clean, model.ready(edits, *_sides(trace)))

    def id_at(self, place: _Place) -> int:
        side, j = place
        return self.ids[side][j]

    def changed(self, place: _Place, by: _Change) -> Variant | None:
        """The input with one token changed; None where nothing would be left to read the outcome at."""
        side, j = place
        before, after = self.ids[side][:j], self.ids[side][j + 1 :]
        ids = (*before, *after) if by is None else (*before, by, *after)
        if side == "source":
            return Variant(self.clean.ids, self.clean.position, 0, ids) if ids else None
        position = self.clean.position
        if by is None and j <= position:
            position -= 1
        own = j == self.clean.position and not self.causal and self.aim.query is not None
        return None if not ids or (by is None and own) else Variant(ids, position, j, self.clean.source)

    def measured(
        self, changes: dict[_Place, list[_Change]], progress: Progress | None
    ) -> tuple[float, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """The clean outcome; by side, mean effect and its standard deviation over each token's changes."""
        wanted = {place: [v for by in many if (v := self.changed(place, by))] for place, many in changes.items()}
        runs = list(dict.fromkeys(v for many in wanted.values() for v in many))  # a token may be drawn twice
        clean = self._outcome(self.variants.outcome[0])
        fall = {runs[i]: clean - self._outcome(row) for i, row in self.variants.run(runs, progress)}
        blank = {side: torch.full((len(tokens),), torch.nan).double() for side, tokens in self.tokens.items()}
        effects, spreads = blank, {side: values.clone() for side, values in blank.items()}
        effects["text"][len(self.ids["text"]) :] = 0.0
        for (side, j), many in wanted.items():
            falls = torch.tensor([fall[v] for v in many], dtype=torch.float64)
            if len(falls):
                effects[side][j] = falls.mean()
            if len(falls) > 1:
                spreads[side][j] = falls.std()
        return clean, effects, spreads

    def _outcome(self, row: torch.Tensor) -> float:
        read = self.aim.of_logits if self.model.has_vocabulary else self.aim.of_embeddings
        return float(read(row[None])[0])


def _drawn(
    bench: _Bench,
    words: Sequence[int | str] | None,
    samples: int,
    generator: torch.Generator,
    progress: Progress | None,
) -> tuple[dict[_Place, list[_Change]], str]:
    """What comes in each token's place, and where it is drawn from, in words."""
    model, tail = bench.model, "The mean over the draws; a drawn token need not fit what comes after it."
    places = bench.places
    if words is not None:
        pool = sorted({_one(model, word, "words") for word in words})
        if not pool:
            raise InputError("words is a list of at least one token to draw from; got an empty one.")
        return {p: _few(pool, bench.id_at(p), samples, generator) for p in places}, (
            f"Each token is replaced by up to {samples} of {len(pool)} given ones. {tail}"
        )
    changes: dict[_Place, list[_Change]] = {}
    mask = getattr(model.tokenizer, "mask_token_id", None)
    if bench.causal and bench.trace.raw_logits is not None:
        logits = bench.trace.raw_logits
        own = [(side, j) for side, j in places if side == "text" and j > 0]
        changes = {p: _sampled(bench, logits[p[1] - 1], p, samples, generator) for p in own}
        note = f"Each token is replaced by {samples} drawn from the model's own next-token distribution there. {tail}"
    elif model.has_vocabulary and mask is not None:
        masked = [Variant((*ids[:j], mask, *ids[j + 1 :]), j, j) for ids in [bench.clean.ids] for _, j in places]
        rows = dict(bench.variants.run(masked, _first_of(progress, len(places) * samples)))
        changes = {p: _sampled(bench, rows[i], p, samples, generator) for i, p in enumerate(places)}
        note = f"Each token is replaced by {samples} drawn from what the model itself would fill in there. {tail}"
    else:
        changes = _stand_ins(bench, "text", samples, generator)
        note = f"Each token is replaced by {samples} other tokens of the same text, for want of better. {tail}"
    if "source" in bench.ids:
        changes |= _stand_ins(bench, "source", samples, generator)
        note += " The source's tokens are replaced by other tokens of the same source, for want of better."
    return changes, note


def _stand_ins(bench: _Bench, side: str, samples: int, generator: torch.Generator) -> dict[_Place, list[_Change]]:
    mine = [place for place in bench.places if place[0] == side]
    pool = sorted({bench.id_at(place) for place in mine})
    return {place: _few(pool, bench.id_at(place), samples, generator) for place in mine}


def _few(pool: Sequence[int], but: int, samples: int, generator: torch.Generator) -> list[_Change]:
    """At most `samples` of a pool without one of its members, each at most once."""
    others = [i for i in pool if i != but]
    return [others[k] for k in torch.randperm(len(others), generator=generator)[:samples].tolist()]


def _sampled(
    bench: _Bench, logits: torch.Tensor, place: _Place, samples: int, generator: torch.Generator
) -> list[_Change]:
    """Independent draws from one position's logits, [vocab], without the token itself and special tokens."""
    never = [bench.id_at(place), *(getattr(bench.model.tokenizer, "all_special_ids", None) or ())]
    logits = logits.float().cpu().clone()  # drawn on the CPU, so that a seed means the same on every device
    logits[[i for i in never if i < len(logits)]] = -torch.inf
    logits[bench.model.vocabulary :] = -torch.inf
    return list(torch.multinomial(logits.softmax(-1), samples, replacement=True, generator=generator).tolist())


def _first_of(progress: Progress | None, more: int) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(done, total + more)


def _neutral(model: Model, neutral: int | str | None) -> int:
    if neutral is not None:
        return _one(model, neutral, "neutral")
    mask = getattr(model.tokenizer, "mask_token_id", None)
    if mask is not None and model.family != "decoder" and mask < model.vocabulary:
        return int(mask)
    for word in _FREQUENT if model.tokenizer is not None else ():
        ids = model.ids_of(word)
        if len(ids) == 1 and ids[0] != model.tokenizer.unk_token_id:
            return ids[0]
    raise InputError(f"{model.name} has no token that is known to be neutral; give one as neutral=, an id or a text.")


def _one(model: Model, token: int | str, what: str) -> int:
    ids = model.ids_of(token) if isinstance(token, str) else [token]
    if len(ids) != 1:
        raise InputError(
            f"{what} takes single tokens, but {token!r} is {len(ids)} tokens for {model.name}; choose another, "
            "perhaps with a space before it."
        )
    if isinstance(ids[0], bool) or not isinstance(ids[0], int) or not 0 <= ids[0] < model.vocabulary:
        raise InputError(f"{what} takes texts or ids from 0 to {model.vocabulary - 1}; got {token!r}.")
    return ids[0]


def _check_count(value: int, what: str, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{what} is a whole number of at least {least}; got {value!r}.")
