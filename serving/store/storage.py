"""Where a registry's content lies: in a folder of one machine, or in a store that several machines share."""

import contextlib
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from serving import documents
from serving.documents import write_atomically
from serving.store.faults import ArchiveError
from serving.store.registry_file import RESTORE, Content, Document, parse_content
from serving.store.shared.interface import Change
from serving.store.shared.origin import Origin

logger = logging.getLogger(__name__)
FILE = "registry.json"
BACKUP = "registry.json.bak"
MARK = "copy_of.json"  # in a folder that is the copy of a shared store: which one


def store_of(folder: Path) -> str:
    """Return the URL of the shared store that a folder has a copy of; empty where it is a store itself."""
    return str((documents.read_kept(folder / MARK, dict[str, str]) or {}).get("store", ""))


def mark(folder: Path, url: str) -> None:
    """Note which shared store a folder has a copy of; the copy of another one goes."""
    if store_of(folder) != url:
        (folder / FILE).unlink(missing_ok=True)
        documents.write_json(folder / MARK, {"store": url})


class Storage(Protocol):
    """Content of a registry."""

    @property
    def place(self) -> str:
        """The file's path or URL, for messages."""

    def read(self) -> Content:
        """Read it; empty where nothing was registered yet.

        Raises:
            ArchiveError: it is damaged or cannot be read.
        """

    def locked(self) -> AbstractContextManager[None]:
        """Keep others from changing it within the block.

        Raises:
            ArchiveError: it cannot be changed from here.
        """

    def write(self, content: bytes, is_whole: bool) -> None:
        """Replace it; only within ``locked``.

        Args:
            is_whole: whether no entry of it is damaged.

        Raises:
            ArchiveError: another one changed it meanwhile; nothing has changed.
            OSError: it cannot be written; nothing has changed.
        """

    def lay_out(self) -> None:
        """Write the content, damaged or not, to the folder of this machine; only within ``locked``."""


class FolderStorage:
    """A file in a folder, with a copy beside it.

    Args:
        store: it is made when something is first written.
    """

    def __init__(self, store: Path) -> None:
        self._store, self._path, self._backup = store, store / FILE, store / BACKUP

    @property
    def place(self) -> str:
        """See ``Storage``."""
        return str(self._path)

    def read(self) -> Content:
        """See ``Storage``."""
        try:
            return parse_content(self._path.read_bytes(), self.place)
        except FileNotFoundError:
            if self._backup.is_file():
                if self._path.is_file():  # it was written for the first time meanwhile
                    return self.read()
                raise ArchiveError(f"{self._path} is not there; {self._way_back()}") from None
            return Content(Document(), {}, {})
        except (PermissionError, NotADirectoryError) as error:
            way = f"make {self._store} a folder that this user can read, or name another one by MARLOOP_MODEL_STORE"
            raise ArchiveError(f"{self._path} cannot be read ({error.strerror}): {way}") from error
        except (OSError, ValueError) as error:
            raise ArchiveError(f"{self._path} is damaged: {error}; {self._way_back()}") from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """See ``Storage``."""
        if store := store_of(self._store):
            raise ArchiveError(f"{self._store} is a copy of {store}: set MARLOOP_MODEL_STORE to {store} to change it")
        self._store.mkdir(parents=True, exist_ok=True)
        with FileLock(self._store / "registry.lock"):
            yield

    def write(self, content: bytes, is_whole: bool) -> None:
        """See ``Storage``."""
        write_atomically(self._path, content, private=True)
        if not is_whole:
            return  # the copy still has these entries whole
        try:
            write_atomically(self._backup, content, private=True)
        except OSError as error:
            logger.warning("%s is written, but its copy %s is the former one: %s", self._path, self._backup, error)

    def lay_out(self) -> None:
        """See ``Storage``: it is there."""

    def _way_back(self) -> str:
        if self._backup.is_file():
            time = datetime.fromtimestamp(self._backup.stat().st_mtime, UTC).isoformat(timespec="seconds")
            return f"the last good copy is {self._backup}, of {time}: `{RESTORE}` puts it back"
        return f"there is no copy of it: `{RESTORE}` makes a new one from what the archives say"


class OriginStorage:
    """The registry of a shared store.

    Args:
        store: folder of this machine that has a copy.
    """

    def __init__(self, store: Path, origin: Origin) -> None:
        self._store, self._origin = store, origin
        self._change: Change | None = None

    @property
    def place(self) -> str:
        """See ``Storage``."""
        return f"{self._origin.url}/{FILE}"

    def read(self) -> Content:
        """See ``Storage``."""
        content = self._origin.content()
        if content is None:
            return Content(Document(), {}, {})
        try:
            return parse_content(content, self.place)
        except ValueError as error:
            way = f"`{RESTORE}` mends it from what this machine last saw of it, or from the archives here"
            raise ArchiveError(f"{self.place} is damaged: {error}; {way}") from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """See ``Storage``: processes of this machine queue up at a file first."""
        self._store.mkdir(parents=True, exist_ok=True)
        with FileLock(self._store / "registry.lock"), self._origin.changing() as self._change:
            yield

    def write(self, content: bytes, is_whole: bool) -> None:
        """See ``Storage``."""
        if self._change is None:
            raise RuntimeError("a registry is written only within `locked`")
        self._change.write(content)

    def lay_out(self) -> None:
        """See ``Storage``."""
        mark(self._store, self._origin.url)
        if self._change and self._change.content is not None:
            write_atomically(self._store / FILE, self._change.content, private=True)
        else:
            (self._store / FILE).unlink(missing_ok=True)
