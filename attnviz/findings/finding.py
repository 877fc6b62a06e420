"""A finding: an observation that somebody else can open, weigh and repeat.

    claim        in words, about heads or edges, with labels of a small vocabulary and a confidence
    plan         said before it is measured: what, on which texts, and what would refute it
    evidence     measurements, each with its control, its texts, the model and the day
    seen         the view it was seen in, so that it can be opened again

Like all records it is checked when it is made: one with a status that its evidence does not hold up is refused.
"""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

from pydantic import AwareDatetime, Field, field_validator, model_validator

from attnviz.findings.judging import misjudged, missing
from attnviz.findings.records import (
    EdgeAt,
    Evidence,
    HeadAt,
    Label,
    ModelRecord,
    Name,
    Plan,
    Record,
    Status,
    Text,
    Words,
    now,
)

MOST_EVIDENCE = 200
MOST_DIGESTS = 20_000


class Seen(Record):
    """The view a finding was seen in: the address's parameters, and the texts that its keys stand for.

    params     as `Selection.to_params` writes them, without keys of texts
    texts      by the field of the Selection: "text", "other", ...
    page       its title
    lines      Python that makes the same without the app
    digests    of all texts that it shows, also of those that are too many to be kept (`judging.digest_of`)
    """

    page: Name = ""
    params: dict[Name, Words] = Field(default_factory=dict, max_length=100)
    texts: dict[Name, Text] = Field(default_factory=dict, max_length=20)
    lines: Text = ""
    digests: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...] = Field(default=(), max_length=MOST_DIGESTS)


class Annotation(Record):
    """What one person calls a finding; no labels say that none fits.

    brought_by   who imported it, where that was somebody else
    """

    by: Name = Field(min_length=1)
    labels: tuple[Label, ...] = Field(default=(), max_length=20)
    confidence: float | None = Field(default=None, ge=0, le=1)
    at: AwareDatetime = Field(default_factory=now)
    brought_by: Name = ""

    @field_validator("labels")
    @classmethod
    def _each_once(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(labels))


class Finding(Record):
    """An observation with what holds it up.

    id           of 32 hexadecimal digits, made once
    figure       a Plotly figure as JSON, or ""
    shared       whether others may see it; private until its author says so
    annotations  what others call it, one each: a store keeps them apart, and writes them here for a file
    version      counted up at every change; a store refuses one that somebody else changed meanwhile
    """

    id: str = Field(default_factory=lambda: uuid4().hex, pattern=r"^[0-9a-f]{32}$")
    claim: Words = Field(min_length=1)
    heads: tuple[HeadAt, ...] = Field(default=(), max_length=5_000)
    edges: tuple[EdgeAt, ...] = Field(default=(), max_length=5_000)
    labels: tuple[Label, ...] = Field(default=(), max_length=20)
    confidence: float = Field(default=0.5, ge=0, le=1)
    status: Status = "hypothesis"
    author: Name = ""
    shared: bool = False
    note: Text = ""
    model: ModelRecord
    seen: Seen = Seen()
    figure: str = Field(default="", max_length=5_000_000)
    plan: Plan | None = None
    evidence: tuple[Evidence, ...] = Field(default=(), max_length=MOST_EVIDENCE)
    annotations: tuple[Annotation, ...] = Field(default=(), max_length=1_000)
    created: AwareDatetime = Field(default_factory=now)
    changed: AwareDatetime = Field(default_factory=now)
    version: int = Field(default=1, ge=1)

    @field_validator("claim")
    @classmethod
    def _says_something(cls, claim: str) -> str:
        if not claim.strip():
            raise ValueError("a claim says what holds, in words")
        return claim.strip()

    @field_validator("labels")
    @classmethod
    def _each_once(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(labels))

    @model_validator(mode="after")
    def _status_has_its_evidence(self) -> Finding:
        reason = misjudged(self) or missing(self, self.status)
        if reason:
            raise ValueError(reason)
        return self
