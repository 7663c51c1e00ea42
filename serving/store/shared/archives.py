"""The archives of a model store at a URL, each under the name of its SHA-256.

A version's archive lies at ``URL/flights-1.1/<sha256>.mar``. What has this name is never another file. So writers at
once, and one that was taken for dead, replace nothing. Its signature lies beside it, as ``<sha256>.mar.sig``.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from serving.store.faults import ArchiveError, reason, shown
from serving.store.fetching import PART, download, fetch, file_sha256

SIGNATURE = ".sig"  # behind an archive's name
FETCHED = "fetched"  # folder of this machine for what is under way
_LOCAL = "file://"


def signature_of(archive: Path) -> Path:
    """Return the path of an archive's signature."""
    return archive.with_name(archive.name + SIGNATURE)


def fetch_signature(url: str, path: Path) -> None:
    """Put the signature of an archive at a URL, if it has one, beside the archive on this machine, in place of another.

    Raises:
        ArchiveError: it cannot be read.
        OSError: likewise, or it cannot be kept.
    """
    signature, (address, mark, query) = signature_of(path), url.partition("?")
    descriptor, name = tempfile.mkstemp(PART, ".", path.parent)
    os.close(descriptor)
    try:
        download(f"{address}{SIGNATURE}{mark}{query}", Path(name))
        Path(name).replace(signature)
    except FileNotFoundError:  # it has none
        signature.unlink(missing_ok=True)
    finally:
        Path(name).unlink(missing_ok=True)


class SharedArchives:
    """The archives below a URL that fsspec knows, such as ``s3://bucket/models`` or ``file:///mnt/models``."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def location(self, archive: str, sha256: str) -> str:
        """Return the URL of an archive, for ``fetch`` on any machine."""
        return f"{self.url}/{Path(archive).stem}/{sha256}.mar"

    def bring(self, path: Path, sha256: str) -> None:
        """Put an archive, and its signature if it has one, at a path of this machine.

        Raises:
            ArchiveError: it is not in the store, cannot be read or kept, or has another SHA-256.
        """
        folder = path.parent / FETCHED
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"{path.name}.lock"):  # of eight processes, one fetches it
                if path.is_file() and file_sha256(path) == sha256:
                    return
                url = self.location(path.name, sha256)
                archive = fetch(url, sha256, folder)
                fetch_signature(url, path)
                archive.replace(path)
        except OSError as error:
            raise ArchiveError(f"{path} cannot be fetched: {reason(error)}") from error

    def bring_signature(self, path: Path, sha256: str) -> None:
        """Put an archive's signature, if it has one, beside it on this machine, in place of a former one.

        Raises:
            ArchiveError: it cannot be read or kept.
        """
        try:
            fetch_signature(self.location(path.name, sha256), path)
        except OSError as error:
            raise ArchiveError(f"the signature of {path} cannot be fetched: {reason(error)}") from error

    def upload(self, path: Path, sha256: str) -> None:
        """Put an archive of this machine into the store, and its signature if it has one.

        Raises:
            ArchiveError: it cannot be read or written, or has another SHA-256.
        """
        with self._explained(f"{path} cannot be put into {shown(self.url)}"):
            if file_sha256(path) != sha256:
                raise ArchiveError(f"{path} is not the archive that is to be registered, whose SHA-256 is {sha256}")
            self._write(path, self.location(path.name, sha256))
        if signature_of(path).is_file():
            self.upload_signature(path, sha256)

    def upload_signature(self, path: Path, sha256: str) -> None:
        """Put the signature of an archive of this machine beside the one in the store.

        Raises:
            ArchiveError: it cannot be read or written.
        """
        with self._explained(f"the signature of {path} cannot be put into {shown(self.url)}"):
            self._write(signature_of(path), self.location(path.name, sha256) + SIGNATURE)

    def size(self, archive: str, sha256: str) -> int | None:
        """Return the bytes of an archive; None if it is not there.

        Raises:
            ArchiveError: the store does not answer, or refuses.
        """
        url = self.location(archive, sha256)
        with self._explained(f"{shown(url)} cannot be read"), contextlib.suppress(FileNotFoundError):
            if url.startswith(_LOCAL):
                return Path(url.removeprefix(_LOCAL)).stat().st_size
            filesystem, inner = _filesystem(url)
            return int(filesystem.info(inner)["size"])
        return None

    def discard(self, archive: str) -> None:
        """Remove all files of a version; one that has none is no error.

        Raises:
            ArchiveError: the store does not answer, or refuses.
        """
        url = f"{self.url}/{Path(archive).stem}"
        with self._explained(f"{shown(url)} cannot be removed"), contextlib.suppress(FileNotFoundError):
            if url.startswith(_LOCAL):
                shutil.rmtree(url.removeprefix(_LOCAL))
            else:
                filesystem, inner = _filesystem(url)
                filesystem.rm(inner, recursive=True)

    def _write(self, path: Path, url: str) -> None:
        """Copy a file of this machine to a URL, at which it appears whole."""
        if not url.startswith(_LOCAL):
            filesystem, inner = _filesystem(url)
            filesystem.put_file(str(path), inner)
            return
        target = Path(url.removeprefix(_LOCAL))
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(PART, ".", target.parent)
        os.close(descriptor)
        try:
            shutil.copyfile(path, name)
            Path(name).replace(target)
        finally:
            Path(name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turn exceptions of a file system into ``ArchiveError``; that a file is not there stays for the block."""
        try:
            yield
        except ArchiveError:
            raise
        except Exception as error:  # each file system has exceptions of its own
            raise ArchiveError(f"{what}: {reason(error)}") from error


def _filesystem(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and the path in it.

    Raises:
        ArchiveError: a package is missing.
    """
    try:
        from fsspec.core import url_to_fs  # an extra

        filesystem, inner = url_to_fs(url, use_listings_cache=False)  # others write meanwhile
    except ImportError as error:
        raise ArchiveError(f"{shown(url)} cannot be used: {error}; `pip install -e '.[s3]'` brings s3://") from error
    return filesystem, str(inner)
