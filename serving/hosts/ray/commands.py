"""The commands about Ray: ``ray-config`` and ``ray-node``."""

import os
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from serving import command_line
from serving.command_line import fail
from serving.hosts.host import LaunchError
from serving.hosts.ray import background, launch
from serving.hosts.ray.config import CACHE, application, as_yaml, serve_config
from serving.hosts.ray.settings import Place, RaySettings
from serving.hosts.starting import empty_metrics, measuring
from serving.registry import ArchiveError
from serving.security.folders import FolderError, make_run_folder
from serving.store.opening import open_registry


def ray_config_command(
    archives: Annotated[
        str, typer.Option(help="Folder or URL at which each machine finds the archives; default: MARLOOP_RAY_ARCHIVES.")
    ] = "",
    host: Annotated[str, typer.Option(help="Address of proxies and replicas, on each machine.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the proxies.")] = 8000,
    cache: Annotated[Path, typer.Option(help="Folder for archives on each machine.")] = Path(CACHE),
) -> None:
    """Print the configuration of Ray Serve with the registry's champions, as YAML: for `serve deploy` and KubeRay."""
    settings = command_line.settings()
    registry = open_registry(settings)
    try:
        ray = RaySettings.from_environment(os.environ)
        ray = msgspec.structs.replace(ray, archives=archives or ray.archives)
        champions = registry.champions().items()
        versions = [application(registry, name, *champion, ray) for name, champion in champions]
    except (ArchiveError, ValueError) as error:
        fail(error)
    if not versions:
        fail(f"{registry.store} holds no champion: run `make train MODEL=linear`")
    typer.echo(as_yaml(serve_config(versions, host, port, str(cache), measuring(settings))), nl=False)


def ray_node_command(
    address: Annotated[str, typer.Argument(help="HOST:PORT of the head, whose MARLOOP_RAY_PORT is the port.")],
) -> None:
    """Become a node of the Ray host's cluster, whose head another machine runs, in the foreground."""
    settings = command_line.settings()
    place = Place(settings)
    if place.is_alone:
        fail(f"{place.address} is no address at which other machines reach this one: set MARLOOP_PRIVATE_ADDRESS")
    if not os.environ.get("RAY_AUTH_TOKEN") and not place.token.exists():
        fail("RAY_AUTH_TOKEN is not set: it must be the head's, where MARLOOP_HOST=ray runs with the same variable")
    try:
        background.check_installed()
        make_run_folder(settings.run_dir)
        empty_metrics(settings)
        launch.become(place, "node", address, os.environ)
    except (LaunchError, FolderError, OSError) as error:
        fail(error)
