"""``marloop keys``: add, list and revoke the API keys of the direct host."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from serving import command_line
from serving.command_line import Json, console, fail
from serving.registry import ArchiveError
from serving.security.keys import KeyFileError, expiry, key_file
from serving.store.opening import open_registry

app = typer.Typer(no_args_is_help=True, help="API keys of the direct host: add, list, revoke.")
Name = Annotated[str, typer.Argument(help="Name of the key, as lists and metrics show it.")]


@app.command()
def add(
    name: Name,
    model: Annotated[list[str] | None, typer.Option(help="A model that it is for; without any, for all.")] = None,
    expires: Annotated[str, typer.Option(help="When it ends: 30d, or a date.")] = "",
    rate: Annotated[float, typer.Option(min=0, help="Requests a second; 0 for any number.")] = 0.0,
) -> None:
    """Make a key, and print it once: only its hash is kept. From the first one on, requests need a key."""
    settings = command_line.settings()
    try:
        models = open_registry(settings).models()
        if unknown := sorted(set(model or []) - set(models)):
            raise KeyFileError(f"there is no model {unknown[0]}; there are: {', '.join(sorted(models))}")
        end = expiry(expires, datetime.now(UTC)) if expires else None
        key = key_file(settings).add(name, tuple(sorted(set(model or []))), end, rate)
    except (ArchiveError, KeyFileError) as error:
        fail(error)
    typer.echo(key)
    typer.echo("it is shown this once; requests send `Authorization: Bearer KEY` or `X-API-Key: KEY`", err=True)
    if settings.host != "direct":
        typer.echo("this host asks for no key: only the direct host does", err=True)


@app.command("list")
def list_keys(as_json: Json = False) -> None:
    """Show the keys: their names, models, ends and rates."""
    try:
        keys = key_file(command_line.settings()).read() or {}
    except KeyFileError as error:
        fail(error)
    if as_json:
        typer.echo(msgspec.json.encode(keys))
        return
    table = Table("name", "models", "created", "expires", "requests/s")
    for name, key in sorted(keys.items()):
        end = f"{key.expires:%Y-%m-%d %H:%M}" if key.expires else "never"
        table.add_row(
            name, ", ".join(key.models) or "all", f"{key.created:%Y-%m-%d}", end, f"{key.rate:g}" if key.rate else "any"
        )
    console.print(table)


@app.command()
def revoke(name: Name) -> None:
    """End a key: workers refuse it within a second."""
    keys = key_file(command_line.settings())
    try:
        left = keys.revoke(name)
    except KeyFileError as error:
        fail(error)
    console.print(f"{name} is revoked", markup=False)
    if not left:
        console.print(
            f"no key is left, so that nobody is let in; remove {keys.path} to serve without keys", markup=False
        )
