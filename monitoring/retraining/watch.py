"""The time after a promotion: a new version that does worse than the former one would is rolled back.

- **Error.** The former champion answers, in process, the rows that the new one answered and whose truth has come.
  Rolled back if the former one errs over a tenth less with 95 % confidence, by a bootstrap of blocks that draws both
  alike. So a hard day, or a world that drifts on, weighs on both; a limit made of yesterday's error would not know.
- **Latency.** The median of some probes over 1.2 times that before the promotion, and by over 5 ms, three looks in a
  row: then the former one is served beside, and both are asked in turns. Rolled back only if it holds there too: more
  load slows both, and then today's figure of the former one is what to compare with from there on.
- **Failures.** Probes failed in three looks in a row, while the service answers, and the former one's had not.

It does not flap: a rollback is not watched, its cooldown holds triggers back, and none goes to a version that was
itself rolled back.
"""

import logging
from collections import Counter
from datetime import datetime, timedelta
from statistics import median

import numpy as np
from msgspec import UNSET
from msgspec.structs import replace

from monitoring.retraining.policy import WatchPolicy
from monitoring.retraining.promotions import PromotionRefused, Promotions
from monitoring.retraining.result import JobResult, Watched
from monitoring.retraining.versions import Versions
from monitoring.store.predictions import Store
from monitoring.store.records import Job
from serving.hosts.host import LaunchError
from serving.registry import ArchiveError
from training.statistics.pair import Pair

logger = logging.getLogger(__name__)
WORSE = 0.1  # share that the former one errs less
SLOWER = 1.2  # times the former's latency
SLOWER_MS = 5.0  # and by so much: of a fast model, a fifth is noise
ASKED = 5  # times in a look
IN_A_ROW = 3  # looks
MOST_ROWS = 2000  # that the former one answers again, the newest


class Watch:
    """Looks after the versions that jobs promoted.

    Args:
        store: has jobs and labelled rows.
        promotions: rolls back.
        versions: are compared, and asked their examples.
        policy: for how long.
    """

    def __init__(self, store: Store, promotions: Promotions, versions: Versions, policy: WatchPolicy) -> None:
        self._store, self._journal = store, store.journal
        self._promotions, self._versions, self._policy = promotions, versions, policy
        self._rollout, self._clock = promotions.rollout, promotions.clock
        self._slow, self._failed = Counter[int](), Counter[int]()  # looks in a row, by job
        self._compared: dict[int, tuple[int, str]] = {}  # the rows that the error was last told of, by job

    def prepare(self, model: str, former: str) -> Watched:
        """What is to be remembered of a champion before it is replaced."""
        labelled = self._store.labelled(model, version=former, limit=MOST_ROWS)
        delays = [max(0.0, (row.labelled - row.prediction.time).total_seconds()) for row in labelled]
        late = float(np.quantile(delays, 0.95)) if delays else 0.0
        return Watched(former, self._median(model, former), late)

    def begin(self, prepared: Watched) -> Watched:
        """Return the watch as it begins now."""
        now = self._clock()
        until = now + self._policy.age
        closes = until + timedelta(seconds=prepared.label_delay_seconds or 0.0)
        return replace(
            prepared,
            since=now.isoformat(),
            until=until.isoformat(),
            closes=closes.isoformat(),
            open=self._policy.age > timedelta(0),
        )

    def look(self, answers: bool = True, busy: bool = False) -> None:
        """Look at every version that is watched.

        Args:
            answers: whether the service does; if not, its versions are not at fault.
            busy: whether a training takes the machine's time, so that latency says nothing.
        """
        for job in self._journal.jobs(states=["promoted"], limit=100):
            watch = job.result.watch
            if watch and watch.open:
                try:
                    self._look(job, watch, answers, busy)
                except (ArchiveError, LaunchError, PromotionRefused) as error:
                    logger.warning("cannot look after %s %s: %s", job.model, job.result.version, error)

    def _look(self, job: Job, watch: Watched, answers: bool, busy: bool) -> None:
        version, now = job.result.version, self._clock()
        champion = self._promotions.champion(job.model)
        if champion != version:
            self._close(job, watch, f"{champion or 'none'} was promoted")
            return
        reason = self._errs(job, watch)
        if reason is None and answers and now <= datetime.fromisoformat(watch.until):
            reason = self._fails(job, watch, busy)
        if reason is not None:
            logger.warning("rolling back %s %s: %s", job.model, version, reason)
            self._promotions.rollback(job.model, "watch", reason, expect=version)
        elif now > datetime.fromisoformat(watch.closes):
            self._close(job, watch, "it did no worse")

    def _errs(self, job: Job, watch: Watched) -> str | None:
        """Why its error is a reason to go back."""
        version = job.result.version
        since, until = datetime.fromisoformat(watch.since), datetime.fromisoformat(watch.until)
        rows = self._store.labelled(job.model, since=since, until=until, version=version, limit=MOST_ROWS)
        if len(rows) < self._policy.rows:
            return None
        seen = (len(rows), rows[-1].prediction.request_id)
        if self._compared.get(job.id) == seen:
            return None
        gain = self._versions.compare(job.model, Pair(version, watch.former), rows)
        if gain is None or gain.low <= WORSE:
            self._compared[job.id] = seen
            return None
        return (
            f"on its {len(rows)} newest labelled rows {watch.former} would err {gain.value:.0%} less, "
            f"{gain.low:.0%} at least ({gain.challenger:.4g} instead of {gain.champion:.4g})"
        )

    def _fails(self, job: Job, watch: Watched, busy: bool) -> str | None:
        """Why its answers are a reason to go back."""
        version, former, before = job.result.version, watch.former, watch.former_ms
        if before is None or before is UNSET:
            return None
        now = self._median(job.model, version)
        self._failed[job.id] = self._failed[job.id] + 1 if now is None else 0
        if now is None:
            bad = self._failed[job.id] >= IN_A_ROW
            return f"it failed its probe in {IN_A_ROW} looks in a row, which {former} did not" if bad else None
        if busy:
            return None
        self._slow[job.id] = self._slow[job.id] + 1 if _slower(now, before) else 0
        if self._slow[job.id] < IN_A_ROW:
            return None
        self._slow[job.id] = 0
        return self._beside(job, watch)

    def _beside(self, job: Job, watch: Watched) -> str | None:
        """Ask the new version and the former one in turns."""
        version, former, probe = job.result.version, watch.former, self._versions.probe
        self._rollout.beside(job.model, former)
        try:
            pairs = [(probe(job.model, former), probe(job.model, version)) for _ in range(4 * ASKED)]
        finally:
            self._rollout.withdraw(job.model, former)
        old, new = (median(pair[i].milliseconds for pair in pairs) for i in (0, 1))
        if _slower(new, old):
            return f"its example takes {new:.1f} ms, that of {former} {old:.1f} ms"
        self._journal.extend_job(job.id, JobResult(watch=replace(watch, former_ms=old)))
        return None

    def _median(self, model: str, version: str) -> float | None:
        """The median of some probes in ms; None if one failed."""
        milliseconds = []
        for _ in range(ASKED):
            readiness = self._versions.probe(model, version)
            if not readiness.ready:
                return None
            milliseconds.append(readiness.milliseconds)
        return median(milliseconds)

    def _close(self, job: Job, watch: Watched, reason: str) -> None:
        self._journal.extend_job(job.id, JobResult(watch=watch.ended(self._clock(), reason)))


def _slower(new: float, old: float) -> bool:
    return new > SLOWER * old and new > old + SLOWER_MS
