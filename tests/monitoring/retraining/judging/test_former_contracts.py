"""A version of before is watched, drawn from and judged by what its contract says."""

import json

import numpy as np
import pytest

from handlers.contract import ModelContract
from loadtests.requests.draws import extreme, plausible
from monitoring.live.drift import UNJUDGED, window_needed, windows_of
from monitoring.live.limits import expected, limits
from monitoring.retraining.judging.judge import _parity
from tests.support.documents import FORMER
from training.statistics.criteria import deciding
from training.statistics.labels import label_range

MODELS = {path.stem: ModelContract.from_json(path.read_bytes()) for path in FORMER}
TASKS = {name: contract for name, contract in MODELS.items() if contract.task != "generation"}
MONTH = np.arange(0, 30 * 86_400, 600.0)


@pytest.mark.parametrize("name", MODELS)
def test_its_metric_decides(name: str) -> None:
    contract = MODELS[name]
    assert deciding(contract.task, contract.evaluation) == contract.evaluation.metrics[contract.evaluation.primary]
    assert expected(contract.evaluation).keys() == contract.evaluation.metrics.keys()


@pytest.mark.parametrize("name", TASKS)
def test_its_graphs_agree_with_the_module(name: str) -> None:
    assert _parity(TASKS[name]).passed


@pytest.mark.parametrize("name", TASKS)
def test_it_is_watched(name: str) -> None:
    contract = TASKS[name]
    windows = windows_of(contract, [])
    assert [window.name for window in windows] == [*(spec.name for spec in contract.inputs), "prediction", "error"]
    document = json.loads(next(path for path in FORMER if path.stem == name).read_bytes())["reference"]
    assert [window.learned is not None for window in windows] == [
        "usual" in summary for summary in (*document["inputs"].values(), document["output"], document["errors"])
    ]
    rows, _ = window_needed(contract)
    assert rows == max((window.learned.rows for window in windows if window.learned), default=UNJUDGED)
    assert limits(contract, MONTH).keys() == {"rmse" if contract.task == "regression" else "accuracy"}
    assert (label_range(contract) is not None) == (contract.task == "regression")


@pytest.mark.parametrize("name", MODELS)
def test_its_load_test_draws_from_its_reference(name: str) -> None:
    contract = MODELS[name]
    for draw in (plausible, extreme):
        tensors = draw(contract, np.random.default_rng(0), 50)
        assert {name: len(values) for name, values in tensors.items()} == {spec.name: 50 for spec in contract.inputs}
    if name == "flights-fed":
        distances = plausible(contract, np.random.default_rng(0), 50)["distance"]
        known = contract.reference.inputs["distance"].numbers
        assert known[0] <= distances.min()
        assert distances.max() <= known[-1]
