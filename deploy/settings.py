"""Write ``.env.example`` and docs/settings.md from the code, which defines each setting once:

python -m deploy.settings
"""

import textwrap
from pathlib import Path
from typing import Annotated

from handlers.observe.settings import (
    CaptureSettings,
    Credentials,
    EnvironmentSettings,
    Setting,
    WorkerSettings,
    as_text,
    says,
)
from loadtests.plan import ClientSettings
from monitoring.housekeeping import Keeping
from monitoring.live.live import QualityWindow
from monitoring.live.settings import MonitorSettings
from monitoring.retraining.language.policy import ConversationPolicy
from monitoring.retraining.launch.place import TrainingPlace
from monitoring.retraining.policy import JudgePolicy, RetrainPolicy, WatchPolicy
from monitoring.store.retention import Retention
from monitoring.store.sqlite.backup_task import BackupPolicy
from serving.hosts.fleet import FleetSettings
from serving.hosts.ray.settings import RaySettings
from serving.hosts.torchserve.launch import JavaSettings
from serving.hosts.worker_environment import WorkerVariables
from serving.settings import ROOT, DatabaseSettings, Folders, Port, RecipeSettings, Settings
from serving.traces.settings import TraceSettings
from training.improve.commands_export import ExportSettings
from training.improve.sharing.database import SharingSettings

EXAMPLE, PAGE = ROOT / ".env.example", ROOT / "docs" / "settings.md"
BEGINNING = """\
Every port and path can be overridden by an environment variable; these are the defaults. A relative path starts at the
repository. Every command reads a file `.env` beside this one, as docker compose does; the environment wins. make and
docker compose read quotes, #, $, \\ and blanks at the ends differently: a line with them is refused with its number.
MARLOOP_ENV_FILE in the environment names another file, or is off."""


class ComposeSettings(EnvironmentSettings, frozen=True, rename=str.upper):
    """Settings that docker-compose.yml alone reads."""

    secrets_dir: Annotated[str, says("Folder of the files that hold secrets; `make secrets` makes them.")] = "./secrets"
    bind_address: Annotated[str, says("Address that inference, monitor and Grafana are published on.")] = "127.0.0.1"
    grafana_port: Annotated[Port, says("Grafana's port.")] = 3000
    models: Annotated[str, says("Models that the first start trains; empty: none.")] = "linear flights"
    model_store: Annotated[str, says("A volume or a folder of models.")] = "models"
    extras: Annotated[
        str,
        says(
            "Extras of pyproject.toml that the images are built with, a blank between two, such as chat, grpc or otel.",
            examples=["otel"],
        ),
    ] = ""
    prometheus_retention: Annotated[str, says("How long Prometheus keeps what it knows.")] = "15d"
    torchserve_memory: Annotated[str, says("Memory of TorchServe with its workers.")] = "4g"
    torchserve_cpus: Annotated[
        float, says("Cores that TorchServe with its workers may use; no more than the machine has.")
    ] = 2
    train_cpus: Annotated[float, says("Cores that training may use; no more than the machine has.")] = 1


PARTS: dict[str, tuple[type[EnvironmentSettings], ...]] = {
    "Ports and folders": (Settings, Folders),
    "Recipes": (RecipeSettings,),
    "Secrets": (Credentials, ClientSettings),
    "Workers": (WorkerSettings, CaptureSettings, WorkerVariables),
    "The Ray host": (RaySettings,),
    "Traces": (TraceSettings,),
    "Monitor": (MonitorSettings, DatabaseSettings, QualityWindow),
    "What is kept": (Retention, BackupPolicy, Keeping),
    "Retraining": (RetrainPolicy, JudgePolicy, WatchPolicy, ConversationPolicy),
    "Work on several machines": (TrainingPlace, FleetSettings, SharingSettings),
    "Other programs": (JavaSettings, ExportSettings),
    "Docker only": (ComposeSettings,),
}


def example() -> str:
    """Return ``.env.example``."""
    lines = [_comment(BEGINNING)]
    for title, parts in PARTS.items():
        lines += ["", f"## {title}"]
        for setting in (setting for part in parts for setting in part.settings().values()):
            assignment = (
                f"#{setting.variable}={setting.example}"
                if setting.example
                else f"{setting.variable}={_default(setting)}"
            )
            lines += [_comment(setting.description), assignment]
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return docs/settings.md."""
    beginning = " ".join(BEGINNING.replace("beside this one", "in the checkout").split())
    lines = ["# Settings", "", beginning, ""]
    lines += ["`python -m deploy.settings` writes this page and [.env.example](../.env.example) from the code.", ""]
    for title, parts in PARTS.items():
        modules = dict.fromkeys(
            f"`{part.__module__.replace('.', '/')}.py`" for part in parts if part.__module__ != __name__
        )
        lines += [f"## {title}", "", *([f"In {', '.join(modules)}.", ""] if modules else [])]
        lines += ["| variable | default | value | meaning |", "| --- | --- | --- | --- |"]
        for setting in (setting for part in parts for setting in part.settings().values()):
            default = f"`{_default(setting)}`" if _default(setting) else ""
            lines.append(f"| `{setting.variable}` | {default} | {setting.accepted} | {setting.description} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _comment(text: str) -> str:
    return textwrap.fill(
        text, 120, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
    )


def _default(setting: Setting) -> str:
    """Return the text of a default: a path relative to the repository, whole numbers without a point."""
    value = setting.default
    if isinstance(value, Path):
        return str(value.relative_to(ROOT))
    return as_text(value).removesuffix(".0") if isinstance(value, float) else as_text(value)


if __name__ == "__main__":
    EXAMPLE.write_text(example())
    PAGE.write_text(page())
