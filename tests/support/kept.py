"""What tests make at some cost: made once for all processes of a run, and kept in ``.cache/tests`` for the next."""

import functools
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from filelock import FileLock

from serving.settings import ROOT

FOLDER = ROOT / ".cache" / "tests"
NEWEST = 2  # hashes of each kind that are kept
SOURCES = ("handlers", "serving", "training", "tests/support/training")  # that a trained archive is made from


def keep(kind: str, key: str, name: str, make: Callable[[Path], None], folder: Path = FOLDER) -> Path:
    """Return a folder that is made once for one key, by whichever process asks for it first.

    Args:
        kind: such as ``trained``; older keys of a kind are removed.
        key: hash of all that the content follows from.
        name: of the folder, below its kind and key.
        make: fills the folder, which is there and empty; what it raises is raised, and nothing is kept.
        folder: of all that is kept.
    """
    current = folder / kind / key
    current.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / kind / "lock"):
        now = time.time_ns()
        os.utime(current, ns=(now, now))
        others = [path for path in current.parent.iterdir() if path.is_dir() and path != current]
        for old in sorted(others, key=lambda path: -path.stat().st_mtime_ns)[NEWEST - 1 :]:
            shutil.rmtree(old)
    content, whole = current / name, current / f"{name}.whole"
    with FileLock(current / f"{name}.lock"):
        if not whole.exists():
            shutil.rmtree(content, ignore_errors=True)  # what a killed process left
            content.mkdir()
            make(content)
            whole.touch()
    return content


@functools.cache
def sources() -> str:
    """Return the hash of all that a trained archive follows from: our sources, and what is installed."""
    digest = hashlib.sha256(sys.version.encode())
    for installed in sorted({f"{one.name}=={one.version}" for one in metadata.distributions()}):
        digest.update(installed.encode())
    for path in _files():
        digest.update(str(path.relative_to(ROOT)).encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _files() -> Iterator[Path]:
    for source in SOURCES:
        for path in sorted((ROOT / source).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path
