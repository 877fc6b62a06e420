"""Gates on disk: arrays in one safetensors file, what they are as JSON in the file's header. No pickle, no code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from attnviz.checks import appearing
from attnviz.errors import InputError

FORMAT = 1
_KEY = "attnviz_gates"
_MOST_BYTES = 64 << 20  # far beyond any model's heads


def write(path: Path, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Path:
    """Write arrays, float64, and a description; the file appears whole or not at all.

    raises   InputError where it cannot be written
    """
    header = json.dumps({"format": FORMAT, **about}, default=dict)
    with appearing(path) as partial:
        try:
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, partial, {_KEY: header})
        except SafetensorError as error:  # safetensors' own for a disk that is full and a folder that is not there
            raise OSError(str(error)) from error
    return path


@contextmanager
def reading(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """A block that makes gates of (description, arrays); what goes wrong in it says that the file is damaged.

    raises   InputError for a file that is missing, holds no gates, or is of another version
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it has {path.stat().st_size:,} bytes, and gates at most {_MOST_BYTES:,}")
        with safe_open(path, framework="np") as file:
            about = json.loads((file.metadata() or {}).get(_KEY, "null"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (OSError, SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path.name!r} is not a file that Gates.save wrote ({error}).") from error
    if not isinstance(about, dict) or about.pop("format", None) != FORMAT:
        raise InputError(f"{path.name!r} holds no gates of format {FORMAT}: save them again with this version.")
    try:
        yield about, arrays
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{path.name!r} is damaged: {error!r:.200}. Save the gates again.") from error
