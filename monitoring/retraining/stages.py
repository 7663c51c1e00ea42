"""The stages of a job: train, judge, shadow, promote; a challenge begins at the judge.

Each look reads the job's stage from the store, and takes the job one step further. Nothing that matters is kept in
memory, so a job goes on after a kill of the monitor or of the service.
"""

import logging
import threading
import time
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy.exc import SQLAlchemyError

from monitoring.retraining.challenge import ChallengeRefused, rows_for
from monitoring.retraining.language.learning import ConversationLearning
from monitoring.retraining.launch.launcher import RefusedError, UnreachableError
from monitoring.retraining.launch.trainings import JobTrainings, write_rows
from monitoring.retraining.policy import RetrainPolicy
from monitoring.retraining.promotions import Promotions
from monitoring.retraining.result import JobResult, Shadowed, Stage, Verdict, Watched
from monitoring.retraining.versions import Versions
from monitoring.retraining.watch import Watch
from monitoring.store.predictions import Store
from monitoring.store.records import Job, Labelled
from serving.hosts.host import LaunchError
from training.statistics.pair import Pair

logger = logging.getLogger(__name__)
ATTEMPTS = 3  # of a training that ends without a result, and of a stage that the service refuses


class Stages:
    """Takes jobs through their stages.

    Args:
        conversations: what language models learn; None where they learn nothing.
    """

    def __init__(
        self,
        store: Store,
        promotions: Promotions,
        versions: Versions,
        trainings: JobTrainings,
        watch: Watch,
        policy: RetrainPolicy,
        conversations: ConversationLearning | None = None,
    ) -> None:
        self._store, self._journal = store, store.journal
        self._promotions, self._versions = promotions, versions
        self._trainings, self._watch, self._policy = trainings, watch, policy
        self._conversations = conversations
        self._models, self._rollout, self._clock = promotions.models, promotions.rollout, promotions.clock
        self._stages = {"train": self._train, "judge": self._judged, "shadow": self._shadowed, "promote": self._promote}
        self._refusals = 0  # consecutive refusals of the running job by the service
        self._waiting: float | None = None  # monotonic time since which the running job waits for the service

    def begin(self, job: Job) -> Job:
        """Take a job out of the queue; where what runs the trainings does not answer (UnreachableError), it stays."""
        self._refusals, self._waiting = 0, None
        self._trainings.clear(job.id)
        changes: dict[str, Any] = {"state": "running", "started": self._clock()}
        if job.result.kind == "challenge":
            changes["progress"] = f"judging {job.result.version}"
            return self._journal.extend_job(job.id, JobResult(stage="judge"), **changes)
        changes["log"] = str(self._trainings.log(job.id))
        return self._journal.extend_job(job.id, JobResult(stage="train", attempts=0), **changes)

    def step(self, job: Job, stop: threading.Event) -> None:
        """Take a running job, as the store has it now, a step further.

        Args:
            stop: cuts the shadow short.

        Raises:
            SQLAlchemyError: the store is away; the next look repeats the step.
        """
        stage = job.result.stage
        try:
            if job.result.cancel and stage != "promote":
                self.cancel(job)
            elif stage is None:
                self._fail(job, job.result.error or "nothing tells its stage")
            else:
                self._stages[stage](job, stop)
        except SQLAlchemyError:
            raise
        except UnreachableError as error:
            self._wait(job, f"waiting: {error}")
        except RefusedError as error:
            self._fail(job, str(error))
        except ChallengeRefused as error:  # what it was to be judged on is gone, or another version is champion
            self._fail(job, str(error))
        except LaunchError as error:
            self._refusals += 1
            if self._refusals >= ATTEMPTS:
                self._fail(job, f"the service does not take it: {error}")
        except Exception as error:
            logger.exception("job %d", job.id)
            self._fail(job, f"{stage}: {type(error).__name__}: {error}")

    def pause(self, job: Job) -> None:
        """End the training of a job, unless it outlives the monitor; the next one goes on from its last checkpoint."""
        if not self._trainings.outlive and self._trainings.age(job.id) is not None:
            self._trainings.end(job.id)
            uncounted = JobResult(attempts=_attempts(job) - 1)  # the monitor's end is no fault of the training's
            self._journal.extend_job(job.id, uncounted, progress="interrupted; goes on when the monitor runs again")

    def stand_by(self) -> None:
        """End the trainings of this run that another monitor leads by now: it trains them itself."""
        places = {job.id: job.result.place for job in self._journal.jobs(states=["running"])}
        for id in self._trainings.under_way():
            if places.get(id) not in ("", self._trainings.place):
                self._trainings.end(id)

    def _train(self, job: Job, _: threading.Event) -> None:
        trainings, limit = self._trainings, self._policy.limit
        trainings.end_former(job.id, job.result.place)
        age = trainings.age(job.id)
        self._waiting = None  # it answers
        if age is not None and age > limit.total_seconds():
            progress = trainings.progress(job.id)
            trainings.end(job.id)
            if trainings.result(job.id) is None:
                why = f"the training was ended after its limit of {limit / timedelta(minutes=1):g} minutes"
                self._fail(job, f"{why} (MARLOOP_RETRAIN_LIMIT_MINUTES), at: {progress}")
        elif age is not None:
            if (progress := trainings.progress(job.id)) != job.progress:
                self._journal.update_job(job.id, progress=progress)
        elif (trained := trainings.result(job.id)) and trained.error:
            self._fail(job, f"the training ended: {trained.error}")
        elif trained:
            more = JobResult(stage="judge", version=trained.version, held_out_since=trained.held_out_since)
            self._journal.extend_job(job.id, more, pid=None, progress=f"judging {trained.version}")
        elif _attempts(job) >= ATTEMPTS:
            self._fail(job, f"the training ended {ATTEMPTS} times without a result:\n{trainings.last_lines(job.id)}")
        else:
            self._start(job)

    def _start(self, job: Job) -> None:
        options = [*self._versions.training_options(job.model), *self._material(job)]
        # Written first: a monitor that no longer leads starts nothing.
        begun = JobResult(attempts=_attempts(job) + 1, place=self._trainings.place)
        self._journal.extend_job(job.id, begun, log=str(self._trainings.log(job.id)))
        try:
            pid = self._trainings.start(job.id, job.model, options)
        except UnreachableError:
            self._journal.extend_job(job.id, JobResult(attempts=_attempts(job)))  # this was none
            raise
        self._journal.update_job(job.id, pid=pid)

    def _material(self, job: Job) -> list[str]:
        """Write what a job learns, and return the options of its training that name it."""
        policy, path, conversations = self._policy, self._trainings.rows(job.id), self._learns_conversations(job)
        is_new = not path.exists()  # a second attempt needs the same rows, to go on from its checkpoint
        if conversations:
            if is_new:
                self._journal.extend_job(job.id, conversations.write(job.model, path, self._clock()))
            return ["--instructions", str(path)]
        if is_new:
            labelled = self._store.labelled(job.model, since=self._clock() - policy.age, limit=policy.most_rows)
            until = labelled[-1].prediction.time.isoformat() if labelled else ""
            self._journal.extend_job(job.id, JobResult(rows=len(labelled), rows_until=until))
            write_rows(path, labelled)
        return ["--feedback", str(path), "--hold-out", str(policy.holdout)]

    def _learns_conversations(self, job: Job) -> ConversationLearning | None:
        return self._conversations if self._conversations and self._conversations.is_of(job.model) else None

    def _judged(self, job: Job, _: threading.Event) -> None:
        version, champion = job.result.version, self._promotions.champion(job.model)
        if champion is None or champion == version:
            self._fail(job, f"nothing to judge: the champion of {job.model} is {champion or 'none'} by now")
            return
        verdict = job.result.verdict or self._verdict(job, Pair(champion, version))
        stage: Stage = "shadow" if verdict.promote else "judge"
        job = self._journal.extend_job(job.id, JobResult(stage=stage, champion=champion, verdict=verdict))
        if not verdict.promote:
            self._refuse(job, verdict.reason)

    def _verdict(self, job: Job, numbers: Pair[str]) -> Verdict:
        if job.result.kind == "retraining":
            if conversations := self._learns_conversations(job):
                return conversations.judge(job.model, numbers, self._clock())
            return self._versions.judge(job.model, numbers, self._held_out(job))
        rows = rows_for(self._versions, job.model, numbers, self._policy, self._clock())
        return self._versions.judge(job.model, numbers, rows) if rows else self._versions.admit(job.model, numbers)

    def _held_out(self, job: Job) -> list[Labelled]:
        since = datetime.fromisoformat(job.result.held_out_since or "")
        until = datetime.fromisoformat(job.result.rows_until or "") + timedelta(microseconds=1)
        return self._store.labelled(job.model, since=since, until=until, limit=self._policy.most_rows)

    def _shadowed(self, job: Job, stop: threading.Event) -> None:
        champion, version = job.result.versions
        if self._promotions.champion(job.model) != champion:
            self._judge_again(job)
            return
        if self._waits(job):
            return
        shadowed = job.result.shadow
        if not shadowed:
            self._journal.update_job(job.id, progress=f"sending recent requests to {version} too")
            self._rollout.beside(job.model, version)
            decides = job.result.is_unlabelled
            shadowed = self._versions.shadow(job.model, job.result.versions, stop, decides)
            if stop.is_set():
                return  # the result is of a part of the requests
            if shadowed and not shadowed.passed and not self._versions.answers():
                return  # the service failed, not the challenger
            shadowed = shadowed or Shadowed(0, passed=not decides, reason="no requests to send")
        job = self._journal.extend_job(job.id, JobResult(shadow=shadowed))
        if not shadowed.passed:
            self._refuse(job, shadowed.reason)
            return
        watch = self._watch.prepare(job.model, champion)
        job = self._journal.extend_job(job.id, JobResult(stage="promote", watch=watch))
        if job.result.cancel:
            self.cancel(job)

    def _promote(self, job: Job, _: threading.Event) -> None:
        if self._waits(job):
            return
        watch = self._watch.begin(job.result.watch or Watched())
        if not self._promotions.promote_job(job, watch):
            self._judge_again(job)

    def _judge_again(self, job: Job) -> None:
        """Go back to the judge, since another version was promoted by hand meanwhile."""
        self._journal.extend_job(job.id, JobResult(stage="judge", verdict=None, shadow=None))

    def _waits(self, job: Job) -> bool:
        """Return whether the job must wait for the service; one that waits too long fails."""
        if self._versions.answers():
            self._waiting = None
            return False
        self._wait(job, "waiting for the service, which does not answer")
        return True

    def _wait(self, job: Job, progress: str) -> None:
        """Leave a job as it is, and say why; one that waits for as long as a training may take fails."""
        now = time.monotonic()
        self._waiting = now if self._waiting is None else self._waiting
        if now - self._waiting > self._policy.limit.total_seconds():
            self._fail(job, f"{progress}, for as long as a training may take")
        elif job.progress != progress:
            self._journal.update_job(job.id, progress=progress)

    def _refuse(self, job: Job, reason: str) -> None:
        version = job.result.version
        if self._models.models()[job.model][version].state == "challenger":
            self._models.refuse(job.model, version)
        self._withdraw(job)
        details = {"version": version, "stage": job.result.stage, "reason": reason}
        self._end(job, "refused", details, f"refused: {reason}")

    def _fail(self, job: Job, error: str) -> None:
        self._withdraw(job)
        job = self._journal.extend_job(job.id, JobResult(error=error))
        self._end(job, "failed", {"stage": job.result.stage, "reason": error}, f"failed: {error.splitlines()[0]}")

    def cancel(self, job: Job) -> None:
        """End a job that somebody cancelled."""
        self._trainings.end(job.id)
        self._withdraw(job)
        self._end(job, "cancelled", {"stage": job.result.stage}, "cancelled by hand")

    def _withdraw(self, job: Job) -> None:
        try:
            if job.result.version and self._versions.answers():
                self._rollout.withdraw(job.model, job.result.version)
        except LaunchError as error:
            logger.warning("%s %s stays beside for now: %s", job.model, job.result.version, error)

    def _end(
        self, job: Job, kind: Literal["refused", "failed", "cancelled"], details: dict[str, Any], progress: str
    ) -> None:
        now = self._clock()
        self._journal.conclude_job(job.id, kind, details, now, state=kind, ended=now, pid=None, progress=progress)


def _attempts(job: Job) -> int:
    return job.result.attempts or 0
