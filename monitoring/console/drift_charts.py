"""Drift with its charts, drawn once for each look at the store, since that takes a second."""

import threading
from collections.abc import Sequence
from datetime import datetime

from handlers.contract import ModelContract
from monitoring import drift_report
from monitoring.drift import Drift, rows_needed
from monitoring.live import Live
from monitoring.store import Store
from training.html_report.svg import Chart

Drawn = tuple[Drift, Sequence[Chart]]


class DriftCharts:
    """The charts of every model.

    Args:
        store: has the predictions and labels.
        live: says when it has looked.
    """

    def __init__(self, store: Store, live: Live) -> None:
        self._store, self._live = store, live
        self._drawn: dict[str, tuple[tuple[str, datetime | None], Drawn]] = {}
        self._lock = threading.Lock()  # Matplotlib's settings are those of the whole process

    def of(self, contract: ModelContract) -> Drawn:
        """The newest rows of a model against its version's reference."""
        found = self._live.last.get(contract.name)
        key = (contract.version, found.time if found else None)
        with self._lock:
            known = self._drawn.get(contract.name)
            if known is None or found is None or known[0] != key:
                known = key, self._draw(contract)
                self._drawn[contract.name] = known
            return known[1]

    def _draw(self, contract: ModelContract) -> Drawn:
        needed = rows_needed(contract)
        newest = self._store.predictions(contract.name, limit=needed)
        labelled = self._store.labelled(contract.name, version=contract.version, limit=needed)
        return drift_report.compare(contract, newest, labelled)
