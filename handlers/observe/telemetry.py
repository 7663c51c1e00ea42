"""Instruments of a worker (prometheus-client), recorded once a batch.

Workers of a service keep their values in files of one folder (``PROMETHEUS_MULTIPROC_DIR``, prometheus_client's
"Multiprocess Mode"), which the exporter merges. Every label value comes from a closed set: no request can add a series.
"""

import contextlib
import math
import resource
import time
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from handlers.batch import Batch
from handlers.contract import ModelContract
from handlers.http.overload import waits
from handlers.message import Request

SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
STREAM_SECONDS = (*SECONDS, 20.0, 50.0, 100.0, 200.0, 500.0)  # of texts, which are answered token by token
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
STAGES = ("decode", "predict", "encode")
MODEL = ("model", "version")
REQUESTS = ("model_requests", "Requests answered, errors too")
ERRORS = ("model_input_errors", "Requests refused, by the error's code")
MEMORY_INTERVAL = 5.0  # s
_PROTOCOL = attrgetter("protocol")


def resident_memory() -> int:
    """Return the bytes of memory that this process has; 0 where ``/proc`` does not say."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize()
    return 0


class WeightedHistogram(Histogram):
    """A histogram that takes many observations at once."""

    def observe_many(self, value: float, count: int) -> None:
        """Observe one value ``count`` times, at the cost of one observation."""
        self._sum.inc(value * count)
        self._buckets[bisect_left(self._upper_bounds, value)].inc(count)

    def observe_each(self, values: Sequence[float]) -> None:
        """Observe a few finite values, at the cost of one observation a bucket."""
        if len(values) == 1:
            self.observe_many(values[0], 1)
            return
        self._sum.inc(sum(values))
        for i, count in Counts([bisect_left(self._upper_bounds, value) for value in values]).items():
            self._buckets[i].inc(count)

    def observe_all(self, values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
        """Observe each finite value, at the cost of one observation a bucket."""
        total = float(values.sum())
        if not math.isfinite(total):
            values = values[np.isfinite(values)]
            total = float(values.sum())
        if len(values) == 1:
            self.observe_many(total, 1)
            return
        self._sum.inc(total)
        bounds = np.array(self._upper_bounds)
        for i, count in enumerate(np.bincount(bounds.searchsorted(values)).tolist()):
            if count:
                self._buckets[i].inc(count)


class Telemetry:
    """Records batches in the instruments of a worker.

    Args:
        protocol: names the protocol of a refused request.
        registry: owner of the instruments.
        clock: seconds since the epoch.
        memory: bytes of memory that this process has.
    """

    def __init__(
        self,
        contract: ModelContract,
        protocol: Callable[[Request], str],
        registry: CollectorRegistry,
        clock: Callable[[], float] = time.time,
        memory: Callable[[], int] = resident_memory,
    ) -> None:
        self._contract, self._protocol, self._registry, self._clock = contract, protocol, registry, clock
        self._resident = memory
        self._names = {"model": contract.name, "version": contract.version}
        self._requests = self._counter(*REQUESTS, "protocol", "code")
        self._right: dict[str, Counter] = {}  # of ``_requests``, by protocol
        self._errors = self._counter(*ERRORS, "reason")
        bounds = STREAM_SECONDS if contract.task == "generation" else SECONDS
        text = "From batch received to answered, a request"
        self._duration = self._histogram("model_request_duration_seconds", text, bounds)
        stages = self._family("model_stage_duration_seconds", "Time of a batch in each stage", SECONDS, "stage")
        self._stages = {stage: stages.labels(**self._names, stage=stage) for stage in STAGES}
        self._queue = self._histogram("model_queue_duration_seconds", "From a request's start to batch received")
        text = "From a request's start to its batch answered"
        self._total = self._histogram("model_total_duration_seconds", text, bounds)
        self._batch_requests = self._histogram("model_batch_requests", "Requests in a batch", SIZES)
        self._batch_rows = self._histogram("model_batch_rows", "Rows in a batch", SIZES)
        self._predictions: list[Counter] = []
        self._value: WeightedHistogram | None = None
        if contract.task == "classification":
            predictions = self._counter("model_predictions", "Rows by the likeliest class", "label")
            self._predictions = [predictions.labels(**self._names, label=label) for label in contract.labels]
        elif contract.task == "regression":
            self._value = self._histogram("model_prediction_value", "Predicted values", value_buckets(contract))
        self._memory = self._gauge("process_resident_memory_bytes", "Resident memory of a worker", "liveall")
        self._memory_read = -MEMORY_INTERVAL
        self._read_memory()

    def loaded(self, seconds: float, engine: str, sha: str) -> None:
        """Record that the model is loaded.

        Args:
            seconds: duration of the load.
            engine: name of the engine.
            sha: SHA of the model's graph.
        """
        self._gauge("model_load_duration_seconds", "Time to load the model", "livemax").set(seconds)
        info = self._gauge("model_info", "What is loaded", "livemax", engine=engine, sha=sha)
        info.set(1)

    def refused(self, protocol: str, status: int, reason: str) -> None:
        """Count a request that its host answered before it came into a batch."""
        self._requests.labels(**self._names, protocol=protocol, code=str(status)).inc()
        if 400 <= status < 500:
            self._errors.labels(**self._names, reason=reason).inc()

    def __call__(self, batch: Batch) -> None:
        """Record one batch."""
        self._count(batch)
        duration = sum(batch.seconds.values())
        self._duration.observe_many(duration, len(batch.requests))
        for stage, seconds in batch.seconds.items():
            self._stages[stage].observe_many(seconds, 1)
        if waited := waits(batch.requests, batch.received, batch.waited):
            self._queue.observe_each(waited)
            self._total.observe_each([seconds + duration for seconds in waited])
        self._batch_requests.observe_many(len(batch.requests), 1)
        if batch.accepted:
            self._batch_rows.observe_many(batch.rows, 1)
        self._observe_outputs(batch)
        self._read_memory()

    def _count(self, batch: Batch) -> None:
        plain = len(batch.accepted) == len(batch.requests)
        statuses = [response.status for response in batch.responses]
        if plain and statuses.count(200) == len(statuses):  # nearly always
            protocols = list(map(_PROTOCOL, batch.accepted.values()))
            for protocol in set(protocols):
                self._answered(protocol).inc(protocols.count(protocol))
            return
        for (protocol, code), count in Counts(self._answer(batch, i) for i in range(len(batch.requests))).items():
            self._requests.labels(**self._names, protocol=protocol, code=code).inc(count)
        refused = [response.error for response in batch.responses if 400 <= response.status < 500]
        for reason, count in Counts(error.code for error in refused if error).items():
            self._errors.labels(**self._names, reason=reason).inc(count)

    def _answered(self, protocol: str) -> Counter:
        """Return the counter of right answers in a protocol; looking its labels up costs more than counting."""
        counter = self._right.get(protocol)
        if counter is None:
            counter = self._right[protocol] = self._requests.labels(**self._names, protocol=protocol, code="200")
        return counter

    def _answer(self, batch: Batch, i: int) -> tuple[str, str]:
        accepted = batch.accepted.get(i)
        protocol = accepted.protocol if accepted else self._protocol(batch.requests[i])
        return protocol, str(batch.responses[i].status)

    def _observe_outputs(self, batch: Batch) -> None:
        for outputs in batch.outputs:
            values = next(iter(outputs.values()))
            if self._predictions and len(values) == 1:
                self._predictions[int(values.argmax())].inc()
            elif self._predictions:
                for i, count in enumerate(np.bincount(values.argmax(1)).tolist()):
                    if count:
                        self._predictions[i].inc(count)
            elif self._value:
                self._value.observe_all(values.ravel().astype(np.float64))

    def _read_memory(self) -> None:
        now = self._clock()
        if now - self._memory_read >= MEMORY_INTERVAL:
            self._memory_read = now
            if memory := self._resident():  # else the former value stays
                self._memory.set(memory)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, (*MODEL, *labels), registry=self._registry)

    def _gauge(self, name: str, text: str, mode: str, **labels: str) -> Gauge:
        gauge = Gauge(name, text, (*MODEL, *labels), registry=self._registry, multiprocess_mode=mode)  # type: ignore[arg-type]
        return gauge.labels(**self._names, **labels)

    def _histogram(self, name: str, text: str, buckets: Iterable[float] = SECONDS) -> WeightedHistogram:
        return self._family(name, text, buckets).labels(**self._names)

    def _family(self, name: str, text: str, buckets: Iterable[float], *labels: str) -> WeightedHistogram:
        return WeightedHistogram(name, text, (*MODEL, *labels), registry=self._registry, buckets=tuple(buckets))


def value_buckets(contract: ModelContract) -> list[float]:
    """Return bucket bounds for a regression: each bucket holds a tenth of the predictions on the training data."""
    output = contract.reference.output
    quantiles = output.numbers if output and output.quantiles else [0.0, 1.0]
    bounds = np.quantile(quantiles, np.linspace(0, 1, 11))
    return sorted({float(f"{bound:.3g}") for bound in bounds})
