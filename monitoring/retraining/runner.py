"""The loop itself: one thread that runs jobs one after another and watches promotions."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from monitoring.periodic import repeat
from monitoring.retraining.challenge import Challenges
from monitoring.retraining.launch.launcher import UnreachableError
from monitoring.retraining.promotions import Promotions
from monitoring.retraining.queue import Retraining
from monitoring.retraining.stages import Stages
from monitoring.retraining.versions import Versions
from monitoring.retraining.watch import Watch
from monitoring.store.journal import Journal
from monitoring.store.leases import Lease, LeaseLostError, if_held
from monitoring.store.records import Job

logger = logging.getLogger(__name__)
POLL = 0.5  # s between two looks at the running job
STAND_BY = 5.0  # s between two looks for trainings that another monitor has taken over


@dataclass(frozen=True)
class Loop:
    """The parts of the loop of retraining."""

    journal: Journal
    promotions: Promotions
    versions: Versions
    retraining: Retraining
    challenges: Challenges
    stages: Stages
    watch: Watch


class Runner:
    """Runs jobs, one training at a time on a machine.

    Args:
        interval: seconds between two looks at the service, the schedule and the promotions.
        lease: needed to run jobs; None where there is no other monitor.
    """

    def __init__(self, loop: Loop, interval: float = 30.0, lease: Lease | None = None) -> None:
        self._loop, self._interval, self._lease = loop, interval, lease
        self._journal, self._stages = loop.journal, loop.stages
        self._away = False  # whether the store, or what runs the trainings, did not answer the last time
        self._upkeep: float | None = None  # monotonic time of the last ``keep``
        self._stood: float | None = None  # monotonic time of the last ``stand_by``

    def run_forever(self, stop: threading.Event, poll: float = POLL) -> None:
        """Look again and again until ``stop`` is set; then end the training, which goes on at the next start."""
        repeat(poll, lambda: self._round(stop), stop, fault="the loop of retraining")
        if self._lease is None or self._lease.held:
            for job in self._journal.jobs(states=["running"]):
                self._stages.pause(job)

    def _round(self, stop: threading.Event) -> None:
        try:
            if_held(self._lease, lambda: self.look(stop))
            if self._lease is not None and self._lease.rival:
                self._stand_by()
            self._away = False
        except LeaseLostError as error:
            logger.warning("the loop of retraining stops here: %s", error)
        except (SQLAlchemyError, UnreachableError) as error:
            if not self._away:  # logged once, not twice a second
                logger.warning("the loop of retraining waits: %s", getattr(error, "orig", None) or error)
            self._away = True

    def _stand_by(self) -> None:
        now = time.monotonic()
        if self._stood is None or now - self._stood >= STAND_BY:
            self._stood = now
            self._stages.stand_by()

    def look(self, stop: threading.Event) -> None:
        """Take the running job, else the oldest queued one, a step further; call ``keep`` when it is due."""
        for job in self._journal.jobs(states=["queued"]):
            if job.result.cancel:
                self._stages.cancel(job)
        if current := self._current():
            self._stages.step(current, stop)
        now = time.monotonic()
        if self._upkeep is None or now - self._upkeep >= self._interval:
            self._upkeep = now
            self.keep()

    def keep(self) -> None:
        """Bring the host up to date, record promotions of others, queue what the schedule asks for, and watch."""
        running = self._journal.jobs(states=["running"])
        beside = [(job.model, job.result.version) for job in running if job.result.stage == "shadow"]
        training = any(job.result.stage == "train" for job in running)
        answers = self._loop.versions.answers()
        actions: dict[str, Callable[[], object]] = {
            "write down the promotions of others": self._loop.promotions.record_others,
            "ask the schedule": self._loop.retraining.request_due,
            "ask for approved conversations": self._loop.retraining.request_learned,
            "look after promotions": lambda: self._loop.watch.look(answers=answers, busy=training),
        }
        if answers:
            actions = {
                "bring the host up to date": lambda: self._loop.promotions.rollout.converge(keep=beside)
            } | actions
        for what, action in actions.items():
            try:
                action()
            except Exception:  # a failure must not stop the other actions
                logger.exception("cannot %s", what)

    def _current(self) -> Job | None:
        for job in reversed(self._journal.jobs(states=["running"])):
            return job
        for job in reversed(self._journal.jobs(states=["queued"])):
            return self._stages.begin(job)
        return None
