"""Of several monitors one measures by itself; another one measures when it is asked, and tells no metrics."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from monitoring.live.live import OLD, Live, QualityWindow
from monitoring.live.metrics import LiveMetrics
from monitoring.live.while_leading import WhileLeading
from monitoring.store.contracts import Contracts
from monitoring.store.predictions import open_store
from serving.registry import Registry
from tests.monitoring.live.test_live import AIR, keep
from tests.support.monitoring.drifting import NOW, rows
from tests.support.serving.stores import add_contract
from tests.support.waiting import wait_until


class World:
    """A monitor with labelled rows of a model, which leads or not."""

    def __init__(self, folder: Path) -> None:
        self.leads, self.now = False, NOW
        models = Registry(folder / "models")
        add_contract(models, AIR)
        self.store = open_store(f"sqlite:///{folder / 'monitor.db'}")
        keep(self.store, rows(AIR, 30))
        clock = lambda: self.now  # noqa: E731
        self.live = Live(self.store, Contracts(models), QualityWindow(), clock, clock, lambda: self.leads)
        self.metrics = CollectorRegistry()
        self.metrics.register(WhileLeading(LiveMetrics(self.live), lambda: self.leads))

    @property
    def rows(self) -> int:
        """Rows of the observation that a page shows."""
        observation = self.live.observed("air")
        return observation.quality.versions["1.0"].rows if observation else 0

    def tells(self) -> bool:
        return b'model_quality_rows{model="air"' in generate_latest(self.metrics)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.store.close()


def test_a_page_has_figures_wherever_it_is_opened_and_metrics_are_of_the_leader(world: World) -> None:
    assert world.rows == 30
    assert not world.tells()
    assert b"# TYPE model_quality_rows gauge" in generate_latest(world.metrics)
    world.leads = True
    assert world.tells()


def test_a_page_measures_again_once_the_figures_are_old(world: World) -> None:
    assert world.rows == 30
    keep(world.store, rows(AIR, 50, seed=2))
    assert world.rows == 30
    world.now += OLD + timedelta(seconds=1)
    assert world.rows == 80


def test_only_the_leader_measures_by_itself_and_at_once_when_it_leads(world: World) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=world.live.run_forever, args=(0.01, stop))
    thread.start()
    try:
        assert not stop.wait(0.2)
        assert not world.live.last
        world.leads = True
        wait_until(lambda: bool(world.live.last), poll=0.01)
    finally:
        stop.set()
        thread.join()
