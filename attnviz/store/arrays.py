"""Large arrays of findings: safetensors files beside the database, whole or not there.

A file is written under another name, flushed to the disk, and renamed; then the database learns its name and hash, in a
transaction. What a kill leaves between the two belongs to nobody and is swept up later.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load
from safetensors.numpy import save as to_bytes

from attnviz.errors import InputError, StoreError

MOST_ARRAYS = 1_000
_KINDS = "fiub"  # floats, whole numbers, yes or no
_LEFT_SECONDS = 24 * 3600

Arrays = dict[str, npt.NDArray[Any]]


def packed(arrays: Mapping[str, npt.NDArray[Any]], most_bytes: int) -> bytes:
    """The arrays as one safetensors file; InputError for what it cannot hold, or more than `most_bytes`."""
    if not 1 <= len(arrays) <= MOST_ARRAYS:
        raise InputError(f"A finding keeps 1 to {MOST_ARRAYS:,} arrays; got {len(arrays):,}.")
    ready = {}
    for name, array in arrays.items():
        if not isinstance(name, str) or not 1 <= len(name) <= 200 or name == "__metadata__" or not _plain(name):
            raise InputError("An array's name is a text of 1 to 200 characters, and not '__metadata__'. Rename it.")
        if not isinstance(array, np.ndarray) or array.dtype.kind not in _KINDS or array.dtype.itemsize > 8:
            got = getattr(array, "dtype", type(array).__name__)
            raise InputError(f"Array {name!r} must be numpy's, of numbers of at most 8 bytes or bools; got {got}.")
        ready[name] = array
    size = sum(array.nbytes for array in ready.values())
    if size > most_bytes:
        raise InputError(
            f"These arrays take {size / 1e6:,.1f} MB, and a finding keeps at most {most_bytes / 1e6:,.1f} MB. Keep "
            "fewer of them, or in half precision."
        )
    return to_bytes({name: np.array(a, a.dtype.newbyteorder("="), order="C") for name, a in ready.items()})


def write_whole(folder: Path, finding: str, data: bytes) -> tuple[str, str]:
    """Write a new file; returns its name and SHA-256. StoreError where it cannot be, and then nothing is left."""
    digest = hashlib.sha256(data).hexdigest()
    path = folder / f"{finding}-{secrets.token_hex(8)}.safetensors"
    partial = path.with_suffix(".partial")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with open(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
            _flush(folder)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"The arrays could not be written: {error.strerror or type(error).__name__}. Make room on the disk, check "
            "that the folder beside the database can be written to, and save again. What was kept before is as it was."
        ) from error
    return path.name, digest


def read_whole(path: Path, sha256: str, nbytes: int) -> Arrays:
    """The arrays of a file, once its length and hash are those that the database knows.

    raises   FileNotFoundError where it is not there; StoreError where it is not what was written
    """
    try:
        if path.stat().st_size == nbytes:
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() == sha256:
                return load(data)
    except FileNotFoundError:
        raise
    except (OSError, SafetensorError) as error:
        raise StoreError(f"This finding's arrays cannot be read: {type(error).__name__}. Check the disk.") from error
    raise StoreError(
        "This finding's arrays are not what was written: the file is torn or was changed. Bring it back from a backup, "
        "or save the arrays again."
    )


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files that the database does not name any more; one that cannot be is swept up later."""
    for name in names:
        with suppress(OSError):
            (folder / name).unlink()


def sweep(folder: Path, known: Iterable[str]) -> None:
    """Remove what kills left: files that no finding knows, a day old, so that none is being saved right now."""
    kept, old = set(known), time.time() - _LEFT_SECONDS
    for path in folder.glob("*"):
        if path.suffix in (".safetensors", ".partial") and path.name not in kept:
            with suppress(OSError):  # another process sweeps too
                if path.stat().st_mtime < old:
                    path.unlink()


def _plain(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _flush(folder: Path) -> None:
    """The folder's own entry, so that the rename outlives a power cut; only POSIX opens folders."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
