"""Files that people upload: how large one may be, before anything of it is read."""

from __future__ import annotations

from typing import Any

from attnviz.errors import InputError
from attnviz.settings import settings


def most_megabytes() -> int:
    """What `st.file_uploader` is told as `max_upload_size`."""
    return max(1, settings().upload_bytes >> 20)


def check_upload(file: Any) -> None:
    """Raise InputError for a file that is larger than this server takes, whatever the browser let through."""
    most = settings().upload_bytes
    if file.size > most:
        raise InputError(
            f"This file has {file.size:,} bytes; this server takes at most {most:,}. Choose a smaller one, or have the "
            "operator raise ATTNVIZ_UPLOAD_BYTES."
        )
