"""The parts of the loop of retraining, put together for one monitor.

What opens archives and reads recipes loads torch, some seconds and half a gigabyte: it is imported where it is needed,
so that a monitor that retrains nothing does without.
"""

import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import httpx
import numpy as np

from handlers.contract import ModelContract
from monitoring.retraining import shadow
from monitoring.retraining.policy import JudgePolicy, RetrainPolicy, WatchPolicy, shadow_options
from monitoring.retraining.process import TrainingProcesses
from monitoring.retraining.queue import Retraining
from monitoring.retraining.result import Shadowed, Verdict
from monitoring.retraining.runner import Runner
from monitoring.retraining.shadow import ShadowPolicy
from monitoring.retraining.stages import Stages
from monitoring.retraining.watch import Watch
from monitoring.store.contracts import Contracts
from monitoring.store.leases import Lease
from monitoring.store.predictions import Store
from monitoring.store.records import Labelled
from serving import rollout
from serving.hosts.torchserve.management import Management, ManagementError
from serving.readiness import Readiness, ask
from serving.registry import ArchiveError
from serving.settings import Settings
from training.statistics import paired

CONFIDENCE = 0.95  # of what a rollback for its error rests on


@dataclass(frozen=True)
class Policies:
    """What the environment says of the loop."""

    retrain: RetrainPolicy
    judge: JudgePolicy
    shadow: ShadowPolicy
    watch: WatchPolicy

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Policies":
        """Read all variables.

        Raises:
            ValueError: one is out of its range; names the variable.
        """
        judging = JudgePolicy.from_environment(environ)
        retrain = RetrainPolicy.from_environment(environ).enough_for(judging.rows)
        return cls(retrain, judging, ShadowPolicy(**shadow_options(environ)), WatchPolicy.from_environment(environ))


@dataclass(frozen=True)
class Service:
    """A TorchServe and how to ask it.

    Attributes:
        inference_url: of the inference port.
        management_address: of its socket, or the URL of the management port.
        client: of httpx.
        token: that the management port wants, where one is configured.
    """

    inference_url: str
    management_address: str
    client: httpx.Client
    token: str = ""

    def answers(self) -> bool:
        """Whether its management does."""
        try:
            self.management(self.client).versions()
        except ManagementError:
            return False
        return True

    def management(self, client: httpx.Client) -> Management:
        """Its management, asked with a client's patience."""
        return Management(self.management_address, client, self.token)


@dataclass(frozen=True)
class Loop:
    """The queue, and the task that works on it."""

    retraining: Retraining
    runner: Runner


def closed_loop(
    settings: Settings,
    policies: Policies,
    store: Store,
    contracts: Contracts,
    service: Service,
    clock: Callable[[], datetime],
    interval: float,
    lease: Lease | None = None,
) -> Loop:
    """Put the loop together.

    Args:
        settings: of the run; trainings get them as their environment.
        policies: of every part.
        store: keeps jobs and decisions, and has the labelled rows.
        contracts: of the registered models.
        service: the running TorchServe.
        clock: the time, in UTC.
        interval: seconds between two looks at TorchServe, the schedule and the promotions.
        lease: by which one of several monitors does the jobs.
    """
    models = contracts.models
    versions = Versions(contracts, policies, service, store)
    # Registering waits for workers, so that its client is more patient than that of the probes.
    patient = httpx.Client(timeout=rollout.TIMEOUT, trust_env=False)
    rolling = rollout.connect(
        models, service.management(patient), service.inference_url, patient, metrics_url=settings.metrics_url
    )
    retraining = Retraining(store, contracts, rolling, policies.retrain, unfit, clock)
    watch = Watch(store, retraining, rolling, policies.watch, versions.probe, versions.compare, clock)
    stages = Stages(
        store,
        models,
        retraining,
        TrainingProcesses(settings),
        versions.judge,
        versions.shadow,
        rolling,
        service.answers,
        watch,
        versions.training_options,
        clock,
    )
    return Loop(retraining, Runner(store, stages, retraining, rolling, service.answers, watch, interval, lease))


class Versions:
    """What the loop asks of two versions of a model, by their numbers.

    Args:
        contracts: of the registered models.
        policies: of judge and shadow.
        service: serves them.
        store: has captured predictions.
    """

    def __init__(self, contracts: Contracts, policies: Policies, service: Service, store: Store) -> None:
        self._contracts, self._models = contracts, contracts.models
        self._policies, self._service, self._store = policies, service, store

    def judge(self, model: str, champion: str, challenger: str, rows: Sequence[Labelled]) -> Verdict:
        """Compare both in this process, on rows that neither learned from."""
        from monitoring.retraining.judging.archived import open_archive
        from monitoring.retraining.judging.judge import judge

        with tempfile.TemporaryDirectory() as folder:
            old, new = (open_archive(self._models, model, one, Path(folder, one)) for one in (champion, challenger))
            return judge(old, new, rows, self._policies.judge)

    def compare(self, model: str, version: str, former: str, rows: Sequence[Labelled]) -> paired.Gain | None:
        """How much less the former one errs on the rows that both accept; None if there is none."""
        from monitoring.retraining.judging.archived import open_archive
        from monitoring.retraining.judging.losses import gather

        with tempfile.TemporaryDirectory() as folder:
            new, old = (open_archive(self._models, model, one, Path(folder, one)) for one in (version, former))
            losses = gather(new, old, rows).losses
        both = np.isfinite(losses.champion) & np.isfinite(losses.challenger)
        if not both.any():
            return None
        return paired.gain(
            replace(losses, champion=losses.champion[both], challenger=losses.challenger[both]), CONFIDENCE
        )

    def shadow(self, model: str, champion: str, challenger: str, stop: threading.Event) -> Shadowed | None:
        """Send the newest captured requests to both over HTTP."""
        policy = self._policies.shadow
        if not policy.requests:
            return None
        old, new = self._contract(model, champion), self._contract(model, challenger)
        newest = self._store.predictions(model, limit=policy.requests)
        return shadow.shadow(self._service.client, self._service.inference_url, old, new, newest, policy, stop)

    def probe(self, model: str, version: str) -> Readiness:
        """Ask a served version its example."""
        return ask(self._service.client, self._service.inference_url, self._contract(model, version))

    def training_options(self, model: str) -> list[str]:
        """Those by which a retraining has the champion's hyperparameters."""
        from training import recipes

        contract = self._contract(model, self._models.champion(model).number)
        preset = str(contract.lineage.get("preset"))
        chosen = ["--preset", preset] if preset in recipes.find(model).presets else []
        return [*chosen, "--calibrate"] if "temperature" in contract.lineage else chosen

    def _contract(self, model: str, number: str) -> ModelContract:
        contract = self._contracts.of(model, number)
        if contract is None:
            raise ArchiveError(f"the archive of {model} {number} cannot be read")
        return contract


def unfit(contract: ModelContract) -> str | None:
    """Why a model cannot be retrained here; None if it can."""
    if contract.task == "generation":
        return (
            f"{contract.name} is a language model: its answers have no labels, so that there is nothing to learn from"
        )
    from training import recipes
    from training.feedback import learnable

    if contract.name not in recipes.names():
        return f"{contract.name} has no recipe under training/recipes, so that it cannot be trained again"
    return recipes.missing(contract.name) or learnable(contract)
