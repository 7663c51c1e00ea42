"""``model_store/registry.json``: the versions of every model, the SHA-256 of their archives, and which one is champion.

    {"models": {"flights": {"1.0": {"archive": "flights-1.0.mar", "sha256": "…", "state": "champion",
                                    "created": "…", "evaluation": {…}}}},
     "promotions": [{"model": "flights", "version": "1.0", "former": "", "time": "…", "by": "…", "why": "…"}]}

It is read back, written to a temporary file, flushed to disk and renamed, under a lock: a reader sees the old or the
new, two writers at once lose nothing. ``registry.json.bak`` has the last good content: ``serving.restore`` goes back to
it. An entry that cannot be read is left out and kept as it is; the others are served.
"""

import contextlib
import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
from filelock import FileLock

from handlers.contract import ModelContract
from serving import archive, documents
from serving.archive import ArchiveError
from serving.documents import write_atomically

__all__ = ["ArchiveError", "Note", "Promotion", "Registry", "State", "Version", "write_atomically"]

logger = logging.getLogger(__name__)
State = Literal["champion", "challenger", "refused", "retired"]
RESTORE = "python -m serving restore-registry"
MOST_PROMOTIONS = 1000  # that are remembered


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


class ChampionVersion(NamedTuple):
    """The version of a model that is served, with its number."""

    number: str
    version: Version


class Promotion(msgspec.Struct, frozen=True):
    """A version that became champion.

    Attributes:
        former: the champion before; empty if there was none.
        time: ISO 8601, in UTC.
        by: what made it champion, such as ``serving promote``.
        why: in words.
    """

    model: str
    version: str
    former: str
    time: str
    by: str
    why: str = ""


@dataclass
class Note:
    """Who changes champions, and why: what the history of promotions says of it; nothing without a who."""

    by: str
    why: str = ""


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    models: dict[str, dict[str, Version]] = {}
    promotions: list[Promotion] = []


@dataclass
class _Content:
    """What a registry's file holds.

    Attributes:
        document: what can be read of it.
        damaged: what cannot, as it stands there, by model and number.
        faults: what is wrong with it, by model and number.
        repaired: whether it has NaN, as former versions wrote it.
    """

    document: _Document
    damaged: dict[str, dict[str, Any]]
    faults: dict[str, dict[str, str]]
    repaired: bool = False


