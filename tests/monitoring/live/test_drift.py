"""Which windows alarm, of what."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import pytest

from handlers.contract import ModelContract, TensorSpec
from monitoring.live.drift import LEVEL, UNJUDGED, Drift, Finding, detect, window_needed, windows_of
from monitoring.live.drift_report import render
from monitoring.store.records import Labelled, Prediction
from tests.support.documents import replaced
from tests.support.monitoring.drifting import (
    CARRIERS,
    FEWEST,
    NOW,
    WINDOW,
    classification,
    predictions,
    regression,
    rows,
    weekly,
)
from training.packaging.reference import summaries

AIR, CLOTHES = regression(), classification()


def drift_of(contract: ModelContract, labelled: list[Labelled]) -> Drift:
    return detect(contract, predictions(labelled), labelled)


def finding(drift: Drift, name: str) -> Finding:
    (found,) = [one for one in drift.findings if one.name == name]
    return found


@pytest.mark.parametrize("contract", [AIR, CLOTHES], ids=["regression", "classification"])
def test_windows_of_the_same_world_hardly_ever_alarm(contract: ModelContract) -> None:
    found = [drift_of(contract, rows(contract, seed=seed)) for seed in range(1, 101)]
    assert all(one.alarms.keys() == {"features", "predictions", "errors"} for one in found)
    assert sum(one.alarm for one in found) <= 3


@pytest.mark.parametrize(
    ("contract", "change", "kind", "name"),
    [
        (AIR, {"shares": (0.2, 0.3, 0.5)}, "features", "carrier"),
        (AIR, {"shift": 0.5}, "features", "distance"),
        (AIR, {"error": 0.5}, "errors", "error"),
        (CLOTHES, {"error": 0.1}, "errors", "error"),
        (CLOTHES, {"shift": 0.5}, "predictions", "prediction"),
    ],
)
def test_a_change_alarms_where_it_happened(
    contract: ModelContract, change: dict[str, Any], kind: Any, name: str
) -> None:
    drift = drift_of(contract, rows(contract, **change))
    assert drift.alarms[kind]
    changed = finding(drift, name)
    assert changed.kind == kind
    assert changed.alarm
    assert changed.statistic is not None
    assert changed.limit is not None
    assert changed.statistic > changed.limit
    assert changed.psi is not None
    assert changed.psi_usual is not None
    assert changed.psi > changed.psi_usual


def test_where_only_the_relation_changed_only_errors_alarm() -> None:
    labelled = [replace(one, label=float(str(one.label)) - 0.5) for one in rows(AIR)]
    assert drift_of(AIR, labelled).alarms == {"features": False, "predictions": False, "errors": True}


def test_errors_that_became_smaller_are_told_and_do_not_alarm() -> None:
    smaller = [
        replace(one, label=one.prediction.output - 0.15 * (one.prediction.output - one.label)) for one in rows(AIR)
    ]
    drift = drift_of(AIR, smaller)
    assert drift.alarms["errors"] is False
    assert drift.smaller
    assert finding(drift, "error").p < LEVEL / 3  # type: ignore[operator]
    right = [replace(one, label=one.prediction.output["label"]) for one in rows(CLOTHES)]
    assert drift_of(CLOTHES, right).smaller
    assert not drift_of(CLOTHES, right).alarms["errors"]
    assert not drift_of(AIR, rows(AIR)).smaller


def test_too_few_rows_give_figures_but_no_verdict() -> None:
    drift = drift_of(AIR, rows(AIR, FEWEST - 1, shift=5))
    assert drift.alarms == {}
    assert not drift.alarm
    for one in drift.findings:
        assert (one.rows, one.needed, one.p, one.alarm) == (FEWEST - 1, FEWEST, None, False)
        assert one.statistic is not None


def test_a_reference_of_weeks_gives_no_verdict_on_minutes_however_many_rows_they_hold() -> None:
    weeks = weekly(AIR)
    minutes = drift_of(weeks, rows(AIR, 2500, shift=5))
    assert minutes.alarms == {}
    (one,) = {(one.needed, one.needed_hours > 20, round(one.hours)) for one in minutes.findings}
    assert one == (FEWEST, True, 1)
    spread = drift_of(weeks, rows(AIR, 2500, shift=5, seconds=300))
    assert spread.alarms["features"]
    assert not drift_of(weeks, rows(AIR, 2500, seconds=300)).alarm


def test_where_the_newest_rows_cover_too_little_time_as_many_are_spread_over_more() -> None:
    found = rows(AIR, 20_000, seconds=60)
    window = windows_of(weekly(AIR), predictions(found))[0]
    learned = window.learned
    assert learned is not None
    assert len(window.values) == learned.rows == 2500
    assert window.times[-1] - window.times[0] == pytest.approx(learned.span * 3600, rel=0.01)
    assert window.times[-1] == found[-1].prediction.time.timestamp()


def test_without_labels_errors_have_no_figures() -> None:
    drift = detect(AIR, predictions(rows(AIR)))
    assert drift.alarms.keys() == {"features", "predictions"}
    assert finding(drift, "error") == Finding("errors", "error", "ks", 0, FEWEST)


def test_no_rows_at_all_are_no_drift() -> None:
    drift = detect(AIR, [])
    assert (drift.since, drift.until, drift.alarm, drift.alarms) == (None, None, False, {})


def test_only_the_newest_rows_are_compared() -> None:
    older = [replace(one, time=NOW.replace(year=2012)) for one in predictions(rows(AIR, 300, shift=9))]
    drift = detect(AIR, older + predictions(rows(AIR, 2500)))
    assert not drift.alarm
    assert drift.since is not None
    assert drift.since.year == 2013
    assert window_needed(AIR) == (2500, timedelta(0))


def test_predictions_and_errors_are_those_of_the_contracts_own_version() -> None:
    former = rows(regression("0.9"), error=9)
    drift = drift_of(AIR, former)
    assert [one.rows for one in drift.findings] == [WINDOW, WINDOW, 0, 0]
    assert not drift.alarm


def test_a_contract_that_does_not_know_what_is_usual_gives_figures_only() -> None:
    inputs = {"distance": {"quantiles": AIR.reference.inputs["distance"].quantiles}}
    small = replaced(AIR, reference={"rows": 5, "inputs": inputs})
    drift = drift_of(small, rows(AIR, 50, shift=5))
    (found,) = drift.findings
    assert (found.needed, found.p, found.alarm) == (None, None, False)
    assert found.statistic is not None
    assert found.statistic > 0.9
    assert window_needed(small) == (UNJUDGED, timedelta(0))


def test_a_category_that_the_reference_lacks_is_counted_as_such() -> None:
    (found,) = [one for one in windows_of(AIR, _with_carrier("XX")) if one.name == "carrier"]
    assert set(found.values) == {len(CARRIERS)}
    assert detect(AIR, _with_carrier("XX")).alarms["features"]


def _with_carrier(carrier: str) -> list[Any]:
    return [replace(one, features={**one.features, "carrier": carrier}) for one in predictions(rows(AIR))]


def test_texts_are_compared_by_their_length_and_arrays_by_their_mean() -> None:
    specs = (TensorSpec("text", "BYTES"), TensorSpec("pixels", "FP32", (-1, 2)), TensorSpec("mean", "FP32", (-1, 99)))
    summary = {"quantiles": list(range(257))}
    contract = replaced(AIR, inputs=specs, reference={"inputs": {one.name: summary for one in specs}})
    told = {"text": "four", "pixels": [2.0, 4.0], "mean": 5.0}  # of a large array the mean alone is captured
    one = replace(rows(AIR, 1)[0].prediction, features=told)
    assert [window.values.tolist() for window in windows_of(contract, [one, one])] == [[4, 4], [3, 3], [5, 5]]


def test_features_are_corrected_for_their_number() -> None:
    drift = drift_of(AIR, rows(AIR, shares=(0.2, 0.3, 0.5)))
    carrier = finding(drift, "carrier")
    assert carrier.p is not None
    assert carrier.corrected == pytest.approx(2 * carrier.p, rel=1e-6)
    assert carrier.p < LEVEL / 6
    prediction = finding(drift, "prediction")
    assert prediction.corrected == prediction.p


def lacking(share: float, seed: int, count: int, known: bool = False) -> ModelContract | list[Any]:
    """Models whose inputs, a text among them, are missing in so many rows; or captured rows of them."""
    inputs = tuple(
        msgspec.structs.replace(spec, nullable=True, default="UA" if spec.categories else None) for spec in AIR.inputs
    )
    inputs = (*inputs, TensorSpec("note", "BYTES", nullable=True, default=""))
    chance = np.random.default_rng(seed)
    distance = np.where(chance.random(count) < share, np.nan, chance.normal(size=count))
    carrier = np.where(chance.random(count) < share, -1, chance.integers(3, size=count))
    note = np.where(chance.random(count) < share, -1, chance.integers(1, 9, size=count))  # characters
    contract = msgspec.structs.replace(AIR, inputs=inputs)
    if known:
        answers = np.zeros(count)
        reference = summaries(contract, {"distance": distance, "carrier": carrier, "note": note}, answers, answers)
        return msgspec.structs.replace(contract, reference=reference)
    features = [
        {
            "distance": None if np.isnan(x) else float(x),
            "carrier": None if c < 0 else CARRIERS[c],
            "note": None if n < 0 else "x" * n,
        }
        for x, c, n in zip(distance, carrier, note, strict=True)
    ]
    return [
        Prediction("r", i, "air", "1.0", NOW - timedelta(seconds=count - i), own, 0.0) for i, own in enumerate(features)
    ]


@pytest.mark.parametrize(
    ("before", "after", "drifts"), [(0.1, 0.1, False), (0, 0, False), (0, 0.02, True), (0.1, 0.2, True), (0.2, 0, True)]
)
def test_another_share_of_missing_values_drifts_whatever_the_others_are(
    before: float, after: float, drifts: bool
) -> None:
    contract, captured = lacking(before, 0, 8000, known=True), lacking(after, 1, WINDOW)
    assert isinstance(contract, ModelContract)
    assert isinstance(captured, list)
    drift = detect(contract, captured)
    names = ("distance", "carrier", "note")
    assert [finding.name for finding in drift.findings][:6] == [part for n in names for part in (n, f"{n} missing")]
    for name in names:
        assert not finding(drift, name).alarm
        assert finding(drift, f"{name} missing").alarm == drifts
    assert finding(drift, "carrier").rows == sum(row.features["carrier"] is not None for row in captured)


def test_a_report_has_a_chart_of_what_is_missing() -> None:
    contract, captured = lacking(0, 0, 8000, known=True), lacking(0.1, 1, WINDOW)
    assert isinstance(contract, ModelContract)
    assert isinstance(captured, list)
    page = render(contract, captured)
    assert "Drift in distance missing, carrier missing, note missing." in page


def test_a_window_without_any_value_alarms_as_missing() -> None:
    contract, captured = lacking(0, 0, 8000, known=True), lacking(1, 1, WINDOW)
    assert isinstance(contract, ModelContract)
    assert isinstance(captured, list)
    drift = detect(contract, captured)
    assert [(finding.name, finding.rows) for finding in drift.findings if finding.alarm] == [
        ("distance missing", WINDOW),
        ("carrier missing", WINDOW),
        ("note missing", WINDOW),
    ]
    assert finding(drift, "distance").rows == 0
