"""The commands about the versions of the store: ``list``, ``promote``, ``rollback``, ``remove`` and ``example``."""

import json
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from handlers.contract.example import request_of
from serving import command_line, documents
from serving.command_line import Json, console, fail, sentence
from serving.hosts import chosen
from serving.hosts.host import LaunchError
from serving.hosts.removal import remove
from serving.hosts.trial import check_loads
from serving.hosts.unregistered import register
from serving.registry import ArchiveError, Registry, Version

Model = Annotated[str, typer.Argument(help="Name of a model.")]


class Listed(msgspec.Struct, frozen=True):
    """A version as ``list`` shows it.

    Attributes:
        state: as in the registry; ``damaged`` where its entry cannot be read, and ``fault`` says why.
        metric: the one that decides; empty where nothing is measured.
    """

    model: str
    version: str
    state: str
    created: str = ""
    archive: str = ""
    metric: str = ""
    value: float | None = None
    fault: str = ""


def list_command(
    model: Annotated[str | None, typer.Argument(help="Name of a model; default: all.")] = None,
    as_json: Json = False,
) -> None:
    """Show the versions of the models in the store, oldest first: which one is champion, and how good each is."""
    registry = command_line.registry()
    try:
        versions = [version for version in _versions(registry) if model in (None, version.model)]
    except ArchiveError as error:
        fail(error)
    if model and not versions:
        fail(f"{model} is not registered; there are {', '.join(registry.models()) or 'none'}")
    if as_json:
        typer.echo(documents.to_json(versions))
        return
    table = Table("model", "version", "state", "created", "measured")
    for version in versions:
        measured = version.fault if version.value is None else f"{version.metric} {version.value:.4g}"
        table.add_row(version.model, version.version, version.state, version.created[:16].replace("T", " "), measured)
    console.print(table if versions else f"{registry.place} holds no model")


def promote_command(
    model: Model,
    version: Annotated[str, typer.Argument(help="Version to serve, such as 1.0.")],
) -> None:
    """Make a version champion, once it is loaded; running hosts follow, TorchServe at the next `up`."""
    _promote(command_line.registry(), model, version, "serving promote")


def rollback_command(model: Model) -> None:
    """Promote the version again that the champion replaced; running hosts follow, TorchServe at the next `up`."""
    registry = command_line.registry()
    try:
        former = _former(registry, model)
    except ArchiveError as error:
        fail(error)
    _promote(registry, model, former, "serving rollback")


def remove_command(
    model: Model,
    version: Annotated[
        str | None, typer.Argument(help="Version that is not champion; default: the whole model, all its versions.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove a whole model without asking.")] = False,
) -> None:
    """Remove a version, or a whole model, for good: archive and report too. What the monitor stored of it stays."""
    settings = command_line.settings()
    if version is None and not yes:
        typer.confirm(f"Remove {model} with all its versions?", abort=True)
    try:
        remove(settings, chosen.running(settings), model, version, say=console.print)
    except (KeyError, ValueError, ArchiveError, LaunchError) as error:
        fail(error)
    except OSError as error:
        fail(f"not all of it could be removed: {sentence(error)}; the same command goes on")
    console.print(f"removed {' '.join(filter(None, (model, version)))}")


def example_command(model: Model) -> None:
    """Print a model's example request, the JSON to send it; of a handler from elsewhere whatever it takes."""
    try:
        contract = command_line.registry().champion_contract(model)
    except ArchiveError as error:
        fail(error)
    if contract.task == "opaque":
        typer.echo(request_of(contract)[0], nl=False)
    else:
        typer.echo(json.dumps(contract.example.request))


def register_command(
    sources: Annotated[
        list[str], typer.Argument(help="Folders of archives, archives, or URLs with #sha256= and 64 digits behind.")
    ],
) -> None:
    """Register archives that come without a registry; the newest version of each model becomes champion."""
    registry = command_line.registry()
    try:
        champions = register(sources, registry)
    except (ArchiveError, OSError) as error:
        fail(error)
    for name, number in champions.items():
        console.print(f"{name} {number} is champion in {registry.store}", markup=False)


def _versions(registry: Registry) -> list[Listed]:
    versions = [
        _listed(model, number, version)
        for model, numbers in registry.models().items()
        for number, version in numbers.items()
    ]
    return versions + [
        Listed(model, number, "damaged", fault=fault)
        for model, faults in registry.damaged().items()
        for number, fault in faults.items()
    ]


def _listed(model: str, number: str, version: Version) -> Listed:
    try:
        evaluation = version.measured
    except ValueError:  # an entry of another release
        return Listed(model, number, version.state, version.created, version.archive)
    value = evaluation.metrics.get(evaluation.primary)
    metric = evaluation.primary if value is not None else ""
    return Listed(model, number, version.state, version.created, version.archive, metric, value)


def _former(registry: Registry, model: str) -> str:
    """Return the version that a model's champion replaced.

    Raises:
        ArchiveError: there is no champion, or it is not known or registered no more.
    """
    champion = registry.champion(model).number
    replaced = [noted.former for noted in registry.promotions() if (noted.model, noted.version) == (model, champion)]
    others = [number for number in registry.models()[model] if number != champion]
    if replaced and replaced[-1] in others:
        return replaced[-1]
    way = f"choose one of {', '.join(others)} by promote" if others else "there is no other"
    raise ArchiveError(f"no version is known that {model} {champion} replaced: {way}")


def _promote(registry: Registry, model: str, version: str, by: str) -> None:
    try:
        if known := registry.models().get(model, {}).get(version):
            check_loads(registry.verify(known))
        registry.promote(model, version, by, "asked for by hand")
    except (KeyError, ArchiveError) as error:
        fail(error)
    except OSError as error:
        fail(f"the registry cannot be written: {sentence(error)}")
    console.print(f"{model} {version} is champion; TorchServe serves it after `make up`, the other hosts at once")
