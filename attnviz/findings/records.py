"""What findings are made of: values that are checked when they are made and read back from JSON as they were.

    Measurement   what is measured, of which heads
    Case          one text that it is measured on
    Plan          said before it is measured: what, on which texts, and what would refute it
    Outcome       what it came to, with its control
    Evidence      all of these, with the model and the day

All records are frozen and refuse fields that they do not know: they come from files that anybody can write.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from attnviz.edits import Head
from attnviz.findings.figuring import MOST_HELD, contradiction
from attnviz.findings.judging import twice

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
MOST_CONTROLS = 200
MOST_REFERENCES = 200

Text = Annotated[str, Field(max_length=50_000)]
Words = Annotated[str, Field(max_length=2_000)]
Name = Annotated[str, Field(max_length=300)]
Label = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^\S(.*\S)?$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def instant() -> datetime:
    """Now, to the microsecond: what was first, a plan or its evidence, may hang on it."""
    return datetime.now(UTC)


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
    references   texts whose mean stands in for the heads; none: the cases' own texts and donors. Of "mean" alone
    anywhere     random heads of all layers, and not of the same ones first. Of ablation alone
    """

    kind: Kind
    what: Name = ""
    heads: tuple[HeadAt, ...] = Field(default=(), max_length=5_000)
    how: How = "resample"
    n_controls: int = Field(default=20, ge=1, le=MOST_CONTROLS)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    references: tuple[Text, ...] = Field(default=(), max_length=MOST_REFERENCES)
    anywhere: bool = False

    @model_validator(mode="after")
    def _has_its_heads(self) -> Measurement:
        n, needed = len(self.heads), {"ablation": (1, 5_000), "flow": (0, 0)}.get(self.kind, (1, 1))
        if not needed[0] <= n <= needed[1]:
            raise ValueError(f"{self.kind} is measured of {needed[0]} to {needed[1]} heads; got {n}")
        if self.references and (self.kind, self.how) != ("ablation", "mean"):
            raise ValueError("reference texts are those of an ablation by the mean")
        if self.anywhere and self.kind != "ablation":
            raise ValueError("random heads of all layers are the control of an ablation")
        return self


class Plan(Record):
    """Said before measuring: what, on which texts, each once, and what is expected.

    bound, direction   the mean over cases is expected above, or below, the bound: its interval wholly, and beyond the
                       control. On the other side, or no farther than the control, refutes it
    refuted_by         the same in the author's words, and what else would
    """

    measurement: Measurement
    cases: tuple[Case, ...] = Field(min_length=1, max_length=MOST_CASES)
    direction: Direction = "above"
    bound: Finite = 0.0
    refuted_by: Words = ""
    stated: AwareDatetime = Field(default_factory=instant)

    def asks(self, other: Measurement, cases: Sequence[Case]) -> bool:
        """Whether this is the very thing that was planned, on all of its texts and no others.

        Another draw of controls is another thing: draws could be tried until one holds.
        """
        return other == self.measurement and len(cases) == len(self.cases) and set(cases) == set(self.cases)

    @model_validator(mode="after")
    def _counts_each_text_once(self) -> Plan:
        again = twice(self.cases)
        if again:
            raise ValueError(
                f"text {again[1]} is text {again[0]} once more, and each counts once: take one of them out"
            )
        return self


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
    """What a measurement came to; one whose numbers are not those of its values is refused (`figuring`).

    values          one for each case, in its order; None where it could not be measured there
    mean, low, high over the cases that could, with a 95% interval; low and high None for fewer than three
    control         the values of the controls' means, and in words what they are; () where there is none
    control_low, control_high   the middle 95% of them, or the largest by chance, as `controls` says
    control_below   the smallest by chance, one for each of `control`, where that is the largest; () otherwise
    unit            of all these: "nats", "logits", "share", "correlation", ...
    verdict         against a plan: "holds", "fails" or "open" (too few texts, or the interval spans the bound)
    words           the whole in a sentence
    """

    values: tuple[Finite | None, ...] = Field(max_length=MOST_CASES)
    mean: Finite
    low: Finite | None = None
    high: Finite | None = None
    control: tuple[Finite, ...] = Field(default=(), max_length=MOST_HELD)
    controls: Words = ""
    control_low: Finite | None = None
    control_high: Finite | None = None
    control_below: tuple[Finite, ...] = Field(default=(), max_length=MOST_HELD)
    unit: Name = ""
    verdict: Verdict = "open"
    words: Words = ""
    seconds: float = Field(default=0.0, ge=0)

    @property
    def has_control(self) -> bool:
        return self.control_low is not None and self.control_high is not None

    @model_validator(mode="after")
    def _agrees_with_its_values(self) -> Outcome:
        wrong = contradiction(self)
        if wrong:
            raise ValueError(wrong)
        return self


class Evidence(Record):
    """One measurement that was made: for a finding, against it, or beside it."""

    measurement: Measurement
    cases: tuple[Case, ...] = Field(min_length=1, max_length=MOST_CASES)
    outcome: Outcome
    model: ModelRecord
    by: Name = ""
    note: Words = ""
    planned: bool = False
    at: AwareDatetime = Field(default_factory=instant)

    @model_validator(mode="after")
    def _is_of_its_kind(self) -> Evidence:
        n, cases = len(self.outcome.values), len(self.cases)
        wrong = contradiction(self.outcome, self.measurement) if n == cases else f"{n} values of {cases} texts"
        if wrong:
            raise ValueError(wrong)
        return self
