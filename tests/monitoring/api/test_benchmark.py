"""The benchmark writes in every way, and leaves nothing behind."""

from pathlib import Path

import pytest

from monitoring.api.benchmark import WAYS, Load, NotEmptyError, measure
from monitoring.store.predictions import open_store
from monitoring.store.records import Prediction
from serving.registry import Registry
from tests.support.monitoring.databases import new_database, postgresql
from tests.support.monitoring.worlds import NOW
from tests.support.serving.stores import add

ROWS = [Prediction("r", i, "doubling", "1.0", NOW, {"x": float(i)}, 2.0 * i) for i in range(7)]


def test_every_way_is_measured_and_the_database_is_empty_afterwards(tmp_path: Path) -> None:
    add(Registry(tmp_path))
    with postgresql() as server:
        url = new_database(server, "benchmark")
        rates = measure(Load(url, ROWS, 600, 1, tmp_path), 2)
        assert all(len(rates.rounds[way]) == 2 and min(rates.rounds[way]) > 0 for way in WAYS)
        assert rates.markdown().count("\n") == 2 + len(WAYS)
        store = open_store(url)
        assert store.newest() is None
        store.add_predictions(ROWS)
        with pytest.raises(NotEmptyError, match="holds predictions"):
            measure(Load(url, ROWS, 600, 1, tmp_path), 1)
        assert len(store.predictions("doubling")) == 7
        store.close()
