"""The loop of retraining, put together for one monitor."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from monitoring.retraining.challenge import Challenges
from monitoring.retraining.policy import JudgePolicy, RetrainPolicy, WatchPolicy
from monitoring.retraining.process import TrainingProcesses
from monitoring.retraining.promotions import Promotions
from monitoring.retraining.queue import Retraining
from monitoring.retraining.runner import Loop
from monitoring.retraining.stages import Stages
from monitoring.retraining.versions import Service, Versions, unfit
from monitoring.retraining.watch import Watch
from monitoring.store.contracts import Contracts
from monitoring.store.predictions import Store
from serving.settings import Settings


@dataclass(frozen=True)
class Policies:
    """Settings of the loop from the environment."""

    retrain: RetrainPolicy
    judge: JudgePolicy
    watch: WatchPolicy

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Policies":
        """Read all variables.

        Raises:
            ValueError: a variable is out of its range; names it.
        """
        judging = JudgePolicy.from_environment(environ)
        retrain = RetrainPolicy.from_environment(environ).enough_for(judging.rows)
        return cls(retrain, judging, WatchPolicy.from_environment(environ))


def closed_loop(
    settings: Settings,
    policies: Policies,
    store: Store,
    contracts: Contracts,
    service: Service,
    clock: Callable[[], datetime],
) -> Loop:
    """Return the loop of one monitor; ``clock`` is in UTC."""
    versions = Versions(store, contracts, service, policies.judge)
    promotions = Promotions(store.journal, contracts.models, service.rollout, clock)
    retraining = Retraining(store, contracts, policies.retrain, unfit, clock)
    challenges = Challenges(store.journal, promotions, versions, policies.retrain)
    watch = Watch(store, promotions, versions, policies.watch)
    stages = Stages(store, promotions, versions, TrainingProcesses(settings), watch, policies.retrain)
    return Loop(store.journal, promotions, versions, retraining, challenges, stages, watch)
