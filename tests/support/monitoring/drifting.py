"""Models that know 8,000 rows, in no order or of two months, and predictions of a world that can change."""

import functools
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from handlers.contract import Array, Example, ModelContract, TensorSpec, classification_outputs
from handlers.contract.model_card import Lineage, Reference
from monitoring.store.records import Labelled, Prediction
from tests.support.documents import evaluated
from training.packaging.reference import errors_of, summaries

NOW = datetime(2013, 2, 17, 12, tzinfo=UTC)
KNOWN, WINDOW = 8000, 1000
FEWEST = 100  # rows of a verdict
CARRIERS = ("AA", "B6", "UA")
LABELS = ("boot", "coat")
INPUTS = (TensorSpec("distance", "FP32", unit="miles"), TensorSpec("carrier", "BYTES", categories=CARRIERS))


@functools.cache
def regression(version: str = "1.0") -> ModelContract:
    """A model that answers the distance; it is wrong by one minute or so."""
    return _known(_contract("air", version))


@functools.cache
def classification(version: str = "1.0") -> ModelContract:
    """A model that tells boots from coats and is right nine times in ten."""
    return _known(_contract("clothes", version, LABELS))


def rows(
    contract: ModelContract,
    count: int = WINDOW,
    seed: int = 1,
    shift: float = 0.0,
    shares: tuple[float, ...] = (0.5, 0.3, 0.2),
    error: float = 0.0,
    seconds: float = 1.0,
) -> list[Labelled]:
    """Labelled predictions, one a second until now, labelled an hour after.

    Args:
        contract: of the version that answered.
        count: of the rows.
        seed: of the draws.
        shift: is added to the distance, of which a standard deviation is 1.
        shares: of the carriers.
        error: is added to each answer of a regression; the share of answers that are made wrong besides.
        seconds: between two rows.
    """
    inputs, output, target = _world(contract, count, seed, shift, shares, error)
    found = []
    for i in range(count):
        time = NOW - timedelta(seconds=seconds * (count - i))
        features = {"distance": float(inputs["distance"][i]), "carrier": CARRIERS[inputs["carrier"][i]]}
        label: Any = float(target[i])
        answer: Any = float(output[i]) if contract.task == "regression" else _answer(output[i])
        if contract.task == "classification":
            label = LABELS[target[i]]
        one = Prediction(f"seed-{seed}", i, contract.name, contract.version, time, features, answer)
        found.append(Labelled(one, label, time + timedelta(hours=1)))
    return found


def weekly(contract: ModelContract) -> ModelContract:
    """The model as if its rows had come in the course of 80 days, each hour as many."""
    inputs, output, target = _world(contract, 4 * KNOWN, 0)
    times = np.linspace(0, 80 * 24 * 3600, 4 * KNOWN)
    reference = summaries(contract, inputs, output, errors_of(contract, output, target), times)
    return msgspec.structs.replace(contract, reference=reference)


def predictions(labelled: list[Labelled]) -> list[Prediction]:
    return [one.prediction for one in labelled]


def _known(contract: ModelContract) -> ModelContract:
    inputs, output, target = _world(contract, KNOWN, 0)
    reference = summaries(contract, inputs, output, errors_of(contract, output, target))
    return msgspec.structs.replace(contract, reference=reference)


def _world(
    contract: ModelContract,
    count: int,
    seed: int,
    shift: float = 0.0,
    shares: tuple[float, ...] = (0.5, 0.3, 0.2),
    error: float = 0.0,
) -> tuple[dict[str, Array], Array, Array]:
    chance = np.random.default_rng(seed)
    distance = chance.normal(size=count) + shift
    inputs = {"distance": distance, "carrier": chance.choice(len(shares), count, p=shares)}
    if contract.task == "regression":
        return inputs, distance + error, distance + chance.normal(size=count)
    target = (distance > 0).astype(np.int64)
    wrong = chance.uniform(size=count) < 0.1 + error
    return inputs, np.eye(2)[np.where(wrong, 1 - target, target)] * 0.8 + 0.1, target


def _answer(output: Array) -> dict[str, Any]:
    return {"label": LABELS[int(output.argmax())], "probabilities": output.tolist()}


def _contract(name: str, version: str, labels: tuple[str, ...] = ()) -> ModelContract:
    metrics = {"accuracy": 0.9} if labels else {"rmse": 1.0, "mae": 0.8}
    return ModelContract(
        name=name,
        version=version,
        task="classification" if labels else "regression",
        inputs=INPUTS,
        outputs=classification_outputs(len(labels)) if labels else (TensorSpec("time", "FP32", unit="minutes"),),
        labels=labels,
        example=Example({}, {}),
        reference=Reference(),
        evaluation=evaluated(metrics),
        lineage=Lineage(),
    )
