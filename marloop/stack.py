"""``marloop up``, ``status`` and ``down``: commands of training, serving and monitoring, each a process of its own."""

import os
import signal
import subprocess
import sys
from typing import Annotated

import msgspec
import typer

from serving import command_line
from serving.command_line import Json
from serving.hosts.ray.front.control import missing
from serving.security import exposure
from serving.settings import ROOT, HostName, Settings
from serving.supervision.supervisor import supervisor_of

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
PROGRAMS = ("serving", "monitoring")  # which have parts that run


@app.command()
def up(
    host: Annotated[HostName | None, typer.Option(help="What serves; default: MARLOOP_HOST, else torchserve.")] = None,
) -> None:
    """Train what is missing, start everything in the background, wait until every model answers."""
    if host:
        os.environ["MARLOOP_HOST"] = host
    settings = command_line.settings()  # a fault in them ends it before minutes of training
    if settings.host == "direct" and (why := exposure.why_closed(settings)):
        command_line.fail(why)
    if settings.host == "ray" and (why := missing()):
        command_line.fail(why)
    for program, verb in (("training", "ensure"), ("serving", "up"), ("monitoring", "up")):
        if code := _run(program, verb).returncode:
            raise typer.Exit(code)


@app.command()
def status(as_json: Json = False) -> None:
    """Ask every model its example: what runs, which versions, do they answer.

    The exit code is 0 only if all answer as they should and every part runs.
    In a container it tells of the part that runs there.
    """
    options = ["--json"] if as_json else []
    programs = _programs_here(command_line.settings())
    done = {program: _run(program, "status", *options, capture=as_json) for program in programs}
    if as_json:
        documents = {program: msgspec.Raw(b"null") for program in PROGRAMS}
        documents |= {program: msgspec.Raw(run.stdout or b"null") for program, run in done.items()}
        typer.echo(msgspec.json.encode(documents))
    _exit(*done.values())


@app.command()
def down() -> None:
    """Stop all that `up` started."""
    _exit(_run("monitoring", "down"), _run("serving", "down"))


def _programs_here(settings: Settings) -> tuple[str, ...]:
    """Return the programs that have parts on this machine: a container has those of one."""
    supervisor = supervisor_of(settings)
    if not supervisor.foreground:
        return PROGRAMS
    return ("monitoring",) if "monitor" in supervisor.parts() else ("serving",)


def _run(*command: str, capture: bool = False) -> subprocess.CompletedProcess[bytes]:
    """Run a command in the checkout, so that it and what it starts find nothing else by the name of a program.

    Ctrl-C reaches the command, which ends in its own way, and then this process by its exit code.
    """
    signal.signal(signal.SIGINT, lambda number, frame: None)  # unlike SIG_IGN, no process inherits it
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # which kills the command
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, stdout=subprocess.PIPE if capture else None)


def _exit(*done: subprocess.CompletedProcess[bytes]) -> None:
    raise typer.Exit(next((run.returncode for run in done if run.returncode), 0))
