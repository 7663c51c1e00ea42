"""The file of a SQLite database: checks that it is whole, backups while it is in use, and their restoration."""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

MAGIC = b"SQLite format 3\x00"  # "Database File Format", 1.3
NO_DATABASE = "it is no database of SQLite"
LOCKED = 5.0  # s that a check or a copy waits for a writer
_STAMP = "%Y%m%dT%H%M%S%fZ"


@dataclass(frozen=True)
class Backup:
    """A copy of the database; the size is in bytes."""

    path: Path
    time: datetime
    size: int


class FileFault(Exception):  # noqa: N818
    """A database's file is damaged, or cannot be copied; the message says why."""


def lock_of(file: Path) -> FileLock:
    """Return the lock to hold while a database is opened for the first time, or replaced by a copy."""
    return FileLock(file.with_name(f"{file.name}.lock"))


def fault_of(file: Path) -> str | None:
    """Return what is wrong with a file that this process has not opened; None if nothing is, or there is none yet.

    Closing a file drops SQLite's locks on it in the whole process ("How To Corrupt An SQLite Database File", 2.2): use
    ``pages_fault`` for one that this process has open.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(len(MAGIC))
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if not head:
        return None  # SQLite's file before its first table
    return pages_fault(file) if head == MAGIC else NO_DATABASE


def pages_fault(file: Path) -> str | None:
    """Return what is wrong with the pages of a database, None if nothing is; takes a second for some hundred MB."""
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=LOCKED)) as connection:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return None  # another process has locked it, and nothing can be said
        return f"it cannot be read: {error}"
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if verdict == "ok" else " ".join(str(verdict).split())


class Backups:
    """Copies of one database in a folder beside it.

    Args:
        most: number of copies that are kept, the newest.
    """

    def __init__(self, file: Path, most: int) -> None:
        self.file, self._most = file, most
        self.folder = file.with_name("backups")

    def list(self) -> list[Backup]:
        """Return the copies, newest first."""
        backups = []
        for path in self.folder.glob(f"{self.file.stem}-*Z.db"):
            with contextlib.suppress(ValueError, FileNotFoundError):
                time = datetime.strptime(path.stem.removeprefix(f"{self.file.stem}-"), _STAMP).replace(tzinfo=UTC)
                backups.append(Backup(path, time, path.stat().st_size))
        return sorted(backups, key=lambda backup: backup.time, reverse=True)

    def make(self, now: datetime) -> Backup:
        """Copy the database while others use it, check the copy, and remove the oldest ones.

        Raises:
            FileFault: the database or the copy is damaged, or the disk is too full; the other copies stay.
        """
        if fault := pages_fault(self.file):
            raise FileFault(f"no backup is made of {self.file}: {fault}")
        self.folder.mkdir(mode=0o700, exist_ok=True)
        needed, free = 2 * self.file.stat().st_size, shutil.disk_usage(self.folder).free
        if free < needed:
            raise FileFault(f"no backup is made: {free / 1e6:,.0f} MB are free, {needed / 1e6:,.0f} MB are needed")
        path = self.folder / f"{self.file.stem}-{now.astimezone(UTC).strftime(_STAMP)}.db"
        draft = path.with_suffix(".part")
        try:
            _copy(self.file, draft)
            if fault := fault_of(draft):
                raise FileFault(f"the backup of {self.file} is damaged: {fault}")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        for old in self.list()[self._most :]:
            old.path.unlink(missing_ok=True)
        return Backup(path, now, path.stat().st_size)

    def newest_good(self) -> Backup | None:
        """Return the newest copy that is whole; None if there is none."""
        return next((backup for backup in self.list() if fault_of(backup.path) is None), None)

    def restore(self, backup: Path, now: datetime) -> Path | None:
        """Put a copy in the place of the database, which is kept beside it.

        Returns:
            The path of the former database; None if there was none.

        Raises:
            FileFault: the copy is damaged, or there is none.
        """
        if not backup.exists():
            raise FileFault(f"there is no backup {backup}")
        if fault := fault_of(backup):
            raise FileFault(f"{backup} is damaged too: {fault}")
        draft = self.file.with_name(f"{self.file.name}.restored")
        shutil.copyfile(backup, draft)
        draft.chmod(0o600)
        former = None
        with lock_of(self.file):
            mark = f"damaged-{now.astimezone(UTC).strftime(_STAMP)}"
            for path in _files(self.file):  # also the log: it must not be applied to the copy
                former = former or self.file.with_name(f"{self.file.name}.{mark}")
                path.rename(path.with_name(path.name.replace(self.file.name, f"{self.file.name}.{mark}", 1)))
            draft.rename(self.file)
        return former


def _copy(source: Path, target: Path) -> None:
    """Copy by SQLite's own means, page by page, including its log ("SQLite Backup API")."""
    target.unlink(missing_ok=True)
    target.touch(mode=0o600)
    try:
        with (
            contextlib.closing(sqlite3.connect(source, timeout=LOCKED)) as old,
            contextlib.closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new)
            new.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
    except sqlite3.Error as error:
        raise FileFault(f"no backup is made of {source}: {error}") from None


def _files(file: Path) -> Iterator[Path]:
    for path in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
        if path.exists():
            yield path


class WatchedFile:
    """Checks a file that is in use: cheaply before each write, and every page now and then.

    Args:
        file: must exist.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._opened = os.open(file, os.O_RDONLY)  # open as long as there are connections, see ``fault_of``
        status = os.fstat(self._opened)
        self._inode, self._size = status.st_ino, status.st_size
        self.fault = ""

    def glance(self) -> str:
        """Return what is wrong with the file's place, size or first bytes; empty if nothing is."""
        self.fault = self.fault or self._glance()
        return self.fault

    def look(self) -> str:
        """Check every page of the file, and return what is wrong; empty if nothing is."""
        self.fault = self.glance() or pages_fault(self.file) or ""
        return self.fault

    def close(self) -> None:
        """Close the file; no connection to the database may be open any more."""
        os.close(self._opened)

    def _glance(self) -> str:
        try:
            status = self.file.stat()
        except FileNotFoundError:
            return "it was removed"
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        if status.st_ino != self._inode:
            return "another file took its place"
        if status.st_size < self._size:  # it never shrinks: nothing here vacuums it
            return f"it was cut from {self._size:,} to {status.st_size:,} bytes"
        self._size = status.st_size
        return "" if os.pread(self._opened, len(MAGIC), 0) == MAGIC else NO_DATABASE
