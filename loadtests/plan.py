"""The plan of a run, which the command hands to Locust's processes in the environment."""

from pathlib import Path

from handlers.contract import ModelContract
from handlers.observe.settings import EnvironmentSettings
from loadtests.slo import FILE
from serving.registry import ArchiveError, Registry
from serving.settings import Settings


def _variable(name: str) -> str:
    return name.upper() if name in ("model", "profile") else f"LOAD_{name.upper()}"


class Plan(EnvironmentSettings, frozen=True, rename=_variable):
    """A run.

    Attributes:
        model: name of one; empty for all models with a champion.
        profile: a key of ``PROFILES``.
        users: the peak; None for the profile's.
        seconds: duration; None for the profile's.
        metrics: ``address:port`` of the run's metrics for Prometheus when Locust's page is off; empty for none.
        report: folder of the verdict; empty for none.
        slo: file of the objectives.
        seed: seed of the random requests.
    """

    model: str = ""
    profile: str = "smoke"
    users: int | None = None
    seconds: float | None = None
    metrics: str = ""
    report: str = ""
    slo: str = str(FILE)
    seed: int = 0

    @property
    def slo_path(self) -> Path:
        """File of the objectives."""
        return Path(self.slo)

    @property
    def report_path(self) -> Path | None:
        """Folder of the verdict."""
        return Path(self.report) if self.report else None


def contracts(settings: Settings, model: str) -> list[ModelContract]:
    """Return the contracts of a run's champions.

    Args:
        model: name of one; empty for all.

    Raises:
        ArchiveError: there is no champion, or its archive is missing, altered or without a contract.
    """
    registry = Registry(settings.model_store)
    names = [model] if model else sorted(registry.champions())
    if not names:
        raise ArchiveError(f"{settings.model_store} holds no model: run `make up`")
    return [registry.champion_contract(name) for name in names]
