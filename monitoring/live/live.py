"""Quality and drift of the served models' newest rows, measured again and again."""

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from handlers.contract import ModelContract
from handlers.observe.settings import EnvironmentSettings, says, variables
from monitoring.live.clock import AHEAD, Clock, wall_clock
from monitoring.live.drift import Drift, detect, window_needed
from monitoring.live.last_known import LastKnown
from monitoring.live.quality import Quality, measure
from monitoring.live.time_sampling import Extent, sample_labelled, sample_predictions
from monitoring.periodic import repeat
from monitoring.store.checks.captured import usable
from monitoring.store.checks.labels import measurable
from monitoring.store.contracts import Contracts, unmeasured
from monitoring.store.predictions import Store
from monitoring.store.records import Labelled, Prediction
from serving.registry import ArchiveError

logger = logging.getLogger(__name__)
POLL = 1.0  # s between two looks whether this monitor leads
OLD = timedelta(seconds=30)  # of an observation, where another monitor leads


class QualityWindow(EnvironmentSettings, frozen=True, rename=variables("QUALITY_")):
    """Age and number of the labelled rows that the live quality is of."""

    hours: Annotated[
        float,
        says(
            "Greatest age in hours of the predictions that the live quality is of.",
            gt=0,
            lt=10**6,
            title="a number of hours over 0",
        ),
    ] = 168
    rows: Annotated[
        int,
        says(
            "How many labelled rows the live quality is of at most, the newest.",
            gt=0,
            lt=10**6,
            title="a positive integer under a million",
        ),
    ] = 5000

    @property
    def age(self) -> timedelta:
        """Return the greatest age of the predictions."""
        return timedelta(hours=self.hours)


@dataclass(frozen=True)
class Observation:
    """Quality and drift of one model at a moment.

    Attributes:
        time: wall-clock time when the look began.
        contracts: those of the champion and of other versions with labels, by version.
    """

    time: datetime
    quality: Quality
    drift: Drift
    contracts: Mapping[str, ModelContract]


class Live:
    """Looks at every model that has a champion.

    Args:
        window: rows of the quality; the contract has the window of the drift.
        clock: the time, in UTC; may go by the events.
        wall: wall-clock time, in UTC.
        leads: tells whether this monitor leads; another one looks only when it is asked.

    Attributes:
        last: the last observation, by model.
        left_out: number of rows in the quality's window that do not fit the champion's contract, by model.
    """

    def __init__(
        self,
        store: Store,
        contracts: Contracts,
        window: QualityWindow,
        clock: Clock,
        wall: Clock = wall_clock,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store, self._contracts, self._window = store, contracts, window
        self._clock, self._wall, self._leads = clock, wall, leads
        self._asked = LastKnown(self.run)
        self._looked = datetime.fromtimestamp(0, UTC)
        self.last: Mapping[str, Observation] = {}
        self.left_out: dict[str, int] = {}

    def run(self) -> None:
        """Look at each model once; a failure is logged, and the other models are looked at.

        Raises:
            ArchiveError: the registry is damaged.
        """
        observations = {}
        for model in sorted(self._contracts.models.champions()):
            try:
                if (observation := self.look(model)) is not None:
                    observations[model] = observation
            except Exception:
                logger.exception("cannot tell the quality and drift of %s", model)
        self.last, self._looked = observations, self._wall()  # replaced at once, so that readers see one state

    def run_forever(self, interval: float, stop: threading.Event) -> None:
        """Look every ``interval`` seconds while this monitor leads; failures are logged, and tried again."""
        led = False

        def look() -> None:
            nonlocal led
            led = self._leads()
            if led:
                self.run()

        repeat(lambda _: interval if led else min(POLL, interval), look, stop, fault="cannot tell quality and drift")

    def observed(self, model: str) -> Observation | None:
        """Return the last observation of a model; a monitor that does not lead looks again where that is old."""
        if not self._leads() and self._wall() - self._looked > OLD:
            with contextlib.suppress(ArchiveError):  # a damaged registry is told by the page
                self._asked()  # waits two seconds at most; a later call has the rest
        return self.last.get(model)

    def look(self, model: str) -> Observation | None:
        """Return quality and drift of one model; None if it has no contract, or they cannot be measured."""
        contract = self._contracts.of(model)
        if contract is None or unmeasured(contract):
            return None
        began = self._wall()
        quality = self.quality(contract)
        versions = {number: self._contracts.of(model, number) for number in {contract.version, *quality.versions}}
        contracts = {number: contract for number, contract in versions.items() if contract is not None}
        return Observation(began, quality, self.drift(contract), contracts)

    def quality(self, contract: ModelContract, window: QualityWindow | None = None) -> Quality:
        """Return the quality of one model in a window that ends now.

        Args:
            contract: describes the version that is watched.
            window: its newest rows count. None for the window that alarms: where its newest rows cover less time than
                the reference can judge, as many are spread over that time.
        """
        since, name = self._clock() - (window or self._window).age, contract.name
        if window:
            rows = self._store.labelled(name, since=since, limit=window.rows)
        else:
            extent = Extent(self._window.rows, window_needed(contract)[1], since)
            rows = sample_labelled(self._store, name, extent)
        latest = self._latest()
        fitting = measurable(contract, [row for row in rows if row.prediction.time < latest])
        if window is None:
            self.left_out[name] = len(rows) - len(fitting)
        return measure(contract, fitting, lambda number: self._contracts.of(name, number))

    def drift(self, contract: ModelContract) -> Drift:
        """Return the drift of one model's newest rows, against one version's reference."""
        return detect(contract, *newest_rows(self._store, contract, self._latest()))

    def _latest(self) -> datetime:
        """Return the time after which a row is from a wrong clock; former versions of Marloop stored such rows."""
        return self._wall() + AHEAD


def newest_rows(
    store: Store, contract: ModelContract, until: datetime | None = None
) -> tuple[list[Prediction], list[Labelled]]:
    """Return the predictions that drift is measured on, and those whose truth is known.

    Args:
        contract: describes the version that is watched.
        until: the latest time, excluded; None: the newest there is.
    """
    extent = Extent(*window_needed(contract), until=until)
    newest = usable(contract, sample_predictions(store, contract.name, extent))
    # Only this version's errors count, and they are older where labels are late.
    return newest, measurable(contract, sample_labelled(store, contract.name, extent, contract.version))
