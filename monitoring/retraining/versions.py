"""The versions of a model: compared in this process, sent requests, and probed.

Modules that open archives or read recipes load torch, some seconds and half a gigabyte. They are imported where they
are needed, so that a monitor that retrains nothing does not load it.
"""

import contextlib
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np

from handlers.contract import ModelContract
from monitoring.retraining import shadow
from monitoring.retraining.policy import JudgePolicy
from monitoring.retraining.result import Shadowed, Verdict
from monitoring.store.contracts import Contracts
from monitoring.store.predictions import Store
from monitoring.store.records import Labelled
from serving.hosts.host import Rollout
from serving.readiness import Readiness, ask
from serving.registry import ArchiveError
from training.statistics import paired
from training.statistics.pair import Pair

if TYPE_CHECKING:
    from monitoring.retraining.judging.archived import Archived

CONFIDENCE = 0.95  # of the gain that a rollback needs


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

    def compare(self, model: str, numbers: Pair[str], rows: Sequence[Labelled]) -> paired.Gain | None:
        """Measure how much less the challenger errs on the rows that both accept; None without such rows."""
        from monitoring.retraining.judging.losses import gather

        with self._opened(model, numbers) as versions:
            losses = gather(versions, rows).losses
        both = np.isfinite(losses.champion) & np.isfinite(losses.challenger)
        if not both.any():
            return None
        return paired.gain(
            replace(losses, champion=losses.champion[both], challenger=losses.challenger[both]), CONFIDENCE
        )

    def shadow(self, model: str, numbers: Pair[str], stop: threading.Event) -> Shadowed | None:
        """Send the newest captured requests to two versions over HTTP; None if there is nothing to send."""
        if not self._judging.shadow_requests:
            return None
        contracts = numbers.map(lambda number: self._contract(model, number))
        newest = self._store.predictions(model, limit=self._judging.shadow_requests)
        service = self._service
        return shadow.shadow(service.client, service.inference_url, contracts, newest, self._judging, stop)

    def probe(self, model: str, version: str) -> Readiness:
        """Send a served version its example."""
        return ask(self._service.client, self._service.inference_url, self._contract(model, version))

    def training_options(self, model: str) -> list[str]:
        """Return the options that give a retraining the champion's hyperparameters."""
        from training import recipes

        contract = self._contract(model, self._models.champion(model).number)
        preset = contract.lineage.preset
        chosen = ["--preset", preset] if preset in recipes.find(model).presets else []
        return [*chosen, "--calibrate"] if contract.lineage.temperature is not None else chosen

    @contextlib.contextmanager
    def _opened(self, model: str, numbers: Pair[str]) -> "Iterator[Pair[Archived]]":
        from monitoring.retraining.judging.archived import open_archive

        with tempfile.TemporaryDirectory() as folder:
            yield numbers.map(lambda number: open_archive(self._models, model, number, Path(folder, number)))

    def _contract(self, model: str, number: str) -> ModelContract:
        contract = self._contracts.of(model, number)
        if contract is None:
            raise ArchiveError(f"the archive of {model} {number} cannot be read")
        return contract


def unfit(contract: ModelContract) -> str | None:
    """Return why a model cannot be retrained here; None if it can."""
    if contract.task == "generation":
        return (
            f"{contract.name} is a language model: its answers have no labels, so that there is nothing to learn from"
        )
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
    return recipes.missing(contract.name) or learnable(contract)
