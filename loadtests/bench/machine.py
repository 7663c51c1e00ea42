"""What a benchmark ran on."""

import os
import platform

import psutil

from training.figures.machine import processor


def machine() -> dict[str, str]:
    """Processor, cores, memory, system and Python."""
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.freedesktop_os_release().get('PRETTY_NAME', 'Linux')}, kernel {platform.release()}",
        "python": platform.python_version(),
    }
