"""Running out of memory, said plainly, with what was cached released."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from attnviz.errors import OutOfMemory


@contextmanager
def plain_out_of_memory(device: torch.device) -> Iterator[None]:
    """Turn running out of memory into an error that says so, with what was cached released."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise
        release_memory(error)
        raise OutOfMemory(
            f"There is not enough memory on {device} for this text. Shorten it, choose a smaller model, or load the "
            'model with device="cpu".'
        ) from None


def release_memory(error: BaseException | None = None) -> None:
    """Give unused memory back to the device, what the frames of a failed call still hold included."""
    if error is not None:
        traceback.clear_frames(error.__traceback__)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
