"""Findings without the folders of this machine: of each that a model was opened from, the last part stays."""

from __future__ import annotations

import re
from collections.abc import Callable

from attnviz.findings import Finding

_PATH = re.compile(r"(?:~|\.{0,2}/|[A-Za-z]:[\\/]|\\\\).*[\\/](?P<last>[^\\/]+)[\\/]*|/(?P<top>[^\\/]+)", re.DOTALL)
_PARAMS = ("model", "other_model")


def shortener(finding: Finding) -> Callable[[str], str] | None:
    """What takes the folders of a finding's models out of a text; None where there are none."""
    names = {finding.model.name, *(one.model.name for one in finding.evidence)}
    names |= {value for name, value in finding.seen.params.items() if name in _PARAMS}
    ends = {name: found["last"] or found["top"] for name in names if (found := _PATH.fullmatch(name))}
    if not ends:
        return None
    longest = sorted(ends, key=len, reverse=True)
    told = re.compile(rf"(?<![\w/\\.])(?:{'|'.join(map(re.escape, longest))})(?![\w-]|\.\w)")
    return lambda words: told.sub(lambda path: ends[path[0]], words)


def shorn(finding: Finding) -> Finding:
    """The finding with its models' names and its lines such; what was said and measured is as it was."""
    short = shortener(finding)
    if short is None:
        return finding
    seen = finding.seen
    params = {name: short(value) if name in _PARAMS else value for name, value in seen.params.items()}
    evidence = [
        one.model_copy(update={"model": one.model.model_copy(update={"name": short(one.model.name)})})
        for one in finding.evidence
    ]
    return finding.model_copy(
        update={
            "model": finding.model.model_copy(update={"name": short(finding.model.name)}),
            "seen": seen.model_copy(update={"params": params, "lines": short(seen.lines)}),
            "evidence": tuple(evidence),
        }
    )
