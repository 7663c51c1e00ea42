"""``python -m monitoring``: start, watch and stop the monitor."""

import os
from pathlib import Path
from typing import Annotated

import httpx
import typer
import uvicorn
from prometheus_client import CollectorRegistry, disable_created_metrics
from rich.console import Console

from monitoring.app import create_app
from monitoring.probe import TIMEOUT, Prober
from serving.companion import Companion, CompanionError
from serving.registry import Registry
from serving.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
console = Console(highlight=False, soft_wrap=True)


def companion(settings: Settings) -> Companion:
    """The monitor in the background."""
    return Companion("monitor", ("monitoring", "serve"), f"{settings.monitor_url}/healthz")


@app.command()
def serve(
    inference_url: Annotated[
        str, typer.Option(envvar="MARLOOP_INFERENCE_URL", help="Of the service; default: this machine's.")
    ] = "",
    interval: Annotated[
        float, typer.Option(envvar="MARLOOP_PROBE_INTERVAL", min=0.1, help="Seconds between two probes of a model.")
    ] = 5.0,
    run_dir: Annotated[Path | None, typer.Option(help="Folder of the run, by which its process is found.")] = None,
) -> None:
    """Probe the models and serve what was found, in the foreground."""
    settings = _settings()
    disable_created_metrics()  # a second series for each, which nothing reads
    registry = CollectorRegistry()
    client = httpx.Client(timeout=TIMEOUT, trust_env=False)  # a proxy would not come back to this machine
    prober = Prober(Registry(settings.model_store), inference_url or settings.inference_url, registry, client)
    monitor = create_app(prober, registry, interval)
    uvicorn.run(monitor, host=settings.bind_address, port=settings.monitor_port, log_level="warning", access_log=False)


@app.command()
def up() -> None:
    """Start the monitor in the background."""
    settings = _settings()
    try:
        companion(settings).start(settings)
    except CompanionError as error:
        console.print(f"[red]error:[/red] {error}")
        raise typer.Exit(1) from None
    console.print(f"monitor     {settings.monitor_url}/docs")


@app.command()
def status() -> None:
    """Whether the monitor answers."""
    settings = _settings()
    answers = companion(settings).answers()
    console.print(f"monitor: {'answers' if answers else 'does not run'}")
    raise typer.Exit(0 if answers else 1)


@app.command()
def down() -> None:
    """Stop the monitor."""
    settings = _settings()
    console.print("stopped the monitor" if companion(settings).stop(settings) else "no monitor ran")


def _settings() -> Settings:
    try:
        return Settings.from_environment(os.environ)
    except ValueError as error:
        console.print(f"[red]error:[/red] {error}")
        raise typer.Exit(1) from None


if __name__ == "__main__":
    app(prog_name="python -m monitoring")
