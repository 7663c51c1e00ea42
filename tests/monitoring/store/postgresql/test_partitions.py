"""Predictions in partitions: made ahead, searched for each row, and dropped when they are old."""

import itertools
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from monitoring.store import migrations
from monitoring.store.postgresql.partitions import Partition, Partitions
from monitoring.store.predictions import Store, open_store
from monitoring.store.retention import PruneRefusedError, Retention
from tests.monitoring.store.test_predictions import DAY, NOW, label, prediction
from tests.support.monitoring.databases import new_database
from tests.support.waiting import wait_until

MIDNIGHT = NOW.replace(hour=0)
_numbers = itertools.count()
Opened = Callable[..., Store]


@pytest.fixture
def opened(server: str, request: pytest.FixtureRequest) -> Opened:
    """Opens stores on one empty database."""
    url = new_database(server, f"partitions_{next(_numbers)}")

    def open_one(days: int = 90, **limits: int) -> Store:
        store = open_store(url, Retention(days, **limits))
        request.addfinalizer(store.close)
        return store

    return open_one


def partitions(store: Store) -> list[Partition]:
    return Partitions(store.database, store.retention.age).existing()


def placed(store: Store) -> dict[str, str]:
    """The partition of each row, by request id."""
    with store.database.engine.connect() as connection:
        rows = connection.execute(text("SELECT request_id, tableoid::regclass::text FROM predictions"))
        return {row[0]: row[1] for row in rows}


def test_those_of_the_present_and_of_the_time_after_it_are_made_once(opened: Opened) -> None:
    store = opened(days=90)
    assert store.make_partitions(NOW) == 2
    assert store.make_partitions(NOW) == 0
    borders = [MIDNIGHT, MIDNIGHT + 8 * DAY, MIDNIGHT + 16 * DAY]
    assert [(part.since, part.until) for part in partitions(store)] == list(itertools.pairwise(borders))
    assert store.make_partitions(NOW + DAY) == 1  # in time for what comes in 15 days
    assert partitions(store)[-1].until == MIDNIGHT + 24 * DAY


def test_another_length_and_a_clock_that_jumped_leave_neither_a_gap_nor_an_overlap(opened: Opened) -> None:
    opened(days=90).make_partitions(NOW)
    opened(days=90).make_partitions(NOW + 100 * DAY)  # the clock jumps
    short = opened(days=12)
    for day in range(0, 120, 2):
        short.make_partitions(NOW + day * DAY)
    parts = partitions(short)
    assert parts[0].since == MIDNIGHT
    assert all(before.until == after.since for before, after in itertools.pairwise(parts))


def test_a_row_goes_where_its_time_belongs_and_moves_when_its_partition_is_made_late(opened: Opened) -> None:
    store = opened(days=90)
    store.add_predictions([prediction("late", time=NOW + DAY), prediction("past", time=NOW - DAY)])
    assert set(placed(store).values()) == {"predictions_default"}
    store.make_partitions(NOW)
    store.add_predictions([prediction("new", time=NOW + 9 * DAY)])
    assert placed(store) == {
        "late": "predictions_20130217",
        "past": "predictions_default",
        "new": "predictions_20130225",
    }
    store.add_feedback([label(id) for id in ("late", "past", "new")])
    assert [row.prediction.request_id for row in store.labelled("flights")] == ["past", "late", "new"]


def test_a_partition_goes_as_a_whole_once_all_of_it_is_too_old(opened: Opened) -> None:
    store = opened(days=12, share=1)
    for day in range(20):
        store.make_partitions(NOW + day * DAY)
        store.add_predictions([prediction(str(day), time=NOW + day * DAY)])
    store.add_feedback([label("0"), label("9")])
    store.add_predictions([prediction("past", time=NOW - DAY)])  # in the default partition
    now = MIDNIGHT + 16 * DAY  # all of the first four days is twelve days old
    assert store.prune(now - timedelta(hours=1)) == 4  # the past one, and three days: the fourth is not over
    assert store.prune(now) == 1
    assert [row.request_id for row in store.predictions("flights")] == [str(day) for day in range(4, 20)]
    assert partitions(store)[0].since == MIDNIGHT + 4 * DAY
    assert store.prune(now) == 0


