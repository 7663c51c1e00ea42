"""The end-to-end probe: each model is asked its contract's example over HTTP, as a client would.

What the client feels, the queue and the frontend included, so gets a histogram too, and readiness is a right answer.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from prometheus_client import CollectorRegistry, Gauge, Histogram

from handlers.contract import ModelContract
from handlers.telemetry import MODEL, SECONDS
from serving.readiness import Readiness, ask, contract_of
from serving.registry import ArchiveError, Registry, Version

logger = logging.getLogger(__name__)
TIMEOUT = 10.0  # s


@dataclass(frozen=True)
class Probed:
    """What the last round found.

    Attributes:
        time: seconds since the epoch.
        found: of every champion.
    """

    time: float
    found: list[Readiness]

    @property
    def ready(self) -> bool:
        """Whether there are models, and all answered as they should."""
        return bool(self.found) and all(one.ready for one in self.found)


class Prober:
    """Probes every champion of a registry.

    Args:
        models: names the champions.
        url: of the inference port.
        registry: that the metrics belong to.
        client: of httpx.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        models: Registry,
        url: str,
        registry: CollectorRegistry,
        client: httpx.Client,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._models, self._url, self._client, self._clock = models, url, client, clock
        self._contracts: dict[str, ModelContract] = {}
        self._shown: set[tuple[str, str]] = set()
        self.last = Probed(0.0, [])
        self._success = Gauge("probe_success", "Whether the example was answered right", MODEL, registry=registry)
        self._time = Gauge("probe_timestamp_seconds", "When it was last asked", MODEL, registry=registry)
        self._duration = Histogram(
            "probe_duration_seconds", "From asked to answered", MODEL, registry=registry, buckets=SECONDS
        )

    def run(self) -> Probed:
        """Ask every champion once.

        Raises:
            ArchiveError: the registry is damaged.
        """
        champions = self._models.champions()
        now = self._clock()
        found = [self._ask(name, number, version) for name, (number, version) in sorted(champions.items())]
        for one in found:
            self._success.labels(one.name, one.version).set(one.ready)
            self._time.labels(one.name, one.version).set(now)
            self._duration.labels(one.name, one.version).observe(one.milliseconds / 1000)
        shown = {(one.name, one.version) for one in found}
        for name, number in self._shown - shown:  # what is no longer served must not look as if it failed
            self._success.remove(name, number)
            self._time.remove(name, number)
        self._shown = shown
        self.last = Probed(now, found)
        return self.last

    def run_forever(self, interval: float, stop: threading.Event) -> None:
        """Probe every ``interval`` seconds until told to stop; what goes wrong is logged, and tried again."""
        while not stop.is_set():
            started = time.monotonic()
            try:
                self.run()
            except ArchiveError:
                logger.exception("cannot probe")
            stop.wait(max(0.0, interval - (time.monotonic() - started)))

    def _ask(self, name: str, number: str, version: Version) -> Readiness:
        try:
            if version.sha256 not in self._contracts:  # reading it checks the whole archive
                self._contracts[version.sha256] = contract_of(self._models, version)
        except ArchiveError as error:
            return Readiness(name, number, False, f"refused: {error}", 0.0)
        return ask(self._client, self._url, self._contracts[version.sha256])
