"""Draws of blocks (Künsch 1989, The Jackknife and the Bootstrap for General Stationary Observations).

Neighbours in time are alike, so that stretches of time are drawn anew, with replacement, not single rows, of which the
intervals would be far too narrow. How alike must not reach much further than a block.
"""

import functools

import numpy as np
from numpy.typing import NDArray

BLOCKS = 50  # stretches of time that are drawn; with fewer rows, each row is one
RESAMPLES = 1000


def blocks_of(rows: int) -> NDArray[np.int64]:
    """The block of each row, of rows in order of time: blocks of the same length, but for one row."""
    return np.arange(rows) * min(BLOCKS, rows) // max(1, rows)


@functools.lru_cache(maxsize=4)  # to draw takes ten times as long as to measure
def draws_of(blocks: int) -> NDArray[np.int64]:
    """How often each block is drawn, ``(RESAMPLES, blocks)``, read-only; the same for the same count of blocks."""
    draws = np.random.default_rng(0).multinomial(blocks, np.full(blocks, 1 / blocks), RESAMPLES)
    draws.setflags(write=False)
    return draws
