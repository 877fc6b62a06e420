"""Evidence that is one number for every head of a site: attention between two words, and detectors.

The head that is looked at stands beside all other heads of its site, on the same texts, and has to lie beyond the
middle 95% of them. It was found by looking, as the best of many; what makes up for that is not a higher bar but other
texts, on which a head that was best by chance is like any other. Beyond the *largest* of the others would refute every
induction head but one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from attnviz import heads
from attnviz.errors import InputError
from attnviz.findings.cases import Gathered, Read, head_of, keys_of, query_of, traced
from attnviz.findings.figuring import Doubles
from attnviz.findings.records import Case, Measurement
from attnviz.heads import DETECTORS, VARIANTS
from attnviz.models import Model
from attnviz.tap import Progress
from attnviz.trace import Trace

_WITHOUT = f", {VARIANTS[1]}"
_INDUCTION = "induction"
DETECTED = (*DETECTORS, _INDUCTION)


def attention(model: Model, asked: Measurement, cases: Sequence[Case], progress: Progress | None) -> Read:
    """The share of its attention that the head pays from each case's query to its key.

    query   the word's last token, where it comes last; of "", the last token of the text
    key     summed over the word's tokens, where it comes first
    Of an encoder-decoder's cross-attention the query is a word of the target, and the key one of the text.
    """

    def read(trace: Trace, case: Case, site: str) -> Doubles:
        (queries, keys), (query_text, key_text) = trace.axes(site), trace.texts(site)
        query = query_of(queries, query_text, case.query)
        return heads.attention_between(trace, query, keys_of(keys, key_text, case.key), site=site).astype(np.float64)

    queries, keys = {case.query.strip() for case in cases}, {case.key.strip() for case in cases}
    query = (queries.pop() or "the last token") if len(queries) == 1 else "each query"
    key = keys.pop() if len(keys) == 1 else "each text's key"
    return _beside_all(model, asked, cases, read, f"attention from {query} to {key}", "share", progress)


def detector(model: Model, asked: Measurement, cases: Sequence[Case], progress: Progress | None) -> Read:
    """The head's score by a detector, on each case's text.

    asked.what   of DETECTED; with ", without sink" behind it, the first token is taken away and each row divided by the
                 rest
    """
    name = asked.what.removesuffix(_WITHOUT)
    if name not in DETECTED:
        raise InputError(f"A detector is one of {', '.join(DETECTED)}; got {asked.what!r:.60}.")
    variant = int(asked.what.endswith(_WITHOUT))

    def read(trace: Trace, case: Case, site: str) -> Doubles:
        found = heads.repeats(trace, site=site) if name == _INDUCTION else heads.detect(trace, site=site)
        return found.values[variant, found.names.index(name)].astype(np.float64)

    title = DETECTORS[name].title.lower() if name in DETECTORS else name
    return _beside_all(model, asked, cases, read, f"score by “{title}”, {VARIANTS[variant]}", "share", progress)


def _beside_all(
    model: Model,
    asked: Measurement,
    cases: Sequence[Case],
    read: Callable[[Trace, Case, str], Doubles],
    title: str,
    unit: str,
    progress: Progress | None,
) -> Read:
    """One head beside all others, by [layer, head] of each case."""
    head = head_of(model, asked.heads[0])
    site = model.info.site(head.site)

    def one(case: Case) -> Doubles:
        values = read(traced(model, case), case, site)
        if not np.isfinite(values[head.layer, head.head]):
            raise InputError(f"Nothing in {case.text!r:.60} is what this measures, so {head} has no number there.")
        return values

    gathered = Gathered(cases, progress)
    found = gathered.each(one)
    every = np.stack([values for values in found if values is not None])
    means = every.mean(0)  # NaN where a head has no number on one of the texts
    own = means[head.layer, head.head]
    means[head.layer, head.head] = np.nan
    control = means[np.isfinite(means)]
    above = int((control >= own).sum())
    where = f" at its {site} site" if len(model.info.sites) > 1 else ""
    return Read(
        tuple(None if values is None else float(values[head.layer, head.head]) for values in found),
        gathered.reasons,
        control,
        f"all {len(control)} other heads{where} on the same texts, {above} of them at or above it; their middle 95%",
        unit,
        f"The {title}, of {head}",
    )
