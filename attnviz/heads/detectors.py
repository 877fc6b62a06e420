"""What a head does on a text, by simple descriptions of a pattern: one number each, in [0, 1].

    pattern row -> attention to the keys that a detector looks for -> mean over the rows that count

A row counts where it has a choice: it sees at least one key that is looked for and one that is not. Everything is
measured twice, since a label that rests on the first token says nothing: on the pattern as it is, and with the sink's
keys taken away and each row divided by what is left of it. Every value stands beside its chance level, what attention
spread evenly over the visible keys scores on the very same texts.

Here are masks and sums over batches of patterns, of any source; `attnviz.heads.detecting` reads traces with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from attnviz.errors import InputError, ShapeError
from attnviz.tokens import Token
from attnviz.view import Sinks

Kind = Literal["self", "cross"]
KINDS: tuple[Kind, ...] = get_args(Kind)
VARIANTS = ("with sink", "without sink")
FIRST = Sinks()
_BOTH: tuple[Kind, ...] = ("self", "cross")


@dataclass(frozen=True)
class Detector:
    """One description of what a head does.

    words    what is averaged, for captions
    chance   what even attention scores, in words and as a formula where there is one
    sites    the kinds of attention where it makes sense: "self", "cross"; NaN elsewhere
    """

    title: str
    words: str
    chance: str
    source: str
    sites: tuple[Kind, ...]


DETECTORS: dict[str, Detector] = {
    "previous": Detector(
        "Previous token",
        "attention to the token just before",
        "1 over the number of visible keys: over a causal text of n tokens (H(n) - 1) / (n - 1), H harmonic numbers",
        "Clark et al. 2019, arXiv 1906.04341",
        ("self",),
    ),
    "duplicate": Detector(
        "Duplicate token",
        "attention of a repeated token to where the same token stands; across two texts, of a token copied",
        "the share of visible keys that hold the same token",
        "Wang et al. 2022, arXiv 2211.00593",
        _BOTH,
    ),
    "same_word": Detector(
        "Same word",
        "attention of a piece of a word to the word's other pieces",
        "the share of visible keys that are the word's other pieces",
        "our own, after the relations of Clark et al. 2019, arXiv 1906.04341",
        ("self",),
    ),
    "punctuation": Detector(
        "Punctuation",
        "attention to punctuation marks",
        "the share of visible keys that are punctuation",
        "Clark et al. 2019, arXiv 1906.04341",
        _BOTH,
    ),
    "sink": Detector(
        "Sink",
        "attention to the first token, or to the keys chosen as sinks",
        "the share of visible keys that are sinks: over a causal text of n tokens (H(n) - 1) / (n - 1)",
        "Gu et al. 2024, arXiv 2410.10781",
        _BOTH,
    ),
    "entropy": Detector(
        "Entropy",
        "the entropy of the row, made to sum to 1, as a share of the most it could be",
        "1: even attention has the most",
        "Ghader and Monz 2017, arXiv 1710.03348",
        _BOTH,
    ),
    "distance": Detector(
        "Distance",
        "how far away the attended tokens are, as a share of the farthest visible one",
        "the mean distance of the visible keys: 1/2 for causal attention, 0.44 over a long text read both ways",
        "after Vig and Belinkov 2019, arXiv 1906.04284",
        ("self",),
    ),
}
_SOUGHT = ("previous", "duplicate", "same_word", "punctuation", "sink")  # attention to keys that are looked for
assert tuple(DETECTORS) == (*_SOUGHT, "entropy", "distance")


@dataclass(frozen=True, eq=False)
class Masks:
    """What the detectors must know of a batch of texts at one site, on one device; padding stands at the right.

    query_ids, key_ids       [batch, query], [batch, key], tokens; special ones and padding below 0, never equal
    query_words, key_words   alike, the word that each belongs to
    punctuation, sinks       [batch, key] boolean
    query_there, key_there   [batch, query], [batch, key] boolean: no padding
    own                      [batch, query], the key that each query is itself; of self-attention only
    """

    kind: Kind
    causal: bool
    query_ids: torch.Tensor
    key_ids: torch.Tensor
    query_words: torch.Tensor
    key_words: torch.Tensor
    punctuation: torch.Tensor
    sinks: torch.Tensor
    query_there: torch.Tensor
    key_there: torch.Tensor
    own: torch.Tensor

    @classmethod
    def of(
        cls,
        texts: Sequence[tuple[Sequence[Token], Sequence[Token]]],
        kind: Kind,
        *,
        causal: bool,
        key_texts: Sequence[str],
        sinks: Sinks | None = None,
        device: torch.device | str = "cpu",
    ) -> Masks:
        """Masks of texts padded at the right to the longest.

        texts       (query tokens, key tokens) of each; of self-attention the queries are the last of the keys
        key_texts   what the spans of each text's key tokens point into
        sinks       which keys are taken away in "without sink", whatever its `how`; None: the first token
        raises      InputError for another kind, or lists of two lengths
        """
        if kind not in KINDS:
            raise InputError(f"A kind of attention is one of {', '.join(KINDS)}; got {kind!r}.")
        if not texts or len(texts) != len(key_texts):
            raise InputError(f"Each text needs its tokens and its string; got {len(texts)} and {len(key_texts)}.")
        queries, keys = [q for q, _ in texts], [k for _, k in texts]
        resting = [(sinks or FIRST).of(k, text).tolist() for k, text in zip(keys, key_texts, strict=True)]
        marks = [Sinks(kinds=("punctuation",)).of(k, text).tolist() for k, text in zip(keys, key_texts, strict=True)]

        def padded(rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
            longest = max(map(len, rows))
            return torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows], device=device)

        def ids(side: Sequence[Sequence[Token]], none: int) -> torch.Tensor:
            return padded([[none if t.special else t.id for t in tokens] for tokens in side], none)

        def words(side: Sequence[Sequence[Token]], none: int) -> torch.Tensor:
            return padded([[none if t.word is None else t.word for t in tokens] for tokens in side], none)

        own = [range(len(k) - len(q), len(k)) if kind == "self" else [0] * len(q) for q, k in texts]
        return cls(
            kind=kind,
            causal=causal,
            query_ids=ids(queries, -1),
            key_ids=ids(keys, -2),
            query_words=words(queries, -1),
            key_words=words(keys, -2),
            punctuation=padded(marks, 0).bool(),
            sinks=padded(resting, 0).bool(),
            query_there=padded([[1] * len(q) for q in queries], 0).bool(),
            key_there=padded([[1] * len(k) for k in keys], 0).bool(),
            own=padded(own, 0),
        )

    def seen(self, visible: torch.Tensor, rows: slice = slice(None)) -> torch.Tensor:
        """[batch, query, key], what can be seen by these queries: never padding, nor what comes later in causal text.

        visible   [batch or 1, query, key] boolean, of these rows alone
        raises    ShapeError for another shape
        """
        there = self.query_there[:, rows, None] & self.key_there[:, None]
        if visible.dim() != 3 or visible.shape[1:] != there.shape[1:] or visible.shape[0] not in (1, len(there)):
            raise ShapeError(
                f"visible has to be [batch or 1, query, key], here {list(there.shape)}; got {list(visible.shape)}."
            )
        later = self._places > self.own[:, rows, None] if self.causal and self.kind == "self" else False
        return there & visible & ~torch.as_tensor(later, device=there.device)

    def sought(self, rows: slice = slice(None)) -> torch.Tensor:
        """[batch, query, key, detector] boolean, the keys that each detector of `_SOUGHT` looks for."""
        own, places, kinds = self.own[:, rows, None], self._places, self.kind == "self"
        same = self.query_ids[:, rows, None] == self.key_ids[:, None]
        word = self.query_words[:, rows, None] == self.key_words[:, None]
        other = (places != own) if kinds else torch.ones_like(same)
        none = torch.zeros_like(same)
        of = [
            (places == own - 1) if kinds else none,
            same & other,
            word & other if kinds else none,
            self.punctuation[:, None].expand_as(same),
            self.sinks[:, None].expand_as(same),
        ]
        return torch.stack([mask.expand_as(same) for mask in of], -1)

    @property
    def _places(self) -> torch.Tensor:
        """[1, 1, key], positions of keys."""
        return torch.arange(self.key_ids.shape[1], device=self.key_ids.device)[None, None]

    def away(self, rows: slice = slice(None)) -> torch.Tensor:
        """[batch, query, key], how many tokens apart; zero across two texts."""
        apart = (self._places - self.own[:, rows, None]).abs().float()
        return apart if self.kind == "self" else torch.zeros_like(apart)


@dataclass(frozen=True, eq=False)
class Measure:
    """Some rows' masks made into the columns that patterns are multiplied with; for many layers that see the same.

    seen      [batch, query, key]
    columns   [batch, query, key, variant x (what is looked for, distance, all)] float32
    counted   [batch, query, variant, (what is looked for, entropy, distance)] boolean, the rows that count
    most      [batch, query, variant], the log of the number of visible keys, in nats
    """

    seen: torch.Tensor
    columns: torch.Tensor
    counted: torch.Tensor
    most: torch.Tensor

    @classmethod
    def of(
        cls, masks: Masks, visible: torch.Tensor, rows: slice = slice(None), sought: torch.Tensor | None = None
    ) -> Measure:
        """For some query rows; `visible` is [batch or 1, query, key] of these rows alone.

        sought   [batch, query, key, what] boolean, other keys to look for than `DETECTORS` do
        """
        seen = masks.seen(visible, rows)
        sought, apart = masks.sought(rows) if sought is None else sought, masks.away(rows)
        columns, counted, most = [], [], []
        for left in (seen, seen & ~masks.sinks[:, None]):
            looked = sought & left[..., None]
            total = left.sum(-1)
            found = looked.sum(2)
            choice = (found > 0) & (found < total[..., None])
            far = torch.where(left, apart, 0)
            farthest = far.amax(-1)
            columns += [looked, (far / farthest.clamp(min=1)[..., None])[..., None], left[..., None]]
            counted.append(torch.cat([choice, torch.stack([total > 1, (total > 1) & (farthest > 0)], -1)], -1))
            most.append(total.clamp(min=2).log())
        return cls(seen, torch.cat(columns, -1), torch.stack(counted, 2), torch.stack(most, 2))

    def sums(self, pattern: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Over these rows: (sum of values, number of rows that count), [batch, variant, detector, head].

        pattern   [batch, head, query, key] float32; what cannot be seen, padding above all, is never read
        """
        rows = pattern.masked_fill(~self.seen[:, None], 0).transpose(1, 2)  # batch query head key
        read = (rows @ self.columns).unflatten(-1, (2, -1))  # batch query head variant column
        sides = self.columns.unflatten(-1, (2, -1))[..., -1]
        nats = -torch.special.xlogy(rows, rows) @ sides  # batch query head variant
        *found, apart, left = read.unbind(-1)
        there, whole = left > 0, left.clamp(min=1e-30)
        # A row with keys taken away is divided by what is left of it; a row as it is stays as it is. Entropy is of a
        # distribution: also a row that a learned sink leaves below 1 is divided by its sum.
        scale = torch.stack([torch.ones_like(whole[..., 0]), whole[..., 1]], -1)
        spread = (nats / whole + whole.log()) / self.most[:, :, None]
        values = torch.stack([*[mass / scale for mass in found], spread, apart / whole], -1)
        counted = self.counted[:, :, None] & there[..., None]
        sums = torch.where(counted, values, 0).sum(1)
        return sums.permute(0, 2, 3, 1), counted.sum(1).permute(0, 2, 3, 1)

    def even(self) -> torch.Tensor:
        """[batch, 1, query, key], attention spread evenly over what can be seen."""
        return (self.seen / self.seen.sum(-1, keepdim=True).clamp(min=1))[:, None]


def measured(pattern: torch.Tensor, masks: Masks, visible: torch.Tensor) -> torch.Tensor:
    """Every detector on a batch of patterns: [batch, variant, detector, head] float32; NaN where no row counts.

    pattern   [batch, head, query, key]; what stands in padding is never read
    visible   [batch or 1, query, key] boolean
    """
    return mean(*Measure.of(masks, visible).sums(pattern.float()))


def chance(masks: Masks, visible: torch.Tensor) -> torch.Tensor:
    """What even attention over the visible keys scores on these texts: [batch, variant, detector]."""
    measure = Measure.of(masks, visible)
    return mean(*measure.sums(measure.even()))[..., 0]


def mean(sums: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """sums / counts, NaN where nothing counts."""
    return torch.where(counts > 0, sums / counts.clamp(min=1), torch.nan).float()
