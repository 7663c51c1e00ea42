"""Jobs, promotions and champions for Prometheus, read from the store and the registry at each scrape."""

import logging
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from monitoring.store import Store
from serving.registry import ArchiveError, Registry

logger = logging.getLogger(__name__)
Family = CounterMetricFamily | GaugeMetricFamily


class RetrainingMetrics(Collector):
    """Register it; counters go on where they were when the monitor is started anew.

    Args:
        store: has jobs and decisions.
        models: the registry; each of its models has a 0 where nothing was counted.
    """

    def __init__(self, store: Store, models: Registry) -> None:
        self._store, self._models = store, models

    def describe(self) -> Iterator[Family]:
        """The families, without samples."""
        yield GaugeMetricFamily("retrain_jobs", "Retrainings that there were, by state", labels=("model", "state"))
        yield GaugeMetricFamily("retrain_running", "Whether a retraining runs or is queued", labels=("model",))
        yield CounterMetricFamily("model_promotions", "Versions that were promoted", labels=("model",))
        yield CounterMetricFamily("model_rollbacks", "Promotions that were taken back", labels=("model",))
        yield CounterMetricFamily("retrain_refusals", "Challengers that were refused", labels=("model",))
        yield GaugeMetricFamily("model_champion_info", "The version that is served", labels=("model", "version"))

    def collect(self) -> Iterator[Family]:
        """The families; without samples where the store or the registry cannot be read."""
        jobs, running, promotions, rollbacks, refusals, champion = families = list(self.describe())
        try:
            models, counts = self._models.models(), self._store.job_counts()
            decided, champions = self._store.decision_counts(), self._models.champions()
        except (ArchiveError, SQLAlchemyError):
            logger.exception("cannot tell of retrainings")
            yield from families
            return
        for (model, state), count in sorted(counts.items()):
            jobs.add_metric((model, state), count)
        for model in sorted(models):
            running.add_metric((model,), sum(counts.get((model, state), 0) for state in ("queued", "running")))
            promotions.add_metric((model,), decided.get((model, "promoted"), 0))
            rollbacks.add_metric((model,), decided.get((model, "rolled_back"), 0))
            refusals.add_metric((model,), decided.get((model, "refused"), 0))
        for model, (number, _) in sorted(champions.items()):
            champion.add_metric((model, number), 1)
        yield from families
