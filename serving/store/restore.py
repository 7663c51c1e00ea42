"""Restores a damaged registry: from its last good copy, else from its readable rest and the archives.

An archive is code. So one is registered only where the copy or the damaged file names it. Where there is neither, the
person who runs this command vouches for the archives.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from serving import archive
from serving.registry import ArchiveError, Promotion, Registry, State, Version, champion_of, file_sha256
from serving.store.registry_file import parse_content

# The fields of a version in a truncated file, in the order of ``Version``.
_FIELDS = re.compile(rb'"archive":\s*"([^"\\]+)",\s*"sha256":\s*"([0-9a-f]{64})",\s*"state":\s*"(\w+)"')
_STATES: dict[str, State] = {
    "champion": "champion",
    "challenger": "challenger",
    "refused": "refused",
    "retired": "retired",
}
Models = dict[str, dict[str, Version]]


@dataclass
class Restored:
    """Result of a restoration.

    Attributes:
        models: as they are registered now.
        steps: taken to get there, a sentence each.
    """

    models: Models = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)


def restore(registry: Registry, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Restored:
    """Mend a registry, and keep the damaged file beside it; a registry without damage stays as it is.

    Raises:
        ArchiveError: there is nothing to restore it from.
        OSError: the model store cannot be read or written.
    """
    with registry.locked():
        registry.storage.lay_out()
        restored = Restored()
        current, copy = _read_parts(registry.path), _read_parts(registry.backup)
        if isinstance(current, _Parts) and not current.entries and not current.repaired:
            return Restored(current.models, [f"{registry.storage.place} is not damaged"])
        if isinstance(current, _Parts):
            restored.models, history = current.models, current.promotions
            _mend(registry, current, copy, restored)
        elif isinstance(copy, _Parts) and copy.models:
            restored.models, history = copy.models, copy.promotions
            restored.steps.append(f"{registry.backup} was put back: {_counted(copy.models)}")
        else:
            restored.models, history = _rebuilt(registry, current, restored.steps), []
        if not restored.models:
            raise ArchiveError(f"neither {registry.backup} nor an archive in {registry.store} can be read: train again")
        with contextlib.suppress(FileNotFoundError):
            aside = registry.path.with_name(f"registry.json.damaged-{now():%Y%m%dT%H%M%SZ}")
            registry.path.rename(aside)
            restored.steps.append(f"what was there is kept as {aside}")
        removed = next((part.removed for part in (current, copy) if isinstance(part, _Parts)), {})
        registry.write_models(_ordered(restored.models), history, {}, removed)
    restored.steps += list(_unserved(restored.models))
    return restored


@dataclass(frozen=True)
class _Parts:
    """A file that can be read, at least in part."""

    models: Models
    promotions: list[Promotion]
    entries: Mapping[str, Mapping[str, Any]]
    repaired: bool
    removed: Mapping[str, list[str]]


def _read_parts(path: Path) -> _Parts | bytes:
    """Read a registry's file; return its bytes where it is damaged as a whole."""
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        return b""
    try:
        content = parse_content(whole, str(path))
    except ValueError:
        return whole
    document = content.document
    return _Parts(document.models, document.promotions, content.damaged, content.repaired, document.removed)


def _mend(registry: Registry, current: _Parts, copy: _Parts | bytes, restored: Restored) -> None:
    """Replace damaged entries by the copy's, else by new ones made from the archives."""
    if current.repaired:
        restored.steps.append(f"{registry.path} had NaN, which now is null: what could not be measured")
    copied = copy.models if isinstance(copy, _Parts) else {}
    for name, entries in current.entries.items():
        numbers = [*copied.get(name, {})] if "" in entries else [*entries]
        for number in numbers:
            version = copied.get(name, {}).get(number)
            if version is None:
                with _noting_faults(restored.steps, f"{name} {number}"):
                    version = _of_entry(registry, name, number, entries[number])
            if version is not None:
                _put(restored, name, number, version)


def _put(restored: Restored, name: str, number: str, version: Version) -> None:
    versions = restored.models.setdefault(name, {})
    if version.state == "champion" and champion_of(versions):
        version.state = "retired"
    versions[number] = version
    restored.steps.append(f"{name} {number} was restored as {version.state}")


def _of_entry(registry: Registry, name: str, number: str, entry: Any) -> Version:
    """Make a version from a damaged entry and its archive, whose SHA-256 must be the entry's if that names one."""
    fields = entry if isinstance(entry, dict) else {}
    path = registry.store / Path(str(fields.get("archive") or f"{name}-{number}.mar")).name
    _, _, version = read_version(path, _STATES.get(str(fields.get("state")), "challenger"))
    if fields.get("sha256", version.sha256) != version.sha256:
        raise ArchiveError(f"{path} has another SHA-256 than its damaged entry says: train the model again")
    return version


def _rebuilt(registry: Registry, damaged: _Parts | bytes, steps: list[str]) -> Models:
    """Make a registry from the archives in the store, with the hashes and states that a truncated file names."""
    text = damaged if isinstance(damaged, bytes) else b""
    fields = {name.decode(): (sha.decode(), state.decode()) for name, sha, state in _FIELDS.findall(text)}
    models: Models = {}
    for path in sorted(registry.store.glob("*.mar")):
        sha256, state = fields.get(path.name, ("", "challenger"))
        with _noting_faults(steps, path.name):
            name, number, version = read_version(path, _STATES.get(state, "challenger"))
            if sha256 not in ("", version.sha256):
                raise ArchiveError(f"{path} has SHA-256 {version.sha256}, but {sha256} was registered")
            models.setdefault(name, {})[number] = version
    for versions in models.values():
        (first, *others) = versions.values()
        if not others and first.archive not in fields:
            first.state = "champion"
    steps.append(f"the registry was made anew from the archives: {_counted(models)}")
    return models


def read_version(path: Path, state: State) -> tuple[str, str, Version]:
    """Return an archive's model, number and entry, once its files have the checksums that the zip names.

    Raises:
        ArchiveError: it is damaged or has no contract.
    """
    archive.check(path)
    try:
        contract = archive.read_contract(path)
    except ArchiveError as error:
        raise ArchiveError(f"{path} cannot be read: {error}") from error
    created = contract.lineage.created
    version = Version(path.name, file_sha256(path), state, created, msgspec.to_builtins(contract.evaluation))
    return contract.name, contract.version, version


@contextlib.contextmanager
def _noting_faults(steps: list[str], what: str) -> Iterator[None]:
    """Note the fault of an archive among the steps instead of raising it."""
    try:
        yield
    except ArchiveError as error:
        steps.append(f"{what} was left out: {error}")


def _ordered(models: Models) -> Models:
    """Return the models with their versions sorted by number, which is the order of registration."""
    return {
        name: dict(sorted(versions.items(), key=lambda item: order_of(item[0]))) for name, versions in models.items()
    }


def order_of(number: str) -> list[tuple[int, str]]:
    """Return a value by which versions are sorted: 1.9 comes before 1.10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in number.split(".")]


def _counted(models: Models) -> str:
    return ", ".join(f"{name} {', '.join(versions)}" for name, versions in sorted(models.items())) or "no model"


def _unserved(models: Models) -> Iterator[str]:
    for name, versions in sorted(models.items()):
        if champion_of(versions) is None:
            yield (f"{name} has no champion: choose one of {', '.join(versions)} by `marloop promote {name} …`")
