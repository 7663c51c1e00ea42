"""The command ``status``: whether the models answer, and what runs."""

from typing import Annotated

import msgspec
import typer
from rich.table import Table

from serving import command_line, documents
from serving.archive.foreign import strays
from serving.command_line import Json, console, fail
from serving.hosts import chosen
from serving.hosts.host import Host
from serving.readiness import Readiness, ask_all, former_handlers
from serving.registry import ArchiveError
from serving.security import house_key
from serving.security.folders import readable_by_others
from serving.settings import HostName, Settings
from serving.store.opening import open_copy
from serving.store.shared.mirror import why_late
from serving.supervision import report
from serving.supervision.report import Part
from serving.supervision.supervisor import supervisor_of


class Status(msgspec.Struct, frozen=True):
    """State of the host that runs, or of the one that would.

    Attributes:
        host: name, as in MARLOOP_HOST.
        good: whether all models answer as they should and every part runs.
        process: id; None where the host does not run.
        memory: MB by kind of process.
        notes: sentences about what should be changed, though it runs.
    """

    host: HostName
    good: bool = False
    process: int | None = None
    models: list[Readiness] = []
    memory: dict[str, float] = {}
    parts: list[Part] = []
    notes: list[str] = []


def status_command(
    models: Annotated[bool, typer.Option(help="Ask the models alone, as where nothing else of ours runs.")] = False,
    as_json: Json = False,
) -> None:
    """Ask every model its example; the exit code is 0 only if all answer as they should and every part runs."""
    settings = command_line.settings()
    host = chosen.running(settings)
    try:
        status = _status(settings, host, models) if host else _without_host(settings)
    except ArchiveError as error:
        fail(error)
    if as_json:
        typer.echo(documents.to_json(status))
    elif status.process is None and not status.parts:
        console.print(f"{chosen.chosen(settings).TITLE} does not run: `{chosen.up(settings)}` starts it")
    else:
        _print(status)
    raise typer.Exit(0 if status.good else 1)


def print_models(models: list[Readiness]) -> None:
    """Print what each model answers."""
    table = Table("model", "version", "answers", "ms")
    for model in models:
        answer = "as expected" if model.ready else model.detail
        table.add_row(model.name, model.version, answer, f"{model.milliseconds:.1f}")
    console.print(table)


def _status(settings: Settings, host: Host, only_models: bool) -> Status:
    process, registry = host.find(settings), open_copy(settings)
    name = next(name for name, known in chosen.HOSTS.items() if known is host)
    if process is None:  # it ended just now
        return Status(name)
    models = ask_all(registry, settings.inference_url, house_key.of(settings))
    parts = [] if only_models else report.parts(settings, host.parts(settings), host.companions(settings))
    notes: list[str] = [*strays(registry), *filter(None, [why_late(settings)])]
    if name != "direct":  # the others run the code of archives
        notes += former_handlers(registry)
    if not only_models:
        exposed = readable_by_others(settings)
        notes += [f"others than its owner can read {path}: `chmod go-rwx {path}`" for path in exposed]
    good = bool(models) and all(model.ready for model in models) and all(part.good for part in parts)
    return Status(name, good, process.pid, models, dict(host.memory(settings)), parts, notes)


def _without_host(settings: Settings) -> Status:
    """Return the state where no host runs: in a container, of the part that it is for, such as the exporter."""
    supervisor, companions = supervisor_of(settings), chosen.chosen(settings).companions(settings)
    names = [*supervisor.parts()] if supervisor.foreground else []
    parts = [report.part(settings, name) for name in names]
    beside = {companion.name for companion in companions}
    good = bool(parts) and beside.issuperset(names) and all(part.good for part in parts)
    return Status(settings.host, good, parts=parts)


def _print(status: Status) -> None:
    if status.process is not None:
        print_models(status.models)
        memory = ", ".join(f"{kind} {size:.0f}" for kind, size in status.memory.items())
        console.print(f"process {status.process}; memory in MB: {memory}")
    for line in (*(f"{part.name}: {part.summary}" for part in status.parts), *status.notes):
        console.print(line, markup=False)
