"""The versions of a model: compared in this process, sent requests, and probed.

Modules that open archives or read recipes load torch, some seconds and half a gigabyte. They are imported where they
are needed, so that a monitor that retrains nothing does not load it.
"""

import contextlib
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np

from handlers.contract import ModelContract
from monitoring.retraining.judging import shadow
from monitoring.retraining.policy import JudgePolicy
from monitoring.retraining.result import Shadowed, Verdict
from monitoring.store.contracts import Contracts
from monitoring.store.predictions import Store
from monitoring.store.records import Labelled, Prediction
from serving import archive
from serving.hosts.host import Rollout
from serving.readiness import Readiness, ask
from serving.registry import ArchiveError
from training.statistics import paired
from training.statistics.labels import label_fault
from training.statistics.pair import Pair

if TYPE_CHECKING:
    from monitoring.retraining.judging.archived import Archived

CONFIDENCE = 0.95  # of the gain that a rollback needs
CODE = (archive.HOOKS, *archive.KEPT)  # files that are code, or that a library runs as if they were


@dataclass(frozen=True)
class Service:
    """A running host, and a client for it.

    Attributes:
        rollout: changes which versions it serves.
    """

    inference_url: str
    client: httpx.Client
    rollout: Rollout


class Versions:
    """The versions of every model, by their numbers."""

    def __init__(self, store: Store, contracts: Contracts, service: Service, judging: JudgePolicy) -> None:
        self._store, self._contracts, self._models = store, contracts, contracts.models
        self._service, self._judging = service, judging

    def answers(self) -> bool:
        """Return whether the service answers."""
        return self._service.rollout.answers()

    def judge(self, model: str, numbers: Pair[str], rows: Sequence[Labelled]) -> Verdict:
        """Compare two versions in this process, on rows that neither learned from."""
        from monitoring.retraining.judging.judge import judge

        with self._opened(model, numbers) as versions:
            return judge(versions, rows, self._judging)

    def code_in(self, model: str, numbers: Pair[str]) -> str:
        """Return which version brings code of its own, which this process must not run; empty where neither does."""
        versions = self._models.models()[model]
        for number in numbers:
            files = archive.names(self._models.verify(versions[number]))
            if held := [name for name in CODE if name in files]:
                return f"{model} {number} holds {held[0]}, code that the monitor does not run"
        return ""

    def admit(self, model: str, numbers: Pair[str]) -> Verdict:
        """Judge a challenger whose answers will decide, by what needs no labelled rows."""
        from monitoring.retraining.judging.judge import admit, admit_by_contract

        if code := self.code_in(model, numbers):
            return admit_by_contract(self.contracts(model, numbers), code)
        with self._opened(model, numbers) as versions:
            return admit(versions)

    def compare(self, model: str, numbers: Pair[str], rows: Sequence[Labelled]) -> paired.Gain | None:
        """Measure how much less the challenger errs on the rows that both accept; None without such rows.

        Versions that bring code of their own are not compared.
        """
        from monitoring.retraining.judging.losses import gather

        if self.code_in(model, numbers):
            return None
        with self._opened(model, numbers) as versions:
            losses = gather(versions, rows).losses
        both = np.isfinite(losses.champion) & np.isfinite(losses.challenger)
        if not both.any():
            return None
        return paired.gain(
            replace(losses, champion=losses.champion[both], challenger=losses.challenger[both]), CONFIDENCE
        )

    def shadow(self, model: str, numbers: Pair[str], stop: threading.Event, decides: bool = False) -> Shadowed | None:
        """Send the newest captured requests to two versions over HTTP; None where the settings ask for none.

        Args:
            decides: whether nothing else tells how good the challenger is, so that its answers must agree as well.
        """
        if not self._judging.shadow_requests:
            return None
        service, contracts = self._service, self.contracts(model, numbers)
        if contracts.challenger.task == "generation":  # whose answers to the same request may all be right
            example = self.probe(model, numbers.challenger)
            return Shadowed(0, passed=example.ready, reason="" if example.ready else f"its example: {example.detail}")
        newest = self._newest(model)
        if decides and not (example := self.probe(model, numbers.challenger)).ready:
            return Shadowed(0, reason=f"it does not answer its own example: {example.detail}")
        shadowed = shadow.shadow(service.client, service.inference_url, contracts, newest, self._judging, stop)
        return shadow.require_agreement(shadowed, self._judging) if decides else shadowed

    def contracts(self, model: str, numbers: Pair[str]) -> Pair[ModelContract]:
        """Return the contracts of two versions.

        Raises:
            ArchiveError: an archive is missing, altered or without a contract.
        """
        return numbers.map(lambda number: self._contract(model, number))

    def labelled(self, contract: ModelContract, since: datetime, limit: int) -> list[Labelled]:
        """Return labelled rows of a model that a version can answer again, and whose label it has, oldest first."""
        rows = self._store.labelled(contract.name, since=since, limit=limit)
        return [
            row
            for row in rows
            if label_fault(contract, row.label) is None and shadow.request_again(contract, row.prediction) is not None
        ]

    def requests(self, contract: ModelContract) -> tuple[int, int]:
        """Return how many of the newest captured requests a version can be sent again, and how many are needed."""
        newest = self._newest(contract.name) if self._judging.shadow_requests else []
        again = [shadow.request_again(contract, prediction) for prediction in newest]
        return sum(body is not None for body in again), shadow.least_requests(self._judging)

    def probe(self, model: str, version: str) -> Readiness:
        """Send a served version its example."""
        return ask(self._service.client, self._service.inference_url, self._contract(model, version))

    def training_options(self, model: str) -> list[str]:
        """Return the options that give a retraining the champion's hyperparameters."""
        from training import recipes

        contract = self._contract(model, self._models.champion(model).number)
        preset = contract.lineage.preset
        chosen = ["--preset", preset] if preset in recipes.find_any(model).presets else []
        return [*chosen, "--calibrate"] if contract.lineage.temperature is not None else chosen

    @contextlib.contextmanager
    def _opened(self, model: str, numbers: Pair[str]) -> "Iterator[Pair[Archived]]":
        from monitoring.retraining.judging.archived import open_archive

        with tempfile.TemporaryDirectory() as folder:
            yield numbers.map(lambda number: open_archive(self._models, model, number, Path(folder, number)))

    def _newest(self, model: str) -> list[Prediction]:
        return self._store.predictions(model, limit=self._judging.shadow_requests)

    def _contract(self, model: str, number: str) -> ModelContract:
        contract = self._contracts.of(model, number)
        if contract is None:
            raise ArchiveError(f"the archive of {model} {number} cannot be read")
        return contract


def unfit(contract: ModelContract) -> str | None:
    """Return why a model cannot be retrained here; None if it can."""
    if contract.task == "generation" and contract.lineage.imported:
        return f"{contract.name} is a language model that was imported: no recipe tells how it would be trained again"
    if contract.task == "opaque":
        return f"{contract.name} has a handler from elsewhere: nothing is known of its network that could be trained"
    from training import recipes
    from training.data import DataError
    from training.feedback import learnable

    try:
        if contract.name not in recipes.names():
            where = "under training/recipes or in MARLOOP_RECIPES"
            return f"{contract.name} has no recipe {where}, so that it cannot be trained again"
        recipes.find_any(contract.name)
    except (recipes.RecipeError, DataError) as error:
        return f"{contract.name} cannot be trained again: {error}"
    if why := recipes.missing(contract.name):
        return why
    return None if contract.task == "generation" else learnable(contract)
