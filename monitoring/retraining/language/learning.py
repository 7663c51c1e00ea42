"""What a language model learns on the loop: approved conversations, and how a version that learned them is judged."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.retraining.language.approved import FEWEST, split, write_conversations
from monitoring.retraining.language.policy import ConversationPolicy
from monitoring.retraining.language.thumbs import compare_thumbs, count_thumbs
from monitoring.retraining.policy import RetrainPolicy
from monitoring.retraining.result import Check, JobResult, Verdict
from monitoring.store.contracts import Contracts
from monitoring.store.predictions import Store
from monitoring.store.records import Job
from monitoring.store.reviews import ReviewedConversation, Reviews
from training.statistics.pair import Pair

if TYPE_CHECKING:
    from training.language.evaluation.comparison import Comparison

METRIC = "win rate"
MOST_HELD_OUT = 500  # conversations, the newest, on which two versions are compared
MOST_THUMBS = 2000  # the newest of each version


class ConversationLearning:
    """Learns approved conversations.

    Args:
        cache: folder of data, which tasks may need.
    """

    def __init__(
        self, store: Store, contracts: Contracts, policy: ConversationPolicy, retrain: RetrainPolicy, cache: Path
    ) -> None:
        self._store, self._contracts, self._policy, self._retrain = store, contracts, policy, retrain
        self._reviews, self._cache = Reviews(store.database, policy.thumbs_approve), cache

    def is_of(self, model: str) -> bool:
        """Tell whether a model learns conversations: whether it is a language model."""
        contract = self._contracts.of(model)
        return contract is not None and contract.task == "generation"

    def lacking(self, model: str, now: datetime) -> str | None:
        """Return why a model has too few approved conversations; None if it has enough."""
        learned, held_out = self._split(model, now)
        if len(learned) >= FEWEST and len(held_out) >= FEWEST:
            return None
        return (
            f"{model} has {len(learned)} approved conversations to learn and {len(held_out)} that are held out, and "
            f"{FEWEST} of each are needed: `marloop conversations approve {model} …`"
        )

    def due(self, model: str, newest: Job | None, now: datetime) -> str | None:
        """Return why a model should be retrained now; None if it should not.

        Args:
            newest: its last retraining.
        """
        after = newest.created if newest else None
        since = now - self._retrain.age
        approved = self._reviews.conversations(model, "approved", since=since, decided_after=after)
        if len(approved) < self._policy.new or self.lacking(model, now):
            return None
        return f"{len(approved)} conversations were approved" + (" since the last retraining" if newest else "")

    def write(self, model: str, path: Path, now: datetime) -> JobResult:
        """Write the conversations that a training learns, and return what is told of them."""
        learned, _ = self._split(model, now)
        write_conversations(path, learned)
        until = learned[-1].conversation.time.isoformat() if learned else ""
        return JobResult(rows=len(learned), rows_until=until)

    def judge(self, model: str, numbers: Pair[str], now: datetime) -> Verdict:
        """Compare two versions in this process: on held-out conversations, tasks, and prompts whose answers must stay.

        Raises:
            ArchiveError: a version's archive cannot be read.
            DataError: an engine cannot be used here, or tasks cannot be run.
        """
        from training.language.evaluation.comparison import Trial, compare_versions
        from training.language.evaluation.tasks import read_tasks

        _, held_out = self._split(model, now)
        tasks = read_tasks(self._policy.tasks, self._cache) if self._policy.tasks else None
        conversations = [one.messages for one in held_out[-MOST_HELD_OUT:]]
        trial = Trial(tasks=tasks, conversations=conversations, only_fitting=True)
        return _verdict(compare_versions(self._contracts.models, model, numbers, trial))

    def fell(self, model: str, numbers: Pair[str], since: datetime, until: datetime) -> str | None:
        """Return why thumbs are a reason for a rollback; None if they are not.

        Args:
            numbers: the former champion and the version that took its place.
            since: when it did, and ``until`` the end of the watch.
        """
        former = self._store.labelled(model, version=numbers.champion, limit=MOST_THUMBS)
        new = self._store.labelled(model, version=numbers.challenger, since=since, until=until, limit=MOST_THUMBS)
        return compare_thumbs(Pair(count_thumbs(former), count_thumbs(new)), numbers, self._policy.thumbs)

    def _split(self, model: str, now: datetime) -> tuple[list[ReviewedConversation], list[ReviewedConversation]]:
        """Return the approved conversations to learn and those held out, of the last days and the newest."""
        since, most = now - self._retrain.age, self._retrain.most_rows
        approved: Sequence[ReviewedConversation] = self._reviews.conversations(
            model, "approved", since=since, limit=most
        )
        return split(approved, self._policy.holdout)


def _verdict(result: "Comparison") -> Verdict:
    """Return a comparison as the verdict of a job."""
    won = result.won
    against, better = ". ".join(result.worse), ". ".join(result.better)
    checks = (
        Check("worse", not result.worse, against or "it is worse in nothing beyond chance"),
        Check("better", bool(result.better), better or "it is better in nothing beyond chance"),
    )
    rows, share = (won.rows, won.share) if won else (0, None)
    champion = None if share is None else 1 - share
    return Verdict(result.promotes, result.reason, checks, METRIC, champion, share, None, None, rows)
