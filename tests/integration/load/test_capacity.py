"""Costs are measured on a real host and a real monitor, and what they predict is compared with a real worker."""

import os
from pathlib import Path
from typing import Any

import pytest

from loadtests import wrk
from loadtests.capacity import measurement, prediction, store
from loadtests.capacity.alone import serve_alone
from loadtests.capacity.costs import Costs, CostsError
from tests.integration.conftest import put
from tests.support.chat_archive import register_echo


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put(tmp_path_factory.mktemp("capacity") / "store", "linear")


def test_a_model_is_measured_from_its_start_to_its_rows_in_the_database(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        wrk.find()
    except wrk.WrkError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(measurement, "CLIENTS", (1, 16))
    monkeypatch.setattr(measurement, "ROUNDS", 1)
    monkeypatch.setattr(store, "ROWS", 1000)
    cores = os.sched_getaffinity(0)
    lines: list[str] = []
    costs = measurement.measure(models, "linear", 1, 1.0, "", lines.append)
    assert os.sched_getaffinity(0) == cores
    assert (costs.model, costs.version) == ("linear", "1.0")
    assert 1e-6 < costs.request_seconds < 0.01
    assert min(costs.alone, costs.start, costs.worker, costs.host, costs.archive) > 0
    assert costs.size < costs.received < 1000
    assert costs.series > 50
    assert costs.event > 200
    assert costs.store is not None
    assert costs.store.database == "sqlite"
    assert costs.store.row_bytes > 100
    assert min(costs.store.label_bytes, costs.store.row_seconds, costs.store.rows_per_second) > 0
    assert any(line.startswith("16 clients") for line in lines)


def test_a_worker_is_asked_at_several_rates_beside_its_prediction(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "SHARES", (0.2, 0.5))
    monkeypatch.setattr(prediction, "ROUNDS", 1)
    values: dict[str, Any] = dict.fromkeys(Costs.__struct_fields__, 0)
    values |= {"measured": "", "machine": "", "model": "linear", "version": "1.0", "store": None}
    values |= {"rows": 256, "batch_seconds": 1e-4, "request_seconds": 1e-3, "alone": 2e-3, "size": 4000}
    costs = Costs(**values)
    with serve_alone(models, "linear", {"CAPTURE_URL": "off"}) as alone:
        share, (first, second) = prediction.compare(alone, costs, 1.0, lambda _: None)
    assert share > 0
    assert first.rate < second.rate
    assert 0 < first.measured[0] <= first.measured[1]
    assert 0 < first.predicted[0] <= first.predicted[1] <= second.predicted[1]
    assert first.lost == 0


def test_a_language_model_is_measured_by_its_own_bench(tmp_path: Path) -> None:
    register_echo(tmp_path, "chat", 1, 16, 0.01)
    with pytest.raises(CostsError, match="marloop bench language"), serve_alone(tmp_path, "chat", {}):
        pass
