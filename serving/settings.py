"""Ports and paths, from the environment."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec
from msgspec import Meta

from handlers.observe.settings import MAY_BE_EMPTY, SECRET, EnvironmentSettings, says
from serving.ports import free_ports, free_span

ROOT = Path(__file__).parent.parent
Port = Annotated[int, Meta(ge=1, le=65535, title="a port")]
RAY_PORTS = 20  # that the Ray host takes
_ORIGIN = r"https?://[^\s/,*]+"
_ORIGINS = rf"^(\*|{_ORIGIN}([\s,]+{_ORIGIN})*)$"
HostName = Literal["torchserve", "direct", "ray"]
RegistryPlace = Literal["store", "database"]
_STORE_URL = r"^[a-z][a-z0-9+.-]*://[^\s@?#]+$"


class Settings(EnvironmentSettings, frozen=True):
    """Addresses, ports and folders."""

    root: ClassVar[Path] = ROOT
    host: Annotated[
        HostName,
        says(
            "What serves the models: TorchServe, the direct host, without Java, or Ray Serve, on several machines: "
            "`make up HOST=direct`."
        ),
    ] = "torchserve"
    bind_address: Annotated[
        str, says("Address of the inference port and of the monitor. Anything but loopback lets others call them.")
    ] = "127.0.0.1"
    private_address: Annotated[
        str, says("Management, metrics and gRPC of inference are bound to this address: keep it private.")
    ] = "127.0.0.1"
    inference_port: Annotated[Port, says("Predictions, over REST.")] = 8080
    management_port: Annotated[
        Port,
        says(
            "The management port answers this machine, or whoever has MARLOOP_TOKEN; it loads only archives of the "
            "registry."
        ),
    ] = 8081
    metrics_port: Annotated[Port, says("TorchServe's own metrics.")] = 8082
    exporter_port: Annotated[Port, says("The workers' metrics.")] = 8083
    monitor_port: Annotated[Port, says("The monitor: feedback, console, webhook.")] = 8090
    grpc_inference_port: Annotated[Port, says("Predictions, over TorchServe's gRPC.")] = 7070
    grpc_management_port: Annotated[
        Port, says("TorchServe opens it too, on loopback alone; nothing answers there.")
    ] = 7071
    locust_port: Annotated[Port, says("Locust's page and the metrics of a load test, on the private address too.")] = (
        8089
    )
    grpc: Annotated[
        bool,
        says("The direct host answers the Open Inference Protocol over gRPC too: on or off. It needs the extra grpc."),
    ] = False
    grpc_port: Annotated[Port, says("The port of that, at the address of the inference port.")] = 8001
    ray_port: Annotated[
        Port, says("The first of 20 ports that the Ray host takes at the private address, beside the inference port.")
    ] = 6300
    model_store: Annotated[
        Path,
        says(
            "Folder of the archives and the registry; or the URL of a store that several machines share, such as "
            "s3://bucket/models."
        ),
    ] = ROOT / "model_store"
    store_url: Annotated[
        str,
        says(
            "That URL, where MARLOOP_MODEL_STORE is the folder that has this machine's copy of it. Where "
            "MARLOOP_MODEL_STORE is the URL itself, the copy is model_store in the run folder.",
            pattern=_STORE_URL,
            title="a URL without user and password, such as s3://bucket/models",
            examples=["s3://bucket/models"],
        ),
    ] = ""
    registry: Annotated[
        RegistryPlace,
        says(
            "Where the registry of a shared store is: in the store, which must be s3://, or in the PostgreSQL that "
            "DATABASE_URL names."
        ),
    ] = "store"
    public_key: Annotated[
        Path | None,
        says(
            "A public key in PEM; set, only archives that `marloop sign` signed with its private key are served. It "
            "needs `pip install -e '.[signing]'`."
        ),
    ] = None
    signing_key: Annotated[
        Path | None,
        says("That private key in PEM, without a password; set, new archives are signed when they are registered."),
    ] = None
    run_dir: Annotated[Path, says("Folder of logs, of process ids, of the monitor's database and of its jobs.")] = (
        ROOT / "run"
    )
    metrics_dir: Annotated[
        Path | None,
        says("Where workers leave their metrics for the exporter; unset: a folder in memory, one a run folder."),
    ] = None
    metrics_host: Annotated[
        str,
        says(
            "Where the monitor reaches the metrics port, which tells it whether a version is still asked for; unset: "
            "on this machine."
        ),
    ] = ""
    management_hosts: Annotated[
        str,
        says(
            "Other machines must call the management port by an address, or by one of these names, separated by commas."
        ),
    ] = ""
    management_socket: Annotated[
        Path | None,
        says(
            "TorchServe's own management, behind that port: whoever may open this socket can run code. Unset: in a "
            "folder of this user alone. Its folder is made private, and its path has at most 107 bytes."
        ),
    ] = None
    open: Annotated[
        bool,
        says(
            "The direct host may answer others without an API key: on or off. Off: it does not start at an address "
            "that is not loopback until there is one. Keys that are there are always asked for."
        ),
    ] = False
    published_address: Annotated[
        str,
        says(
            "Address at which others reach the inference port, where it is not the one that it is bound to, as in a "
            "container; by it the host decides whether it needs API keys. Unset: MARLOOP_BIND_ADDRESS."
        ),
    ] = ""
    keys_file: Annotated[
        Path | None,
        says("File of the direct host's API keys, such as a mounted secret's; unset: keys.json in the model store."),
    ] = None
    cors_origins: Annotated[
        str,
        says(
            "Origins whose pages may call the direct host from a browser, separated by commas, or * for all; unset: "
            "none.",
            pattern=_ORIGINS,
            title="origins such as https://page.example, or *",
        ),
    ] = ""
    board_dir: Annotated[
        Path | None,
        says(
            "Where the workers of the direct host say what they serve, and a monitor reads it; unset: the run folder."
        ),
    ] = None
    telemetry: Annotated[bool, says("Workers measure what they do: on or off.")] = True

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """See ``EnvironmentSettings``: a URL as the model store is a shared one, whose copy is in the run folder."""
        store = environ.get("MARLOOP_MODEL_STORE", "")
        if "://" not in store:
            return super().from_environment(environ)
        settings = super().from_environment({**environ, "MARLOOP_MODEL_STORE": "", "MARLOOP_STORE_URL": store})
        return msgspec.structs.replace(settings, model_store=settings.run_dir / "model_store")

    @property
    def public_address(self) -> str:
        """Address at which others reach the inference port."""
        return self.published_address or self.bind_address

    @property
    def inference_url(self) -> str:
        """URL at which this machine reaches the inference port."""
        return f"http://{_reachable(self.bind_address)}:{self.inference_port}"

    @property
    def metrics_url(self) -> str:
        """URL of TorchServe's own metrics, on this machine or on ``metrics_host``."""
        return f"http://{self.metrics_host or _reachable(self.private_address)}:{self.metrics_port}"

    @property
    def hosts(self) -> frozenset[str]:
        """Names by which the management port may be called, beside this machine's addresses and ``localhost``."""
        return frozenset(name.lower() for name in self.management_hosts.replace(",", " ").split())

    @property
    def socket(self) -> Path:
        """TorchServe's own management socket: whoever may open it can run code as this user."""
        return self.management_socket or self.temporary / "management.sock"

    @property
    def board(self) -> Path:
        """The folder in which the direct host's workers and whoever changes what they serve write to each other."""
        return self.board_dir or self.run_dir / "direct"

    @property
    def management_address(self) -> str:
        """Address at which our own commands reach TorchServe's management."""
        return f"unix:{self.socket}"

    @property
    def management_url(self) -> str:
        """URL at which others on this machine reach the management port, which checks them (``management_port.py``)."""
        return f"http://{_reachable(self.private_address)}:{self.management_port}"

    @property
    def exporter_url(self) -> str:
        """URL at which this machine reaches the exporter of the workers' metrics."""
        return f"http://{_reachable(self.private_address)}:{self.exporter_port}"

    @property
    def monitor_url(self) -> str:
        """URL at which this machine reaches the monitor."""
        return f"http://{_reachable(self.bind_address)}:{self.monitor_port}"

    @property
    def temporary(self) -> Path:
        """TorchServe's folder for unpacked archives and sockets, one a run folder, short as a socket's path must be."""
        return Path(tempfile.gettempdir()) / self._key

    @property
    def metrics(self) -> Path:
        """The folder of the workers' metric files: in memory where the system has such a folder, one a run folder."""
        memory = Path("/dev/shm")
        return self.metrics_dir or (memory if memory.is_dir() else self.temporary) / f"{self._key}-metrics"

    @property
    def log(self) -> Path:
        """Log file of a TorchServe in the background."""
        return self.run_dir / "torchserve.log"

    @property
    def _key(self) -> str:
        return f"marloop-{hashlib.sha256(str(self.run_dir.resolve()).encode()).hexdigest()[:12]}"


