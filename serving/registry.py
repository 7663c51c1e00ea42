"""``model_store/registry.json``: the versions of every model, the SHA-256 of their archives, and which one is champion.

New content is read back, written to a temporary file, flushed to disk and renamed, under a lock. So a reader sees the
old or the new file, and two writers at once lose nothing. ``registry.json.bak`` has the last good content, to which
``serving.restore`` goes back. ``serving.registry_file`` describes the content.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from handlers.contract import ModelContract
from serving import archive, documents
from serving.archive import ArchiveError
from serving.documents import write_atomically
from serving.registry_file import (
    RESTORE,
    ChampionVersion,
    Content,
    Document,
    Note,
    Promotion,
    State,
    Version,
    champion_numbers,
    champion_of,
    make_champion,
    next_number,
    promoted,
    read_content,
    take_out,
    version_of,
)
from serving.store.fetching import file_sha256

__all__ = [
    "ArchiveError",
    "ChampionVersion",
    "Note",
    "Promotion",
    "Registry",
    "State",
    "Version",
    "champion_of",
    "file_sha256",
    "make_champion",
    "next_number",
    "version_of",
]

logger = logging.getLogger(__name__)
MOST_PROMOTIONS = 1000  # the longest history


class Registry:
    """The registry of one model store.

    Args:
        store: the folder of the archives; it is made when something is first written.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self.path = store / "registry.json"
        self.backup = store / "registry.json.bak"
        self._warned = False

    def models(self) -> dict[str, dict[str, Version]]:
        """Return every model's versions, oldest first, without those whose entry is damaged.

        Raises:
            ArchiveError: the file is damaged.
        """
        return self._content().document.models

    def damaged(self) -> dict[str, dict[str, str]]:
        """Return the faults of entries that cannot be read, by model and number; empty if all can.

        Raises:
            ArchiveError: the file is damaged.
        """
        return self._content().faults

    def champions(self) -> dict[str, ChampionVersion]:
        """Return the served version of each model that has one.

        Raises:
            ArchiveError: the file is damaged.
        """
        champions = {name: champion_of(versions) for name, versions in self.models().items()}
        return {name: champion for name, champion in champions.items() if champion}

    def champion(self, model: str) -> ChampionVersion:
        """Return the served version of a model.

        Raises:
            ArchiveError: there is none, or the file is damaged.
        """
        champions = self.champions()
        if model not in champions:
            others = f"; those with one are {', '.join(sorted(champions))}" if champions else ""
            raise ArchiveError(f"{model} has no champion: run `make train MODEL={model}`{others}")
        return champions[model]

    def unknown(self) -> dict[str, tuple[str, str]]:
        """Return a damaged entry's number and fault for each model without a champion: it may be the champion's.

        Raises:
            ArchiveError: the file is damaged.
        """
        content, champions = self._content(), self.champions()
        return {name: next(iter(faults.items())) for name, faults in content.faults.items() if name not in champions}

    def promotions(self) -> list[Promotion]:
        """Return the last promotions that were noted, oldest first."""
        return self._content().document.promotions

    def removed(self, model: str) -> list[str]:
        """Return the numbers of a model's removed versions, which are not given again."""
        return self._content().document.removed.get(model, [])

    def verify(self, version: Version) -> Path:
        """Return the path of a version's archive, once its SHA-256 is as registered.

        Raises:
            ArchiveError: it is not there, cannot be read, or differs.
        """
        path = self.store / version.archive
        if not path.is_file():
            raise ArchiveError(f"{path} is not there: train the model again")
        try:
            sha256 = file_sha256(path)
        except OSError as error:
            raise ArchiveError(f"{path} cannot be read: {error.strerror or error}") from error
        if sha256 != version.sha256:
            raise ArchiveError(f"{path} has SHA-256 {sha256}, but {version.sha256} was registered: train it again")
        return path

    def contract(self, version: Version) -> ModelContract:
        """Read the contract in a version's archive.

        Raises:
            ArchiveError: the archive is missing, altered or without a contract.
        """
        path = self.verify(version)
        try:
            return archive.read_contract(path)
        except ArchiveError as error:
            raise ArchiveError(f"{path} has no contract: {error}") from error

    def champion_contract(self, model: str) -> ModelContract:
        """Read the contract in the archive of a model's champion.

        Raises:
            ArchiveError: there is no champion, or its archive is missing, altered or without a contract.
        """
        return self.contract(self.champion(model).version)

    @contextlib.contextmanager
    def change(self, note: Note | None = None) -> Iterator[dict[str, dict[str, Version]]]:
        """Change the models under the lock; they are written when the block ends without an error.

        Args:
            note: put into the history with each new champion; None: the history stays as it is.

        Raises:
            ArchiveError: the file is damaged, or the changed one could not be read again: nothing has changed.
        """
        with self.locked():
            content = self._content()
            document = content.document
            before = champion_numbers(document.models)
            yield document.models
            if note is not None and note.by:
                document.promotions += promoted(before, champion_numbers(document.models), note)
                del document.promotions[:-MOST_PROMOTIONS]
            self.write_models(document.models, document.promotions, content.damaged, document.removed)

    def remove(self, name: str, number: str | None = None) -> dict[str, str]:
        """Take out a version, or all of a model; their files stay. Removing again what is removed changes nothing.

        Returns:
            The archives' names by number, a champion's last.

        Raises:
            KeyError: no such model or version, now or before.
            ValueError: the version is champion: only the whole model can go.
            ArchiveError: the file is damaged.
        """
        with self.locked():
            content = self._content()
            archives = take_out(content, name, number)
            document = content.document
            self.write_models(document.models, document.promotions, content.damaged, document.removed)
            return archives

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock, so that nobody else changes the registry within the block."""
        self.store.mkdir(parents=True, exist_ok=True)
        with FileLock(self.store / "registry.lock"):
            yield

    def write_models(
        self,
        models: Mapping[str, Mapping[str, Version]],
        promotions: list[Promotion],
        damaged: Mapping[str, Mapping[str, Any]],
        removed: Mapping[str, list[str]],
    ) -> None:
        """Replace the file, then its copy; only within ``locked``.

        Args:
            damaged: entries that cannot be read; they stay as they are unless a new one has their place.

        Raises:
            ArchiveError: the new file could not be read again; nothing has changed.
        """
        try:
            entries = documents.finite(models)
            history = documents.finite(promotions)
            whole = {"models": entries, "promotions": history, "removed": dict(removed)}
            documents.to_json(whole, Document)
            for name, versions in damaged.items():
                if "" in versions:
                    entries.setdefault(name, versions[""])
                else:
                    entries[name] = {**versions, **entries.get(name, {})}
            content = documents.to_json(whole if removed else {"models": entries, "promotions": history})
        except documents.DocumentError as error:
            raise ArchiveError(f"{self.path} is not changed: {error}") from error
        write_atomically(self.path, content, private=True)
        if damaged:
            return  # the copy still has these entries whole
        try:
            write_atomically(self.backup, content, private=True)
        except OSError as error:
            logger.warning("%s is written, but its copy %s is the former one: %s", self.path, self.backup, error)

    def promote(self, name: str, number: str, by: str = "", why: str = "") -> None:
        """Make a version champion, once its archive is verified; the former one retires.

        Args:
            by: who promotes it, for the history; empty: the history stays as it is.

        Raises:
            ArchiveError: the archive is not as registered.
            KeyError: no such model or version.
        """
        with self.change(Note(by, why) if by else None) as models:
            if fault := self.damaged().get(name, {}).get(number):
                raise ArchiveError(f"{name} {number}: {fault}")
            self.verify(version_of(models, name, number))
            make_champion(models, name, number)

    def refuse(self, name: str, number: str) -> None:
        """Mark a challenger that was judged as refused; one that is refused already stays so.

        Raises:
            KeyError: no such model or version.
            ValueError: the version is no challenger.
        """
        with self.change() as models:
            version = version_of(models, name, number)
            if version.state not in ("challenger", "refused"):
                raise ValueError(f"{name} {number} is {version.state}; only a challenger can be refused")
            version.state = "refused"

    def _content(self) -> Content:
        try:
            content = read_content(self.path)
        except FileNotFoundError:
            if self.backup.is_file():
                if self.path.is_file():  # it was written for the first time meanwhile
                    return self._content()
                raise ArchiveError(f"{self.path} is not there; {self._way_back()}") from None
            return Content(Document(), {}, {})
        except (PermissionError, NotADirectoryError) as error:
            way = f"make {self.store} a folder that this user can read, or name another one by MARLOOP_MODEL_STORE"
            raise ArchiveError(f"{self.path} cannot be read ({error.strerror}): {way}") from error
        except (OSError, ValueError) as error:
            raise ArchiveError(f"{self.path} is damaged: {error}; {self._way_back()}") from error
        if content.repaired and not self._warned:
            self._warned = True
            logger.warning("%s holds NaN, from a former version: read as what could not be measured", self.path)
        return content

    def _way_back(self) -> str:
        if self.backup.is_file():
            time = datetime.fromtimestamp(self.backup.stat().st_mtime, UTC).isoformat(timespec="seconds")
            return f"the last good copy is {self.backup}, of {time}: `{RESTORE}` puts it back"
        return f"there is no copy of it: `{RESTORE}` makes a new one from what the archives say"
