"""What callers give, checked before it is used: counts, seeds, numbers in arrays, and where a file is to be written."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attnviz.errors import InputError, ShapeError

MOST_SEED = 2**63 - 1  # what torch takes


def whole(value: Any, what: str, *, least: int = 1, most: int | None = None) -> int:
    """A whole number from `least` on, and to `most`; InputError for anything else, True among it."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        range_ = f"from {least} on" if most is None else f"from {least} to {most}"
        raise InputError(f"{what} is a whole number {range_}; got {value!r:.80}.")
    return value


def seeded(seed: Any) -> int:
    """A seed that NumPy and torch both take."""
    return whole(seed, "A seed", least=0, most=MOST_SEED)


def numbers(values: Any, what: str) -> npt.NDArray[np.float64]:
    """Values as an array of float64; ShapeError for lists of unequal lengths, and for what is not a number."""
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ShapeError(f"{what} are numbers in an array, or in lists of equal lengths: {error}.") from error


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A place to write to, which becomes `path` when the block ends well, and is gone when it does not.

    raises   InputError where no file of that name can be written
    """
    if not path.name or "\0" in str(path):
        raise InputError(f"{str(path)!r:.80} names no file. Give a path that ends with the file's name.")
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        told = error.strerror or error
        raise InputError(f"{path.name!r:.80} cannot be written: {told}. Choose another place.") from error
    finally:
        if partial.parent.is_dir():
            partial.unlink(missing_ok=True)
