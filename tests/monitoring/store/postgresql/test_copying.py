"""Rows that come by COPY, each once, over all partitions."""

import contextlib
import itertools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from monitoring.store.database import StoreBusyError
from monitoring.store.predictions import Store, open_store
from monitoring.store.rows import anything, keep_predictions
from tests.monitoring.store.test_predictions import DAY, NOW, label, prediction
from tests.support.monitoring.databases import new_database

_numbers = itertools.count()


@pytest.fixture
def store(server: str) -> Iterator[Store]:
    """A store on PostgreSQL, with partitions of the present."""
    store = open_store(new_database(server, f"copying_{next(_numbers)}"))
    store.make_partitions(NOW)
    yield store
    store.close()


def test_a_request_that_is_sent_again_much_later_is_one_row_and_its_label_joins_once(store: Store) -> None:
    assert store.add_predictions([prediction("a"), prediction("b", time=NOW - 400 * DAY)]).new == 2
    again = [prediction("a", time=NOW + 10 * DAY), prediction("b", time=NOW), prediction("c", time=NOW + 10 * DAY)]
    assert store.add_predictions(again).new == 1
    store.add_feedback([label("a"), label("b")])
    assert [row.prediction.request_id for row in store.labelled("flights")] == ["b", "a"]


def test_one_batch_that_repeats_a_row_at_two_times_keeps_the_first(store: Store) -> None:
    rows = [prediction("a", time=NOW + 10 * DAY), prediction("a", time=NOW)]
    assert store.add_predictions(rows).new == 1
    assert [row.time for row in store.predictions("flights")] == [NOW + 10 * DAY]


def test_whatever_stands_in_a_row_comes_back_as_it_was(store: Store) -> None:
    texts = ["a\tb", "a\nb\r", "\\N", "\\.", "\\", '"', "'", "naïve ☃", "\x00", ""]
    rows = [prediction(f"id\\{i}", features={"text": one, one: i}, output=one) for i, one in enumerate(texts)]
    assert store.add_predictions(rows).new == len(rows)
    assert sorted(store.predictions("flights"), key=lambda row: row.request_id) == rows
    (row,) = [replace(prediction("nan"), output={"shares": [math.nan]})]
    store.add_predictions([row])
    assert next(one.output for one in store.predictions("flights") if one.request_id == "nan") == {"shares": [None]}


def test_rows_that_are_refused_leave_nothing_behind(store: Store) -> None:
    with pytest.raises(SQLAlchemyError):
        store.add_predictions([prediction("a"), prediction("b" * 300)])  # longer than the column
    assert store.add_predictions([prediction("c")]).new == 1
    assert [row.request_id for row in store.predictions("flights")] == ["c"]


def test_writers_at_once_keep_each_row_once(store: Store) -> None:
    other = open_store(store.database.engine.url.render_as_string(hide_password=False))

    def write(worker: int) -> int:
        new, writer = 0, store if worker % 2 else other
        for i in range(5):
            rows = [prediction(str((7 * i + j) % 40), time=NOW + timedelta(days=(worker + j) % 20)) for j in range(20)]
            while True:  # as a client does that is asked to come again
                with contextlib.suppress(StoreBusyError, OperationalError):
                    new += writer.add_predictions(rows).new
                    break
        return new

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(write, range(4))) == 40
    assert len({row.request_id for row in store.predictions("flights")}) == len(store.predictions("flights")) == 40
    other.close()


def test_without_copy_the_same_rows_are_the_same(store: Store) -> None:
    """The way of SQLite, by which the benchmark compares, does what COPY does."""
    store.add_feedback([label("a"), label("b")])
    with store.database.writing() as connection:
        assert keep_predictions(connection, [prediction("a")], anything).new == 1
    assert store.add_predictions([prediction("a"), prediction("b")]).new == 1
    assert [row.label for row in store.labelled("flights")] == [200.0, 200.0]


def test_a_label_that_names_no_model_is_given_to_one_of_two_rows_in_a_batch(store: Store) -> None:
    store.add_feedback([label("a")])
    store.add_predictions([prediction("a"), prediction("a", model="linear")])
    assert len(store.labelled("flights")) + len(store.labelled("linear")) == 1


def test_a_row_is_found_by_its_key_in_partitions_that_look_empty(store: Store) -> None:
    """Not by reading all rows, nor all of a model: 10,000 rows a second could not be looked for so."""
    store.add_predictions([prediction(str(i), time=NOW + (i % 20) * DAY) for i in range(100)])
    plans = []

    def explain(connection: Any, _: Any, statement: str, parameters: Any, *__: Any) -> tuple[str, Any]:
        if statement.startswith("INSERT INTO predictions"):
            plans.append("\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)))
        return statement, parameters

    event.listen(store.database.engine, "before_cursor_execute", explain, retval=True)
    store.add_predictions([prediction("new")])
    (plan,) = plans
    assert "Seq Scan on predictions" not in plan
    assert "model_time" not in plan
    assert plan.count("_pkey") == 3  # two partitions and the default one
