"""What all commands share: how they begin, the terminal, the folders that they take, how they end."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from serving import env_file
from serving.settings import ROOT

console = Console(highlight=False, soft_wrap=True)

Store = Annotated[Path, typer.Option(envvar="MARLOOP_MODEL_STORE", help="Folder of the archives and the registry.")]
Cache = Annotated[Path, typer.Option(envvar="MARLOOP_CACHE", help="Folder for data that is fetched.")]
Runs = Annotated[Path, typer.Option(envvar="MARLOOP_RUNS", help="Folder of what is under way, to go on from.")]


def run(app: typer.Typer, name: str, private: bool = False) -> None:
    """Run a command line with the settings of the checkout's ``.env``; the environment wins.

    Args:
        app: of the commands.
        name: how they are called, such as ``python -m serving``.
        private: whether what they and all that they start write, logs and databases, is for its owner alone.
    """
    try:
        env_file.load(os.environ, ROOT)
    except env_file.EnvFileError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None
    if private:
        os.umask(0o077)
    app(prog_name=name)


def telling(model: str) -> Callable[[str], None]:
    """What prints the steps of a model's work."""
    return lambda text: console.print(f"[bold]{model}[/bold]: {text}")


def fail(error: Exception) -> NoReturn:
    """Say what is wrong, and end with 1."""
    console.print("[red]error:[/red]", end=" ")
    console.print(str(error.args[0]), markup=False)
    raise typer.Exit(1) from None
