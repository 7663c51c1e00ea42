"""The loop of retraining, put together for one monitor."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from monitoring.retraining.challenge import Challenges
from monitoring.retraining.language.learning import ConversationLearning
from monitoring.retraining.language.policy import ConversationPolicy
from monitoring.retraining.launch.launcher import Launcher
from monitoring.retraining.launch.trainings import JobTrainings
from monitoring.retraining.policy import JudgePolicy, RetrainPolicy, WatchPolicy
from monitoring.retraining.promotions import Promotions
from monitoring.retraining.queue import Retraining
from monitoring.retraining.runner import Loop
from monitoring.retraining.stages import Stages
from monitoring.retraining.versions import Service, Versions, unfit
from monitoring.retraining.watch import Watch
from monitoring.store.contracts import Contracts
from monitoring.store.predictions import Store
from serving.hosts.host import Rollout
from serving.settings import Folders, Settings


@dataclass(frozen=True)
class Policies:
    """Settings of the loop from the environment; ``cache`` is the folder of data."""

    retrain: RetrainPolicy
    judge: JudgePolicy
    watch: WatchPolicy
    conversations: ConversationPolicy
    cache: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Policies":
        """Read all variables.

        Raises:
            ValueError: a variable is out of its range; names it.
        """
        judging = JudgePolicy.from_environment(environ)
        retrain = RetrainPolicy.from_environment(environ).enough_for(judging.rows)
        conversations = ConversationPolicy.from_environment(environ)
        cache = Folders.from_environment(environ).cache
        return cls(retrain, judging, WatchPolicy.from_environment(environ), conversations, cache)


class ConfirmedRollout(Rollout):
    """A host's rollout that first makes sure that this monitor may act: what a host did, no transaction takes back.

    Args:
        confirm: raises where it may not, as ``Lease.confirm``.
    """

    def __init__(self, rollout: Rollout, confirm: Callable[[], None]) -> None:
        self._rollout, self._confirm = rollout, confirm

    def answers(self) -> bool:
        """Tell whether the host answers."""
        return self._rollout.answers()

    def beside(self, name: str, number: str) -> None:
        """Serve a version beside the champion."""
        self._confirm()
        self._rollout.beside(name, number)

    def withdraw(self, name: str, number: str) -> None:
        """Stop serving a version."""
        self._confirm()
        self._rollout.withdraw(name, number)

    def promote(self, name: str, number: str) -> str:
        """Make a version champion."""
        self._confirm()
        return self._rollout.promote(name, number)

    def converge(self, keep: Collection[tuple[str, str]] = ()) -> None:
        """Serve the registry's champions and nothing else of their models."""
        self._confirm()
        self._rollout.converge(keep)


def closed_loop(
    settings: Settings,
    policies: Policies,
    store: Store,
    contracts: Contracts,
    service: Service,
    clock: Callable[[], datetime],
    launcher: Launcher,
) -> Loop:
    """Return the loop of one monitor, whose trainings ``launcher`` runs; ``clock`` is in UTC."""
    versions = Versions(store, contracts, service, policies.judge)
    promotions = Promotions(store.journal, contracts.models, service.rollout, clock)
    conversations = ConversationLearning(store, contracts, policies.conversations, policies.retrain, policies.cache)
    retraining = Retraining(store, contracts, policies.retrain, unfit, clock, conversations)
    challenges = Challenges(store.journal, promotions, versions, policies.retrain)
    watch = Watch(store, promotions, versions, policies.watch, conversations)
    trainings = JobTrainings(settings, launcher)
    stages = Stages(store, promotions, versions, trainings, watch, policies.retrain, conversations)
    return Loop(store.journal, promotions, versions, retraining, challenges, stages, watch)
