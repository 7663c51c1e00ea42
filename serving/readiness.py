"""Readiness of models: a real prediction that agrees with the contract's example, and nothing less."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from handlers.contract import ModelContract
from handlers.contract.example import is_right, request_of
from handlers.observe.capture import SWITCH
from serving import archive
from serving.registry import ArchiveError, Registry, Version

LONGEST = 10.0  # s that an answer to an example is waited for at most
AGAIN = 600.0  # s until an archive that looks unchanged is hashed again
_ALIVE = "v1/models"  # a language model's worker answers it between two tokens, without generating any


@dataclass(frozen=True)
class Readiness:
    """State of a served model.

    Attributes:
        ready: whether it gave the expected answer.
        detail: its other answer, or why it could not be asked.
        milliseconds: time until the answer.
    """

    name: str
    version: str
    ready: bool
    detail: str
    milliseconds: float


def ask(client: httpx.Client, url: str, contract: ModelContract, patience: float = LONGEST) -> Readiness:
    """Send a contract's example to its version of the model and compare the answer.

    Args:
        url: of the inference port.
        patience: s until the answer is given up.
    """
    started = time.perf_counter()
    path = f"{url}/predictions/{contract.name}/{contract.version}"
    try:
        body, kind = request_of(contract)
        response = client.post(path, content=body, headers={"Content-Type": kind, SWITCH: "off"}, timeout=patience)
        good = response.status_code == 200 and is_right(contract, response.content)
        detail = "" if good else f"{response.status_code}: {' '.join(response.text.split())[:200]}"
    except httpx.ReadTimeout:
        good, detail = False, f"no answer within {patience:.1f} s"
    except httpx.HTTPError as error:
        good, detail = False, f"{type(error).__name__}: {error}"
    return Readiness(contract.name, contract.version, good, detail, 1000 * (time.perf_counter() - started))


def former_handlers(registry: Registry) -> Iterator[str]:
    """Yield a sentence about each champion that another version of Marloop packed: its worker runs that version's code.

    It answers, but may send the monitor nothing.
    """
    for name, (number, version) in registry.champions().items():
        with contextlib.suppress(ArchiveError):
            if _has_other_handlers(registry.store / version.archive, version.sha256):
                yield (
                    f"{name} {number} was packed by another version of Marloop, and what it answers may not reach the "
                    f"monitor: `marloop package {name}` packs it with the handlers of this one"
                )


@functools.lru_cache
def _has_other_handlers(path: Path, sha256: str) -> bool:
    return archive.has_other_handlers(path)


def ask_alive(client: httpx.Client, url: str, contract: ModelContract, patience: float) -> str:
    """Ask a language model's worker for a list of models, which costs no token; return why it is not alive, or ""."""
    path = f"{url}/predictions/{contract.name}/{contract.version}/{_ALIVE}"
    try:
        response = client.post(path, headers={SWITCH: "off"}, timeout=patience)
    except httpx.ReadTimeout:
        return f"no answer within {patience:.1f} s"
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}"
    return "" if response.status_code == 200 else f"{response.status_code}: {' '.join(response.text.split())[:200]}"


@dataclass(frozen=True)
class Champion:
    """A served version.

    Attributes:
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
    """Reads the champions of a registry, and checks their archives each time at little cost.

    Hashing an archive of a language model takes a second. So an archive is hashed again only where its file has
    changed, and every ten minutes, since a disk can lose bits silently.

    Args:
        clock: a monotonic clock in s.
    """

    def __init__(self, registry: Registry, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry, self._clock = registry, clock
        self._checked: dict[str, _Checked] = {}

    def by_model(self) -> dict[str, Champion | Readiness]:
        """Return each model's champion, sorted by name; in place of one whose archive is refused, the reason.

        Raises:
            ArchiveError: the registry is damaged.
        """
        champions: dict[str, Champion | Readiness] = {
            name: Readiness(name, number, False, f"refused: {fault}", 0.0)
            for name, (number, fault) in self._registry.unknown().items()
        }
        champions |= {name: self._champion(name, *champion) for name, champion in self._registry.champions().items()}
        return dict(sorted(champions.items()))

    def _champion(self, name: str, number: str, version: Version) -> Champion | Readiness:
        checked, state, now = self._checked.get(name), self._state(version), self._clock()
        if checked is None or checked.state != state or now - checked.time > AGAIN:
            checked = self._checked[name] = self._check(version, state, now)
        return checked.champion or Readiness(name, number, False, f"refused: {checked.fault}", 0.0)

    def _check(self, version: Version, state: tuple[object, ...], now: float) -> _Checked:
        try:
            champion = Champion(self._registry.contract(version), self._deadline(version))
        except ArchiveError as error:
            return _Checked(state, now, None, str(error))
        return _Checked(state, now, champion, "")

    def _deadline(self, version: Version) -> float:
        """Return the seconds that the archive lets the model take; archives of others name none."""
        try:
            seconds = archive.read_config(self._registry.store / version.archive).get("responseTimeout")
        except ArchiveError:
            return LONGEST
        return min(float(seconds), LONGEST) if isinstance(seconds, int) and seconds > 0 else LONGEST

    def _state(self, version: Version) -> tuple[object, ...]:
        """Return a value that changes with the file, and with its registered hash."""
        try:
            status = (self._registry.store / version.archive).stat()
        except OSError as error:
            return (version.sha256, error.errno)
        return (version.sha256, status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


def ask_all(registry: Registry, url: str, auth: httpx.Auth | None = None) -> list[Readiness]:
    """Ask every champion of the registry at once, each for as long as its deadline says.

    Args:
        auth: key of the service.

    Raises:
        ArchiveError: the registry is damaged.
    """
    champions = Champions(registry).by_model()
    if not champions:
        return []

    def readiness(champion: Champion | Readiness) -> Readiness:
        if isinstance(champion, Readiness):
            return champion
        return ask(client, url, champion.contract, champion.deadline)

    with (
        httpx.Client(timeout=LONGEST, trust_env=False, auth=auth) as client,  # a proxy would not come back here
        ThreadPoolExecutor(len(champions)) as threads,
    ):
        return list(threads.map(readiness, champions.values()))
