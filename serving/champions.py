"""The champions' contracts and deadlines, from archives that are as they were registered.

Hashing an archive of a language model takes a second, so that one which is looked at each second is hashed again only
where its file has changed, and every ten minutes: a disk can lose bits without telling.
"""

import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import yaml

from handlers.contract import ModelContract
from serving.readiness import LONGEST, Readiness, ask, contract_of
from serving.registry import ArchiveError, Registry, Version

AGAIN = 600.0  # s until an archive that looks unchanged is hashed again


@dataclass(frozen=True)
class Champion:
    """A served version.

    Attributes:
        contract: in its archive.
        deadline: s that it may take to answer.
    """

    contract: ModelContract
    deadline: float


@dataclass(frozen=True)
class _Checked:
    state: tuple[object, ...]  # of the file
    time: float
    champion: Champion | None
    fault: str


class Champions:
    """Reads the champions of a registry, whatever becomes of its files meanwhile.

    Args:
        registry: names them.
        clock: s, never set back.
    """

    def __init__(self, registry: Registry, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry, self._clock = registry, clock
        self._checked: dict[str, _Checked] = {}

    def read(self) -> dict[str, Champion | Readiness]:
        """Return each model's champion by name, in their order; in place of one whose archive is refused, the reason.

        Raises:
            ArchiveError: the registry is damaged.
        """
        champions: dict[str, Champion | Readiness] = {
            name: Readiness(name, number, False, f"refused: {fault}", 0.0)
            for name, (number, fault) in self._registry.unknown().items()
        }
        champions |= {name: self._one(name, *found) for name, found in self._registry.champions().items()}
        return dict(sorted(champions.items()))

    def _one(self, name: str, number: str, version: Version) -> Champion | Readiness:
        known, state, now = self._checked.get(name), self._state(version), self._clock()
        if known is None or known.state != state or now - known.time > AGAIN:
            known = self._checked[name] = self._check(version, state, now)
        return known.champion or Readiness(name, number, False, f"refused: {known.fault}", 0.0)

    def _check(self, version: Version, state: tuple[object, ...], now: float) -> _Checked:
        try:
            champion = Champion(contract_of(self._registry, version), self._deadline(version))
        except ArchiveError as error:
            return _Checked(state, now, None, str(error))
        return _Checked(state, now, champion, "")

    def _deadline(self, version: Version) -> float:
        """Return what the archive says that the model may take; archives of others say nothing."""
        try:
            with zipfile.ZipFile(self._registry.store / version.archive) as archive:
                config = yaml.safe_load(archive.read("model-config.yaml")) or {}
        except (KeyError, OSError, zipfile.BadZipFile, yaml.YAMLError):
            return LONGEST
        seconds = config.get("responseTimeout", LONGEST) if isinstance(config, dict) else LONGEST
        return min(float(seconds), LONGEST) if isinstance(seconds, int) and seconds > 0 else LONGEST

    def _state(self, version: Version) -> tuple[object, ...]:
        """Return what differs as soon as the file, or what is registered of it, does."""
        try:
            found = (self._registry.store / version.archive).stat()
        except OSError as error:
            return (version.sha256, error.errno)
        return (version.sha256, found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


def ask_all(registry: Registry, url: str) -> list[Readiness]:
    """Ask every champion of the registry at once, each for as long as its deadline says.

    Raises:
        ArchiveError: the registry is damaged.
    """
    found = Champions(registry).read()
    if not found:
        return []
    with (
        httpx.Client(timeout=LONGEST, trust_env=False) as client,  # a proxy would not come back to this machine
        ThreadPoolExecutor(len(found)) as threads,
    ):
        return list(
            threads.map(
                lambda one: one if isinstance(one, Readiness) else ask(client, url, one.contract, one.deadline),
                found.values(),
            )
        )
