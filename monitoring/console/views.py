"""The figures of a model's page: its versions, each with its metrics at training and in the live service."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from handlers.contract import ModelContract
from handlers.contract.model_card import Evaluation
from monitoring.live.drift import KINDS, Drift, Kind
from monitoring.live.live import Live
from monitoring.live.quality import Measured
from monitoring.store.contracts import Contracts, unmeasured
from monitoring.store.journal import Journal
from monitoring.store.records import UNDER_WAY, Job
from serving.registry import Version
from training.statistics.criteria import PRIMARY

DriftState = Literal["drift", "as usual", "no verdict"]


@dataclass(frozen=True)
class Figure:
    """A metric.

    Attributes:
        low: lower end of its 95 % interval; None where it is not known.
        high: upper end of the interval.
        rows: number of rows, or of ``unit``, that it was measured on.
    """

    value: float
    low: float | None
    high: float | None
    rows: int | None
    unit: str = "rows"


@dataclass(frozen=True)
class VersionView:
    """One version.

    Attributes:
        trained: figures on rows held out at training, by metric.
        live: figures of the live service, by metric.
        measured: quality of the live rows; None without labels.
        speed: tokens a second that a language model generated at training, by the number of streams.
    """

    number: str
    state: str
    created: str
    trained: Mapping[str, Figure]
    live: Mapping[str, Figure]
    measured: Measured | None
    speed: Mapping[str, float]


@dataclass(frozen=True)
class ModelView:
    """One model.

    Attributes:
        contract: that of the champion, else of the newest version; None if no archive can be read.
        versions: the newest first.
        primary: the metric that versions are compared by.
        unit: unit of a regression's output.
        drift: state of each kind; None before the first look.
        jobs: jobs that are queued or run.
        unmeasured: why neither live quality nor drift is measured; None if they are.
    """

    name: str
    contract: ModelContract | None
    champion: VersionView | None
    versions: Sequence[VersionView]
    primary: str
    unit: str
    drift: Mapping[Kind, DriftState] | None
    jobs: Sequence[Job]
    unmeasured: str | None


class Views:
    """Puts together the figures of the pages."""

    def __init__(self, journal: Journal, live: Live, contracts: Contracts) -> None:
        self._journal, self._live, self._contracts = journal, live, contracts

    def models(self) -> list[ModelView]:
        """Return every registered model, sorted by name."""
        jobs = self._journal.jobs(states=UNDER_WAY)
        registered = self._contracts.models.models()
        return [
            self._view(name, registered[name], [job for job in jobs if job.model == name])
            for name in sorted(registered)
        ]

    def damaged(self) -> list[tuple[str, str, str]]:
        """Return model, version and fault of each entry of the registry that cannot be read."""
        damaged = sorted(self._contracts.models.damaged().items())
        return [(name, number, fault) for name, faults in damaged for number, fault in faults.items()]

    def model(self, name: str) -> ModelView:
        """Return one model.

        Raises:
            KeyError: it is not registered.
        """
        return self._view(name, self._contracts.models.models()[name], self._journal.jobs(name, UNDER_WAY))

    def _view(self, name: str, registered: Mapping[str, Version], jobs: Sequence[Job]) -> ModelView:
        contract, observed = self._contracts.of(name), self._live.observed(name)
        measured = observed.quality.versions if observed else {}
        versions = [
            _version(number, version, measured.get(number)) for number, version in reversed(list(registered.items()))
        ]
        return ModelView(
            name=name,
            contract=contract,
            champion=next((version for version in versions if version.state == "champion"), None),
            versions=versions,
            primary=_primary(contract, registered.values()),
            unit=contract.outputs[0].unit if contract and contract.task == "regression" else "",
            drift=_states(observed.drift) if observed else None,
            jobs=jobs,
            unmeasured=unmeasured(contract) if contract else None,
        )


def _version(number: str, version: Version, measured: Measured | None) -> VersionView:
    evaluation = version.measured
    rates = evaluation.speed.tokens_per_second if evaluation.speed else {}
    speed = {f"{streams} stream{'' if streams == '1' else 's'}": rate for streams, rate in rates.items()}
    trained = _trained(evaluation)
    return VersionView(number, version.state, version.created, trained, _live(measured), measured, speed)


def _trained(evaluation: Evaluation) -> dict[str, Figure]:
    figures = {}
    for name, value in evaluation.metrics.items():
        if value is None:  # it could not be measured
            continue
        low, high = evaluation.interval(name) or (None, None)
        unit = "tokens" if name == "perplexity" else "rows"
        figures[name] = Figure(value, low, high, evaluation.rows, unit)
    return figures


def _live(measured: Measured | None) -> dict[str, Figure]:
    if measured is None:
        return {}
    return {
        name: Figure(metric.value, metric.low, metric.high, measured.rows) for name, metric in measured.metrics.items()
    }


def _primary(contract: ModelContract | None, versions: Iterable[Version]) -> str:
    named = [metric for version in versions if (metric := version.measured.primary)]
    if named:
        return named[-1]
    return PRIMARY[contract.task][0] if contract and contract.task in PRIMARY else ""


def _states(drift: Drift) -> dict[Kind, DriftState]:
    alarms = drift.alarms
    words: dict[bool | None, DriftState] = {True: "drift", False: "as usual", None: "no verdict"}
    return {kind: words[alarms.get(kind)] for kind in KINDS}
