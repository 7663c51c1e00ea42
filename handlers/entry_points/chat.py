"""TorchServe entry point for language models, in its continuous batching.

Its rules in TorchServe 0.12.0 (``continuousBatching: true`` in ``model-config.yaml``; ContinuousBatching.java,
WorkerThread.java, RestJob.java, ModelRequestEncoder.java, ts/service.py):

- The frontend and the worker take turns. A message names **all** open requests, and the worker answers it once. The
  next message also has the requests that arrived meanwhile, as many as fit ``batchSize``. So one message is one step of
  the engine. Others wait in the frontend (``jobQueueSize``; one more gets 503) without cost.
- The answer may leave requests out; nothing is sent to these, and they come again. An answer to a request that the
  message does not name ends the worker, and all requests with it.
- The response header ``ts_stream_next: true`` announces another part. The first part carries status and headers, later
  parts only bytes, and an empty part sends nothing. ``false`` closes a stream that has begun. Without the header it is
  a whole response, which closes no stream.
- A client that has gone is noticed only when its request gets a part with ``true``: then the next message lacks it.
  Where it was the only one, no message comes until there is another request: the worker waits in ``recv``.
- From its second part on a request comes with headers but without a body; until then with the whole body each time.
- With ``maxBatchDelay`` 0 only one request joins at a step. With 1 (ms) all do, but one that finds the worker idle
  waits for that long.
- ``responseTimeout`` is for one turn: a step that takes longer ends the worker.
- A worker that dies ends all its requests: with 500 those that wait for their status, by a closed connection others.

The socket is read by ``wire``, as for every model. TorchServe's own code takes a ``recv`` for each field of all headers
of all requests, at every step. With ``wire: false`` a request cannot be left out of an answer, so its status is sent as
soon as the engine takes it.
"""

import importlib.util
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from handlers import wire
from handlers.batch import Observer
from handlers.language.api.defaults import FILE as DEFAULTS
from handlers.language.api.defaults import read_defaults
from handlers.language.api.routes import protocol
from handlers.language.decoders.adapters import read_adapters
from handlers.language.handler import PATIENCE, ChatHandler
from handlers.language.scheduling.batching import QUEUE, ContinuousBatching
from handlers.language.scheduling.steps import NEWS
from handlers.language.telemetry import LanguageTelemetry
from handlers.language.template import FILE, ChatTemplate
from handlers.message import NEXT, Response
from handlers.observe.capture import Capture, capture_of
from handlers.observe.logs import log_requests
from handlers.observe.settings import WorkerSettings
from handlers.torchserve import Worker, positive, request_at, tell

SLOTS = 8
CONTEXT = 2048
MODEL = "model.gguf"
CACHE = "cache_tokens"
SPECULATIVE = "num_speculative_tokens"  # as vLLM names it
DRAFTING = ("openvino",)  # engines that compute several tokens of each request in one pass
ADAPTING = ("openvino",)  # engines that compute requests of several adapters in one pass
WEIGHTS = {"llama.cpp": MODEL, "openvino": "openvino_model.bin"}  # the file of each engine


