"""``python -m monitoring``: start, watch and stop the monitor."""

import os
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
import typer
import uvicorn
from prometheus_client import disable_created_metrics
from sqlalchemy.exc import SQLAlchemyError

from monitoring.api.benchmark_command import bench_events_command
from monitoring.calibration import command as calibration
from monitoring.housekeeping import Housekeeping, Keeping
from monitoring.live.clock import ClockName, wall_clock
from monitoring.live.command import drift_report_command
from monitoring.live.settings import MonitorSettings
from monitoring.replay.command import replay_command
from monitoring.retraining.command import challenge_command
from monitoring.retraining.language import command as conversation_commands
from monitoring.store.database import DatabaseError, database_url
from monitoring.store.predictions import open_store
from monitoring.store.retention import PruneRefusedError, Retention
from monitoring.store.sqlite.sqlite_file import Backups, FileFault
from serving import command_line
from serving.command_line import Json, console, fail, option
from serving.registry import ArchiveError
from serving.settings import Settings
from serving.store.opening import open_registry
from serving.supervision import report
from serving.supervision.companion import CompanionError, monitor
from serving.supervision.supervisor import Supervisor, SupervisorError

HELP = "Start, watch and stop the monitor."
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=HELP)
DEFAULT = MonitorSettings()


@app.command()
def serve(
    inference_url: Annotated[str, option(MonitorSettings, "inference_url")] = DEFAULT.inference_url,
    management_url: Annotated[str, option(MonitorSettings, "management_url")] = DEFAULT.management_url,
    exporter_url: Annotated[str, option(MonitorSettings, "exporter_url")] = DEFAULT.exporter_url,
    interval: Annotated[float, option(MonitorSettings, "probe_interval")] = DEFAULT.probe_interval,
    live_interval: Annotated[float, option(MonitorSettings, "live_interval")] = DEFAULT.live_interval,
    clock: Annotated[ClockName, option(MonitorSettings, "clock")] = DEFAULT.clock,
    run_dir: Annotated[Path | None, typer.Option(help="Folder of the run, by which its process is found.")] = None,
) -> None:
    """Probe the models, take captured predictions and feedback, tell what is known, and retrain, in the foreground."""
    from monitoring.assembly import assemble  # takes seconds, which the other commands should not

    settings = command_line.settings()
    disable_created_metrics()  # a second series for each, which nothing reads
    options = MonitorSettings(inference_url, management_url, exporter_url, interval, live_interval, clock)
    try:
        assembled = assemble(settings, os.environ, options)
    except (DatabaseError, ValueError) as error:
        fail(error)
    uvicorn.run(
        assembled.app,
        host=settings.bind_address,
        port=settings.monitor_port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,  # s; then the tasks end, and with them the training that runs
    )
    assembled.close()


app.command("drift-report")(drift_report_command)
app.command("calibrate")(calibration.calibrate_command)
app.command("false-alarms")(calibration.false_alarms_command)
app.command("replay")(replay_command)
app.command("challenge")(challenge_command)
app.command("bench-events")(bench_events_command)
app.add_typer(conversation_commands.app, name="conversations")


@app.command("prune")
def prune_command(
    every: Annotated[
        bool, typer.Option("--all", help="Also where that is more than MARLOOP_PRUNE_SHARE of all rows.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go, and how large it is.")] = False,
    as_json: Json = False,
) -> None:
    """Remove what is older or more than is kept, as the monitor does by itself."""
    settings, now = command_line.settings(), wall_clock()
    try:
        store = open_store(database_url(os.environ, settings.run_dir), Retention.from_environment(os.environ))
        keeping = Keeping.from_environment(os.environ)
        housekeeping = Housekeeping(settings, store.journal, open_registry(settings), keeping)
        if dry_run:
            expired, leftovers = store.expired(now), list(housekeeping.leftovers(now))
            document: dict[str, object] = {"expired": expired}
            console.print(f"of {expired.rows:,} predictions {expired.old:,} are too old, {expired.excess:,} too many")
            console.print(f"of {expired.labels:,} labels {expired.late:,} waited too long for their prediction")
            if why := expired.refusal(store.retention.share):
                console.print(why, markup=False)
        else:
            removed = store.prune(now, bounded=not every)
            document = {"removed": removed}
            console.print(f"removed {removed:,} predictions", markup=False)
            leftovers = housekeeping.tidy(now)
        store.close()
    except (ArchiveError, DatabaseError, PruneRefusedError, SQLAlchemyError, ValueError) as error:
        fail(error)
    for leftover in leftovers:
        size = f"{leftover.size / 1e6:10.2f} MB" if leftover.size else " " * 13
        console.print(f"{leftover.kind:<9}{size}  {leftover.name}", markup=False)
    if as_json:
        beside = [{"kind": part.kind, "name": part.name, "size": part.size} for part in leftovers]
        typer.echo(msgspec.json.encode(document | {"leftovers": beside}))
    total = sum(leftover.size for leftover in leftovers)
    console.print(f"{'would free' if dry_run else 'freed'} {total / 1e6:,.2f} MB beside the database", markup=False)


