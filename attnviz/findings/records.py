"""What a finding is made of: values that are checked when they are made and read back from JSON as they were.

A finding is an observation that somebody else can open, weigh and repeat:

    claim        in words, about heads or edges, with labels of a small vocabulary and a confidence
    plan         said before it is measured: what, on which texts, and what would refute it
    evidence     measurements, each with its control, its texts, the model and the day
    selection    the view it was seen in, so that it can be opened again

All records are frozen and refuse fields that they do not know: they come from files that anybody can write.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, get_args
from uuid import uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from attnviz.edits import Head
from attnviz.findings.judging import missing

Status = Literal["hypothesis", "supported", "refuted"]
Direction = Literal["above", "below"]
Verdict = Literal["holds", "fails", "open"]
Kind = Literal["ablation", "attention", "detector", "agreement", "flow"]
How = Literal["resample", "mean", "zero"]

STATUSES: tuple[Status, ...] = get_args(Status)
KINDS: tuple[Kind, ...] = get_args(Kind)
LABELS = (
    "previous token",
    "next token",
    "duplicate token",
    "induction",
    "copying",
    "name mover",
    "negative name mover",
    "sink",
    "position",
    "syntax",
    "delimiter",
    "retrieval",
)
MOST_CASES = 500
MOST_EVIDENCE = 200
MOST_CONTROLS = 200

Text = Annotated[str, Field(max_length=50_000)]
Words = Annotated[str, Field(max_length=2_000)]
Name = Annotated[str, Field(max_length=300)]
Label = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^\S(.*\S)?$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


class Record(BaseModel):
    """What all records are: frozen, without fields that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class HeadAt(Record):
    """A head, zero-based; `site` must be there for an encoder-decoder."""

    layer: int = Field(ge=0, le=9_999)
    head: int = Field(ge=0, le=9_999)
    site: Literal["encoder", "decoder", "cross"] | None = None

    @classmethod
    def of(cls, head: Head) -> HeadAt:
        return cls.model_validate({"layer": head.layer, "head": head.head, "site": head.site})

    @property
    def value(self) -> Head:
        return Head(self.layer, self.head, self.site)

    def __str__(self) -> str:
        return f"{self.site} L{self.layer}H{self.head}" if self.site else f"L{self.layer}H{self.head}"


class EdgeAt(Record):
    """From a query to a key, as positions of the tokens of the selection's text; of one head, or of none by name."""

    query: int = Field(ge=0, le=999_999)
    key: int = Field(ge=0, le=999_999)
    head: HeadAt | None = None


class Case(Record):
    """One text that something is measured on, and what of it: each kind of measurement reads what it needs.

    text         what the model reads; `target` of an encoder-decoder
    donor        that heads are resampled from; "" where none is needed
    answer, foil as they continue the text (" Mary"), or a class
    query, key   words of the text: what attends, and what is attended to. "" as query: the last token
    marks        one weight from 0 to 1 for each word of the text, as `attnviz.human.marks` has them
    """

    text: Text = Field(min_length=1)
    target: Text = ""
    donor: Text = ""
    answer: Words = ""
    foil: Words = ""
    query: Words = ""
    key: Words = ""
    marks: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(default=(), max_length=5_000)


class Measurement(Record):
    """What is measured, on any texts.

    kind         ablation    the change of `what`, a metric, where `heads` are replaced as `how` says. Control: as many
                             random heads of the same layers
                 attention   the share that the one head pays from each case's query to its key. Control: every other
                             head of the site, the middle 95% of them
                 detector    the score of the one head by the detector `what`, over the texts. Control: all other heads
                 agreement   the one head's agreement, by the measure `what`, with each case's marks. Control: the marks
                             shifted, the largest over all heads kept
                 flow        the share that the method `what` gives the case's key. Control: every other token
    what         a metric, a detector, a measure of agreement, or a method, as the kind says; "" where there is one
    heads        the set that is replaced, or the one head that is looked at; none for flow
    n_controls   random sets or shifts; seed: of their draw
    """

    kind: Kind
    what: Name = ""
    heads: tuple[HeadAt, ...] = Field(default=(), max_length=5_000)
    how: How = "resample"
    n_controls: int = Field(default=20, ge=1, le=MOST_CONTROLS)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _has_its_heads(self) -> Measurement:
        n, needed = len(self.heads), {"ablation": (1, 5_000), "flow": (0, 0)}.get(self.kind, (1, 1))
        if not needed[0] <= n <= needed[1]:
            raise ValueError(f"{self.kind} is measured of {needed[0]} to {needed[1]} heads; got {n}")
        return self


