"""``python -m serving``: start, watch and stop the host that serves the models of the registry."""

import json
import os
from pathlib import Path
from typing import Annotated

import httpx
import typer

from handlers.contract.example import request_of
from handlers.observe.logs import configure
from handlers.observe.settings import Credentials
from serving import command_line, documents
from serving.archive.foreign import strays
from serving.command_line import Json, console, fail
from serving.hosts import chosen
from serving.hosts.drain_command import drain_command
from serving.hosts.host import TIMEOUT, LaunchError
from serving.hosts.ray.commands import ray_config_command, ray_node_command
from serving.hosts.status_command import print_models, status_command
from serving.hosts.torchserve import background, management_port
from serving.hosts.torchserve.launch import launch, torchserve_folder
from serving.hosts.torchserve.management import socket_client
from serving.hosts.version_commands import (
    example_command,
    list_command,
    promote_command,
    register_command,
    remove_command,
    rollback_command,
)
from serving.metrics import exporter as exporting
from serving.registry import ArchiveError
from serving.security import exposure, key_commands
from serving.settings import Settings
from serving.store.commands import share_command, sign_command, verify_command
from serving.store.opening import open_copy, open_registry
from serving.store.shared import mirror_process
from serving.store.shared.mirror import Mirror, synchronise
from serving.supervision import companion
from serving.supervision.companion import CompanionError
from serving.supervision.supervisor import Supervisor, SupervisorError

HELP = "Start, watch and stop the host that serves the models of the registry."
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=HELP)
app.add_typer(key_commands.app, name="keys")
LONGEST_CURL = 300  # characters of a request that is shown whole


@app.command("launch")
def launch_command() -> None:
    """Verify the archives and become TorchServe, in the foreground: for containers and supervisors."""
    try:
        launch(command_line.settings(), os.environ)
    except (LaunchError, ArchiveError, ValueError) as error:
        fail(error)


@app.command()
def supervise(
    part: Annotated[str, typer.Argument(help="host (the one of MARLOOP_HOST), exporter or management.")] = "host",
) -> None:
    """Become a supervisor of one part, in the foreground: starts it anew when it ends or hangs. For containers."""
    settings = command_line.settings()
    companions = {service.name: service for service in (companion.exporter(settings), companion.management(settings))}
    supervisor = Supervisor(settings, foreground=True)
    if part in ("host", background.PART):
        try:
            synchronise(open_registry(settings))
            programs, before_end = chosen.chosen(settings).foreground(settings)
            mirrors = [part.program(settings)._replace(vital=False) for part in companion.mirror_if_shared(settings)]
            console.print(exposure.audience(settings), markup=False)
            supervisor.become([*programs, *mirrors], before_end)
        except (ArchiveError, LaunchError) as error:
            fail(error)
    elif part in companions:
        supervisor.become([companions[part].program(settings)])
    else:
        fail(ValueError(f"there is no part {part}; there are {', '.join(['host', *companions])}"))


@app.command()
def up() -> None:
    """Start the host in the background, or bring it up to date, and wait until every model answers its example."""
    settings = command_line.settings()
    companions = chosen.chosen(settings).companions(settings)
    try:
        with console.status("waiting until every model answers"):
            models = chosen.start(settings, say=console.print)
            for part in companions:
                part.start(settings)
    except (LaunchError, ArchiveError, CompanionError, SupervisorError) as error:
        fail(error)
    print_models(models)
    urls = {"inference": settings.inference_url}
    if any(part.name == "management" for part in companions):
        urls["management"] = settings.management_url
    urls["metrics"] = f"{settings.exporter_url}/metrics"
    console.print("\n" + "".join(f"{name:<11} {url}\n" for name, url in urls.items()))
    console.print(f"{exposure.audience(settings)}\n", markup=False)
    for sentence in strays(open_copy(settings)):
        console.print(f"{sentence}\n", markup=False, soft_wrap=True)
    for model in models:
        if model.ready:
            console.print(_curl(settings, model.name), markup=False)
    raise typer.Exit(0 if all(model.ready for model in models) else 1)


@app.command()
def deploy(as_json: Json = False) -> None:
    """Make the running host serve the registry's champions, without failing a request; starts nothing."""
    settings = command_line.settings()
    host = chosen.running(settings)
    if host is None:
        title = chosen.chosen(settings).TITLE
        fail(LaunchError(f"{title} does not run here: `{chosen.up(settings)}` starts it"))
    try:
        synchronise(open_registry(settings))
        models = host.start(settings, say=console.print)
    except (LaunchError, ArchiveError, SupervisorError) as error:
        fail(error)
    if as_json:
        typer.echo(documents.to_json(models))
    print_models(models)
    raise typer.Exit(0 if all(model.ready for model in models) else 1)


