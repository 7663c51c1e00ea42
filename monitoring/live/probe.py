"""The end-to-end probe: each model is asked its contract's example over HTTP, as a client would.

What the client feels, the queue and the frontend included, so gets a histogram too. Readiness is a right answer that is
not old, of an archive that is as registered: nothing stays true because nobody looked.
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
LEAST = 1.0  # s that an answer is waited for at least
USUAL = 10  # times the longest of so many former right answers is what the next one may take
SHARE = 20  # the example of a language model may take one part in so many of its time
SLACK = 2.0  # s beyond which a probe that is due was forgotten


@dataclass(frozen=True)
class Probed:
    """What is known now.

    Attributes:
        time: seconds since the epoch when a model was last asked, or the registry read.
        models: of every champion.
        fault: why nothing can be known; empty if it can.
    """

    time: float
    models: list[Readiness]
    fault: str = ""

    @property
    def ready(self) -> bool:
        """Whether there are models, and all answered as they should."""
        return not self.fault and bool(self.models) and all(model.ready for model in self.models)


@dataclass
class _Probe:
    """The probes of one version."""

    readiness: Readiness
    asked: float = 0.0  # since the epoch
    until: float = float("inf")  # that the readiness holds, by the clock that is never set back
    due: float = 0.0
    due_example: float = 0.0  # of a language model; in between it is asked what costs no token
    flying: bool = False
    took: deque[float] = field(default_factory=lambda: deque(maxlen=USUAL))

    def patience(self, deadline: float) -> float:
        """Return how long the next answer is waited for: so far nothing is known, and then what is usual."""
        return min(deadline, max(LEAST, USUAL * max(self.took))) if self.took else deadline


class Prober(Collector):
    """Probes every champion of a registry.

    Args:
        models: names the champions.
        url: of the inference port.
        registry: that the metrics belong to.
        clock: seconds since the epoch.
        steady: seconds, never set back.
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
    def last(self) -> Probed:
        """What the last probes found, as far as it still holds."""
        now = self._steady()
        with self._lock:
            probes = [self._probes[key] for key in sorted(self._probes)]
            fault = self._fault
            if not fault and now > self._until:
                fault = "the probes hang: the registry has not been read in time"
            models = [_expired(probe, now, fault) for probe in probes]
            return Probed(max([self._looked, *(probe.asked for probe in probes)]), models, fault)

    def run(self, interval: float = 0.0) -> Probed:
        """Ask every champion once, at the same time."""
        threads = self._look(interval)
        for thread in threads:
            thread.join()
        return self.last

    def run_forever(self, interval: float, stop: threading.Event) -> None:
        """Probe every ``interval`` seconds until told to stop; a model that does not answer holds up no other."""
        repeat(lambda took: max(0.0, interval - took), lambda: self._look(interval), stop, fault="cannot probe")

    def collect(self) -> Iterator[Metric]:
        """The truth of this moment, for Prometheus."""
        last = self.last
        success = GaugeMetricFamily("probe_success", "Whether the example was answered right", labels=MODEL)
        moments = GaugeMetricFamily("probe_timestamp_seconds", "When it was last asked", labels=MODEL)
        for model in last.models:
            success.add_metric([model.name, model.version], float(model.ready))
            if (probe := self._probes.get((model.name, model.version))) and probe.asked:
                moments.add_metric([model.name, model.version], probe.asked)
        yield from (success, moments)

    def describe(self) -> Iterable[Metric]:
        """What it will show, so that no other metric takes a name of these."""
        return self.collect()

    def _look(self, interval: float) -> list[threading.Thread]:
        """Read the registry, and ask whoever is due; the threads that do so."""
        try:
            champions = self._champions.read()
        except ArchiveError as error:
            self._told(str(error), interval)
            return []
        self._told("", interval)
        keys = {(name, _number(champion)): champion for name, champion in champions.items()}
        threads = []
        with self._lock:
            for key in self._probes.keys() - keys.keys():  # what is no longer served must not look as if it failed
                del self._probes[key]
            for key, champion in keys.items():
                probe = self._probes.setdefault(key, _Probe(Readiness(*key, False, "not asked so far", 0.0)))
                if isinstance(champion, Readiness):
                    probe.readiness, probe.asked, probe.until = champion, self._clock(), float("inf")
                elif not probe.flying and self._steady() >= probe.due:
                    probe.flying = True
                    threads.append(threading.Thread(target=self._probe, args=(probe, champion, interval), daemon=True))
        for thread in threads:
            thread.start()
        return threads

    def _told(self, fault: str, interval: float) -> None:
        if fault and fault != self._fault:
            logger.error("cannot probe: %s", fault)
        with self._lock:
            self._fault, self._looked = fault, self._clock()
            self._until = self._steady() + interval + SLACK + LONGEST  # hashing a large archive takes its time

    def _probe(self, probe: _Probe, champion: Champion, interval: float) -> None:
        """Ask one version, and note what holds until when."""
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
            probe.readiness, probe.asked, probe.flying = readiness, moment, False
            probe.due = started + interval
            probe.until = probe.due + interval + probe.patience(champion.deadline) + SLACK


def _number(champion: Champion | Readiness) -> str:
    return champion.version if isinstance(champion, Readiness) else champion.contract.version


def _expired(probe: _Probe, now: float, fault: str) -> Readiness:
    """Return a readiness, unless it is too old to be true, or nothing can be known."""
    if fault:
        return replace(probe.readiness, ready=False, detail=fault)
    if now > probe.until and probe.readiness.ready:
        return replace(probe.readiness, ready=False, detail="the probes hang: its last right answer is too old")
    return probe.readiness