@app.command("restore")
def restore_command(
    backup: Annotated[Path | None, typer.Option("--from", help="A backup; default: the newest that is whole.")] = None,
    shown: Annotated[bool, typer.Option("--list", help="Only say which there are.")] = False,
    as_json: Json = False,
) -> None:
    """Put a backup in the place of a damaged SQLite database, which is kept beside it; the monitor must not run."""
    settings = command_line.settings()
    try:
        backups = Backups(_file_of_the_store(settings), 1)
        if shown:
            _print_backups(backups, as_json)
            return
        if monitor(settings).answers():
            raise DatabaseError("the monitor runs: stop it first, with `marloop monitor down`")
        chosen = backup or getattr(backups.newest_good(), "path", None)
        if chosen is None:
            raise DatabaseError(f"there is no backup that is whole in {backups.folder}")
        former = backups.restore(chosen, wall_clock())
        store = open_store(database_url(os.environ, settings.run_dir))
        newest = store.newest()
        store.close()
    except (DatabaseError, FileFault, OSError) as error:
        fail(error)
    if as_json:
        typer.echo(msgspec.json.encode({"restored": chosen, "former": former, "newest": newest}, enc_hook=str))
    console.print(f"restored: {chosen}; its newest prediction is of {newest or 'never'}", markup=False)
    if former:
        console.print(f"the former database is {former}", markup=False)


def _print_backups(backups: Backups, as_json: bool) -> None:
    """Print the backups, the newest first."""
    if as_json:
        typer.echo(msgspec.json.encode(backups.list(), enc_hook=str))
        return
    for saved in backups.list():
        console.print(f"{saved.time:%Y-%m-%d %H:%M:%S}  {saved.size / 1e6:8.1f} MB  {saved.path}", markup=False)
    if not backups.list():
        console.print(f"there is no backup in {backups.folder}", markup=False)


def _file_of_the_store(settings: Settings) -> Path:
    """Return the file of the database.

    Raises:
        DatabaseError: the database is a server's, whose own tools copy it.
    """
    scheme, _, path = database_url(os.environ, settings.run_dir).partition(":///")
    if scheme != "sqlite":
        raise DatabaseError("DATABASE_URL names no SQLite database: PostgreSQL has pg_dump and pg_restore")
    return Path(path)


@app.command()
def supervise() -> None:
    """Become a supervisor of the monitor, in the foreground: starts it anew when it ends or hangs. For containers."""
    settings = command_line.settings()
    Supervisor(settings, foreground=True).become([monitor(settings).program(settings)])


@app.command()
def up() -> None:
    """Start the monitor in the background."""
    settings = command_line.settings()
    try:
        monitor(settings).start(settings)
    except (CompanionError, SupervisorError) as error:
        fail(error)
    console.print(f"console     {settings.monitor_url}/\nmonitor     {settings.monitor_url}/docs")


@app.command()
def status(as_json: Json = False) -> None:
    """Whether the monitor answers, and what its probes find; the exit code is 0 only if every model is ready."""
    settings = command_line.settings()
    running = monitor(settings).answers()
    if running:
        ready = _readiness(settings)
    else:
        part = report.part(settings, "monitor")
        ready = {"ready": False, "reason": "does not run" if part.good else part.summary, "models": {}}
    if as_json:
        typer.echo(msgspec.json.encode({"running": running, **ready}))
    elif running:
        _print_ready(ready)
    else:
        console.print(f"monitor: {ready['reason']}", markup=False)
    raise typer.Exit(0 if ready["ready"] else 1)


def _readiness(settings: Settings) -> dict[str, Any]:
    """Return what the monitor says at `/readyz`; end with an error where another program answers in its place."""
    try:
        ready = httpx.get(f"{settings.monitor_url}/readyz", timeout=5, trust_env=False).json()
        return {"ready": ready["ready"], "models": ready["models"], **ready}
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        what = f"what answers at {settings.monitor_url} is no monitor of Marloop ({type(error).__name__})"
        fail(f"{what}: end it, or set MARLOOP_MONITOR_PORT to another port")


def _print_ready(ready: dict[str, Any]) -> None:
    console.print(f"monitor: answers, and finds the models {'ready' if ready['ready'] else 'not ready'}")
    if reason := ready.get("reason"):
        console.print(f"  {reason}", markup=False)
    for model, answer in ready["models"].items():
        if answer != "as expected":
            console.print(f"  {model}: {answer}", markup=False)


@app.command()
def down() -> None:
    """Stop the monitor and its training, also one that outlived it; the training goes on at the next start."""
    from monitoring.retraining.launch.launcher import UnreachableError
    from monitoring.retraining.launch.place import TrainingPlace, launcher_of
    from monitoring.retraining.launch.trainings import JobTrainings

    settings = command_line.settings()
    console.print("stopped the monitor" if monitor(settings).stop(settings) else "no monitor ran")
    try:
        launcher = launcher_of(TrainingPlace.from_environment(os.environ), settings, os.environ)
        if JobTrainings(settings, launcher).end_all():
            console.print("stopped a training that the monitor had left")
    except (UnreachableError, ValueError) as error:
        fail(f"a training may still run: {error}")


if __name__ == "__main__":
    command_line.run(app, "monitoring")