@app.command()
def exporter(
    run_dir: Annotated[Path | None, typer.Option(help="Folder of the run, by which its process is found.")] = None,
) -> None:
    """Serve the workers' metrics to Prometheus, in the foreground."""
    settings = command_line.settings()
    try:
        server = exporting.server(settings.metrics, settings.private_address, settings.exporter_port)
    except OSError as error:
        fail(OSError(f"cannot listen on {settings.exporter_url}: {error.strerror}; set MARLOOP_EXPORTER_PORT"))
    server.serve_forever()


@app.command()
def mirror(
    run_dir: Annotated[Path | None, typer.Option(help="Folder of the run, by which its process is found.")] = None,
) -> None:
    """Keep this machine's copy of a shared model store up to date, in the foreground."""
    settings = command_line.settings()
    configure()
    try:
        mirror_process.serve(Mirror(command_line.registry()), companion.mirror_socket(settings))
    except ValueError as error:
        fail(error)


@app.command()
def management(
    run_dir: Annotated[Path | None, typer.Option(help="Folder of the run, by which its process is found.")] = None,
) -> None:
    """Guard TorchServe's management: pass on what callers may do, in the foreground."""
    settings = command_line.settings()
    client = socket_client(str(settings.socket), httpx.Timeout(TIMEOUT))
    try:
        token = Credentials.from_environment(os.environ).token
    except ValueError as error:
        fail(error)
    port = management_port.ManagementPort(open_copy(settings), client, token, settings.hosts)
    try:
        server = management_port.server(port, settings.private_address, settings.management_port)
    except OSError as error:
        fail(OSError(f"cannot listen on {settings.management_url}: {error.strerror}; set MARLOOP_MANAGEMENT_PORT"))
    server.serve_forever()


@app.command()
def logs(
    lines: Annotated[int, typer.Option(min=0, help="Lines of each log to begin with.")] = 50,
    follow: Annotated[bool, typer.Option(help="Go on with what is written.")] = True,
) -> None:
    """Follow the logs of all that runs, the monitor's included."""
    folder = command_line.settings().run_dir
    files = sorted(map(str, folder.glob("*.log")))
    if not files:
        fail(f"there is no log in {folder}: `make up` starts what writes them")
    os.execvp("tail", ["tail", "-n", str(lines), *(["-F"] if follow else []), *files])


@app.command()
def sbom() -> None:
    """Print what runs here, as a bill of materials for a scanner (CycloneDX)."""
    from serving.security.sbom import bill_of_materials

    try:
        typer.echo(bill_of_materials(torchserve_folder() / "frontend" / "model-server.jar"))
    except LaunchError as error:
        fail(error)


@app.command()
def down() -> None:
    """Stop whatever host runs with all its workers, the exporter and the management port."""
    settings = command_line.settings()
    parts = (companion.management(settings), companion.exporter(settings), companion.mirror(settings))
    ended = sum(part.stop(settings) for part in parts)
    ended += sum(host.stop(settings) for host in chosen.HOSTS.values())
    console.print(f"stopped {ended} processes" if ended else "nothing ran")


@app.command("restore-registry")
def restore_registry() -> None:
    """Mend a damaged registry: from its last good copy, else from what is left of it and the archives."""
    from serving.store.restore import restore

    try:
        restored = restore(command_line.registry())
    except ArchiveError as error:
        fail(error)
    except OSError as error:
        fail(f"the registry cannot be restored: {command_line.sentence(error)}")
    for sentence in restored.steps:
        console.print(sentence, markup=False)


app.command("status")(status_command)
app.command("drain")(drain_command)
app.command("list")(list_command)
app.command("promote")(promote_command)
app.command("rollback")(rollback_command)
app.command("remove")(remove_command)
app.command("register")(register_command)
app.command("example")(example_command)
app.command("ray-config")(ray_config_command)
app.command("ray-node")(ray_node_command)
app.command("sign")(sign_command)
app.command("verify")(verify_command)
app.command("share")(share_command)


def _curl(settings: Settings, name: str) -> str:
    contract = open_copy(settings).champion_contract(name)
    url = f"{settings.inference_url}/predictions/{name}"
    if contract.task == "opaque":
        body, kind = request_of(contract)
        path = settings.run_dir / f"{name}-example"
        path.write_bytes(body)
        return f"curl -H 'Content-Type: {kind}' --data-binary @{path} {url}"
    request = json.dumps(contract.example.request)
    if len(request) > LONGEST_CURL:
        path = settings.run_dir / f"{name}-example.json"
        path.write_text(request, "utf-8")
        request = f"@{path}"
    return f"curl -H 'Content-Type: application/json' -d '{request}' {url}"


if __name__ == "__main__":
    command_line.run(app, "serving")
