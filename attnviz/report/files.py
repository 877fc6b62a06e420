"""A report on a disk: whole, or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from attnviz.errors import InputError
from attnviz.findings import Finding
from attnviz.report.marked import markdown
from attnviz.report.web import html

_KINDS = {".html": html, ".htm": html, ".md": markdown, ".markdown": markdown}


def write(
    path: str | os.PathLike[str], findings: Sequence[Finding], *, title: str = "Findings", about: str = ""
) -> Path:
    """Write a report, HTML or Markdown by the path's end; a file that is there is replaced once the new one is whole.

    raises   InputError for another end, a path that cannot be written, or findings that make no report
    """
    file = Path(path)
    kind = _KINDS.get(file.suffix.lower())
    if kind is None:
        raise InputError(f"A report ends with {', '.join(_KINDS)}; got {file.name!r:.60}.")
    written = kind(findings, title=title, about=about)
    partial = file.with_name(f".{file.name}.{secrets.token_hex(4)}.partial")
    try:
        try:
            with partial.open("x", encoding="utf-8", newline="\n") as whole:
                whole.write(written)
                whole.flush()
                os.fsync(whole.fileno())
            os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{file.name} cannot be written: {error.strerror}. Choose another place.") from error
    return file
