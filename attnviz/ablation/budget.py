"""How much memory the rows of a sweep take, worked out before one is run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from attnviz.errors import InputError

_CPU_BYTES = 10**9
_CPU_POSITIONS, _GPU_POSITIONS = 1024, 2**16
_STATES, _WIDEST = 7, 5  # how many tensors of each width a layer holds at once, at most
_WORKSPACE = 48_000_000  # what matrix libraries and allocators hold besides


@dataclass(frozen=True)
class Budget:
    """What a sweep takes: `fixed` bytes whatever runs, the clean run's states among them, and `row` bytes for each row.

    rows    how many rows run at once
    total   bytes, of all of it
    """

    fixed: int
    row: int
    rows: int

    @property
    def total(self) -> int:
        return self.fixed + self.row * self.rows

    @classmethod
    def of(
        cls,
        modules: Iterable[nn.Module],
        *,
        width: int,
        vocabulary: int,
        positions: int,
        n_heads: int,
        scores: bool,
        fixed: int,
        logits: int,
        device: torch.device,
        size: int,
        memory: int | None,
        piece: int | None,
    ) -> Budget:
        """
        width      of the states, d_model
        vocabulary tables of so many rows are no layer's
        positions  of one row, both sides of an encoder-decoder together
        fixed      bytes kept for all of the sweep
        scores     whether attention holds all its scores (eager)
        logits     numbers that are held to score one row
        size       bytes of a number
        raises     InputError where not even one row fits
        """
        for name, value in (("memory", memory), ("piece", piece)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InputError(f"{name} is a whole number, at least 1, or None; got {value!r}.")
        shapes = {p.shape for module in modules for p in module.parameters() if p.dim() > 1}
        widest = max((max(shape[-2:]) for shape in shapes if vocabulary not in shape), default=width)
        row = size * positions * (_STATES * width + _WIDEST * widest)
        row += 3 * size * n_heads * positions**2 * scores + 2 * 4 * logits
        fixed += _WORKSPACE
        if memory is None:
            memory = max(fixed + row, torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else _CPU_BYTES)
        if fixed + row > memory:
            raise InputError(
                f"One row of this sweep takes {(fixed + row) / 1e6:,.1f} MB and memory allows {memory / 1e6:,.1f}: "
                "allow more, or shorten the text."
            )
        most = piece or (_CPU_POSITIONS if device.type == "cpu" else _GPU_POSITIONS)
        return cls(fixed, row, max(1, min(most // positions, (memory - fixed) // row)))
