"""Fetches an archive by its URL into a folder of this machine, once its SHA-256 is the one that was asked for.

It imports no handlers, so that a process may call it before it knows whose it will run, and no package until a URL
needs one.
"""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

from serving.store.faults import ArchiveError, reason, shown

PART = ".part"  # ends the name of a file that is being fetched
ABANDONED = 86_400.0  # s after which such a file has no writer any more
_SHA256 = re.compile(r"[0-9a-f]{64}")


def fetch(url: str, sha256: str, cache: Path) -> Path:
    """Return the file of a cache that has this SHA-256; it is fetched unless it is there.

    Many processes may call it at once: a file appears whole, by its new name, and is never changed afterwards.

    Args:
        url: of the file: a path, or any URL that fsspec knows, such as ``s3://bucket/flights-1.0.mar``.
        sha256: hexadecimal, in lower case.
        cache: a folder; it is made. Whoever can write to it decides what is served.

    Returns:
        ``cache/<sha256>.mar``.

    Raises:
        ArchiveError: the file is not there, cannot be read or kept, or is another one; nothing was added.
    """
    if not _SHA256.fullmatch(sha256):
        raise ArchiveError(f"{sha256!r} is no SHA-256, which has 64 digits of 0-9 and a-f")
    target = cache / f"{sha256}.mar"
    with contextlib.suppress(OSError):
        if file_sha256(target) == sha256:  # a disk can lose bits silently
            return target
    part = _part(cache)
    try:
        download(url, part)
        size, found = part.stat().st_size, file_sha256(part)
        if found != sha256:
            raise ArchiveError(f"{shown(url)} has {size:,} bytes with SHA-256 {found}, but {sha256} was asked for")
        part.replace(target)
    except OSError as error:
        raise ArchiveError(f"{shown(url)} cannot be fetched to {cache}: {reason(error)}") from error
    finally:
        part.unlink(missing_ok=True)
    return target


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _part(cache: Path) -> Path:
    """Make an empty file of this process's own in the cache, and remove what killed ones left there long ago."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for former in cache.glob(f".*{PART}"):
            with contextlib.suppress(OSError):
                if time.time() - former.stat().st_mtime > ABANDONED:
                    former.unlink()
        descriptor, name = tempfile.mkstemp(PART, ".", cache)
        os.close(descriptor)
    except OSError as error:
        raise ArchiveError(f"no archive can be kept in {cache}: {error.strerror}") from error
    return Path(name)


def download(url: str, target: Path) -> None:
    """Write a file's content into another one, which is there.

    Raises:
        ArchiveError: it cannot be read.
        OSError: likewise, or the other one cannot be written.
    """
    path = url.removeprefix("file://")
    if "://" not in path:
        shutil.copyfile(path, target)
        return
    try:
        from fsspec.core import url_to_fs  # an extra

        filesystem, inner = url_to_fs(url)
        filesystem.get_file(inner, str(target))
    except ImportError as error:
        raise ArchiveError(f"{shown(url)} cannot be fetched: {error}; `pip install -e '.[s3]'` reads s3://") from error
    except OSError:
        raise
    except Exception as error:  # each file system has exceptions of its own
        raise ArchiveError(f"{shown(url)} cannot be fetched: {reason(error)}") from error
