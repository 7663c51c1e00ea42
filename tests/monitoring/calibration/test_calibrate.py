"""The calibration of drift on a real year, with fewer windows than `marloop calibrate flights` draws."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from monitoring.calibration.calibrate import calibrate, draw_alarms
from monitoring.calibration.timeline import Timeline, timeline
from monitoring.live.drift import LEVEL
from serving.registry import ArchiveError, Registry
from tests.support.training.trainings import CACHE, Trainings
from training import recipes
from training.figures.picture import beside
from training.improve.practices import document
from training.improve.practices.monitored import AlarmsRow, DriftAlarms
from training.statistics.usual import ROWS

MAY, OCTOBER = datetime(2013, 5, 1, tzinfo=UTC), datetime(2013, 10, 1, tzinfo=UTC)
recipe = recipes.find("flights")


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    """2013, answered by a model of its January and February."""
    trained = Trainings(tmp_path_factory.mktemp("trained") / "store")
    trained(recipe)
    return timeline(recipe, trained.registry, CACHE)


@pytest.fixture(scope="module")
def result(year: Timeline) -> DriftAlarms:
    return calibrate(year, MAY, OCTOBER, windows=12, left_out=2)


def row(result: DriftAlarms, period: str) -> AlarmsRow:
    (found,) = [row for row in result.rows if row.period == period]
    return found


def test_the_timeline_is_the_year_in_order_and_the_version_knows_its_first_two_months(year: Timeline) -> None:
    assert len(year.rows) == 327_346
    assert year.reference_rows == 50_009
    assert year.rows.time is not None
    assert (np.diff(year.rows.time) >= 0).all()
    (one,) = year.labelled(0, 1)
    assert one.prediction.features == {"distance": 1400.0, "hour": 5, "carrier": "UA", "origin": "EWR", "dest": "IAH"}
    assert one.label == 227
    assert abs(one.prediction.output - 227) < 40
    assert one.prediction.time == datetime(2013, 1, 1, 10, tzinfo=UTC)


def test_what_the_version_knows_hardly_ever_alarms_and_the_summer_nearly_always(result: DriftAlarms) -> None:
    assert row(result, "known").alarm == 0
    assert row(result, "2013-05-01 to 2013-10-01").alarm >= 0.95
    assert row(result, "2013-05-01 to 2013-10-01").errors > 0.5


def test_every_month_that_came_after_is_told(result: DriftAlarms) -> None:
    periods = [row.period for row in result.rows]
    assert periods[3:] == [f"2013-{month:02}" for month in range(3, 13)]
    assert (result.window, result.level) == (5959, LEVEL)  # a week of the winter


def test_a_window_that_is_left_out_is_not_in_the_reference(year: Timeline) -> None:
    contract = year.without(0, ROWS[-1])
    assert contract.reference.rows == 50_009 - ROWS[-1]
    assert contract.reference.inputs.keys() == year.contract.reference.inputs.keys()


def test_the_result_is_a_table_and_a_picture_of_the_documentation(result: DriftAlarms, tmp_path: Path) -> None:
    written = document.write_result(result, tmp_path)
    assert written.name == "drift-flights.json"
    draw_alarms(result, beside(written))
    assert beside(written).read_bytes().startswith(b"\x89PNG")
    table = document.read_results(tmp_path)["drift-flights"].markdown()
    assert "| known | 12 | 0.0% | 0.0% | 0.0% | 0.0% |" in table
    page = document.render_folder(tmp_path)
    assert "`marloop calibrate flights`" in page
    assert "![Alarms of drift: flights](practices/pictures/drift-flights.png)" in page


def test_a_model_without_a_champion_or_a_recipe_without_a_timeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="flights has no champion"):
        timeline(recipe, Registry(tmp_path), CACHE)
    trained = Trainings(tmp_path / "trained")
    linear = recipes.find("linear")
    trained(linear)
    with pytest.raises(ValueError, match="the recipe linear has no timeline"):
        timeline(linear, trained.registry, CACHE)
