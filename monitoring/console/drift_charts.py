"""Drift with its charts, drawn once after each look at the store, since drawing takes a second."""

import threading
from collections.abc import Sequence

from handlers.contract import ModelContract
from monitoring.live import drift_report
from monitoring.live.drift import Drift
from monitoring.live.live import Live, Observation, newest_rows
from monitoring.store.predictions import Store
from training.figures.svg import Chart

Drawn = tuple[Drift, Sequence[Chart]]


class DriftCharts:
    """The charts of every model; a new observation of ``live`` makes them anew."""

    def __init__(self, store: Store, live: Live) -> None:
        self._store, self._live = store, live
        self._charts: dict[str, tuple[Observation | None, str, Drawn]] = {}
        self._lock = threading.Lock()  # Matplotlib's settings are those of the whole process

    def of(self, contract: ModelContract) -> Drawn:
        """Return the drift of a model's newest rows against its version's reference, with charts."""
        observation = self._live.observed(contract.name)
        with self._lock:
            former, version, charts = self._charts.get(contract.name, (None, "", None))
            if charts is None or former is not observation or version != contract.version:
                charts = drift_report.compare(contract, *newest_rows(self._store, contract))
                self._charts[contract.name] = observation, contract.version, charts
            return charts
