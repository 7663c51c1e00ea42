"""Between TorchServe and the core: its lists of dicts and context in, bytes and statuses out, without importing it."""

import gc
import os
import sys
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from handlers import wire
from handlers.batch import Observer
from handlers.contract import ModelContract
from handlers.cores import available_cores
from handlers.engine import ENGINES, load_engine
from handlers.formats.codec import Codec
from handlers.handler import ModelHandler
from handlers.message import Part, Request, Response
from handlers.observe.capture import Capture
from handlers.observe.logs import configure, log_requests
from handlers.observe.metrics_folder import VARIABLE, hold_folder
from handlers.observe.sink import Sink
from handlers.observe.telemetry import Telemetry

MAX_ROWS = 1024
RESPONSE_TIMEOUT = 120  # s, TorchServe's own
CAPTURED_ROWS = 100.0  # a second, of each worker


class Service:
    """What TorchServe loads; an entry point is a subclass that names its codec."""

    codec: type[Codec] = Codec
    capture: Capture | None = None

    def initialize(self, context: Any) -> None:
        """Load the model from its archive and check that it answers its example as training did.

        Args:
            context: TorchServe's; ``model_yaml_config["handler"]`` may hold ``engine``, ``max_rows``, ``threads``,
                and ``wire: false`` to leave TorchServe's socket and its path to the handler as they are.

        Raises:
            ValueError: the contract or a setting is wrong.
            RuntimeError: the example's answer is wrong.
        """
        started = time.perf_counter()
        configure()
        # Else TorchServe parses JSON before us, without any check, and twice the work.
        os.environ["TS_DECODE_INPUT_REQUEST"] = "false"
        directory = Path(context.system_properties["model_dir"])
        contract = ModelContract.from_json((directory / "contract.json").read_bytes())
        config = context.model_yaml_config or {}
        settings = config.get("handler") or {}
        cores_each = max(1, available_cores() // max(1, config.get("minWorkers", 1)))
        threads = positive(settings, "threads", cores_each)
        name = settings.get("engine", "onnxruntime")
        engine = load_engine(name, directory, contract, threads)
        codec = self.codec.open(directory, contract, positive(settings, "max_rows", MAX_ROWS))
        registry = CollectorRegistry()
        telemetry = self._telemetry(contract, codec, os.environ, registry)
        # A copy that is served under another name is being tried out.
        served_as = getattr(context, "model_name", None) or contract.name
        is_itself = served_as == contract.name
        codec.names = frozenset({served_as})
        self.capture = _capture(contract, os.environ, registry) if is_itself else None
        log: Observer = log_requests(share(os.environ, "MARLOOP_LOG_SAMPLE"))
        observers = [log, *(one for one in (telemetry, self.capture) if one)]
        self._handler = ModelHandler(contract, engine, codec, observers, patience=patience(config))
        self._handler.check_example()
        if "ts" in sys.modules:  # inside a worker of TorchServe
            wire.install(settings.get("wire", True), sys.modules["ts"].__version__, self._handler.handle)
        if telemetry:
            sha = contract.lineage.get("graph_sha256", {}).get(ENGINES[name].graph, "")
            telemetry.loaded(time.perf_counter() - started, name, sha[:12])
        if self.capture:
            self.capture.start()
        # What is loaded stays. Else the collector walks through all of torch's objects now and then, and every client
        # waits some 70 ms.
        gc.collect()
        gc.freeze()

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch.

        Args:
            data: per request, its body under ``body`` or its form's parts, and its query parameters.
            context: TorchServe's, which takes the status and headers of each answer.
        """
        requests = [request_at(parts, context, i) for i, parts in enumerate(data)]
        responses = self._handler.handle(requests)
        pairs = zip(requests, responses, strict=True)
        tell([response if request.headers else wire.as_last(response) for request, response in pairs], context)
        return [response.body for response in responses]

    def _telemetry(
        self, contract: ModelContract, codec: Codec, environ: Mapping[str, str], registry: CollectorRegistry
    ) -> Telemetry | None:
        """Instruments, where a folder for their values is given: on another host there may be none."""
        folder = environ.get(VARIABLE)
        if not folder:
            return None
        self._lock = hold_folder(Path(folder), contract)  # as long as this object lives
        return Telemetry(contract, codec.protocol, registry)


def patience(config: Mapping[str, Any]) -> float:
    """Seconds that a batch may take: half of those after which TorchServe kills the worker.

    Args:
        config: ``model-config.yaml``.
    """
    return float(config.get("responseTimeout") or RESPONSE_TIMEOUT) / 2


def positive(settings: Mapping[str, Any], name: str, default: int) -> int:
    """A setting of ours in ``model-config.yaml``.

    Raises:
        ValueError: it is no positive integer.
    """
    value = settings.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"handler.{name} is {value!r} in model-config.yaml; it must be a positive integer")
    return value


def _capture(contract: ModelContract, environ: Mapping[str, str], registry: CollectorRegistry) -> Capture | None:
    """Capture, where a sink is given that can make something of this model's answers."""
    url = environ.get("CAPTURE_URL", "")
    if url in ("", "off") or contract.task == "generation":
        return None
    sample = share(environ, "MARLOOP_CAPTURE_SAMPLE", 1.0)
    rate = _number(environ, "MARLOOP_CAPTURE_ROWS_PER_SECOND", CAPTURED_ROWS)
    if not 0 < rate < float("inf"):
        text = environ["MARLOOP_CAPTURE_ROWS_PER_SECOND"]
        raise ValueError(f"MARLOOP_CAPTURE_ROWS_PER_SECOND is {text!r}; it must be a positive number")
    return Capture(contract, Sink(url, environ.get("MARLOOP_TOKEN", "")), registry, sample, rate)


def _number(environ: Mapping[str, str], variable: str, default: float) -> float:
    try:
        return float(environ.get(variable) or default)
    except ValueError:
        return -1


def share(environ: Mapping[str, str], variable: str, default: float = 0.0) -> float:
    """A share from 0 to 1 in the environment.

    Raises:
        ValueError: it is none.
    """
    value = _number(environ, variable, default)
    if not 0 <= value <= 1:
        raise ValueError(f"{variable} is {environ[variable]!r}; it must be a share from 0 to 1")
    return value


def tell(responses: Sequence[Response], context: Any) -> None:
    """Tell TorchServe's context the status, content type and headers of each answer."""
    for i, response in enumerate(responses):
        if response.status != HTTPStatus.OK:
            context.set_response_status(code=response.status, phrase=HTTPStatus(response.status).phrase, idx=i)
        context.set_response_content_type(i, response.content_type)
        for name, value in response.headers.items():
            context.set_response_header(i, name, value)


def request_at(parts: dict[str, Any], context: Any, i: int) -> Request:
    """A request of a batch, from its parts and TorchServe's context."""
    # A part's content type stands among the headers too, in a dict under the part's name.
    given = context.get_all_request_header(i)
    headers = {k.lower(): v for k, v in given.items() if isinstance(v, str)}
    whole = [Part(name, bytes(value), _content_type(given.get(name))) for name, value in parts.items()]
    return wire.request_of(whole, headers, context.get_request_id(i) or "")


def _content_type(header: Any) -> str:
    """The content type of a part in TorchServe's context, where no header of the same name has taken its place."""
    return str(header.get("content-type", "")) if isinstance(header, dict) else ""
