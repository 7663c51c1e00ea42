"""``python -m monitoring``: start, watch and stop the monitor."""

import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import httpx
import typer
import uvicorn
from prometheus_client import CollectorRegistry, disable_created_metrics
from rich.console import Console

from monitoring.access import Access
from monitoring.app import create_app
from monitoring.catalog import catalog_router
from monitoring.contracts import Contracts
from monitoring.database import DatabaseError, database_url
from monitoring.feedback import feedback_router
from monitoring.ingest import Ingest, events_router
from monitoring.probe import TIMEOUT, Prober
from monitoring.pruning import prune_forever
from monitoring.retention import Retention
from monitoring.store import open_store
from serving.companion import Companion, CompanionError
from serving.registry import Registry
from serving.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
console = Console(highlight=False, soft_wrap=True)
PRUNE_INTERVAL = 60.0  # s


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
    """Probe the models, take captured predictions and feedback, and tell what is known, in the foreground."""
    settings = _settings()
    disable_created_metrics()  # a second series for each, which nothing reads
    registry, models = CollectorRegistry(), Registry(settings.model_store)
    client = httpx.Client(timeout=TIMEOUT, trust_env=False)  # a proxy would not come back to this machine
    prober = Prober(models, inference_url or settings.inference_url, registry, client)
    try:
        store = open_store(database_url(os.environ, settings.run_dir), Retention.from_environment(os.environ))
    except (DatabaseError, ValueError) as error:
        _fail(error)
    contracts, access = Contracts(models), Access(os.environ.get("MARLOOP_TOKEN", ""))
    routers = [
        events_router(Ingest(store, contracts, registry), access),
        feedback_router(store, contracts, access, registry, _now),
        catalog_router(store, contracts),
    ]
    monitor = create_app(prober, registry, interval, routers, [partial(prune_forever, store, _now, PRUNE_INTERVAL)])
    uvicorn.run(monitor, host=settings.bind_address, port=settings.monitor_port, log_level="warning", access_log=False)
    store.close()


@app.command()
def up() -> None:
    """Start the monitor in the background."""
    settings = _settings()
    try:
        companion(settings).start(settings)
    except CompanionError as error:
        _fail(error)
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
        _fail(error)


def _fail(error: Exception) -> NoReturn:
    console.print("[red]error:[/red]", end=" ")
    console.print(str(error), markup=False)
    raise typer.Exit(1) from None


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    app(prog_name="python -m monitoring")
