"""The queue of retrainings, and the conditions for a new one."""

import contextlib
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from handlers.contract import ModelContract
from monitoring.retraining.language.learning import ConversationLearning
from monitoring.retraining.policy import RetrainPolicy
from monitoring.retraining.result import JobResult
from monitoring.store.contracts import Contracts
from monitoring.store.journal import LASTING, JobUnderWayError
from monitoring.store.predictions import Store
from monitoring.store.records import UNDER_WAY, Job, Trigger

_DAY = timedelta(days=1)
_QUIET = timedelta(hours=1)  # in which repeated refusals of a trigger are recorded once


class RetrainRefused(Exception):  # noqa: N818
    """A retraining cannot be queued now, or not be cancelled; the message says why."""


class Retraining:
    """Takes requests for retrainings.

    Args:
        learnable: returns why a model cannot learn from captured rows; None if it can.
        clock: the time, in UTC.
        conversations: what language models learn; None where they learn nothing.
    """

    def __init__(
        self,
        store: Store,
        contracts: Contracts,
        policy: RetrainPolicy,
        learnable: Callable[[ModelContract], str | None],
        clock: Callable[[], datetime],
        conversations: ConversationLearning | None = None,
    ) -> None:
        self.policy = policy
        self._store, self._journal = store, store.journal
        self._contracts, self._models = contracts, contracts.models
        self._learnable, self._clock, self._conversations = learnable, clock, conversations
        self._requesting = threading.Lock()

    def request(self, model: str, trigger: Trigger, reason: str) -> Job:
        """Queue a retraining: by hand at any time, by another trigger within the policy.

        Raises:
            RetrainRefused: not now; recorded too.
        """
        now = self._clock()
        with self._requesting:
            if why := self._against(model, trigger, now):
                self._note(model, trigger, reason, why, now)
                raise RetrainRefused(why)
            try:
                job = self._journal.create_job(model, trigger, reason, now, alone=True)
            except JobUnderWayError as error:  # another monitor got the same alert
                self._note(model, trigger, reason, str(error), now)
                raise RetrainRefused(str(error)) from error
            self._journal.record(model, "requested", {"job": job.id, "trigger": trigger, "reason": reason}, now)
            return job

    def cancel(self, id: int) -> Job:
        """Have the runner end a job whose promotion has not begun.

        Raises:
            KeyError: there is none of this id.
            RetrainRefused: it is too late.
        """
        job = self._journal.job(id)
        if job.state not in UNDER_WAY:
            raise RetrainRefused(f"job {id} has ended: {job.state}")
        # The runner sets the stage and then looks for ``cancel``; in either order, one of both sees the other.
        job = self._journal.extend_job(id, JobResult(cancel=True))
        if job.result.stage == "promote":
            raise RetrainRefused(f"job {id} is being promoted: roll it back instead")
        return job

    def request_due(self) -> list[Job]:
        """Queue the retrainings that are due by the schedule."""
        if not self.policy.every or not self.policy.enabled:
            return []
        jobs = []
        for model in sorted(self._models.champions()):
            jobs_of = self._journal.jobs(model)
            newest = next((job for job in jobs_of if job.result.kind == "retraining"), None)
            busy = any(job.state in UNDER_WAY for job in jobs_of)
            if not busy and (newest is None or self._clock() - newest.created >= self.policy.every):
                reason = f"every {self.policy.every / timedelta(hours=1):g} h"
                try:
                    jobs.append(self.request(model, "schedule", reason))
                except RetrainRefused:
                    continue  # ``request`` has recorded it
        return jobs

    def request_learned(self) -> list[Job]:
        """Queue the retrainings of language models for which enough conversations were approved."""
        if not (self._conversations and self.policy.enabled):
            return []
        jobs, now = [], self._clock()
        for model in filter(self._conversations.is_of, sorted(self._models.champions())):
            jobs_of = self._journal.jobs(model)
            if any(job.state in UNDER_WAY for job in jobs_of) or self._too_soon(jobs_of, now):
                continue  # it is asked again at the next look, so that nothing is recorded
            retrainings = (job for job in jobs_of if job.result.kind == "retraining" and job.state != "cancelled")
            if reason := self._conversations.due(model, next(retrainings, None), now):
                with contextlib.suppress(RetrainRefused):  # ``request`` has recorded it
                    jobs.append(self.request(model, "approval", reason))
        return jobs

    def _against(self, model: str, trigger: Trigger, now: datetime) -> str | None:
        policy, champions = self.policy, self._models.champions()
        if model not in champions:
            return f"{model!r} has no champion, only {', '.join(sorted(champions)) or 'none'} have one"
        jobs = self._journal.jobs(model)
        if under_way := next((job for job in jobs if job.state in UNDER_WAY), None):
            return f"job {under_way.id} of {model} is {under_way.state}: one at a time"
        if trigger != "hand" and (why := self._too_soon(jobs, now)):
            return why
        contract = self._contracts.of(model)
        if contract is None:
            return f"the archive of {model}'s champion cannot be read"
        if why := self._learnable(contract):
            return why
        if self._conversations and contract.task == "generation":
            return self._conversations.lacking(model, now)
        if trigger != "hand" and (why := self._nothing_new(contract)):
            return why
        labelled = len(self._store.labelled(model, since=now - policy.age, limit=policy.rows))
        if labelled < policy.rows:
            return (
                f"{model} has {labelled} labelled rows of the last {policy.age / _DAY:g} days, but {policy.rows} are "
                "needed to learn and to judge: send more feedback"
            )
        return None

    def _nothing_new(self, contract: ModelContract) -> str | None:
        """Return why there are too few rows that the champion has not learned; None if there are enough."""
        until = contract.lineage.until
        if until is None:  # its rows have no times
            return None
        since = datetime.fromisoformat(until) + timedelta(seconds=1)
        newer = len(self._store.labelled(contract.name, since=since, limit=self.policy.rows))
        if newer >= self.policy.rows:
            return None
        return (
            f"{contract.name} {contract.version} knows rows until {until}, and {newer} labelled ones are newer, of "
            f"which {self.policy.rows} are needed (MARLOOP_RETRAIN_ROWS)"
        )

    def _too_soon(self, jobs: list[Job], now: datetime) -> str | None:
        """Return why the policy refuses an automatic trigger; None if it does not.

        A challenge counts only where it changed the champion, which then needs time to show what it is worth.
        """
        policy = self.policy
        if not policy.enabled:
            return "MARLOOP_RETRAIN is off: only by hand"
        retrainings = [job for job in jobs if job.result.kind == "retraining"]
        changes = [job for job in jobs if job.result.kind == "retraining" or job.state in LASTING]
        ended = max((_end_of(job) for job in changes if job.state != "cancelled"), default=None)
        if ended is not None and now < ended + policy.cooldown:
            until = (ended + policy.cooldown).isoformat(timespec="seconds")
            return f"the last retraining ended {ended.isoformat(timespec='seconds')}: none before {until}"
        lately = [job for job in retrainings if now - job.created < _DAY]
        if len(lately) >= policy.per_day:
            return f"{len(lately)} retrainings in 24 hours: no more than {policy.per_day} (MARLOOP_RETRAIN_PER_DAY)"
        return None

    def _note(self, model: str, trigger: Trigger, reason: str, why: str, now: datetime) -> None:
        if model not in self._models.models():
            return  # a name that the caller made up
        quiet = self.policy.every if trigger == "schedule" else _QUIET
        for newest in self._journal.decisions(model, limit=1):
            repeated = newest.kind == "refused_request" and newest.details["trigger"] == trigger
            if repeated and trigger != "hand" and now - newest.time < quiet:
                return
        self._journal.record(model, "refused_request", {"trigger": trigger, "reason": reason, "why": why}, now)


def _end_of(job: Job) -> datetime:
    """Return the time of a job's end, or of its rollback."""
    if job.state == "rolled_back" and job.result.watch and job.result.watch.closed:
        return datetime.fromisoformat(job.result.watch.closed)
    return job.ended or job.created
