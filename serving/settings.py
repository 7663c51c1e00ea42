"""Ports and paths, from the environment; ``.env.example`` documents them."""

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Settings:
    """Where things are and listen."""

    bind_address: str = "127.0.0.1"
    private_address: str = "127.0.0.1"
    inference_port: int = 8080
    management_port: int = 8081
    metrics_port: int = 8082
    grpc_inference_port: int = 7070
    grpc_management_port: int = 7071
    model_store: Path = ROOT / "model_store"
    run_dir: Path = ROOT / "run"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Read ``MARLOOP_…`` variables; an empty one counts as unset, a relative path starts at the repository.

        Raises:
            ValueError: a port is no port; names the variable.
        """
        values: dict[str, str | int | Path] = {}
        for name, default in cls.__annotations__.items():
            variable = f"MARLOOP_{name.upper()}"
            text = environ.get(variable, "")
            if not text:
                continue
            if default is int:
                if not (text.isdecimal() and 0 < int(text) < 65536):
                    raise ValueError(f"{variable} is {text!r}; it must be a port from 1 to 65535")
                values[name] = int(text)
            else:
                values[name] = ROOT / text if default is Path else text
        return cls(**values)  # type: ignore[arg-type]

    def to_environment(self) -> dict[str, str]:
        """The variables that ``from_environment`` reads the same settings from."""
        return {f"MARLOOP_{name.upper()}": str(getattr(self, name)) for name in self.__annotations__}

    @property
    def inference_url(self) -> str:
        """Where this machine reaches the inference port."""
        return f"http://{_reachable(self.bind_address)}:{self.inference_port}"

    @property
    def management_url(self) -> str:
        """Where this machine reaches the management port."""
        return f"http://{_reachable(self.private_address)}:{self.management_port}"

    @property
    def temporary(self) -> Path:
        """TorchServe's folder for unpacked archives and sockets, one a run folder, short as a socket's path must be."""
        key = hashlib.sha256(str(self.run_dir.resolve()).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"marloop-{key}"

    @property
    def log(self) -> Path:
        """Where a TorchServe in the background writes."""
        return self.run_dir / "torchserve.log"


def _reachable(address: str) -> str:
    return "127.0.0.1" if address in ("0.0.0.0", "::") else address
