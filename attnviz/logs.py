"""What the server did, as JSON lines on stderr: which work ran, for how long, and how it ended.

A line holds numbers, kinds of work and the names of models. It never holds a text, a key, an address or a person's
name: whoever writes a line gives fields of `_FIELDS`, and no others.
"""

from __future__ import annotations

import logging
import sys
from functools import cache
from pathlib import PurePath
from typing import Any, Literal

import structlog

from attnviz.settings import last_part, settings

Event = Literal["job started", "job ended", "job cancelled", "job failed", "job refused"]
_FIELDS = frozenset({"model", "kind", "seconds", "waited_seconds", "tokens", "session", "error"})


def record(event: Event, **fields: str | float | None) -> None:
    """Write one line; what is None is left out.

    model     a name; of a folder only its last part
    session   a hash
    error     the type of an error: its message may quote a text
    raises    TypeError for any other field, whatever Python's options are
    """
    unknown = sorted(set(fields) - _FIELDS)
    if unknown:
        raise TypeError(f"A line of the log has no {', '.join(unknown)}; it may have {', '.join(sorted(_FIELDS))}.")
    given = {name: round(x, 3) if isinstance(x, float) else x for name, x in fields.items() if x is not None}
    if "model" in given:
        given["model"] = short(str(given["model"]))
    _logger().log(logging.WARNING if event in ("job failed", "job refused") else logging.INFO, event, **given)


def short(model: str) -> str:
    """A Hub's name as it is, of a folder its last part: where it lies is the operator's business."""
    return PurePath(model).name if model.count("/") > 1 else last_part(model)


@cache
def _logger() -> Any:
    """A logger of our own: nothing of the process's logging is changed."""
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings().log_level.upper())),
        cache_logger_on_first_use=True,
    )
