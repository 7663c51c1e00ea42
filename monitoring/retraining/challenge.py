"""Challenges: a version that is registered already is judged, shadowed and promoted, without a training before it.

A person asks for a challenge, so no cooldown holds it back. Labelled rows that neither version is known to have learned
decide. Where there are none, the answers to recent captured requests do: they must come, in time, and agree.
"""

import threading
from datetime import datetime, timedelta

from handlers.contract import ModelContract
from handlers.observe.events import is_sent_whole
from monitoring.retraining.policy import JudgePolicy, RetrainPolicy
from monitoring.retraining.promotions import Promotions, versions_of
from monitoring.retraining.queue import RetrainRefused
from monitoring.retraining.result import JobResult
from monitoring.retraining.versions import Versions
from monitoring.store.contracts import unmeasured
from monitoring.store.journal import JobUnderWayError, Journal
from monitoring.store.records import UNDER_WAY, Job, Labelled
from serving.registry import ArchiveError
from training.statistics.pair import Pair

_DAY = timedelta(days=1)


class ChallengeRefused(RetrainRefused):
    """A challenge cannot be queued or judged now; the message says why, and what to do."""


class Challenges:
    """Takes requests for challenges.

    Args:
        policy: greatest age and number of the labelled rows.
    """

    def __init__(self, journal: Journal, promotions: Promotions, versions: Versions, policy: RetrainPolicy) -> None:
        self._journal, self._promotions, self._versions, self._policy = journal, promotions, versions, policy
        self._requesting = threading.Lock()

    def request(self, model: str, version: str, reason: str) -> Job:
        """Queue a challenge.

        Args:
            version: number of a registered version in any state but champion.

        Raises:
            KeyError: there is no such model or version.
            ChallengeRefused: not now; recorded too.
        """
        versions_of(self._promotions.models, model, version)
        now = self._promotions.clock()
        with self._requesting:
            try:
                self._check(model, version, now)
                job = self._journal.create_job(
                    model, "hand", reason, now, alone=True, result=JobResult(kind="challenge", version=version)
                )
            except (ArchiveError, ChallengeRefused, JobUnderWayError) as error:
                details = {"trigger": "hand", "version": version, "reason": reason, "why": str(error)}
                self._journal.record(model, "refused_request", details, now)
                raise ChallengeRefused(str(error)) from error
        asked = {"job": job.id, "trigger": "hand", "version": version, "reason": reason}
        self._journal.record(model, "requested", asked, now)
        return job

    def _check(self, model: str, version: str, now: datetime) -> None:
        """Raise unless a challenge can be judged."""
        champion = self._promotions.champion(model)
        if champion is None:
            raise ChallengeRefused(
                f"{model} has no champion to challenge: `marloop promote {model} {version}` makes one"
            )
        if champion == version:
            raise ChallengeRefused(f"{model} {version} is the champion itself: name another version")
        for job in self._journal.jobs(model, UNDER_WAY, limit=1):
            raise ChallengeRefused(f"job {job.id} of {model} is {job.state}: one at a time")
        rows_for(self._versions, model, Pair(champion, version), self._policy, now)


def rows_for(
    versions: Versions, model: str, numbers: Pair[str], policy: RetrainPolicy, now: datetime
) -> list[Labelled]:
    """Return the labelled rows that a challenge is judged on; empty where captured requests decide.

    They do where no row is labelled, and where an archive holds code, which the monitor does not run.

    Raises:
        ChallengeRefused: nothing can be compared, or too little.
        ArchiveError: a version's archive cannot be read.
    """
    champion, challenger = versions.contracts(model, numbers)
    by_hand = f"`marloop promote {model} {challenger.version}` promotes it unjudged"
    for contract in (champion, challenger):
        if why := unmeasured(contract):
            raise ChallengeRefused(f"{why}. So nothing compares two versions here; {_elsewhere(challenger)}{by_hand}")
    since = max([now - policy.age, *_unlearned_since(champion), *_unlearned_since(challenger)])
    code = versions.code_in(model, numbers)
    rows = [] if code else versions.labelled(champion, since, policy.most_rows)
    if len(rows) >= JudgePolicy.rows:
        return rows
    if rows:
        raise ChallengeRefused(
            f"{model} has {len(rows)} labelled rows of the last {policy.age / _DAY:g} days that neither "
            f"{champion.version} nor {challenger.version} is known to have learned, and the judge needs "
            f"{JudgePolicy.rows}: send more feedback; {by_hand}"
        )
    _check_requests(versions, champion, code or f"{model} has no labelled rows", by_hand)
    return []


def _elsewhere(challenger: ModelContract) -> str:
    """Return the command that compares versions which the monitor cannot compare; empty where there is none."""
    if challenger.task != "generation":
        return ""
    return f"`marloop evaluate {challenger.name} --version {challenger.version} --held-out FILE` does; "


def _check_requests(versions: Versions, contract: ModelContract, lacking: str, by_hand: str) -> None:
    """Raise unless enough captured requests can be sent again.

    Args:
        lacking: why no labelled rows decide.
        by_hand: the way out.
    """
    requests, needed = versions.requests(contract)
    if not needed:
        raise ChallengeRefused(f"{lacking}, and MARLOOP_SHADOW_REQUESTS is 0; {by_hand}")
    if requests >= needed:
        return
    if large := [spec.name for spec in contract.inputs if not is_sent_whole(spec)]:
        why = f"of {', '.join(large)} only the mean is captured, so that no request can be sent again"
    else:
        why = (
            f"only {requests} captured requests of {needed} can be sent again: send requests, and best their truth too"
        )
    raise ChallengeRefused(f"{lacking}, and {why}; {by_hand}")


def _unlearned_since(contract: ModelContract) -> list[datetime]:
    """Return the time from which on a version learned no row; empty where its lineage does not tell.

    It does not of an imported model: every row counts as one that it never saw.
    """
    lineage = contract.lineage
    if lineage.feedback:
        return [datetime.fromisoformat(lineage.feedback.held_out_since)]
    return [datetime.fromisoformat(lineage.until) + timedelta(seconds=1)] if lineage.until else []
