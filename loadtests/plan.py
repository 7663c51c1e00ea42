"""What a run does, handed from the command to Locust's processes through the environment."""

from pathlib import Path

from handlers.contract import ModelContract
from handlers.observe.settings import EnvironmentSettings
from loadtests.slo import FILE
from serving.registry import ArchiveError, Registry
from serving.settings import Settings


def _variable(name: str) -> str:
    return name.upper() if name in ("model", "profile") else f"LOAD_{name.upper()}"


class Plan(EnvironmentSettings, frozen=True, rename=_variable):
    """One run.

    Attributes:
        model: its name; empty for all models with a champion.
        profile: a key of ``PROFILES``.
        users: the peak; None for the profile's.
        seconds: the length; None for the profile's.
        metrics: ``address:port`` where Prometheus finds the run's metrics when Locust's page is off; empty for nowhere.
        report: the folder that takes the verdict; empty for none.
        slo: the file of objectives.
        seed: of the requests.
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
        """The file of objectives."""
        return Path(self.slo)

    @property
    def report_path(self) -> Path | None:
        """The folder that takes the verdict."""
        return Path(self.report) if self.report else None


def contracts(settings: Settings, model: str) -> list[ModelContract]:
    """The contracts of the champions that are asked.

    Args:
        settings: say where the model store is.
        model: one of them; empty for all.

    Raises:
        ArchiveError: no champion, or its archive is missing, altered or without a contract.
    """
    registry = Registry(settings.model_store)
    names = [model] if model else sorted(registry.champions())
    if not names:
        raise ArchiveError(f"{settings.model_store} holds no model: run `make up`")
    return [registry.champion_contract(name) for name in names]
