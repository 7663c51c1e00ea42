"""How many cores this process may use."""

import math
import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2: microseconds of a period, or "max"


def available_cores(quota: Path = QUOTA) -> int:
    """Return the cores that the system schedules it on, or fewer where a container's limit allows fewer.

    More threads than that wait for each other until the next period begins.

    Args:
        quota: file with the limit; there need be none.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        allowed, _, period = quota.read_text().partition(" ")
        return max(1, min(cores, math.ceil(int(allowed) / int(period))))
    except (OSError, ValueError):  # no such file, or no limit
        return cores
