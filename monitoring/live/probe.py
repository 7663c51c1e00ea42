"""The end-to-end probe: it sends each model its contract's example over HTTP, as a client would.

The histogram of its time includes the queue and the frontend. A model is ready if its last answer was right, is not
old, and its archive is as registered.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import httpx
from prometheus_client import CollectorRegistry, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from handlers.observe.telemetry import MODEL, SECONDS
from monitoring.periodic import repeat
from serving.readiness import LONGEST, Champion, Champions, Readiness, ask, ask_alive
from serving.registry import ArchiveError, Registry

logger = logging.getLogger(__name__)
TIMEOUT = LONGEST
LEAST = 1.0  # s; the shortest patience for an answer
USUAL = 10  # number of right answers; the next one may take this many times the longest of them
SHARE = 20  # the example of a language model may take a twentieth of its time
SLACK = 2.0  # s; a probe that is later than this has been forgotten


@dataclass(frozen=True)
class ProbeResult:
    """Readiness of every champion.

    Attributes:
        time: seconds since the epoch when a model was last probed, or the registry read.
        fault: why no readiness holds; empty if it does.
    """

    time: float
    models: list[Readiness]
    fault: str = ""

    @property
    def ready(self) -> bool:
        """Return whether there are models, and all of them are ready."""
        return not self.fault and bool(self.models) and all(model.ready for model in self.models)


@dataclass
class _Probe:
    """The probes of one version."""

    readiness: Readiness
    time: float = 0.0  # s since the epoch; 0 before the first answer
    until: float = float("inf")  # when the readiness expires, on the steady clock
    due: float = 0.0
    due_example: float = 0.0  # of a language model; in between it gets a request that costs no token
    flying: bool = False
    took: deque[float] = field(default_factory=lambda: deque(maxlen=USUAL))

    def patience(self, deadline: float) -> float:
        """Return the seconds to wait for the next answer: the deadline before the first right answer, then less."""
        return min(deadline, max(LEAST, USUAL * max(self.took))) if self.took else deadline


class Prober(Collector):
    """Probes every champion of a registry.

    Args:
        url: address of the inference port.
        clock: seconds since the epoch.
        steady: monotonic clock, in seconds.
    """

    def __init__(
        self,
        models: Registry,
        url: str,
        registry: CollectorRegistry,
        client: httpx.Client,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._champions, self._url, self._client = Champions(models), url, client
        self._clock, self._steady = clock, steady
        self._probes: dict[tuple[str, str], _Probe] = {}
        self._lock = threading.Lock()
        self._looked, self._until, self._fault = 0.0, 0.0, "no probe has ended so far"
        registry.register(self)
        self._duration = Histogram(
            "probe_duration_seconds", "From asked to answered", MODEL, registry=registry, buckets=SECONDS
        )

    @property
    def last(self) -> ProbeResult:
        """Return the last readiness of each champion, as far as it still holds."""
        now = self._steady()
        with self._lock:
            probes = [self._probes[key] for key in sorted(self._probes)]
            fault = self._fault
            if not fault and now > self._until:
                fault = "the probes hang: the registry has not been read in time"
            models = [_expired(probe, now, fault) for probe in probes]
            return ProbeResult(max([self._looked, *(probe.time for probe in probes)]), models, fault)

    def run(self, interval: float = 0.0) -> ProbeResult:
        """Probe every champion once, at the same time."""
        threads = self._look(interval)
        for thread in threads:
            thread.join()
        return self.last

    def run_forever(self, interval: float, stop: threading.Event) -> None:
        """Probe every ``interval`` seconds until ``stop`` is set; a model that does not answer delays no other."""
        repeat(lambda took: max(0.0, interval - took), lambda: self._look(interval), stop, fault="cannot probe")

    def collect(self) -> Iterator[Metric]:
        """Yield the present readiness, for Prometheus."""
        last = self.last
        success = GaugeMetricFamily("probe_success", "Whether the example was answered right", labels=MODEL)
        moments = GaugeMetricFamily("probe_timestamp_seconds", "When it was last asked", labels=MODEL)
        for model in last.models:
            success.add_metric([model.name, model.version], float(model.ready))
            if (probe := self._probes.get((model.name, model.version))) and probe.time:
                moments.add_metric([model.name, model.version], probe.time)
        yield from (success, moments)

    def describe(self) -> Iterable[Metric]:
        """Return the metrics, so that no other one gets their names."""
        return self.collect()

    def _look(self, interval: float) -> list[threading.Thread]:
        """Read the registry, probe each version that is due, and return the threads that do so."""
        try:
            champions = self._champions.by_model()
        except ArchiveError as error:
            self._note_look(str(error), interval)
            return []
        self._note_look("", interval)
        keys = {(name, _number(champion)): champion for name, champion in champions.items()}
        threads = []
        with self._lock:
            for key in self._probes.keys() - keys.keys():  # a version that is no longer served must not seem to fail
                del self._probes[key]
            for key, champion in keys.items():
                probe = self._probes.setdefault(key, _Probe(Readiness(*key, False, "not asked so far", 0.0)))
                if isinstance(champion, Readiness):
                    probe.readiness, probe.time, probe.until = champion, self._clock(), float("inf")
                elif not probe.flying and self._steady() >= probe.due:
                    probe.flying = True
                    threads.append(threading.Thread(target=self._probe, args=(probe, champion, interval), daemon=True))
        for thread in threads:
            thread.start()
        return threads

    def _note_look(self, fault: str, interval: float) -> None:
        if fault and fault != self._fault:
            logger.error("cannot probe: %s", fault)
        with self._lock:
            self._fault, self._looked = fault, self._clock()
            self._until = self._steady() + interval + SLACK + LONGEST  # hashing a large archive takes its time

    def _probe(self, probe: _Probe, champion: Champion, interval: float) -> None:
        """Probe one version, and note its readiness and until when it holds."""
        moment, started, contract = self._clock(), self._steady(), champion.contract
        patience = probe.patience(champion.deadline)
        tokens = contract.task == "generation"
        if tokens and probe.readiness.ready and started < probe.due_example:
            fault = ask_alive(self._client, self._url, contract, patience)
            readiness = replace(probe.readiness, ready=not fault, detail=fault)
        else:
            readiness = ask(self._client, self._url, contract, patience)
            self._duration.labels(readiness.name, readiness.version).observe(readiness.milliseconds / 1000)
            if readiness.ready:
                probe.took.append(readiness.milliseconds / 1000)
                probe.due_example = started + SHARE * readiness.milliseconds / 1000
        with self._lock:
            probe.readiness, probe.time, probe.flying = readiness, moment, False
            probe.due = started + interval
            probe.until = probe.due + interval + probe.patience(champion.deadline) + SLACK


def _number(champion: Champion | Readiness) -> str:
    return champion.version if isinstance(champion, Readiness) else champion.contract.version


def _expired(probe: _Probe, now: float, fault: str) -> Readiness:
    """Return the readiness of a probe, or that it is not ready if its answer is too old, or there is a fault."""
    if fault:
        return replace(probe.readiness, ready=False, detail=fault)
    if now > probe.until and probe.readiness.ready:
        return replace(probe.readiness, ready=False, detail="the probes hang: its last right answer is too old")
    return probe.readiness
