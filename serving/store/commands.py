"""The commands about model stores and signatures of archives: ``share``, ``sign`` and ``verify``."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from serving import command_line
from serving.command_line import console, fail
from serving.registry import ArchiveError, Registry, Version, version_of
from serving.store.trust import Trust

Model = Annotated[str, typer.Argument(help="Name of a model.")]


def sign_command(
    model: Model,
    version: Annotated[str, typer.Argument(help="Version to sign, such as 1.0.")],
    key: Annotated[Path | None, typer.Option(help="Private key in PEM; default: MARLOOP_SIGNING_KEY.")] = None,
) -> None:
    """Sign a version's archive with a private key, so that hosts with its public key serve it."""
    key = key or command_line.settings().signing_key
    if key is None:
        fail("there is no private key: name its file by --key or MARLOOP_SIGNING_KEY")
    registry = command_line.registry()
    try:
        signed = version_of(registry.models(), model, version)
        path = registry.files.sign(signed, Trust(signing_key=key))
    except (ArchiveError, KeyError) as error:
        fail(error)
    console.print(f"{model} {version} is signed: {path}", markup=False)


def verify_command(
    model: Annotated[str | None, typer.Argument(help="Name of a model; default: all.")] = None,
    version: Annotated[str | None, typer.Argument(help="One version of it; default: all.")] = None,
    key: Annotated[Path | None, typer.Option(help="Public key in PEM; default: MARLOOP_PUBLIC_KEY.")] = None,
) -> None:
    """Check that archives are as registered, and with a public key that they are signed with its private one.

    The exit code is 1 if one is not.
    """
    registry, key = command_line.registry(), key or command_line.settings().public_key
    trust = Trust(public_key=key)
    good = True
    try:
        chosen = list(_chosen(registry, model, version))
    except (ArchiveError, KeyError) as error:
        fail(error)
    for name, number, entry in chosen:
        try:
            registry.files.verify(entry, trust)
        except ArchiveError as error:
            good = False
            console.print(f"{name} {number}: {error}", markup=False)
        else:
            how = f"as registered, and signed for {key}" if key else "as registered; no key was given for its signature"
            console.print(f"{name} {number}: {how}", markup=False)
    raise typer.Exit(0 if good else 1)


def share_command(
    source: Annotated[Path, typer.Argument(help="Folder of a model store, such as model_store.")],
) -> None:
    """Copy the versions of a folder into the store that several machines share, and leave the folder as it is."""
    registry = command_line.registry()
    if registry.origin is None:
        fail("MARLOOP_MODEL_STORE names a folder of this machine: set it to a URL, such as s3://bucket/models")
    try:
        copied = share(Registry(source), registry)
    except (ArchiveError, OSError) as error:
        fail(error)
    for line in copied:
        console.print(line, markup=False)
    console.print(f"{registry.place} has {len(copied)} versions more", markup=False)


def share(source: Registry, target: Registry) -> list[str]:
    """Copy the versions that a store lacks, and return their names; a model that it has keeps its champion.

    Raises:
        ArchiveError: an archive is not as registered, or the store does not answer; nothing was registered.
        OSError: an archive cannot be copied; likewise.
    """
    copied = []
    with target.change() as models:
        known = {name: dict(versions) for name, versions in models.items()}
        for name, versions in source.models().items():
            for number, version in versions.items():
                if number in {*known.get(name, {}), *target.removed(name)}:
                    continue
                path = source.verify(version)
                if path.resolve() != (target.store / version.archive).resolve():
                    shutil.copyfile(path, target.store / version.archive)
                state = version.state if name not in known or version.state != "champion" else "retired"
                entry = Version(version.archive, version.sha256, state, version.created, version.evaluation)
                models.setdefault(name, {})[number] = entry
                copied.append(f"{name} {number} ({state})")
    return copied


def _chosen(registry: Registry, model: str | None, version: str | None) -> list[tuple[str, str, Version]]:
    """Return the names, numbers and entries of the versions that are asked for.

    Raises:
        KeyError: there are none.
    """
    models = registry.models()
    if model is not None and version is not None:
        return [(model, version, version_of(models, model, version))]
    if model is not None and model not in models:
        raise KeyError(f"{model} is not registered; there are {', '.join(models) or 'none'}")
    return [
        (name, number, entry)
        for name, versions in models.items()
        for number, entry in versions.items()
        if model in (None, name)
    ]
