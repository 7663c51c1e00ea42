"""The watch after a promotion: a new version that does worse than the former one would is rolled back.

- **Error.** The former champion answers, in process, the rows that the new one answered and whose truth has come.
  Rolled back if the former one errs over a tenth less with 95 % confidence, by a bootstrap of blocks that resamples
  both alike. So a hard day, or further drift, weighs on both, unlike on a limit made of yesterday's error.
- **Thumbs**, of a language model in place of the error: the share of thumbs up of the new one is lower beyond the error
  of both.
- **Latency.** The median of some probes is over 1.2 times that before the promotion, and by over 5 ms, three looks in
  a row: then the former one is served beside it, and both are probed in turns. Rolled back only if it holds there too:
  more load slows both. Otherwise the former one's new figure is the one to compare with from there on.
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

from monitoring.retraining.language.learning import ConversationLearning
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
WORSE = 0.1  # share that the former version errs less
SLOWER = 1.2  # times the former version's latency
SLOWER_MS = 5.0  # at least so much slower as well: of a fast model, a fifth is noise
PROBES = 5  # in a look
IN_A_ROW = 3  # looks
MOST_ROWS = 2000  # newest rows that the former version answers again


class Watch:
    """Watches the versions that jobs promoted.

    Args:
        conversations: thumbs judge language models; None where nothing does.
    """

    def __init__(
        self,
        store: Store,
        promotions: Promotions,
        versions: Versions,
        policy: WatchPolicy,
        conversations: ConversationLearning | None = None,
    ) -> None:
        self._store, self._journal = store, store.journal
        self._promotions, self._versions, self._policy = promotions, versions, policy
        self._rollout, self._clock = promotions.rollout, promotions.clock
        self._conversations = conversations
        self._slow, self._failed = Counter[int](), Counter[int]()  # looks in a row, by job
        self._compared: dict[int, tuple[int, str]] = {}  # number and newest id of the rows last compared, by job

    def prepare(self, model: str, former: str) -> Watched:
        """Return the figures of a champion that are needed after it is replaced."""
        labelled = self._store.labelled(model, version=former, limit=MOST_ROWS)
        delays = [max(0.0, (row.labelled - row.prediction.time).total_seconds()) for row in labelled]
        late = float(np.quantile(delays, 0.95)) if delays else 0.0
        return Watched(former, self._median(model, former), late)

    def begin(self, prepared: Watched) -> Watched:
        """Return the watch, begun now."""
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
            answers: whether the service answers; if not, its versions are not at fault.
            busy: whether a training uses the machine, so that latency says nothing.
        """
        for job in self._journal.jobs(states=["promoted"], limit=100):
            watch = job.result.watch
            if watch and watch.open:
                try:
                    self._look(job, watch, answers, busy)
                except (ArchiveError, KeyError, LaunchError, PromotionRefused) as error:  # KeyError: it was removed
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
        """Return why a version's error is a reason for a rollback; None if it is not."""
        version = job.result.version
        since, until = datetime.fromisoformat(watch.since), datetime.fromisoformat(watch.until)
        if self._conversations and self._conversations.is_of(job.model):
            return self._conversations.fell(job.model, Pair(watch.former, version), since, until)
        rows = self._store.labelled(job.model, since=since, until=until, version=version, limit=MOST_ROWS)
        if len(rows) < self._policy.rows:
            return None
        newest = (len(rows), rows[-1].prediction.request_id)
        if self._compared.get(job.id) == newest:
            return None
        gain = self._versions.compare(job.model, Pair(version, watch.former), rows)
        if gain is None or gain.low <= WORSE:
            self._compared[job.id] = newest
            return None
        return (
            f"on its {len(rows)} newest labelled rows {watch.former} would err {gain.value:.0%} less, "
            f"{gain.low:.0%} at least ({gain.challenger:.4g} instead of {gain.champion:.4g})"
        )

    def _fails(self, job: Job, watch: Watched, busy: bool) -> str | None:
        """Return why a version's probes are a reason for a rollback; None if they are not."""
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
        """Probe the new version and the former one in turns; return why to roll back, None if not."""
        version, former, probe = job.result.version, watch.former, self._versions.probe
        self._rollout.beside(job.model, former)
        try:
            pairs = [(probe(job.model, former), probe(job.model, version)) for _ in range(4 * PROBES)]
        finally:
            self._rollout.withdraw(job.model, former)
        old, new = (median(pair[i].milliseconds for pair in pairs) for i in (0, 1))
        if _slower(new, old):
            return f"its example takes {new:.1f} ms, that of {former} {old:.1f} ms"
        self._journal.extend_job(job.id, JobResult(watch=replace(watch, former_ms=old)))
        return None

    def _median(self, model: str, version: str) -> float | None:
        """Return the median of some probes in ms; None if one failed."""
        milliseconds = []
        for _ in range(PROBES):
            readiness = self._versions.probe(model, version)
            if not readiness.ready:
                return None
            milliseconds.append(readiness.milliseconds)
        return median(milliseconds)

    def _close(self, job: Job, watch: Watched, reason: str) -> None:
        self._journal.extend_job(job.id, JobResult(watch=watch.ended(self._clock(), reason)))


def _slower(new: float, old: float) -> bool:
    return new > SLOWER * old and new > old + SLOWER_MS
