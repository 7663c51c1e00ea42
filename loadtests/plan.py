"""What a run does, handed from the command to Locust's processes through the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from handlers.contract import ModelContract
from loadtests.slo import FILE
from serving.registry import ArchiveError, Registry
from serving.settings import Settings


@dataclass(frozen=True)
class Plan:
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

    def to_environment(self) -> dict[str, str]:
        """The variables that ``from_environment`` reads the same plan from."""
        values = {name: getattr(self, name) for name in self.__annotations__}
        return {_variable(name): "" if value is None else str(value) for name, value in values.items()}

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Plan":
        """Read ``MODEL``, ``PROFILE`` and ``LOAD_…``; what is not there is as by default."""
        texts = {name: environ.get(_variable(name), "") for name in cls.__annotations__}
        return cls(
            model=texts["model"],
            profile=texts["profile"] or cls.profile,
            users=int(texts["users"]) if texts["users"] else None,
            seconds=float(texts["seconds"]) if texts["seconds"] else None,
            metrics=texts["metrics"],
            report=texts["report"],
            slo=texts["slo"] or cls.slo,
            seed=int(texts["seed"] or cls.seed),
        )

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


def _variable(name: str) -> str:
    return name.upper() if name in ("model", "profile") else f"LOAD_{name.upper()}"
