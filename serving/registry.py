"""``model_store/registry.json``: the versions of every model, the SHA-256 of their archives, and which one is champion.

    {"models": {"flights": {"1.0": {"archive": "flights-1.0.mar", "sha256": "…", "state": "champion",
                                    "created": "…", "evaluation": {…}}}}}

Written to a temporary file, flushed to disk and renamed, under a lock: a reader sees the old or the new, two writers
at once lose nothing.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
from filelock import FileLock

State = Literal["champion", "challenger", "refused", "retired"]


class ArchiveError(Exception):
    """An archive is missing or not the one that was registered; the message names it."""


class Version(msgspec.Struct, forbid_unknown_fields=True):
    """One version of a model.

    Attributes:
        archive: file name in the model store.
        sha256: of that file.
        state: at most one version of a model is champion, the one that is served; a challenger that was judged and
            not promoted is refused.
        created: ISO 8601.
        evaluation: as in the contract.
    """

    archive: str
    sha256: str
    state: State
    created: str
    evaluation: dict[str, Any] = {}


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    models: dict[str, dict[str, Version]] = {}


class Registry:
    """The registry of one model store.

    Args:
        store: the folder of the archives; it is made when something is first written.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self.path = store / "registry.json"

    def models(self) -> dict[str, dict[str, Version]]:
        """Every model's versions, oldest first.

        Raises:
            ArchiveError: the file is damaged.
        """
        return self._read().models

    def champions(self) -> dict[str, tuple[str, Version]]:
        """The served version of each model that has one."""
        return {
            name: (number, version)
            for name, versions in self.models().items()
            for number, version in versions.items()
            if version.state == "champion"
        }

    def verify(self, version: Version) -> Path:
        """The path of a version's archive, once its SHA-256 is as registered.

        Raises:
            ArchiveError: it is not there, or differs.
        """
        path = self.store / version.archive
        if not path.is_file():
            raise ArchiveError(f"{path} is not there: train the model again")
        found = file_sha256(path)
        if found != version.sha256:
            raise ArchiveError(f"{path} has SHA-256 {found}, but {version.sha256} was registered: train it again")
        return path

    @contextlib.contextmanager
    def change(self) -> Iterator[dict[str, dict[str, Version]]]:
        """Change the models under the lock; they are written when the block ends without an error."""
        self.store.mkdir(parents=True, exist_ok=True)
        with FileLock(self.store / "registry.lock"):
            document = self._read()
            yield document.models
            self._write(document)

    def promote(self, name: str, number: str) -> None:
        """Make one version champion, once its archive is verified; the former one retires.

        Raises:
            ArchiveError: the archive is not as registered.
            KeyError: no such model or version.
        """
        with self.change() as models:
            self.verify(version_of(models, name, number))
            make_champion(models, name, number)

    def refuse(self, name: str, number: str) -> None:
        """Note that a challenger was judged and is not to be promoted; one that is refused already stays so.

        Raises:
            KeyError: no such model or version.
            ValueError: it is no challenger.
        """
        with self.change() as models:
            version = version_of(models, name, number)
            if version.state not in ("challenger", "refused"):
                raise ValueError(f"{name} {number} is {version.state}; only a challenger can be refused")
            version.state = "refused"

    def _read(self) -> _Document:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=_Document)
        except FileNotFoundError:
            return _Document()
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            raise ArchiveError(f"{self.path} is damaged: {error}") from error

    def _write(self, document: _Document) -> None:
        write_atomically(self.path, json.dumps(msgspec.to_builtins(document), indent=1).encode())


def make_champion(models: dict[str, dict[str, Version]], name: str, number: str) -> None:
    """Within ``Registry.change``: make one version champion and retire the former one.

    Raises:
        KeyError: no such model or version.
    """
    chosen = version_of(models, name, number)
    for version in models[name].values():
        if version.state == "champion":
            version.state = "retired"
    chosen.state = "champion"


def version_of(models: dict[str, dict[str, Version]], name: str, number: str) -> Version:
    """One version of those that ``Registry.models`` gives.

    Raises:
        KeyError: no such model or version; names those that there are.
    """
    if number not in models.get(name, {}):
        raise KeyError(f"{name} {number} is not registered; there are {', '.join(models.get(name, {})) or 'none'}")
    return models[name][number]


def next_number(versions: dict[str, Version]) -> str:
    """The number of the next version: 1.0, 1.1, 1.2, …"""
    return f"1.{1 + max((int(number.partition('.')[2]) for number in versions), default=-1)}"


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file so that a crash at any moment, or a full disk, leaves the old one or the new one whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
