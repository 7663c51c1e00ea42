"""How fast the machine reads its memory, which bounds how fast a token can be: each needs all weights once."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

SIZE = 256 * 2**20  # bytes a core, more than its caches hold
REPEATS = 8


def read_bandwidth() -> float:
    """Bytes a second that all cores together read in a row, the best of several times."""
    cores = len(os.sched_getaffinity(0))
    arrays = [np.ones(SIZE // 8, np.int64) for _ in range(cores)]
    best = 0.0
    with ThreadPoolExecutor(cores) as threads:
        for _ in range(REPEATS):
            started = time.perf_counter()
            list(threads.map(np.max, arrays))
            best = max(best, SIZE * cores / (time.perf_counter() - started))
    return best