class Registry:
    """The registry of one model store.

    Args:
        store: the folder of the archives; it is made when something is first written.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self.path = store / "registry.json"
        self.backup = store / "registry.json.bak"
        self._told = False

    def models(self) -> dict[str, dict[str, Version]]:
        """Every model's versions, oldest first; without those whose entry is damaged.

        Raises:
            ArchiveError: the file is damaged.
        """
        return self._read().document.models

    def damaged(self) -> dict[str, dict[str, str]]:
        """What is wrong with the entries that cannot be read, by model and number; empty if all can.

        Raises:
            ArchiveError: the file is damaged.
        """
        return self._read().faults

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
        champion = champion_of(self.models().get(model, {}))
        if champion is None:
            raise ArchiveError(f"{model} has no champion: run `make train MODEL={model}`")
        return champion

    def unknown(self) -> dict[str, tuple[str, str]]:
        """Models without a readable champion that have a damaged entry, which may be the champion's: number and fault.

        Raises:
            ArchiveError: the file is damaged.
        """
        content, champions = self._read(), self.champions()
        return {name: next(iter(found.items())) for name, found in content.faults.items() if name not in champions}

    def promotions(self) -> list[Promotion]:
        """The last promotions of which a note was left, oldest first."""
        return self._read().document.promotions

    def verify(self, version: Version) -> Path:
        """The path of a version's archive, once its SHA-256 is as registered.

        Raises:
            ArchiveError: it is not there, cannot be read, or differs.
        """
        path = self.store / version.archive
        if not path.is_file():
            raise ArchiveError(f"{path} is not there: train the model again")
        try:
            found = file_sha256(path)
        except OSError as error:
            raise ArchiveError(f"{path} cannot be read: {error.strerror or error}") from error
        if found != version.sha256:
            raise ArchiveError(f"{path} has SHA-256 {found}, but {version.sha256} was registered: train it again")
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
            note: what the history says of a champion that another one replaces; None where it says nothing.

        Raises:
            ArchiveError: the file is damaged, or what the block made could not be read again: nothing has changed.
        """
        with self.locked():
            content = self._read()
            document = content.document
            before = _champion_numbers(document.models)
            yield document.models
            if note is not None and note.by:
                document.promotions += _promoted(before, _champion_numbers(document.models), note)
                del document.promotions[:-MOST_PROMOTIONS]
            self.write(document.models, document.promotions, content.damaged)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let no one else change the registry meanwhile."""
        self.store.mkdir(parents=True, exist_ok=True)
        with FileLock(self.store / "registry.lock"):
            yield

    def write(
        self,
        models: Mapping[str, Mapping[str, Version]],
        promotions: list[Promotion],
        damaged: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Within ``locked``: replace the file, then its copy.

        Args:
            models: that can be read.
            promotions: the history.
            damaged: entries that cannot, which stay as they are unless a new one has their place.

        Raises:
            ArchiveError: it could not be read again; nothing has changed.
        """
        try:
            entries = documents.finite(models)
            history = documents.finite(promotions)
            documents.to_json({"models": entries, "promotions": history}, _Document)
            for name, versions in damaged.items():
                if "" in versions:
                    entries.setdefault(name, versions[""])
                else:
                    entries[name] = {**versions, **entries.get(name, {})}
            content = documents.to_json({"models": entries, "promotions": history})
        except documents.DocumentError as error:
            raise ArchiveError(f"{self.path} is not changed: {error}") from error
        write_atomically(self.path, content, private=True)
        if damaged:
            return  # the copy still has what these entries were
        try:
            write_atomically(self.backup, content, private=True)
        except OSError as error:
            logger.warning("%s is written, but its copy %s is the former one: %s", self.path, self.backup, error)

    def promote(self, name: str, number: str, by: str = "", why: str = "") -> None:
        """Make one version champion, once its archive is verified; the former one retires.

        Args:
            number: of the version.
            by: who wants it, for the history; empty for nothing in the history.
            why: in words.

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

    def _read(self) -> _Content:
        try:
            content = read_content(self.path)
        except FileNotFoundError:
            if self.backup.is_file():
                if self.path.is_file():  # it was written for the first time meanwhile
                    return self._read()
                raise ArchiveError(f"{self.path} is not there; {self._way_back()}") from None
            return _Content(_Document(), {}, {})
        except (OSError, ValueError) as error:
            raise ArchiveError(f"{self.path} is damaged: {error}; {self._way_back()}") from error
        if content.repaired and not self._told:
            self._told = True
            logger.warning("%s holds NaN, from a former version: read as what could not be measured", self.path)
        return content

    def _way_back(self) -> str:
        if self.backup.is_file():
            time = datetime.fromtimestamp(self.backup.stat().st_mtime, UTC).isoformat(timespec="seconds")
            return f"the last good copy is {self.backup}, of {time}: `{RESTORE}` puts it back"
        return f"there is no copy of it: `{RESTORE}` makes a new one from what the archives say"


def read_content(path: Path) -> _Content:
    """Read what can be read of a registry's file.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
        ValueError: it is damaged as a whole.
    """
    content = path.read_bytes()
    try:
        return _Content(msgspec.json.decode(content, type=_Document), {}, {})
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass  # what is wrong, and where, is told below
    whole = documents.from_json(content)
    repaired = any(word in content for word in (b"NaN", b"Infinity"))
    shape = msgspec.convert(whole, _Shape)
    models: dict[str, dict[str, Version]] = {}
    damaged: dict[str, dict[str, Any]] = {}
    faults: dict[str, dict[str, str]] = {}
    for name, versions in shape.models.items():
        entries = versions if isinstance(versions, dict) else {"": versions}
        for number, entry in entries.items():
            try:
                models.setdefault(name, {})[number] = msgspec.convert(entry, Version)
            except msgspec.ValidationError as error:
                damaged.setdefault(name, {})[number] = entry
                faults.setdefault(name, {})[number] = f"its entry in {path} is damaged: {error}: `{RESTORE}` mends it"
    return _Content(_Document(models, _readable(shape.promotions)), damaged, faults, repaired)


class _Shape(msgspec.Struct, forbid_unknown_fields=True):
    """A registry of whose entries nothing is known."""

    models: dict[str, Any] = {}
    promotions: list[Any] = []


def _readable(promotions: list[Any]) -> list[Promotion]:
    readable = []
    for entry in promotions:
        with contextlib.suppress(msgspec.ValidationError):  # a line of the history that is lost stops nothing
            readable.append(msgspec.convert(entry, Promotion))
    return readable


def _champion_numbers(models: Mapping[str, Mapping[str, Version]]) -> dict[str, str]:
    champions = {name: champion_of(versions) for name, versions in models.items()}
    return {name: champion.number for name, champion in champions.items() if champion}


def _promoted(before: Mapping[str, str], after: Mapping[str, str], note: Note) -> list[Promotion]:
    now = datetime.now(UTC).isoformat()
    changed = {name: number for name, number in after.items() if before.get(name) != number}
    return [Promotion(name, number, before.get(name, ""), now, note.by, note.why) for name, number in changed.items()]


def champion_of(versions: Mapping[str, Version]) -> ChampionVersion | None:
    """Return the champion among the versions of a model, if there is one."""
    champions = (ChampionVersion(*item) for item in versions.items() if item[1].state == "champion")
    return next(champions, None)


def make_champion(models: dict[str, dict[str, Version]], name: str, number: str) -> None:
    """Within ``Registry.change``: make one version champion and retire the former one.

    Raises:
        KeyError: no such model or version.
    """
    chosen = version_of(models, name, number)
    if former := champion_of(models[name]):
        former.version.state = "retired"
    chosen.state = "champion"


def version_of(models: dict[str, dict[str, Version]], name: str, number: str) -> Version:
    """One version of those that ``Registry.models`` gives.

    Raises:
        KeyError: no such model or version; names those that there are.
    """
    if number not in models.get(name, {}):
        raise KeyError(f"{name} {number} is not registered; there are {', '.join(models.get(name, {})) or 'none'}")
    return models[name][number]


def next_number(*versions: Mapping[str, object]) -> str:
    """The number of the next version: 1.0, 1.1, 1.2, …

    Args:
        versions: by number, those whose entries are damaged too; a number of another form counts for nothing.
    """
    minors = (number.removeprefix("1.") for known in versions for number in known if number.startswith("1."))
    return f"1.{1 + max((int(minor) for minor in minors if minor.isdecimal()), default=-1)}"


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
