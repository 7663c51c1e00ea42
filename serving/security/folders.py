"""Folders that are ours alone: their files are run or trusted, so that nobody else may put anything into them."""

import os
import pwd
import stat
from pathlib import Path

from serving.settings import ROOT, Settings

PRIVATE = 0o700


class FolderError(Exception):
    """A folder may belong to another user; the message says to whom, and what to do."""


def make_private(folder: Path) -> None:
    """Make a folder with a predictable name below one that others can write to, such as ``/tmp``, or take it over.

    Raises:
        FolderError: it is not ours alone.
        OSError: it cannot be made.
    """
    folder.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=PRIVATE)
    except FileExistsError:
        check_private(folder)
    folder.chmod(PRIVATE)  # whatever the umask has taken away


def check_private(folder: Path) -> None:
    """Raise unless a folder is missing, or is ours and nobody else can write into it or replace it.

    Raises:
        FolderError: it is not ours alone.
    """
    try:
        status = folder.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    remedy = "remove it, or set TMPDIR to a folder of your own"
    if not stat.S_ISDIR(status.st_mode):
        raise FolderError(f"{folder} is no folder but a {_kind(status.st_mode)}, which may lead anywhere: {remedy}")
    if status.st_uid != os.geteuid():
        raise FolderError(f"{folder} belongs to {_user(status.st_uid)}, whose code would run as ours: {remedy}")
    if status.st_mode & stat.S_IWOTH:
        raise FolderError(f"every user can write into {folder}, so that their code would run as ours: {remedy}")
    for parent in folder.resolve().parents:
        _check_parent(parent, folder)


def make_run_folder(folder: Path) -> None:
    """Make the folder of a run for its owner alone, or restrict an existing one of ours.

    Raises:
        FolderError: it belongs neither to root, to this user nor to the owner of this checkout.
        OSError: it cannot be made.
    """
    folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    _check_owner(folder)
    if folder.stat().st_uid == os.geteuid():
        folder.chmod(PRIVATE)


def check_all(settings: Settings) -> None:
    """Check every folder with a predictable name that a command may read, before it reads anything.

    Raises:
        FolderError: one is not ours alone.
    """
    for folder in (settings.temporary, settings.socket.parent, *([] if settings.metrics_dir else [settings.metrics])):
        check_private(folder)
    if settings.run_dir.exists():
        _check_owner(settings.run_dir)


def readable_by_others(settings: Settings) -> list[Path]:
    """Return the files with secrets or data that users other than their owner can read."""
    paths = (
        ROOT / ".env",
        settings.model_store / "registry.json",
        settings.keys_file or settings.model_store / "keys.json",
        settings.run_dir,
    )
    return [path for path in paths if path.exists() and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)]


def _check_owner(run_dir: Path) -> None:
    """Raise ``FolderError`` unless a folder belongs to root, to this user or to the owner of this checkout."""
    owner = run_dir.stat().st_uid
    if owner not in (0, os.geteuid(), ROOT.stat().st_uid):
        raise FolderError(f"{run_dir} belongs to {_user(owner)}, whose files would be run as ours: set MARLOOP_RUN_DIR")


def _check_parent(parent: Path, folder: Path) -> None:
    status = parent.stat()
    if status.st_uid not in {os.geteuid(), *superusers()}:
        raise FolderError(
            f"{parent} belongs to {_user(status.st_uid)}, who can replace {folder}: set TMPDIR to another"
        )
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        raise FolderError(f"every user can rename what is in {parent}, {folder} too: set its sticky bit, or TMPDIR")


def superusers(uid_map: Path = Path("/proc/self/uid_map")) -> set[int]:
    """Return root's user id, and the one that stands for the machine's root in a user namespace without it.

    Args:
        uid_map: file of the machine's users that this process's namespace has.
    """
    try:
        ranges = [[int(part) for part in line.split()] for line in uid_map.read_text(encoding="utf-8").splitlines()]
        outside = int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="utf-8"))
    except OSError:  # a system without namespaces
        return {0}
    return {0} if any(first <= outside < first + count for first, _, count in ranges) else {0, outside}


def _kind(mode: int) -> str:
    return "symbolic link" if stat.S_ISLNK(mode) else "file"


def _user(uid: int) -> str:
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user {uid}"
