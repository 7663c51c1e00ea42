"""The folder of the workers' metrics. Where it is full, missing or read-only, a worker serves without metrics.

prometheus_client maps sparse files into memory. Where the disk is full when a value is first written, the kernel ends
the process (SIGBUS). So the room is taken before.
"""

import contextlib
import fcntl
import logging
import os
import struct
from pathlib import Path
from typing import TextIO

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

from handlers.contract import ModelContract

logger = logging.getLogger(__name__)
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's
FILES = ("counter", "histogram", "gauge_liveall", "gauge_livemax", "gauge_livesum")  # of a worker
ROOM = 64 * 1024  # bytes of each; the largest so far held 28 KB
ROOM_PER_LABEL = 512
LARGEST = 64 * 1024 * 1024  # bytes of a file; no worker comes near


def hold_folder(folder: Path, contract: ModelContract) -> TextIO | None:
    """Take room for this worker's metrics, before any metric is made; where there is none, log it and use memory.

    Returns:
        A lock that shows that the worker lives, as long as it is open; None where it could not be written.
    """
    lock: TextIO | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = hold_lock(folder)
        for path in _files(folder):
            _take_room(path, ROOM + ROOM_PER_LABEL * len(contract.labels))
    except OSError as error:
        # prometheus_client looks this attribute up whenever a metric is made.
        setattr(values, "ValueClass", values.MutexValue)  # noqa: B010
        for path in _files(folder):
            with contextlib.suppress(OSError):
                path.unlink()
        fields = {"model": contract.name, "version": contract.version}
        logger.error("serving without metrics: %s", error, extra={"fields": fields})
    return lock


def hold_lock(directory: Path) -> TextIO:
    """Hold a lock on ``<pid>.lock`` as long as this worker lives.

    Unlike a process id the lock is right across containers, and when a number is used again.
    """
    path = directory / f"{os.getpid()}.new"
    file = path.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    path.replace(path.with_suffix(".lock"))  # visible only once it is held
    return file


def check_values(path: Path) -> None:
    """Raise an error of any kind unless a file of metrics is whole.

    Raises:
        FileNotFoundError: there is none.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        (used,) = struct.unpack("=i", file.read(4))
    if not 0 <= used <= size <= LARGEST:
        raise ValueError(f"it has {size} bytes and says that {used} are used")
    for _ in MmapedDict.read_all_values_from_file(str(path)):
        pass


def _files(folder: Path) -> list[Path]:
    return [folder / f"{name}_{os.getpid()}.db" for name in FILES]


def _take_room(path: Path, size: int) -> None:
    """Fill a file up with zeros, which count as empty; whole counts of a process of the same number stay."""
    try:
        check_values(path)
    except FileNotFoundError:
        pass
    except Exception as error:
        logger.warning("%s is damaged and made anew: %s", path, error)
        path.unlink()
    with path.open("ab") as file:
        file.write(bytes(max(0, size - file.tell())))
