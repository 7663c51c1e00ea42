"""The adapter of TorchServe to a core: its lists of dicts and its context in, requests and responses out.

TorchServe is never imported: inside its workers the package is loaded already.
"""

import gc
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry

from handlers import wire
from handlers.contract import ModelContract
from handlers.message import Part, Request, Response
from handlers.observe.logs import configure
from handlers.observe.metrics_folder import VARIABLE, hold_folder
from handlers.observe.telemetry import Telemetry


class Unpacked(NamedTuple):
    """An archive that TorchServe has unpacked; ``config`` is ``model-config.yaml``."""

    directory: Path
    contract: ModelContract
    config: Mapping[str, Any]

    @property
    def settings(self) -> Mapping[str, Any]:
        """Our part of ``model-config.yaml``."""
        return self.config.get("handler") or {}


class Worker:
    """Opens a model, measures its work and puts it behind TorchServe's socket.

    Attributes:
        instruments: of this model; None where there is no folder for their values.
    """

    instruments: Telemetry | None = None

    def open(self, context: Any) -> Unpacked:
        """Read the archive of TorchServe's context, and begin to log in JSON.

        Raises:
            ValueError: its contract is none.
        """
        self._started = time.perf_counter()
        configure()
        # Else TorchServe parses JSON before us: twice the work, and without any check.
        os.environ["TS_DECODE_INPUT_REQUEST"] = "false"
        directory = Path(context.system_properties["model_dir"])
        contract = ModelContract.from_json((directory / "contract.json").read_bytes())
        return Unpacked(directory, contract, context.model_yaml_config or {})

    def telemetry(
        self, contract: ModelContract, protocol: Callable[[Request], str], registry: CollectorRegistry
    ) -> Telemetry | None:
        """Make instruments, where there is a folder for their values; another host may have none."""
        folder = os.environ.get(VARIABLE)
        if not folder:
            return None
        self._lock = hold_folder(Path(folder), contract)  # as long as this object lives
        self.instruments = Telemetry(contract, protocol, registry)
        return self.instruments

    def serve(
        self,
        unpacked: Unpacked,
        answer: wire.Answer,
        telemetry: Telemetry | None,
        engine: tuple[str, str],
        idle: Callable[[], None] | None = None,
    ) -> None:
        """Answer from now on.

        Args:
            engine: its name, and the file that it runs.
            idle: called once where no request came for a second.
        """
        if "ts" in sys.modules:  # inside a worker of TorchServe
            wire.install(unpacked.settings.get("wire", True), sys.modules["ts"].__version__, answer, idle)
        if telemetry:
            name, file = engine
            sha = unpacked.contract.lineage.graph_sha256.get(file, "")
            telemetry.loaded(time.perf_counter() - self._started, name, sha[:12])
        # Else the collector walks through all of torch's objects now and then, and every client waits some 70 ms.
        gc.collect()
        gc.freeze()


def positive(settings: Mapping[str, Any], name: str, default: int) -> int:
    """Return a positive integer of our part of ``model-config.yaml``.

    Raises:
        ValueError: it is no positive integer.
    """
    value = settings.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"handler.{name} is {value!r} in model-config.yaml; it must be a positive integer")
    return value


def tell(responses: Sequence[Response], context: Any) -> None:
    """Set the status, content type and headers of each answer in TorchServe's context."""
    for i, response in enumerate(responses):
        if response.status != HTTPStatus.OK:
            context.set_response_status(code=response.status, phrase=HTTPStatus(response.status).phrase, idx=i)
        context.set_response_content_type(i, response.content_type)
        for name, value in response.headers.items():
            context.set_response_header(i, name, value)


def request_at(parts: dict[str, Any], context: Any, i: int) -> Request:
    """Make a request of a batch from its parts and TorchServe's context."""
    # The headers also have each part's content type, in a dict under the part's name.
    entries = context.get_all_request_header(i)
    headers = {k.lower(): v for k, v in entries.items() if isinstance(v, str)}
    whole = [Part(name, bytes(value), _content_type(entries.get(name))) for name, value in parts.items()]
    return wire.request_of(whole, headers, context.get_request_id(i) or "")


def _content_type(header: Any) -> str:
    """Return the content type of a part, unless a header of the same name has its place in the context."""
    return str(header.get("content-type", "")) if isinstance(header, dict) else ""
