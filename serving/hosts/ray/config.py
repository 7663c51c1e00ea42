"""The configuration of Ray Serve, made from the registry: one application a served version.

A version is an application of its own, since Serve changes one in place and never goes back: a broken archive would
take its model down. The same configuration again restarts nothing. ``serve deploy`` and KubeRay's RayService
(``spec.serveConfigV2``) take it as YAML.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import yaml

from serving import archive
from serving.archive.autoscaling import Autoscaling, autoscaling_of
from serving.hosts.ray.settings import RaySettings
from serving.registry import ArchiveError, Registry, Version

IMPORT_PATH = "serving.hosts.ray.replica:application"
DEPLOYMENT = "replica"
CACHE = "/tmp/marloop-archives"  # of each machine, where nothing else is said
MOST_WAITING = 1000  # requests, as TorchServe's job_queue_size
MOST_ONGOING = 256  # of a replica: a batch has 64, and the next ones wait in its own queue


class Application(msgspec.Struct, frozen=True):
    """A version as it is deployed.

    Attributes:
        archive: URL or path, the same on each machine.
        replicas: the fewest.
        most_replicas: as many as the fewest, or more.
        target: requests that a replica has at a time, by which their number is chosen.
        upscale_delay: s until replicas are added; None: Ray Serve's default.
        downscale_delay: s until replicas are ended; None: Ray Serve's default.
        threads: of each replica's engine, and the cores that Ray counts for it.
    """

    model: str
    version: str
    archive: str
    sha256: str
    replicas: int = 2
    most_replicas: int = 2
    target: float = 16
    upscale_delay: float | None = None
    downscale_delay: float | None = None
    threads: int = 1

    @property
    def name(self) -> str:
        """Its name in Ray Serve."""
        return f"{self.model}-{self.version}"

    @property
    def key(self) -> tuple[str, str]:
        """The model and the version."""
        return self.model, self.version

    @property
    def route(self) -> str:
        """The prefix of its paths."""
        return f"/predictions/{self.model}/{self.version}"


def application(registry: Registry, model: str, number: str, version: Version, settings: RaySettings) -> Application:
    """Return a version of the registry as it is deployed.

    Raises:
        ArchiveError: its settings cannot be read, or its numbers of replicas are wrong.
    """
    file = registry.archive(version)
    config = archive.read_config(file)
    try:
        own = autoscaling_of(config)
    except ValueError as error:
        raise ArchiveError(f"{file}, {archive.CONFIG}: {error}") from error
    fewest, most = _replicas(config, own, settings)
    return Application(
        model=model,
        version=number,
        archive=_location(registry, version, settings.archives),
        sha256=version.sha256,
        replicas=fewest,
        most_replicas=most,
        target=own.target_ongoing_requests or settings.target,
        upscale_delay=own.upscale_delay_s,
        downscale_delay=own.downscale_delay_s,
    )


def _replicas(config: Mapping[str, Any], own: Autoscaling, settings: RaySettings) -> tuple[int, int]:
    """Return the fewest and the most replicas: an archive's own numbers, else those of the settings and its workers."""
    fewest = own.min_replicas or max(settings.replicas, _count(config, "minWorkers"))
    most = own.max_replicas or max(fewest, settings.most_replicas, _count(config, "maxWorkers"))
    return min(fewest, most), most


def _location(registry: Registry, version: Version, folder: str) -> str:
    """Return the path or URL from which replicas fetch an archive; a folder of the settings goes before the store."""
    if folder:
        return f"{folder.rstrip('/')}/{version.archive}"
    return registry.files.location(version) if registry.origin else str(registry.store.resolve() / version.archive)


def serve_config(
    applications: Sequence[Application],
    host: str = "0.0.0.0",
    port: int = 8000,
    cache: str = CACHE,
    variables: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the configuration of Ray Serve with these versions, and no others.

    Args:
        host: address of the proxies and of the replicas, which each other machine must reach.
        port: of the proxies.
        cache: folder for the archives on each machine.
        variables: of the replicas' environment; no secret belongs there, since the dashboard shows it.
    """
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": host, "port": port, "request_timeout_s": 130, "keep_alive_timeout_s": 75},
        "logging_config": {"log_level": "WARNING", "enable_access_log": False},
        "applications": [_entry(deployed, cache, variables or {}) for deployed in applications],
    }


def as_yaml(config: Mapping[str, Any]) -> str:
    """Return a configuration as ``serve deploy`` reads it."""
    return yaml.safe_dump(dict(config), sort_keys=False)


def _entry(deployed: Application, cache: str, variables: Mapping[str, str]) -> dict[str, Any]:
    deployment: dict[str, Any] = {
        "name": DEPLOYMENT,
        "max_ongoing_requests": MOST_ONGOING,
        "max_queued_requests": MOST_WAITING,
        "ray_actor_options": {"num_cpus": deployed.threads},
    }
    if deployed.most_replicas > deployed.replicas:
        deployment["autoscaling_config"] = _autoscaling(deployed)
    else:
        deployment["num_replicas"] = deployed.replicas
    return {
        "name": deployed.name,
        "route_prefix": deployed.route,
        "import_path": IMPORT_PATH,
        "runtime_env": {"env_vars": dict(variables)} if variables else {},
        "args": {
            "archive": deployed.archive,
            "sha256": deployed.sha256,
            "route": deployed.route,
            "cache": cache,
            "threads": deployed.threads,
        },
        "deployments": [deployment],
    }


def _autoscaling(deployed: Application) -> dict[str, Any]:
    """Return the section of Ray Serve's configuration by which the number of replicas follows the load."""
    delays = {"upscale_delay_s": deployed.upscale_delay, "downscale_delay_s": deployed.downscale_delay}
    return {
        "min_replicas": deployed.replicas,
        "max_replicas": deployed.most_replicas,
        "target_ongoing_requests": deployed.target,
        **{name: seconds for name, seconds in delays.items() if seconds is not None},
    }


def _count(config: Mapping[str, Any], name: str) -> int:
    """Return a number of workers in an archive's settings; 1 where it names none."""
    value = config.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 1
