"""The plan of a run, which the command hands to Locust's processes in the environment, and the key that lets it in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from handlers.contract import ModelContract
from handlers.observe.settings import SECRET, EnvironmentSettings, says
from loadtests.slo import FILE
from serving.registry import ArchiveError
from serving.security import house_key
from serving.settings import Settings
from serving.store.opening import open_registry


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


class ClientSettings(EnvironmentSettings, frozen=True):
    """Settings of whoever loads a service."""

    api_key: Annotated[
        str,
        says(
            "API key that load tests send; unset: the direct host of this machine lets them in without, another "
            "machine's only as long as it has no keys.",
            extra_json_schema=SECRET,
        ),
    ] = ""


def key_headers(settings: Settings, url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that let a run in at a URL; none where there is no key.

    Raises:
        ValueError: the file that should hold the key cannot be read.
    """
    key = ClientSettings.from_environment(environ).api_key
    return {"Authorization": f"Bearer {key}"} if key else house_key.headers_for(settings, url)


def contracts(settings: Settings, model: str) -> list[ModelContract]:
    """Return the contracts of a run's champions.

    Args:
        model: name of one; empty for all.

    Raises:
        ArchiveError: there is no champion, or its archive is missing, altered or without a contract.
    """
    registry = open_registry(settings)
    names = [model] if model else sorted(registry.champions())
    if not names:
        raise ArchiveError(f"{registry.place} holds no model: run `make up`")
    return [registry.champion_contract(name) for name in names]
