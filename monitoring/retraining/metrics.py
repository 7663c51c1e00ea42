"""Jobs, promotions and champions for Prometheus, read from the store and the registry at each scrape."""

import logging
from collections.abc import Collection, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from monitoring.live.last_known import LastKnown
from monitoring.store.journal import Journal
from serving.registry import ArchiveError, Registry, Version

logger = logging.getLogger(__name__)
Family = CounterMetricFamily | GaugeMetricFamily
Counts = dict[tuple[str, str], int]  # by model and state or kind
Totals = tuple[Collection[str], Counts, Counts, Mapping[str, tuple[str, Version]]]  # models, jobs, decisions, champions


class RetrainingMetrics(Collector):
    """Metrics of retrainings; register it.

    A restart of the monitor does not reset the counters. Each model of the registry has a 0 where nothing was counted.
    """

    def __init__(self, journal: Journal, models: Registry) -> None:
        self._totals = LastKnown(lambda: _read_totals(journal, models))

    def describe(self) -> Iterator[Family]:
        """Yield the families, without samples."""
        yield GaugeMetricFamily(
            "retrain_jobs", "Retrainings and challenges that there were, by state", labels=("model", "state")
        )
        yield GaugeMetricFamily(
            "retrain_running", "Whether a retraining or a challenge runs or is queued", labels=("model",)
        )
        yield CounterMetricFamily("model_promotions", "Versions that were promoted", labels=("model",))
        yield CounterMetricFamily("model_rollbacks", "Promotions that were taken back", labels=("model",))
        yield CounterMetricFamily("retrain_refusals", "Challengers that were refused", labels=("model",))
        yield GaugeMetricFamily("model_champion_info", "The version that is served", labels=("model", "version"))

    def collect(self) -> Iterator[Family]:
        """Yield the families; without samples where the store or the registry cannot be read."""
        jobs, running, promotions, rollbacks, refusals, champion = families = list(self.describe())
        try:
            totals = self._totals()  # does not wait long for the store
        except (ArchiveError, SQLAlchemyError) as error:
            logger.warning("cannot tell of retrainings: %s", getattr(error, "orig", None) or error)
            totals = None
        if totals is None:
            yield from families
            return
        models, counts, decisions, champions = totals
        for (model, state), count in sorted(counts.items()):
            jobs.add_metric((model, state), count)
        for model in sorted(models):
            running.add_metric((model,), sum(counts.get((model, state), 0) for state in ("queued", "running")))
            promotions.add_metric((model,), decisions.get((model, "promoted"), 0))
            rollbacks.add_metric((model,), decisions.get((model, "rolled_back"), 0))
            refusals.add_metric((model,), decisions.get((model, "refused"), 0))
        for model, (number, _) in sorted(champions.items()):
            champion.add_metric((model, number), 1)
        yield from families


def _read_totals(journal: Journal, models: Registry) -> Totals:
    return models.models().keys(), journal.job_counts(), journal.decision_counts(), models.champions()
