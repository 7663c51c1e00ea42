"""What the commands of ``python -m training`` share: the terminal, the folders that they take, how they end."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

ROOT = Path(__file__).parent.parent
console = Console(highlight=False, soft_wrap=True)

Store = Annotated[Path, typer.Option(envvar="MARLOOP_MODEL_STORE", help="Folder of the archives and the registry.")]
Cache = Annotated[Path, typer.Option(envvar="MARLOOP_CACHE", help="Folder for data that is fetched.")]
Runs = Annotated[Path, typer.Option(envvar="MARLOOP_RUNS", help="Folder of what is under way, to go on from.")]


def telling(model: str) -> Callable[[str], None]:
    """What prints the steps of a model's work."""
    return lambda text: console.print(f"[bold]{model}[/bold]: {text}")


def fail(error: Exception) -> NoReturn:
    """Say what is wrong, and end with 1."""
    console.print("[red]error:[/red]", end=" ")
    console.print(str(error.args[0]), markup=False)
    raise typer.Exit(1) from None
