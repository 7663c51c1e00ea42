"""Promotions and rollbacks, each recorded as a decision."""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from monitoring.retraining.result import JobResult, Watched
from monitoring.store.journal import Journal
from monitoring.store.records import Decision, Job
from serving.hosts.host import LaunchError, Rollout
from serving.registry import Registry, Version

logger = logging.getLogger(__name__)


class PromotionRefused(Exception):  # noqa: N818
    """A version cannot be promoted or rolled back; the message says why."""


class Promotions:
    """Promotes and rolls back versions.

    Attributes:
        models: the registry.
        rollout: interface of the running host.
        clock: the time, in UTC.
    """

    def __init__(self, journal: Journal, models: Registry, rollout: Rollout, clock: Callable[[], datetime]) -> None:
        self._journal, self.models, self.rollout, self.clock = journal, models, rollout, clock
        self._promoting = threading.Lock()  # one thread at a time reads and changes the champion

    def champion(self, model: str) -> str | None:
        """Return the version of a model that is champion in the registry; None if none is."""
        champion = self.models.champions().get(model)
        return champion.number if champion else None

    def promote(self, model: str, version: str, who: str) -> str | None:
        """Serve this version from now on, and return the one that was served before.

        Args:
            who: name for the record.

        Raises:
            KeyError: no such model or version.
            PromotionRefused: it is served already.
            ArchiveError: its archive is missing or altered.
            LaunchError: the host does not take it.
        """
        with self._promoting:
            versions_of(self.models, model, version)
            former = self.champion(model)
            if former == version:
                raise PromotionRefused(f"{model} {version} is served already")
            self.rollout.promote(model, version)
            details = {"from": former, "to": version, "reason": "asked for by hand", "who": who}
            self._journal.record(model, "promoted", details, self.clock())
            return former

    def record_others(self) -> None:
        """Record each promotion once that others made, such as ``marloop promote``.

        Raises:
            ArchiveError: the registry is damaged.
        """
        with self._promoting:
            self._record_others()

    def _record_others(self) -> None:
        recorded: dict[str, set[str]] = {}
        for promotion in self.models.promotions():
            model = promotion.model
            if model not in recorded:
                recorded[model] = {str(decision.details.get("promoted")) for decision in self._journal.decisions(model)}
            if promotion.time not in recorded[model]:
                details = {
                    "from": promotion.former or None,
                    "to": promotion.version,
                    "reason": promotion.why,
                    "who": promotion.by,
                    "promoted": promotion.time,
                }
                self._journal.record(model, "promoted", details, datetime.fromisoformat(promotion.time))

    def promote_job(self, job: Job, watch: Watched) -> bool:
        """Serve the challenger of a job from now on, also where an earlier call was interrupted.

        Returns:
            False if the champion is no longer the one that the challenger was judged against: nothing was done.

        Raises:
            ArchiveError: its archive is missing or altered.
            LaunchError: the host does not take it.
        """
        (former, version), now = job.result.versions, self.clock()
        with self._promoting:
            if self.champion(job.model) not in (former, version):
                return False
            try:
                self.rollout.promote(job.model, version)
            except LaunchError:
                if self.champion(job.model) != version:
                    raise
                logger.exception("%s %s is champion; the host will be told again", job.model, version)
            reason, who = job.result.reason, "shadow" if job.result.is_unlabelled else "judge"
            self._journal.conclude_job(
                job.id,
                "promoted",
                {"from": former, "to": version, "reason": reason, "who": who},
                now,
                JobResult(watch=watch),
                state="promoted",
                ended=now,
                progress=f"promoted: {reason}",
            )
            return True

    def rollback(self, model: str, who: str, reason: str = "asked for by hand", expect: str | None = None) -> str:
        """Serve the former version again, and return its number.

        Args:
            who: name for the record.
            expect: the version that must be champion now; None for any.

        Raises:
            KeyError: no such model.
            PromotionRefused: there is nothing to go back to, or another version is champion than expected.
            ArchiveError: the archive is missing or altered.
            LaunchError: the host does not take it.
        """
        with self._promoting:
            versions = versions_of(self.models, model)
            self._record_others()  # the registry alone may have whom the current champion replaced
            current = self.champion(model)
            if current is None:
                raise PromotionRefused(f"{model} has no champion")
            if expect not in (None, current):
                raise PromotionRefused(f"{model} {expect} is champion no longer: {current} is")
            target = self._former(model, current, versions)
            self.rollout.promote(model, target)
            now, details = self.clock(), {"from": current, "to": target, "reason": reason, "who": who}
            if job := self._promoted_job(model, current):
                closed = (job.result.watch or Watched()).ended(now, reason)
                changes = {"state": "rolled_back", "progress": f"rolled back: {reason}"}
                self._journal.conclude_job(job.id, "rolled_back", details, now, JobResult(watch=closed), **changes)
            else:
                self._journal.record(model, "rolled_back", details, now)
            return target

    def _former(self, model: str, current: str, versions: dict[str, Version]) -> str:
        """Return the version that the champion replaced, else the newest retired one; none that was rolled back."""
        decisions = self._journal.decisions(model)
        bad = set()
        for decision in reversed(decisions):
            if decision.kind == "rolled_back":
                bad.add(decision.details["from"])
            elif decision.kind == "promoted":
                bad.discard(decision.details["to"])
        replaced = replaced_by(decisions, current)
        retired = [number for number, version in reversed(versions.items()) if version.state == "retired"]
        for number in (*replaced, *retired):
            if number in versions and number != current and number not in bad:
                return number
        raise PromotionRefused(f"{model} {current} has no former champion to go back to")

    def _promoted_job(self, model: str, version: str) -> Job | None:
        jobs = self._journal.jobs(model, ["promoted"])
        return next((job for job in jobs if job.result.version == version), None)


def replaced_by(decisions: Sequence[Decision], champion: str | None) -> list[str]:
    """Return the versions that a champion replaced, in the order of the decisions."""
    promoted = (decision.details for decision in decisions if decision.kind == "promoted")
    return [str(details["from"]) for details in promoted if details["to"] == champion]


def versions_of(models: Registry, model: str, number: str | None = None) -> dict[str, Version]:
    """Return the versions of a model.

    Raises:
        KeyError: there is no such model, or no version of this number.
    """
    versions = models.models().get(model)
    if versions is None:
        raise KeyError(f"there is no model {model!r}, only {', '.join(sorted(models.models())) or 'none'}")
    if number is not None and number not in versions:
        raise KeyError(f"{model} has no version {number!r}, only {', '.join(versions)}")
    return versions
