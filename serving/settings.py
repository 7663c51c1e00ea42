"""Ports and paths, from the environment; ``.env.example`` documents them."""

import contextlib
import hashlib
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Settings:
    """Where things are and listen."""

    bind_address: str = "127.0.0.1"
    private_address: str = "127.0.0.1"
    inference_port: int = 8080
    management_port: int = 8081
    metrics_port: int = 8082
    exporter_port: int = 8083
    monitor_port: int = 8090
    grpc_inference_port: int = 7070
    grpc_management_port: int = 7071
    model_store: Path = ROOT / "model_store"
    run_dir: Path = ROOT / "run"
    metrics_dir: Path | None = None
    metrics_host: str = ""
    management_hosts: str = ""
    management_socket: Path | None = None
    telemetry: bool = True

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Read ``MARLOOP_…`` variables; an empty one counts as unset, a relative path starts at the repository.

        Raises:
            ValueError: a port is no port, a switch neither on nor off; names the variable.
        """
        values: dict[str, Any] = {}
        for name, kind in cls.__annotations__.items():
            variable = f"MARLOOP_{name.upper()}"
            if text := environ.get(variable, ""):
                values[name] = _parse(variable, text, kind)
        return cls(**values)

    def to_environment(self) -> dict[str, str]:
        """The variables that ``from_environment`` reads the same settings from."""
        return {f"MARLOOP_{name.upper()}": _text(getattr(self, name)) for name in self.__annotations__}

    @property
    def inference_url(self) -> str:
        """Where this machine reaches the inference port."""
        return f"http://{_reachable(self.bind_address)}:{self.inference_port}"

    @property
    def metrics_url(self) -> str:
        """Where TorchServe's own metrics are: on this machine, or on ``metrics_host``."""
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
    def management_address(self) -> str:
        """Where our own commands reach TorchServe's management."""
        return f"unix:{self.socket}"

    @property
    def management_url(self) -> str:
        """Where others on this machine reach the management port, which checks them (``management_port.py``)."""
        return f"http://{_reachable(self.private_address)}:{self.management_port}"

    @property
    def exporter_url(self) -> str:
        """Where this machine reaches the exporter of the workers' metrics."""
        return f"http://{_reachable(self.private_address)}:{self.exporter_port}"

    @property
    def monitor_url(self) -> str:
        """Where this machine reaches the monitor."""
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
        """Where a TorchServe in the background writes."""
        return self.run_dir / "torchserve.log"

    @property
    def _key(self) -> str:
        return f"marloop-{hashlib.sha256(str(self.run_dir.resolve()).encode()).hexdigest()[:12]}"


def _parse(variable: str, text: str, kind: Any) -> Any:
    if kind is int:
        if not (text.isdecimal() and 0 < int(text) < 65536):
            raise ValueError(f"{variable} is {text!r}; it must be a port from 1 to 65535")
        return int(text)
    if kind is bool:
        if text not in ("on", "off"):
            raise ValueError(f"{variable} is {text!r}; it must be on or off")
        return text == "on"
    return text if kind is str else ROOT / text


def _text(value: str | int | Path | None) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "" if value is None else str(value)


def _reachable(address: str) -> str:
    return "127.0.0.1" if address in ("0.0.0.0", "::") else address


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def on_free_ports(store: Path, run_dir: Path) -> Settings:
    """Settings of a copy that listens where nothing else does, on this machine alone."""
    names = [name for name in Settings.__annotations__ if name.endswith("_port")]
    ports: dict[str, Any] = dict(zip(names, free_ports(len(names)), strict=True))
    return Settings(model_store=store, run_dir=run_dir, **ports)
