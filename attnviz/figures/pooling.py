"""Maps too large to draw cell by cell: the largest value of each block, so that thin lines survive."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

Block = tuple[int, int]
Map = npt.NDArray[np.float32]


def block_of(shape: tuple[int, int], most: int) -> Block:
    """The smallest block, (rows, columns), that leaves at most `most` blocks a side."""
    return -(-shape[0] // most) or 1, -(-shape[1] // most) or 1


def largest_of_blocks(
    values: npt.NDArray[np.float32], block: Block, *, signed: bool = False
) -> npt.NDArray[np.float32]:
    """[row, col] -> [row block, col block]: the largest of each block; NaN only where all of it is NaN.

    signed   the value furthest from zero, for differences
    Blocks at the lower and right edge may be smaller.
    """
    if block == (1, 1):
        return values
    rows, cols = values.shape
    row_block, col_block = block
    padded = np.pad(values, ((0, -rows % row_block), (0, -cols % col_block)), constant_values=np.nan)
    blocks = padded.reshape(padded.shape[0] // row_block, row_block, padded.shape[1] // col_block, col_block)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a block of NaN alone is NaN, and that is meant
        high = np.nanmax(blocks, axis=(1, 3))
        if not signed:
            return high
        low = np.nanmin(blocks, axis=(1, 3))
    return np.where(np.abs(low) > np.abs(high), low, high)
