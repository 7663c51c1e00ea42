"""The task that removes old job folders, archives, audit entries, reports, logs and metric files."""

import contextlib
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

from msgspec import Meta
from sqlalchemy.exc import SQLAlchemyError

from handlers.observe.settings import MOST, EnvironmentSettings, says, variables
from monitoring.periodic import repeat
from monitoring.retraining.promotions import replaced_by
from monitoring.store.journal import Journal
from monitoring.store.leases import Lease
from monitoring.store.records import UNDER_WAY
from serving.metrics.metric_files import outdated
from serving.registry import ArchiveError, Registry, Version, champion_of
from serving.settings import Settings

logger = logging.getLogger(__name__)
PAUSE = 3600.0  # s between two rounds
Count = Annotated[int, Meta(ge=1, le=MOST)]


class Keeping(EnvironmentSettings, frozen=True, rename=variables("KEEP_")):
    """Retention beside that of predictions; `marloop prune --dry-run` lists what would go."""

    jobs_days: Annotated[Count, says("Days that a retraining's folder is kept after its end.")] = 30
    versions: Annotated[
        Count,
        says(
            "How many archives of retired and refused versions of each model, beside the champion, those that it took "
            "the place of, and challengers."
        ),
    ] = 10
    audit_days: Annotated[Count, says("Days that the audit is kept, but for its promotions and rollbacks.")] = 730
    reports_days: Annotated[Count, says("Days that reports are kept.")] = 90
    logs_days: Annotated[Count, says("Days that rotated logs are kept.")] = 30
    metrics_days: Annotated[
        Count, says("Days that metric files of ended workers are kept whose version is no longer served.")
    ] = 7


@dataclass(frozen=True)
class Leftover:
    """A file, folder or set of entries that may be removed.

    Attributes:
        kind: name of the setting, such as ``jobs``.
        name: path, or a description of the entries.
        size: bytes; 0 for entries in the store.
    """

    kind: str
    name: str
    size: int
    remove: Callable[[], object]


class Housekeeping:
    """Finds and removes leftovers."""

    def __init__(self, settings: Settings, journal: Journal, models: Registry, keeping: Keeping) -> None:
        self._run, self._metrics = settings.run_dir.resolve(), settings.metrics
        self._journal, self._models, self._keeping = journal, models, keeping

    def leftovers(self, now: datetime, shared: bool = True) -> Iterator[Leftover]:
        """Yield what may be removed at a moment.

        Args:
            shared: whether also what monitors share: archives and the audit.

        Raises:
            ArchiveError: the registry is damaged, so that it does not tell which archives are needed.
            SQLAlchemyError: the store does not answer.
        """
        keeping = self._keeping
        yield from self._jobs(now - _days(keeping.jobs_days))
        if shared:
            yield from self._archives()
            yield from self._audit(now - _days(keeping.audit_days))
        yield from _files("reports", self._run / "reports", "*.html", now - _days(keeping.reports_days))
        yield from _files("logs", self._run, "*.log.*", now - _days(keeping.logs_days))
        served = {(name, number) for name, (number, _) in self._models.champions().items()}
        for path in outdated(self._metrics, served, now - _days(keeping.metrics_days)):
            yield _file("metrics", path)

    def tidy(self, now: datetime, shared: bool = True, confirm: Callable[[], None] = lambda: None) -> list[Leftover]:
        """Remove the leftovers, and return those that went; failures are logged.

        Args:
            shared: as of ``leftovers``.
            confirm: called before each removal; raises where this monitor may no longer do it.

        Raises:
            ArchiveError: the registry is damaged.
            SQLAlchemyError: the store does not answer.
        """
        gone = []
        for leftover in list(self.leftovers(now, shared)):
            confirm()
            try:
                leftover.remove()
            except (ArchiveError, OSError) as error:
                logger.warning("cannot remove %s: %s", leftover.name, error)
            else:
                gone.append(leftover)
        return gone

    def run_forever(
        self, clock: Callable[[], datetime], lease: Lease, held: Callable[[], bool], stop: threading.Event
    ) -> None:
        """Tidy up every hour until ``stop`` is set, unless the clock may have jumped.

        Args:
            clock: wall-clock time in UTC.
            lease: needed for what monitors share; each tidies up its own run's folder.
            held: returns whether nothing may go for its age now.
        """

        def tidy() -> None:
            shared = lease.held
            try:
                if held():
                    return
                with lease.fenced() if shared else contextlib.nullcontext():
                    for leftover in self.tidy(clock(), shared, lease.confirm):
                        logger.info("removed %s", leftover.name)
            except (ArchiveError, SQLAlchemyError) as error:
                logger.warning("cannot tidy up: %s", error)

        repeat(PAUSE, tidy, stop, fault="cannot tidy up", delay=PAUSE)

    def _jobs(self, before: datetime) -> Iterator[Leftover]:
        jobs = {str(job.id): job for job in self._journal.jobs()}
        for folder in sorted((self._run / "jobs").glob("*")):
            job = jobs.get(folder.name)
            if job is not None and job.state in UNDER_WAY:
                continue
            ended = job.ended if job is not None and job.ended else _changed(folder)
            if ended < before:
                size = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_symlink())
                remove = lambda folder=folder: shutil.rmtree(folder)  # noqa: E731
                yield Leftover("jobs", str(folder), size, remove)

    def _audit(self, until: datetime) -> Iterator[Leftover]:
        if entries := self._journal.forgettable(until):
            yield Leftover("audit", f"{entries} entries of audit and jobs", 0, lambda: self._journal.forget(until))

    def _archives(self) -> Iterator[Leftover]:
        """Yield archives that no rollback needs: neither served, served before, judged, nor among the newest."""
        jobs = self._journal.jobs(states=UNDER_WAY)
        models = self._models.models()
        needed = {version.archive for name in models for version in self._needed(name)}
        under_way = {(job.model, job.result.version) for job in jobs}
        for name, versions in models.items():
            over = [number for number, version in versions.items() if version.state in ("retired", "refused")]
            for number in over[: -self._keeping.versions]:
                version = versions[number]
                if version.archive in needed or (name, number) in under_way:
                    continue
                if (size := self._models.files.size(version)) is not None:
                    remove = partial(self._models.files.discard, version.archive)
                    yield Leftover("versions", self._models.files.location(version), size, remove)

    def _needed(self, name: str) -> Iterator[Version]:
        versions = self._models.models()[name]
        served = champion_of(versions)
        champion = served.number if served else None
        former = {*replaced_by(self._journal.decisions(name), champion)}
        former |= {
            promotion.former
            for promotion in self._models.promotions()
            if (promotion.model, promotion.version) == (name, champion)
        }
        for number, version in versions.items():
            if version.state in ("champion", "challenger") or number in former:
                yield version


def _days(count: int) -> timedelta:
    return timedelta(days=min(count, 36_500))  # a longer time would begin before the year 1


def _files(kind: str, folder: Path, pattern: str, before: datetime) -> Iterator[Leftover]:
    for path in sorted(folder.glob(pattern)):
        if path.is_file() and _changed(path) < before:
            yield _file(kind, path)


def _file(kind: str, path: Path) -> Leftover:
    return Leftover(kind, str(path), path.stat().st_size, lambda: path.unlink(missing_ok=True))


def _changed(path: Path) -> datetime:
    with contextlib.suppress(FileNotFoundError):
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return datetime.now(UTC)
