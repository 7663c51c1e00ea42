"""The command ``drift-report``."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from monitoring.live.clock import wall_clock
from monitoring.store.contracts import unmeasured
from monitoring.store.database import DatabaseError, database_url
from monitoring.store.predictions import open_store
from monitoring.store.retention import Retention
from serving import command_line
from serving.command_line import Json, console, fail
from serving.registry import ArchiveError
from serving.store.opening import open_registry


def drift_report_command(
    model: Annotated[str, typer.Argument(help="Name of a model with a champion.")],
    until: Annotated[datetime | None, typer.Option(help="End of the window, in UTC; default: now.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="File; default: reports/MODEL-drift.html in the run's folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a page about the drift of a model's newest rows, with each distribution beside its reference."""
    from monitoring.live import drift_report

    settings = command_line.settings()
    try:
        contract = open_registry(settings).champion_contract(model)
        if why := unmeasured(contract):
            raise ValueError(why)
        store = open_store(database_url(os.environ, settings.run_dir), Retention.from_environment(os.environ))
        path = output or settings.run_dir / "reports" / f"{model}-drift.html"
        drift = drift_report.write_report(store, contract, until.replace(tzinfo=UTC) if until else wall_clock(), path)
        store.close()
    except (ArchiveError, DatabaseError, ValueError) as error:
        fail(error)
    if as_json:
        typer.echo(msgspec.json.encode(drift_report.document(drift, path)))
    console.print(f"{drift_report.verdict(drift)} Written: {path}", markup=False)