class ChatService(Worker):
    """The service of a language model."""

    capture: Capture | None = None

    def initialize(self, context: Any) -> None:
        """Load the model from its archive, and check that it answers its example as training did.

        Args:
            context: TorchServe's; ``model_yaml_config["handler"]`` may hold ``engine`` (``llama.cpp`` or ``openvino``),
                ``slots``, ``context``, ``cache_tokens`` (which the slots share; ``slots`` times ``context`` without
                it), ``threads``, ``queue`` (requests that wait), ``num_speculative_tokens`` (most tokens that are
                drafted in a step, 0 for none), and ``wire: false`` to leave TorchServe's socket as it is.

        Raises:
            ValueError: the contract or a setting is wrong.
            RuntimeError: the example's answer is wrong.
        """
        unpacked = self.open(context)
        contract, settings = unpacked.contract, unpacked.settings
        name, engine = self.load_engine(unpacked.directory, settings)
        template = ChatTemplate((unpacked.directory / "assets" / FILE).read_text("utf-8"), engine.tokenize)
        observers: list[Observer] = [log_requests(WorkerSettings.from_environment(os.environ).log_sample)]
        language: LanguageTelemetry | None = None
        registry = CollectorRegistry()
        telemetry = self.telemetry(contract, protocol, registry)
        if telemetry:
            language = LanguageTelemetry(contract, registry)
            observers.append(telemetry)
        itself = (getattr(context, "model_name", None) or contract.name) == contract.name  # not a copy on trial
        self.capture = capture_of(contract, os.environ, registry) if itself else None
        if self.capture:
            observers.append(self.capture)
        thread = ThreadPoolExecutor(1, "engine")
        short = "ts" in sys.modules and settings.get("wire", True) and sys.modules["ts"].__version__ == wire.VERSION
        patience = PATIENCE if short else 0
        news = NEWS if short or "ts" not in sys.modules else None  # else every turn gives each request a part
        defaults = read_defaults(unpacked.directory / "assets" / DEFAULTS)
        self.handler = ChatHandler(contract, engine, template, observers, language, patience, thread, news, defaults)
        self.handler.check_example()
        if self.capture:
            self.capture.start()
        self.handler.drain.begin_on_signal()
        self.serve(unpacked, self.handler.handle, telemetry, (name, WEIGHTS.get(name, "")), self.handler.idle)

    def load_engine(self, directory: Path, settings: Mapping[str, Any]) -> tuple[str, ContinuousBatching]:
        """Load the engine that the settings name, else the fastest installed one; return its name too.

        Args:
            directory: holds ``model.gguf``, or for OpenVINO a folder ``openvino`` with the converted model and maybe a
                folder ``adapters``.
            settings: ``handler`` of ``model-config.yaml``.

        Raises:
            ValueError: there is no such engine, a setting is wrong, or an adapter cannot be served.
            ModuleNotFoundError: it is not installed.
        """
        installed = "llama.cpp" if importlib.util.find_spec("llama_cpp") else "openvino"
        name = settings.get("engine") or installed
        slots, length = positive(settings, "slots", SLOTS), positive(settings, "context", CONTEXT)
        threads = positive(settings, "threads", len(os.sched_getaffinity(0)))
        queue, speculative = positive(settings, "queue", QUEUE), speculative_tokens(settings, name)
        cells, adapters = positive(settings, CACHE, slots * length), read_adapters(directory)
        if adapters and name not in ADAPTING:
            raise ValueError(f"{name} has no adapters beside a model: set handler.engine to {' or '.join(ADAPTING)}")
        if name == "llama.cpp":
            if cells != slots * length:
                raise ValueError(
                    f"handler.{CACHE} is for openvino; a slot of llama.cpp has cells for its whole context"
                )
            from handlers.language.decoders.llama import llama_engine

            return name, llama_engine(directory / MODEL, slots, length, threads, queue)
        if name == "openvino":
            from handlers.language.decoders.openvino import openvino_engine

            folder = directory / name
            return name, openvino_engine(folder, slots, length, threads, queue, speculative, cells, adapters)
        raise ValueError(f"handler.engine is {name!r} in model-config.yaml; it must be llama.cpp or openvino")

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Make a step on TorchServe's own path.

        Args:
            data: per request, its body under ``body``.
            context: TorchServe's; it gets status, headers and whether more follows of each answer.
        """
        requests = [request_at(parts, context, i) for i, parts in enumerate(data)]
        responses = [response or Response(200, b"") for response in self.handler.handle(requests)]
        tell(responses, context)
        # TorchServe writes the header itself, by these functions; None makes the answer a whole one.
        ends = [response.headers.get(NEXT) for response in responses]
        context.stopping_criteria = [lambda _, end=end: None if end is None else end == "false" for end in ends]
        return [response.body for response in responses]


def speculative_tokens(settings: Mapping[str, Any], engine: str) -> int:
    """Return the most tokens that are drafted in a step; 0 for none.

    Args:
        settings: ``handler`` of ``model-config.yaml``.
        engine: its name. llama.cpp computes several tokens of a request in a pass of their own, which saves nothing
            beside other requests.

    Raises:
        ValueError: the setting is no whole number, or the engine drafts none.
    """
    value = settings.get(SPECULATIVE)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        fault = "it must be a whole number, 0 for none"
    elif value and engine not in DRAFTING:
        fault = f"{engine} drafts none: leave it out, or set it to 0"
    else:
        return value
    raise ValueError(f"handler.{SPECULATIVE} is {value!r} in model-config.yaml; {fault}")
