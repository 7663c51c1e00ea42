"""Quality and drift as gauges for Prometheus, made anew at each scrape: removed models leave no series behind."""

from collections.abc import Iterator
from itertools import chain

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from monitoring.live.drift import KINDS
from monitoring.live.limits import expected
from monitoring.live.live import Live, Observation

MODEL = ("model", "version")
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "model_quality": ("Metric of the predictions whose truth is known", (*MODEL, "metric")),
    "model_quality_low": ("Lower end of its interval", (*MODEL, "metric")),
    "model_quality_high": ("Upper end of its interval", (*MODEL, "metric")),
    "model_quality_expected": ("The same metric at training: held-out or learned rows, the worse", (*MODEL, "metric")),
    "model_quality_limit": (
        "What it passes in one of a hundred windows of as much time and as many rows where nothing changed; absent: "
        "no verdict",
        (*MODEL, "metric"),
    ),
    "model_quality_rows": ("Rows that it is of", MODEL),
    "model_quality_left_out_rows": ("Rows that do not fit the champion's contract", ("model",)),
    "model_quality_hours": ("Hours that these rows cover, each counted by its share of them", MODEL),
    "model_label_delay_seconds": ("Median time from the prediction to its label", MODEL),
    "model_drift_statistic": ("Distance from the reference, 0 to 1", ("model", "feature", "test")),
    "model_drift_limit": ("Distance from which on it would alarm by itself", ("model", "feature", "test")),
    "model_drift_psi": ("Population stability index", ("model", "feature")),
    "model_drift_rows": ("Rows that were compared", ("model", "feature")),
    "model_drift_alarm": ("Whether the distribution changed", ("model", "kind")),
    "model_drift_judged": ("Whether there were rows and time enough to say", ("model", "kind")),
    "model_errors_smaller": ("Whether the errors became smaller than at training, beyond chance", ("model",)),
    "model_live_timestamp_seconds": ("When quality and drift were last looked at", ("model",)),
}
Sample = tuple[str, tuple[str, ...], float]  # gauge, labels, value


class LiveMetrics(Collector):
    """Shows the last observations of ``live``; register it."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges, without samples."""
        for name, (text, labels) in GAUGES.items():
            yield GaugeMetricFamily(name, text, labels=labels)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges with the last observations."""
        families = {family.name: family for family in self.describe()}
        for model, observation in self._live.last.items():
            families["model_quality_left_out_rows"].add_metric((model,), self._live.left_out.get(model, 0))
            for name, labels, value in chain(_quality(model, observation), _drift(model, observation)):
                families[name].add_metric(labels, value)
        yield from families.values()


def _quality(model: str, observation: Observation) -> Iterator[Sample]:
    for version, measured in observation.quality.versions.items():
        for name, metric in measured.metrics.items():
            yield "model_quality", (model, version, name), metric.value
            yield "model_quality_low", (model, version, name), metric.low
            yield "model_quality_high", (model, version, name), metric.high
        for name, limit in measured.limits.items():
            yield "model_quality_limit", (model, version, name), limit
        yield "model_quality_rows", (model, version), measured.rows
        yield "model_quality_hours", (model, version), measured.hours
        yield "model_label_delay_seconds", (model, version), measured.delay_seconds
    for version, contract in observation.contracts.items():
        for name, value in expected(contract.evaluation).items():
            yield "model_quality_expected", (model, version, name), value


def _drift(model: str, observation: Observation) -> Iterator[Sample]:
    drift = observation.drift
    for finding in drift.findings:
        yield "model_drift_rows", (model, finding.name), finding.rows
        if finding.statistic is not None and finding.psi is not None:
            yield "model_drift_statistic", (model, finding.name, finding.test), finding.statistic
            yield "model_drift_psi", (model, finding.name), finding.psi
        if finding.limit is not None:
            yield "model_drift_limit", (model, finding.name, finding.test), finding.limit
    for kind in KINDS:
        yield "model_drift_alarm", (model, kind), drift.alarms.get(kind, False)
        yield "model_drift_judged", (model, kind), kind in drift.alarms
    yield "model_errors_smaller", (model,), drift.smaller
    yield "model_live_timestamp_seconds", (model,), observation.time.timestamp()
