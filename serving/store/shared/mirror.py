"""The copy of a shared store in a folder of this machine, from which a host serves.

Whoever runs archives has no credentials and asks no network: workers read this folder, and one process beside them
keeps it up to date. The archives of new champions are there before the registry that names them. While the store does
not answer, what was last seen is served, also by a host that starts meanwhile.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from filelock import FileLock

from serving.documents import write_atomically
from serving.registry import ArchiveError, Registry, Version
from serving.settings import Settings
from serving.store.registry_file import parse_content
from serving.store.shared.archives import signature_of
from serving.store.storage import FILE, MARK, mark, store_of

logger = logging.getLogger(__name__)
PAUSE = 1.0  # s between two looks
AGAIN = 5.0  # s until an archive that could not be fetched is tried again
LATE = 60.0  # s after which a copy that was not compared is told of
KEPT = 86_400.0  # s that an archive stays which nothing serves any more


def last_known(settings: Settings) -> bytes | None:
    """Return what the shared registry held when this machine last saw it; None where it never did."""
    if store_of(settings.model_store) != settings.store_url.rstrip("/"):
        return None
    with contextlib.suppress(OSError):
        return (settings.model_store / FILE).read_bytes()
    return None


def why_late(settings: Settings) -> str:
    """Return a sentence where this machine's copy of a shared store was not compared of late; empty otherwise."""
    if not settings.store_url:
        return ""
    try:
        seen = (settings.model_store / MARK).stat().st_mtime
    except OSError:
        return f"{settings.store_url} was never seen from here"
    if time.time() - seen < LATE:
        return ""
    moment = datetime.fromtimestamp(seen, UTC).isoformat(timespec="seconds")
    why = f"the store does not answer, or nothing follows it: {settings.run_dir / 'mirror.log'} says which"
    return f"what is served of {settings.store_url} was last compared at {moment}; {why}"


class Mirror:
    """The copy of a shared store.

    Args:
        registry: of the shared store; its folder is the copy.
        tick: a monotonic clock in s.
    """

    def __init__(self, registry: Registry, tick: Callable[[], float] = time.monotonic) -> None:
        if registry.origin is None:
            raise ValueError("a folder of this machine is no copy")
        self._registry, self._origin, self._tick = registry, registry.origin, tick
        self._faults: dict[str, str] = {}
        self._tried = float("-inf")

    def synchronise(self) -> None:
        """Fetch what the host needs, then write the registry; archives that cannot be fetched are logged.

        Raises:
            ArchiveError: the store does not answer and was never seen, or its registry is damaged: the copy stays.
            OSError: the folder cannot be written.
        """
        folder = self._registry.store
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{MARK}.lock"):
            content = self._origin.content()
            is_new = not self._holds(content)
            if not is_new and self._origin.answers:
                os.utime(folder / MARK)  # when it was last compared
            if not is_new and not (self._faults and self._tick() - self._tried > AGAIN):
                return
            versions = [] if content is None else self._versions(content)
            champions = [version for version in versions if version.state == "champion"]
            self._fetch([version for version in champions if is_new or version.archive in self._faults])
            if is_new:
                self._write(content)
            self._forget(versions)

    def run_forever(self, stop: threading.Event) -> None:
        """Keep the copy up to date until ``stop`` is set; each fault is logged once."""
        said = ""
        while not stop.wait(PAUSE):
            try:
                self.synchronise()
            except (ArchiveError, OSError) as error:
                if str(error) != said:
                    logger.error("the copy in %s stays as it is: %s", self._registry.store, error)
                said = str(error)
            else:
                said = ""

    def _holds(self, content: bytes | None) -> bool:
        """Tell whether the copy has this content, and is of this store."""
        if store_of(self._registry.store) != self._origin.url:
            return False
        try:
            return self._registry.path.read_bytes() == content
        except FileNotFoundError:
            return content is None

    def _versions(self, content: bytes) -> list[Version]:
        place = self._registry.storage.place
        try:
            models = parse_content(content, place).document.models
        except ValueError as error:
            raise ArchiveError(f"{place} is damaged: {error}") from error
        return [version for versions in models.values() for version in versions.values()]

    def _fetch(self, versions: Collection[Version]) -> None:
        self._tried = self._tick()
        for version in versions:
            try:
                self._registry.verify(version)
            except ArchiveError as error:
                if self._faults.get(version.archive) != str(error):
                    logger.error("%s is not here: %s", version.archive, error)
                self._faults[version.archive] = str(error)
            else:
                self._faults.pop(version.archive, None)

    def _write(self, content: bytes | None) -> None:
        """Write what the folder is a copy of, then the registry, and its copy, to which a damaged one is restored."""
        mark(self._registry.store, self._origin.url)
        (self._registry.store / MARK).touch()
        if content is None:
            self._registry.path.unlink(missing_ok=True)
        else:
            write_atomically(self._registry.path, content, private=True)
            if not parse_content(content, "").faults:
                write_atomically(self._registry.backup, content, private=True)

    def _forget(self, versions: Collection[Version]) -> None:
        """Remove archives that are neither served nor about to be, a day after they came."""
        needed = {version.archive for version in versions if version.state in ("champion", "challenger")}
        self._faults = {name: fault for name, fault in self._faults.items() if name in needed}
        for path in self._registry.store.glob("*.mar"):
            with contextlib.suppress(OSError):
                if path.name not in needed and time.time() - path.stat().st_mtime > KEPT:
                    path.unlink()
                    signature_of(path).unlink(missing_ok=True)


def synchronise(registry: Registry) -> None:
    """Bring the copy of a shared store up to date once; a folder that is the store itself needs nothing.

    Raises:
        ArchiveError: see ``Mirror.synchronise``.
        OSError: likewise.
    """
    if registry.origin:
        Mirror(registry).synchronise()
