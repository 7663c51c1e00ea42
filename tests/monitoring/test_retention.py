"""How long things are kept, and the task that sees to it."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import text

from monitoring.pruning import prune_forever
from monitoring.retention import Retention
from monitoring.store import Store, open_store
from tests.monitoring.test_store import DAY, NOW, prediction
from tests.waiting import wait_until


def test_it_is_read_from_the_environment() -> None:
    assert Retention.from_environment({}) == Retention.from_environment({"MARLOOP_KEEP_DAYS": ""}) == Retention()
    names = {"MARLOOP_KEEP_DAYS": "3", "MARLOOP_KEEP_ROWS": "7", "MARLOOP_KEEP_WAITING_DAYS": "1"}
    assert Retention.from_environment(names) == Retention(timedelta(days=3), 7, timedelta(days=1))


@pytest.mark.parametrize("variable", ["MARLOOP_KEEP_DAYS", "MARLOOP_KEEP_ROWS", "MARLOOP_KEEP_WAITING_DAYS"])
@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "9" * 12])
def test_what_is_no_positive_integer_is_refused_by_its_name(variable: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{variable} is '{value}'; it must be a positive integer"):
        Retention.from_environment({variable: value})


def test_the_task_prunes_until_it_is_told_to_stop_and_outlives_a_store_that_fails(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(url, Retention(age=DAY))
    stop = threading.Event()
    thread = threading.Thread(target=prune_forever, args=(store, lambda: NOW, 0.01, stop))
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


def _execute(store: Store, statement: str) -> None:
    with store._engine.begin() as connection:
        connection.execute(text(statement))
