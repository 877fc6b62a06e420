"""Memory of a server: large blocks that go back when they are freed, and running out of it said plainly."""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from attnviz.errors import OutOfMemory


def use_large_pages() -> None:
    """Have torch put large tensors of the CPU on pages of their own; to be called before the first one is made.

    Model runs of an app stand in threads, each with a heap of its own, where what a run frees between what it keeps is
    not given back: recording 2,048 tokens of SmolLM2 took two to three times the memory that it takes in the main
    thread. On whole pages it takes the same, at the same speed (docs/FIGURES.md). Elsewhere than on Linux, nothing.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


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
