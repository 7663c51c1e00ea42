"""Settings of the Ray host, and its ports."""

from enum import IntEnum
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from handlers.observe.settings import EnvironmentSettings, says
from serving.settings import Settings

LOOPBACK = "127.0.0.1"
Count = Annotated[int, Meta(ge=1, le=10_000, title="a positive number")]


class RaySettings(EnvironmentSettings, frozen=True, rename=lambda name: f"MARLOOP_RAY_{name.upper()}"):
    """How many replicas the Ray host keeps, and where they are reached."""

    replicas: Annotated[
        Count, says("The fewest replicas of a version on the Ray host. With one, a replica that dies is missed.")
    ] = 2
    most_replicas: Annotated[
        Count, says("The most replicas of a version on the Ray host; no more than the fewest: none are added.")
    ] = 1
    target: Annotated[
        float,
        says(
            "Requests that each replica of the Ray host has at a time, by which their number is chosen.",
            gt=0,
            lt=1e6,
            title="a positive number",
        ),
    ] = 16
    proxies: Annotated[
        str,
        says(
            "HOST:PORT of Ray Serve's proxies on all machines, separated by commas; unset: this machine's.",
            pattern=r"^\S+:\d+([\s,]+\S+:\d+)*$",
            title="HOST:PORT, separated by commas",
        ),
    ] = ""
    nodes: Annotated[
        Count,
        says(
            "Machines of the Ray host that must have joined before the first versions are deployed: Ray spreads "
            "replicas over those that are there, and moves none later."
        ),
    ] = 1
    archives: Annotated[
        str,
        says(
            "Folder or URL at which each machine of the Ray host finds the archives; unset: MARLOOP_MODEL_STORE.",
        ),
    ] = ""


class Offset(IntEnum):
    """The Ray host's ports, counted from ``Settings.ray_port``."""

    GCS = 0
    DASHBOARD = 1
    PROXY = 2
    FALLBACK_HTTP = 3
    FALLBACK_GRPC = 4
    PROXY_STATS = 5
    PROXY_METRICS = 6
    AGENT = 7
    AGENT_GRPC = 8
    RUNTIME_ENV = 9
    METRICS = 10
    NODE_MANAGER = 11
    OBJECT_MANAGER = 12


class Place(msgspec.Struct, frozen=True):
    """Files and addresses of a run of the Ray host."""

    settings: Settings

    def port(self, offset: Offset) -> int:
        """Return one of its ports."""
        return self.settings.ray_port + offset

    @property
    def address(self) -> str:
        """The address of Ray's own processes, as others of the cluster reach them."""
        private = self.settings.private_address
        return LOOPBACK if private in ("0.0.0.0", "::") else private

    @property
    def is_alone(self) -> bool:
        """Whether no other machine can join."""
        return self.address == LOOPBACK

    @property
    def served_at(self) -> str:
        """Address of the proxies and replicas; one that all machines have, where there are several."""
        return LOOPBACK if self.is_alone else "0.0.0.0"

    @property
    def head(self) -> str:
        """Address of the head, for other nodes."""
        return f"{self.address}:{self.port(Offset.GCS)}"

    @property
    def dashboard(self) -> str:
        """URL of Ray's dashboard, on loopback alone: whoever reaches it runs code."""
        return f"http://127.0.0.1:{self.port(Offset.DASHBOARD)}"

    @property
    def proxy(self) -> str:
        """Address of Ray Serve's proxy on this machine."""
        return f"{self.address}:{self.port(Offset.PROXY)}"

    @property
    def folder(self) -> Path:
        """The private folder of Ray's sockets and logs, short as a socket's path must be."""
        return self.settings.temporary / "ray"

    @property
    def cache(self) -> Path:
        """The folder of the archives that replicas fetched and unpacked."""
        return self.settings.temporary / "ray-archives"

    @property
    def token(self) -> Path:
        """The file of the token by which the processes of a cluster know each other."""
        return self.settings.temporary / "ray.token"

    @property
    def state(self) -> Path:
        """The file that says what is deployed."""
        return self.settings.run_dir / "ray" / "deployed.json"

    @property
    def tables(self) -> Path:
        """The folder in which the head keeps the tables of its cluster."""
        return self.settings.temporary / "ray-tables"

    @property
    def front_config(self) -> Path:
        """The configuration of the front."""
        return self.settings.temporary / "front.cfg"

    @property
    def front_map(self) -> Path:
        """The front's map from a model, or a model and a version, to the version that answers."""
        return self.settings.temporary / "front.map"

    @property
    def front_socket(self) -> Path:
        """The socket of the front's runtime API."""
        return self.settings.temporary / "front.sock"
