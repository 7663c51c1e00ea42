"""The clocks of the monitor."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from prometheus_client import CollectorRegistry

from monitoring.api.events import Ingest
from monitoring.live.clock import EventClock, wall_clock
from monitoring.store.contracts import Contracts
from monitoring.store.predictions import open_store
from monitoring.store.pruning import Pruner
from tests.monitoring.store.test_predictions import DAY, prediction
from tests.support.monitoring.worlds import NOW, Monitor, event
from tests.support.serving.stores import add

HOUR = timedelta(hours=1)


def test_the_wall_clock_is_aware_and_in_utc() -> None:
    assert wall_clock().utcoffset() == timedelta(0)


def test_the_event_clock_stands_at_the_newest_event_and_never_goes_back() -> None:
    clock = EventClock(NOW)
    assert clock() == NOW
    clock.advance(NOW + HOUR)
    clock.advance(NOW - HOUR)
    assert clock() == NOW + HOUR
    clock.advance((NOW + 2 * HOUR).astimezone(timezone(-5 * HOUR)))
    assert (clock(), clock().tzinfo) == (NOW + 2 * HOUR, UTC)


def test_an_event_of_a_clock_that_is_fast_does_not_stop_the_event_clock() -> None:
    clock = EventClock(NOW, limit=lambda: NOW + HOUR)
    clock.advance(datetime(9999, 1, 1, tzinfo=UTC))
    clock.advance(NOW + HOUR)
    assert clock() == NOW + HOUR


def test_events_move_the_event_clock_once_they_are_kept(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path)
    add(monitor.models)
    clock = EventClock(NOW - HOUR)
    ingest = Ingest(monitor.store, Contracts(monitor.models), CollectorRegistry(), clock.advance)
    ingest(b"[]")
    assert clock() == NOW - HOUR
    body = monitor.client.build_request("POST", "/events", json=[event("a"), event("b")]).content
    ingest(body)
    assert clock() == NOW
    monitor.store.close()


def test_a_monitor_that_starts_again_goes_on_from_its_newest_prediction(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path)
    add(monitor.models)
    assert monitor.store.newest() is None
    monitor.send(event("a"))
    assert monitor.store.newest() == NOW
    monitor.store.close()


def test_one_event_of_far_ahead_lets_no_restart_on_the_events_clock_delete_the_others(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'monitor.db'}")
    store.add_predictions(prediction(str(i), time=NOW + i * HOUR) for i in range(200))
    store.add_predictions([prediction("ahead", time=NOW + 200 * DAY), prediction("2099", time=NOW + 31_000 * DAY)])
    clock = EventClock(store.newest(until=wall_clock()) or NOW)
    assert clock() == NOW + 200 * DAY
    pruner = Pruner(store, clock, CollectorRegistry())
    for _ in range(3):
        assert pruner.run() == 0
    assert "200 of 202 predictions" in pruner.refused
    assert len(store.predictions("flights")) == 202
    store.close()
