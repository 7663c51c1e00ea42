"""Draws of blocks (Künsch 1989, The Jackknife and the Bootstrap for General Stationary Observations).

Neighbours in time are alike: intervals from draws of single rows would be far too narrow. Stretches of time are drawn
instead, with replacement. The dependence must not reach much further than a block.
"""

import functools

import numpy as np
from numpy.typing import NDArray

BLOCKS = 50  # stretches of time; with fewer rows, each row is a stretch
RESAMPLES = 1000


def blocks_of(rows: int) -> NDArray[np.int64]:
    """Return the block of each row, for rows in order of time; the lengths of blocks differ by one row at most."""
    return np.arange(rows) * min(BLOCKS, rows) // max(1, rows)


@functools.lru_cache(maxsize=4)  # drawing takes ten times as long as measuring
def draws_of(blocks: int) -> NDArray[np.int64]:
    """Return the count of each block in each draw, ``(RESAMPLES, blocks)``, read-only; the same at every call."""
    draws = np.random.default_rng(0).multinomial(blocks, np.full(blocks, 1 / blocks), RESAMPLES)
    draws.setflags(write=False)
    return draws