def test_a_clock_that_jumped_drops_no_partition(opened: Opened) -> None:
    store = opened(days=12)
    store.make_partitions(NOW)
    store.add_predictions([prediction(str(i), time=NOW + i * timedelta(hours=5)) for i in range(9)])
    with pytest.raises(PruneRefusedError, match="9 of 9 predictions"):
        store.prune(NOW + 100 * DAY)
    assert len(store.predictions("flights")) == 9
    assert len(partitions(store)) == 2
    assert store.prune(NOW + 100 * DAY, bounded=False) == 9
    assert partitions(store) == []


def test_of_too_many_rows_the_oldest_go_from_every_partition(opened: Opened) -> None:
    store = opened(days=12, rows=10)
    store.make_partitions(NOW)
    store.add_predictions([prediction(str(i), time=NOW + i * timedelta(hours=3)) for i in range(15)])
    store.add_feedback([label("0"), label("11")])
    assert store.prune(NOW) == 5
    assert [row.request_id for row in store.predictions("flights")] == ["0", *map(str, range(6, 15))]


def former_database(server: str) -> str:
    """A database as the version before partitions left it, with 40 rows of 40 days and labels of every second one."""
    url = new_database(server, f"former_{next(_numbers)}")
    engine = create_engine(url)
    migrations.upgrade(engine, "0003")
    today = datetime.now(UTC)
    rows = [(str(i), (today - i * DAY).isoformat()) for i in range(40)]
    with engine.begin() as connection:
        for id, time in rows:
            values = f"('{id}', 0, 'flights', '1.0', '{time}', '{{}}', '{id}')"
            connection.exec_driver_sql(f"INSERT INTO predictions VALUES {values}")
            if int(id) % 2 == 0:
                connection.exec_driver_sql(f"INSERT INTO feedback VALUES ('{id}', 0, 'flights', '{id}.5', '{time}')")
        connection.exec_driver_sql(
            "INSERT INTO predictions VALUES ('ahead', 0, 'flights', '1.0', '2099-01-01', '{}', '1')"
        )
    engine.dispose()
    return url


def test_a_database_of_the_version_before_is_read_goes_on_and_ages(server: str) -> None:
    url, now = former_database(server), datetime.now(UTC)
    store = open_store(url, Retention(days=36, share=1))
    assert store.make_partitions(now) >= 1
    (before, *after) = partitions(store)
    assert (before.name, before.since) == ("predictions_before", None)
    assert now < before.until <= now + DAY
    assert after[0].since == before.until
    expected = [*map(str, reversed(range(40))), "ahead"]
    assert [row.request_id for row in store.predictions("flights")] == expected
    assert [row.label for row in store.labelled("flights")] == [i + 0.5 for i in range(38, -2, -2)]
    again = [prediction("3", time=now), prediction("new", time=now + 2 * DAY)]
    assert store.add_predictions(again).new == 1
    assert placed(store) | {"new": ""} == dict.fromkeys(map(str, range(40)), before.name) | {
        "ahead": "predictions_default",
        "new": "",
    }
    assert store.prune(now) == 4  # row by row, as before: this partition has no beginning
    assert store.prune(before.until + 36 * DAY) == 36  # all the rest of it, at once
    assert "predictions_before" not in [part.name for part in partitions(store)]
    store.close()


MIGRATE = "import sys; from monitoring.store.predictions import open_store; open_store(sys.argv[1])"


def test_a_migration_that_is_killed_is_made_at_the_next_start(server: str) -> None:
    url = former_database(server)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    engine = create_engine(url)

    def is_waiting() -> bool:
        with engine.connect() as connection:
            return bool(connection.exec_driver_sql(waits).scalar_one())

    with engine.connect() as reader:  # whose lock the migration waits for, in the middle of its step
        reader.exec_driver_sql("SELECT count(*) FROM predictions")
        with subprocess.Popen([sys.executable, "-c", MIGRATE, url]) as process:
            try:
                wait_until(is_waiting)
            finally:
                process.kill()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one() == "0003"
        assert connection.exec_driver_sql("SELECT count(*) FROM predictions").scalar_one() == 41
    engine.dispose()
    store = open_store(url)
    assert len(store.predictions("flights")) == 41
    store.close()


def test_the_step_can_be_taken_back(server: str) -> None:
    from alembic import command
    from alembic.config import Config

    url = former_database(server)
    store = open_store(url)
    store.make_partitions(datetime.now(UTC))
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with store.database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")
    with store.database.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM predictions").scalar_one() == 41
    store.close()
    again = open_store(url)
    assert len(again.predictions("flights")) == 41
    again.close()
