"""The service of a model with a graph, which TorchServe loads, for each kind of wire formats."""

import os
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry

from handlers import wire
from handlers.batch import Observer
from handlers.engine import Engine, available_cores, graph_file, load_engine
from handlers.engine.isolation import is_isolated
from handlers.handler import ModelHandler, WireFormats
from handlers.observe.capture import Capture, capture_of
from handlers.observe.logs import log_requests
from handlers.observe.settings import WorkerSettings
from handlers.torchserve import Unpacked, Worker, positive, request_at, tell

MAX_ROWS = 1024
RESPONSE_TIMEOUT = 120  # s, TorchServe's own


class Service(Worker):
    """A service; an entry point is a subclass that names its codec.

    Attributes:
        handler: the core, once the model is loaded.
    """

    codec: type[WireFormats]
    handler: ModelHandler
    capture: Capture | None = None

    def initialize(self, context: Any) -> None:
        """Load the model from its archive, and check that it answers its example as training did.

        Args:
            context: TorchServe's; ``model_yaml_config["handler"]`` may hold ``engine``, ``device``, ``isolated``,
                ``max_rows``, ``threads``, and ``wire: false`` to leave TorchServe's socket and its path to the handler
                as they are.

        Raises:
            ValueError: the contract or a setting is wrong.
            RuntimeError: the example's answer is wrong.
        """
        unpacked = self.open(context)
        directory, contract, config = unpacked
        settings = unpacked.settings
        cores_each = max(1, available_cores() // max(1, config.get("minWorkers", 1)))
        threads = positive(settings, "threads", cores_each)
        engine, engine_and_file = self.open_engine(unpacked, threads)
        codec = self.codec.open(directory, contract, positive(settings, "max_rows", MAX_ROWS))
        registry = CollectorRegistry()
        telemetry = self.telemetry(contract, codec.protocol, registry)
        # A copy under another name is on trial.
        served_as = getattr(context, "model_name", None) or contract.name
        is_itself = served_as == contract.name
        codec.names = frozenset({served_as})
        self.capture = capture_of(contract, os.environ, registry) if is_itself else None
        log: Observer = log_requests(WorkerSettings.from_environment(os.environ).log_sample)
        observers = [log, *(observer for observer in (telemetry, self.capture) if observer)]
        self.handler = ModelHandler(contract, engine, codec, observers, patience=patience(config))
        self.handler.check_example()
        if self.capture:
            self.capture.start()
        self.handler.drain.begin_on_signal()
        self.serve(unpacked, self.handler.handle, telemetry, engine_and_file)

    def close(self) -> None:
        """End what runs beside this process."""

    def open_engine(self, unpacked: Unpacked, threads: int) -> tuple[Engine, tuple[str, str]]:
        """Return the engine that the settings name, its name, and the file that it runs."""
        directory, contract, config = unpacked
        name = unpacked.settings.get("engine", "onnxruntime")
        device = unpacked.settings.get("device", "cpu")
        isolated = is_isolated(unpacked.settings)
        engine = load_engine(name, directory, contract, threads, device, patience(config), isolated)
        return engine, (name, graph_file(name, directory))

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch.

        Args:
            data: per request, its body under ``body`` or its form's parts, and its query parameters.
            context: TorchServe's; it gets the status and headers of each answer.
        """
        requests = [request_at(parts, context, i) for i, parts in enumerate(data)]
        responses = self.handler.handle(requests)
        pairs = zip(requests, responses, strict=True)
        tell([response if request.headers else wire.as_last(response) for request, response in pairs], context)
        return [response.body for response in responses]


def patience(config: Mapping[str, Any]) -> float:
    """Return the seconds for a batch: half of those after which TorchServe kills the worker."""
    return float(config.get("responseTimeout") or RESPONSE_TIMEOUT) / 2