class Plan(Record):
    """Said before measuring: what, on which texts, and what is expected.

    bound, direction   the mean over cases is expected above, or below, the bound: its interval wholly, and beyond the
                       control. On the other side, or no farther than the control, refutes it
    refuted_by         the same in the author's words, and what else would
    """

    measurement: Measurement
    cases: tuple[Case, ...] = Field(min_length=1, max_length=MOST_CASES)
    direction: Direction = "above"
    bound: Finite = 0.0
    refuted_by: Words = ""
    stated: AwareDatetime = Field(default_factory=_now)

    def same_question(self, other: Measurement) -> bool:
        """Whether the other measures what was planned; another draw of controls is the same question."""
        kept = {"seed": self.measurement.seed, "n_controls": self.measurement.n_controls}
        return other.model_copy(update=kept) == self.measurement


class ModelRecord(Record):
    """Which model something was measured on, with what."""

    name: Name
    revision: Name = ""
    fingerprint: str = Field(default="", max_length=64)
    family: Name = ""
    dtype: Name = ""
    device: Name = ""
    versions: dict[Name, Name] = Field(default_factory=dict, max_length=20)


class Outcome(Record):
    """What a measurement came to.

    values          one for each case, in its order; None where it could not be measured there
    mean, low, high over the cases that could, with a 95% interval; low and high None for fewer than three
    control         the values of the controls' means, and in words what they are; () where there is none
    control_low, control_high   the middle 95% of them, or the largest by chance, as `controls` says
    unit            of all these: "nats", "logits", "share", "correlation", ...
    verdict         against a plan: "holds", "fails" or "open" (too few texts, or the interval spans the bound)
    words           the whole in a sentence
    """

    values: tuple[Finite | None, ...] = Field(max_length=MOST_CASES)
    mean: Finite
    low: Finite | None = None
    high: Finite | None = None
    control: tuple[Finite, ...] = Field(default=(), max_length=5_000)
    controls: Words = ""
    control_low: Finite | None = None
    control_high: Finite | None = None
    unit: Name = ""
    verdict: Verdict = "open"
    words: Words = ""
    seconds: float = Field(default=0.0, ge=0)

    @property
    def has_control(self) -> bool:
        return self.control_low is not None and self.control_high is not None


class Evidence(Record):
    """One measurement that was made: for a finding, against it, or beside it."""

    measurement: Measurement
    cases: tuple[Case, ...] = Field(min_length=1, max_length=MOST_CASES)
    outcome: Outcome
    model: ModelRecord
    by: Name = ""
    note: Words = ""
    planned: bool = False
    at: AwareDatetime = Field(default_factory=_now)


class Seen(Record):
    """The view a finding was seen in: the address's parameters, and the texts that its keys stand for.

    params     as `Selection.to_params` writes them, without keys of texts
    texts      by the field of the Selection: "text", "other", ...
    page       its title
    lines      Python that makes the same without the app
    """

    page: Name = ""
    params: dict[Name, Words] = Field(default_factory=dict, max_length=100)
    texts: dict[Name, Text] = Field(default_factory=dict, max_length=20)
    lines: Text = ""


class Annotation(Record):
    """What one person calls a finding; no labels say that none fits.

    brought_by   who imported it, where that was somebody else
    """

    by: Name = Field(min_length=1)
    labels: tuple[Label, ...] = Field(default=(), max_length=20)
    confidence: float | None = Field(default=None, ge=0, le=1)
    at: AwareDatetime = Field(default_factory=_now)
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
    created: AwareDatetime = Field(default_factory=_now)
    changed: AwareDatetime = Field(default_factory=_now)
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
        reason = missing(self, self.status)
        if reason:
            raise ValueError(reason)
        return self
