"""One edge taken apart: what each head moves along it, and what that says of the tokens to come."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import pandas as pd
import torch

from attnviz.edits import Head
from attnviz.errors import InputError, Unsupported
from attnviz.flow import contributions, logits
from attnviz.flow.run import Block, Run
from attnviz.ui.flow.keeping import run_of
from attnviz.ui.flow.target import Subject
from attnviz.ui.focus import Focus
from attnviz.ui.jobs import Job
from attnviz.ui.kept import kept

TO_TARGET = "to the target"


@dataclass(frozen=True)
class Edge:
    """The selected query and key in the selected layer, or the words or sentences that they belong to.

    site, layer     of its attention
    queries, keys   positions of tokens, half-open
    query_label, key_label   of the units, as people read them
    """

    site: str
    layer: int
    queries: tuple[int, int]
    keys: tuple[int, int]
    query_label: str
    key_label: str

    @classmethod
    def of(cls, subject: Subject, focus: Focus) -> Edge:
        """The edge that a Focus means, by the units of the view."""
        trace, head = subject.trace, focus.head
        queries, keys = focus.view.axes(trace, head.site)
        q, k = queries.at(focus.query), keys.at(focus.key)
        site = trace.info.site(head.site)
        return cls(site, head.layer, queries.spans[q], keys.spans[k], queries.labels[q], keys.labels[k])

    @property
    def single(self) -> bool:
        """Whether it joins one token to one."""
        return self.queries[1] - self.queries[0] == self.keys[1] - self.keys[0] == 1

    @property
    def query_words(self) -> str:
        """`query 9 “␣gave”`, or of a word of several tokens `query 9–10 “given”`."""
        return f"query {_places(self.queries)} “{self.query_label}”"

    @property
    def key_words(self) -> str:
        """Likewise."""
        return f"key {_places(self.keys)} “{self.key_label}”"

    @property
    def title(self) -> str:
        """Both ends for a heading, as signs alone: `query 9 ␣gave ← key 3 ␣John`."""
        query, key = _places(self.queries), _places(self.keys)
        return f"query {query} {self.query_label} ← key {key} {self.key_label}"


def _places(span: tuple[int, int]) -> str:
    first, end = span
    return str(first) if end - first == 1 else f"{first}–{end - 1}"


def heads_for(subject: Subject, edge: Edge) -> tuple[pd.DataFrame, str]:
    """(head, attention and, where the model's parts can be told, contribution and proximity; else why not).

    Over words or sentences each is the mean over queries of the sum over keys, as in the view. Where the edge leads
    to the target's own position there is a column more, TO_TARGET: what the head's part along the edge writes to the
    target's logits itself.
    """

    def make(job: Job) -> pd.DataFrame:
        job.report("measuring every head", 0.0)
        return _measured(subject, run, edge)

    try:
        run = run_of(subject)
        key_of = (*subject.run, "heads", edge, subject.aimed)
        return cast(pd.DataFrame, kept(subject, key_of, "Taking the edge apart", make)), ""
    except (InputError, Unsupported) as error:
        layer = subject.trace.layer(edge.layer, edge.site)
        pattern = layer.pattern(queries=slice(*edge.queries))[0, :, :, slice(*edge.keys)]
        attention = pattern.double().sum(-1).mean(-1).cpu()
        return pd.DataFrame({"head": range(len(attention)), "attention": attention.numpy()}), str(error)


def _measured(subject: Subject, run: Run, edge: Edge) -> pd.DataFrame:
    block, model, target = block_of(run, edge.site, edge.layer), subject.model, subject.target
    if edge.single:
        found = contributions.edge_heads(block, edge.queries[0], edge.keys[0])
    else:
        rows, columns = slice(*edge.queries), slice(*edge.keys)
        wanted = torch.zeros(len(block.before), dtype=torch.bool)
        wanted[rows] = True
        cells = {
            "attention": block.attention.pattern(queries=rows)[0, :, :, columns],
            "contribution": contributions.head_norms(block)[:, rows, columns],
            "proximity": contributions.proximities(block, wanted)[0][:, rows, columns],
        }
        means = {name: cell.double().sum(-1).mean(-1).cpu().numpy() for name, cell in cells.items()}
        found = pd.DataFrame({"head": range(block.n_heads), **means})
        found = found.sort_values("contribution", ascending=False, kind="stable", ignore_index=True)
    if model is not None and target is not None and leads_to_target(subject, edge):
        assert subject.goal is not None
        with suppress(Unsupported):  # logits that are more than a projection: "What writes it" says so
            aim = target.aim(model, run.trace)
            written = logits.edge_logits(run, model, block, subject.goal, range(*edge.keys), aim)
            found[TO_TARGET] = written.double().cpu().numpy()[found["head"].to_numpy()]
    return found


def leads_to_target(subject: Subject, edge: Edge) -> bool:
    """Whether what moves along the edge arrives where the target is predicted, so that it can write to it directly."""
    if subject.target is None or subject.target.other is not None or subject.goal is None:
        return False
    upper = edge.site != "encoder" or subject.trace.info.family != "encoder-decoder"
    return upper and edge.queries[0] <= subject.goal < edge.queries[1]


def block_of(run: Run, site: str, layer: int) -> Block:
    """One block of a run."""
    return next(block for block in run.blocks if (block.site, block.layer) == (site, layer))


def promoted_for(subject: Subject, head: Head, query: int, keys: tuple[int, int] | None = None) -> pd.DataFrame:
    """The tokens that a head's output at a query speaks for and against most; `keys`: what it has from these alone."""
    model, run = subject.model, run_of(subject)
    assert model is not None
    block = block_of(run, subject.trace.info.site(head.site), head.layer)

    def make(job: Job) -> pd.DataFrame:
        some = None if keys is None else range(*keys)
        return logits.promotes(run, model, block, head.head, query, keys=some)

    key = (*subject.run, "promoted", head, query, keys)
    return cast(pd.DataFrame, kept(subject, key, "Reading what the head writes", make))