class DatabaseSettings(EnvironmentSettings, frozen=True):
    """The URL of the database of the monitor, and of the registry where that is in one."""

    url: Annotated[
        str,
        says(
            "The monitor's database, and with MARLOOP_REGISTRY=database the registry's; unset: SQLite, monitor.db in "
            "the run's folder. PostgreSQL needs `pip install -e '.[postgres]'`.",
            title="URL",
            extra_json_schema=SECRET,
            examples=["postgresql://user:password@127.0.0.1:5432/marloop"],
        ),
    ] = msgspec.field(default="", name="DATABASE_URL")


class Folders(EnvironmentSettings, frozen=True):
    """Folders of training, whose files can be made again."""

    root: ClassVar[Path] = ROOT
    cache: Annotated[Path, says("Folder for data that is fetched.")] = ROOT / ".cache"
    runs: Annotated[Path, says("Folder of what is under way, to go on from.")] = ROOT / "runs"


class RecipeSettings(EnvironmentSettings, frozen=True):
    """Which recipes there are beside those of the checkout, and which models are trained at the start."""

    root: ClassVar[Path] = ROOT
    recipes: Annotated[
        str,
        says(
            "Folders of recipes outside the checkout, with a colon between two; a recipe there imports its own helpers "
            "by `from ._helper import …`."
        ),
    ] = ""
    models: Annotated[
        str | None,
        says(
            "Models that `make up` trains where they have no champion, with a blank or a comma between two; empty: "
            "none. Unset: every model whose recipe needs no packages of its own, and those that have a champion.",
            examples=["flights chat"],
            extra_json_schema=MAY_BE_EMPTY,
        ),
    ] = None

    @property
    def folders(self) -> list[Path]:
        """The folders of recipes outside the checkout; a relative path starts there."""
        return [self.root / folder for folder in self.recipes.split(os.pathsep) if folder]

    @property
    def names(self) -> list[str] | None:
        """Names of the models to train; None where the recipes decide."""
        return None if self.models is None else self.models.replace(",", " ").split()


def _reachable(address: str) -> str:
    return "127.0.0.1" if address in ("0.0.0.0", "::") else address


def on_free_ports(store: Path, run_dir: Path) -> Settings:
    """Return the settings of a copy that listens on free ports of this machine alone."""
    names = [name for name in Settings.__struct_fields__ if name.endswith("_port") and name != "ray_port"]
    ports: dict[str, Any] = dict(zip(names, free_ports(len(names)), strict=True))
    return Settings(model_store=store, run_dir=run_dir, ray_port=free_span(RAY_PORTS), **ports)
