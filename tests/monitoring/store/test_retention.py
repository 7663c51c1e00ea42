"""How long things are kept, and the task that sees to it."""

import threading
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from monitoring.store.predictions import Store, open_store
from monitoring.store.pruning import Pruner
from monitoring.store.retention import PruneRefusedError, Retention
from tests.monitoring.store.test_predictions import DAY, NOW, label, prediction
from tests.support.waiting import wait_until


def test_it_is_read_from_the_environment() -> None:
    assert Retention.from_environment({}) == Retention.from_environment({"MARLOOP_KEEP_DAYS": ""}) == Retention()
    names = {"MARLOOP_KEEP_DAYS": "3", "MARLOOP_KEEP_ROWS": "7", "MARLOOP_KEEP_WAITING_DAYS": "1"} | {
        "MARLOOP_PRUNE_SHARE": "0.25"
    }
    assert Retention.from_environment(names) == Retention(3, 7, 1, 0.25)


@pytest.mark.parametrize("variable", ["MARLOOP_KEEP_DAYS", "MARLOOP_KEEP_ROWS", "MARLOOP_KEEP_WAITING_DAYS"])
@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "9" * 12])
def test_what_is_no_positive_integer_is_refused_by_its_name(variable: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{variable} is '{value}'; it must be a positive integer"):
        Retention.from_environment({variable: value})


def test_the_task_prunes_until_it_is_told_to_stop_and_outlives_a_store_that_fails(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(url, Retention(days=1))
    stop = threading.Event()
    pruner = Pruner(store, lambda: NOW, CollectorRegistry())
    thread = threading.Thread(target=pruner.run_forever, args=(0.01, stop))
    _execute(store, "ALTER TABLE predictions RENAME TO hidden")
    thread.start()
    try:
        wait_until(lambda: "cannot prune" in caplog.text, poll=0.01)
        _execute(store, "ALTER TABLE hidden RENAME TO predictions")
        store.add_predictions([prediction("old", time=NOW - 2 * DAY), prediction("new")])
        wait_until(lambda: [one.request_id for one in store.predictions("flights")] == ["new"], poll=0.01)
    finally:
        stop.set()
        thread.join()
        store.close()


class Time:
    """A clock of the wall, which may jump, and one that only goes forward."""

    now, tick = NOW, 0.0

    def go(self, elapsed: timedelta, jump: timedelta = timedelta(0)) -> None:
        self.now += elapsed + jump
        self.tick += elapsed.total_seconds()


def test_a_clock_that_jumps_lets_no_prune_delete_everything(url: str, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(url, Retention(days=90))
    store.add_predictions(prediction(str(i), time=NOW - i * DAY) for i in range(80))
    store.add_feedback([label(str(i), time=NOW) for i in range(70)])
    store.add_feedback([label("waits", time=NOW)])
    time, metrics = Time(), CollectorRegistry()
    pruner = Pruner(store, lambda: time.now, metrics, tick=lambda: time.tick)
    assert pruner.run() == 0
    time.go(timedelta(minutes=1), 100 * DAY)
    for _ in range(5):
        assert pruner.run() == 0
        time.go(timedelta(minutes=1))
    assert len(store.predictions("flights")) == 80
    assert len(store.waiting([("waits", 0)])) == 1
    assert "80 of 80 predictions" in pruner.refused
    assert "MARLOOP_PRUNE_SHARE" in pruner.refused
    assert caplog.text.count("nothing was removed for its age") == 1
    assert metrics.get_sample_value("monitor_prune_refused") == 1
    restarted = Pruner(store, lambda: time.now, CollectorRegistry(), tick=lambda: time.tick)
    assert restarted.run() == 0
    assert restarted.refused
    time.go(timedelta(minutes=1), -100 * DAY)  # it is set right
    assert (pruner.run(), pruner.refused) == (0, "")
    time.go(timedelta(minutes=1), -100 * DAY)  # and jumps the other way
    assert (pruner.run(), len(store.predictions("flights"))) == (0, 80)
    store.close()


def test_what_becomes_old_while_the_clock_goes_steadily_is_pruned_however_much_it_is(url: str) -> None:
    store = open_store(url, Retention(days=90))
    store.add_predictions(prediction(str(i), time=NOW) for i in range(50))  # a load test's
    time = Time()
    pruner = Pruner(store, lambda: time.now, CollectorRegistry(), tick=lambda: time.tick)
    assert pruner.run() == 0
    for _ in range(90):
        time.go(DAY)
        assert pruner.run() == 0
    time.go(DAY)
    assert pruner.run() == 50
    store.close()


def test_a_replay_whose_time_is_accelerated_is_pruned(url: str) -> None:
    store = open_store(url, Retention(days=90))
    time = Time()
    pruner = Pruner(store, lambda: time.now, CollectorRegistry(), tick=lambda: time.tick)
    for day in range(0, 360, 12):  # in each minute
        store.add_predictions(prediction(f"{day}+{i}", time=time.now + i * DAY) for i in range(12))
        time.go(timedelta(minutes=1), 12 * DAY - timedelta(minutes=1))
        pruner.run()
        assert not pruner.refused
    assert len(store.predictions("flights")) <= 103
    store.close()


def test_of_too_many_rows_the_excess_goes_whatever_the_clock_says(url: str) -> None:
    store = open_store(url, Retention(rows=10, share=0.1))
    store.add_predictions(prediction(str(i), time=NOW - i * DAY) for i in range(20))
    with pytest.raises(PruneRefusedError):
        store.prune(NOW + 1000 * DAY)
    assert [one.request_id for one in store.predictions("flights")] == [str(i) for i in range(9, -1, -1)]
    assert store.prune(NOW + 1000 * DAY, bounded=False) == 10
    store.close()


def _execute(store: Store, statement: str) -> None:
    with store.database.engine.begin() as connection:
        connection.execute(text(statement))
