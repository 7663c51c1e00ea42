"""The machine of a measurement, to stand beside its figures."""

import importlib.metadata
import os
import platform
from pathlib import Path

import psutil


def machine() -> str:
    """Describe processor, cores that this process may use, Python and torch, in a line."""
    cores = len(os.sched_getaffinity(0))
    torch = importlib.metadata.version("torch").partition("+")[0]
    return f"{processor()}, {cores} cores, Python {platform.python_version()}, torch {torch}"


def details() -> dict[str, str]:
    """Describe processor, all cores, memory, system and Python, each by itself."""
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.freedesktop_os_release().get('PRETTY_NAME', 'Linux')}, kernel {platform.release()}",
        "python": platform.python_version(),
    }


def processor() -> str:
    """Return the processor's name, or its architecture where the system does not name it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
