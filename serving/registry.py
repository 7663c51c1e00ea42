"""``registry.json`` of a model store: versions of every model, SHA-256 of their archives, and which one is champion.

New content is read back before it replaces the former one, under a lock. So a reader sees the old or the new content,
and two writers at once lose nothing. Of ``serving.store``, ``storage`` has the places where it lies, ``registry_file``
describes it, and ``restore`` mends it.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from handlers.contract import ModelContract
from serving import archive, documents
from serving.archive import ArchiveError
from serving.store.fetching import file_sha256
from serving.store.registry_file import (
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
    take_out,
    version_of,
)
from serving.store.shared.origin import Origin
from serving.store.storage import BACKUP, FILE, FolderStorage, OriginStorage, Storage
from serving.store.trust import Trust
from serving.store.version_files import VersionFiles

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
NO_KEYS = Trust()


class Registry:
    """The registry of one model store.

    Args:
        store: the folder of the archives; it is made when something is first written.
        origin: the shared store that the folder has a copy of; None where the folder is the store itself.
        trust: the keys that archives are signed with, and must be signed for.

    Attributes:
        path: of the registry's file in the folder.
        backup: of that file's copy, to which a damaged one is restored.
        files: the archives of its versions.
    """

    def __init__(self, store: Path, origin: Origin | None = None, trust: Trust = NO_KEYS) -> None:
        self.store, self.origin = store, origin
        self.path, self.backup = store / FILE, store / BACKUP
        self.storage: Storage = OriginStorage(store, origin) if origin else FolderStorage(store)
        self.files = VersionFiles(store, origin.archives if origin else None, trust)
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

    @property
    def place(self) -> str:
        """Folder or URL of the store, for messages."""
        return self.origin.url if self.origin else str(self.store)

    def archive(self, version: Version) -> Path:
        """Return the path of a version's archive on this machine; one of a shared store is fetched if it is not there.

        Raises:
            ArchiveError: it cannot be fetched.
        """
        return self.files.path(version)

    def verify(self, version: Version) -> Path:
        """Return the path of a version's archive, once its SHA-256 is as registered and its signature is one to trust.

        Raises:
            ArchiveError: it is not there, cannot be read, differs, or is not signed as it must be.
        """
        return self.files.verify(version)

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
            before, known = champion_numbers(document.models), set(_archives(document.models))
            yield document.models
            for archive_name, sha256 in set(_archives(document.models)) - known:
                self.files.publish(archive_name, sha256)
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

    def locked(self) -> AbstractContextManager[None]:
        """Hold the lock, so that nobody else changes the registry within the block."""
        return self.storage.locked()

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
            raise ArchiveError(f"{self.storage.place} is not changed: {error}") from error
        self.storage.write(content, is_whole=not damaged)

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
        content = self.storage.read()
        if content.repaired and not self._warned:
            self._warned = True
            place = self.storage.place
            logger.warning("%s holds NaN, from a former version: read as what could not be measured", place)
        return content


def _archives(models: Mapping[str, Mapping[str, Version]]) -> Iterator[tuple[str, str]]:
    """Yield the file names and SHA-256 of all versions' archives."""
    for versions in models.values():
        yield from ((version.archive, version.sha256) for version in versions.values())
