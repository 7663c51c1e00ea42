"""The store, on SQLite and on a real PostgreSQL."""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from monitoring.store import migrations
from monitoring.store.checks.labels import AmbiguousLabels, WrongLabel, WrongLabels
from monitoring.store.database import DatabaseError, StoreBusyError, database_url, open_database
from monitoring.store.predictions import Store, open_store
from monitoring.store.records import Counts, Feedback, FeedbackResult, LabelConflict, Labelled, Prediction
from monitoring.store.retention import Retention
from monitoring.store.tables import metadata
from tests.support.monitoring.databases import new_database

NOW = datetime(2013, 2, 17, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def prediction(request_id: str = "a", row: int = 0, time: datetime = NOW, **changes: Any) -> Prediction:
    features = {"distance": 1400.5, "hour": 8, "carrier": "UA"}
    return replace(Prediction(request_id, row, "flights", "1.0", time, features, 214.8), **changes)


def label(request_id: str = "a", row: int = 0, value: float | str = 200.0, time: datetime = NOW + HOUR) -> Feedback:
    return Feedback(request_id, row, value, time)


def test_a_prediction_comes_back_as_it_was(store: Store) -> None:
    west = NOW.astimezone(timezone(timedelta(hours=-5))) + timedelta(microseconds=123456)
    told = {"label": "boot", "probabilities": [0.25, 0.75]}
    one = prediction(time=west, features={"text": "naïve \x00 ☃", "tensor": [[1.5, 2.0]]}, output=told)
    assert store.add_predictions([one]).new == 1
    (found,) = store.predictions("flights")
    assert found == one
    assert found.time.tzinfo is UTC


def test_a_row_that_is_known_is_not_new_and_stays_as_it_is(store: Store) -> None:
    assert store.add_predictions([prediction(), prediction(row=1)]).new == 2
    again = [prediction(output=0.0), prediction(row=2), prediction(row=2), prediction("b")]
    assert store.add_predictions(again).new == 2
    assert store.add_predictions([]).new == 0
    assert [one.output for one in store.predictions("flights")] == [214.8] * 4


def test_predictions_come_oldest_first_by_window_version_and_model(store: Store) -> None:
    store.add_predictions(prediction(str(i), time=NOW + i * HOUR, version=f"1.{i % 2}") for i in (3, 0, 4, 1, 2))
    store.add_predictions([prediction("other", model="linear")])

    def found(**window: Any) -> list[str]:
        return [one.request_id for one in store.predictions("flights", **window)]

    assert found() == ["0", "1", "2", "3", "4"]
    assert found(since=NOW + HOUR, until=NOW + 3 * HOUR) == ["1", "2"]
    assert found(version="1.1") == ["1", "3"]
    assert found(limit=2) == ["3", "4"]
    assert found(until=NOW + 3 * HOUR, limit=2) == ["1", "2"]


def test_a_label_joins_its_prediction_whichever_comes_first(store: Store) -> None:
    store.add_predictions([prediction("a"), prediction("a", 1)])
    assert store.add_feedback([label("a", 1)]) == FeedbackResult(1, 0, 0)
    assert store.add_feedback([label("late", value="boot")]) == FeedbackResult(1, 0, 1)
    assert store.labelled("flights") == [Labelled(prediction("a", 1), 200.0, NOW + HOUR)]
    late = prediction("late", time=NOW + HOUR)
    store.add_predictions([late])
    assert store.labelled("flights", since=NOW + HOUR) == [Labelled(late, "boot", NOW + HOUR)]
    assert store.counts("flights") == {"1.0": Counts(3, 2, NOW + HOUR)}


def test_the_same_label_again_is_a_duplicate(store: Store) -> None:
    store.add_feedback([label()])
    assert store.add_feedback([label(time=NOW + DAY), label("b", value=1), label("b", value=1.0)]) == FeedbackResult(
        1, 2, 2
    )
    assert store.waiting([("a", 0)]) == [label()]


def test_another_label_is_a_conflict_that_names_the_row_and_nothing_is_kept(store: Store) -> None:
    store.add_predictions([prediction("a", 3), prediction("b")])
    store.add_feedback([label("a", 3)])
    with pytest.raises(LabelConflict, match=r"1 labels contradict earlier ones; the first: 'a' row 3 is 200.0, not 7"):
        store.add_feedback([label("b"), label("a", 3, 7)])
    assert [one.prediction.request_id for one in store.labelled("flights")] == ["a"]


def test_two_labels_of_one_row_in_one_call_are_a_conflict(store: Store) -> None:
    with pytest.raises(LabelConflict):
        store.add_feedback([label(value="boot"), label(value="bag")])
    assert store.waiting([("a", 0)]) == []


def test_a_label_without_a_model_belongs_to_the_one_that_answered(store: Store) -> None:
    store.add_predictions([prediction("a"), prediction("b", model="linear")])
    store.add_feedback([label("a"), label("b"), label("c")])
    assert {one.request_id: one.model for one in store.waiting([(id, 0) for id in "abc"])} == {
        "a": "flights",
        "b": "linear",
        "c": "",
    }


def test_one_id_at_two_models_is_two_predictions_with_a_label_each(store: Store) -> None:
    assert store.add_predictions([prediction("a"), prediction("a", model="linear", output=1.0)]).new == 2
    with pytest.raises(AmbiguousLabels, match=r"'a', by flights, linear: name the one"):
        store.add_feedback([label("a")])
    assert store.waiting([("a", 0)]) == []
    both = [replace(label("a"), model="flights"), replace(label("a", value=3.0), model="linear")]
    assert store.add_feedback(both) == FeedbackResult(2, 0, 0)
    assert [(one.prediction.output, one.label) for one in store.labelled("flights")] == [(214.8, 200.0)]
    assert [(one.prediction.output, one.label) for one in store.labelled("linear")] == [(1.0, 3.0)]
    assert store.counts("linear") == {"1.0": Counts(1, 1, NOW)}


def test_a_label_that_came_first_goes_to_the_first_model_that_it_fits(store: Store) -> None:
    def check(feedback: Feedback, model: str, version: str | None) -> WrongLabel | None:
        wrong = model == "flights" and isinstance(feedback.label, str)
        return WrongLabel(feedback.request_id, feedback.row, feedback.label, "a number") if wrong else None

    store.add_feedback([label("a", value="boot"), label("a", 1, 3.0)], check)
    added = store.add_predictions([prediction("a"), prediction("a", 1)], check)
    assert (added.new, [one.label for one in added.wrong]) == (2, ["boot"])
    assert [one.label for one in store.labelled("flights")] == [3.0]
    store.add_predictions([prediction("a", model="fashion"), prediction("a", 1, model="fashion")], check)
    assert [one.label for one in store.labelled("fashion")] == ["boot"]


def test_a_correction_takes_the_place_of_a_label_and_is_written_down(store: Store) -> None:
    store.add_predictions([prediction("a"), prediction("b")])
    store.add_feedback([label("a"), label("b")])
    told = [label("a", value=7.0), label("b"), label("c", value=1.0)]
    assert store.add_feedback(told, correct=True, now=NOW) == FeedbackResult(1, 1, 1, 1)
    assert {one.prediction.request_id: one.label for one in store.labelled("flights")} == {"a": 7.0, "b": 200.0}
    (decision,) = store.journal.decisions("flights")
    changed = [{"request_id": "a", "row": 0, "was": 200.0, "is": 7.0}]
    assert (decision.kind, decision.details) == ("label_corrected", {"rows": 1, "labels": changed})


def patiently(write: Callable[[], object]) -> None:
    """Write as a client does that is asked to come again while others hold the store."""
    while True:
        with contextlib.suppress(StoreBusyError):
            write()
            return


def test_labels_at_the_same_time_as_their_predictions_are_all_joined_and_none_that_does_not_fit(url: str) -> None:
    def check(feedback: Feedback, model: str, version: str | None) -> WrongLabel | None:
        wrong = isinstance(feedback.label, str) and bool(model)
        return WrongLabel(feedback.request_id, feedback.row, feedback.label, "a number") if wrong else None

    stores = [open_store(url) for _ in range(2)]  # two monitors
    start = threading.Barrier(40)

    def act(i: int) -> None:
        store, id = stores[i % 2], str(i // 4)
        start.wait(60)
        if i % 4 < 2:
            patiently(lambda: store.add_predictions([prediction(id), prediction(f"bad {id}")], check))
        else:
            patiently(lambda: store.add_feedback([label(id)], check))
            with contextlib.suppress(WrongLabels):
                patiently(lambda: store.add_feedback([label(f"bad {id}", value="cat")], check))

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(act, range(40)))
    assert sorted(one.prediction.request_id for one in stores[0].labelled("flights")) == [str(i) for i in range(10)]
    for store in stores:
        store.close()


def test_a_store_of_the_first_version_keeps_its_rows(url: str) -> None:
    engine = create_engine(url)
    Path(engine.url.database or "").parent.mkdir(parents=True, exist_ok=True)
    migrations.upgrade(engine, "0001")
    rows = "VALUES ('a', 0, 'flights', '1.0', '2013-02-17 12:00:00+00', '{}', '1.5'), "
    rows += "('a', 1, 'linear', '1.0', '2013-02-17 12:00:00+00', '{}', '2.5')"
    labels = "VALUES ('a', 0, '1.0', '2013-02-17 12:00:00+00'), ('a', 1, '2.0', '2013-02-17 12:00:00+00'), "
    labels += "('late', 0, '3.0', '2013-02-17 12:00:00+00')"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO predictions {rows}")
        connection.exec_driver_sql(f'INSERT INTO feedback (request_id, "row", label, time) {labels}')
    engine.dispose()
    store = open_store(url)
    assert [(one.prediction.output, one.label) for one in store.labelled("flights")] == [(1.5, 1.0)]
    assert [(one.prediction.output, one.label) for one in store.labelled("linear")] == [(2.5, 2.0)]
    assert [(one.model, one.label) for one in store.waiting([("late", 0)])] == [("", 3.0)]
    store.close()


def test_many_rows_at_once_are_no_trouble(store: Store) -> None:
    many = [prediction(str(i // 7), i % 7) for i in range(3000)]
    assert store.add_predictions(many).new == 3000
    assert store.add_feedback([label(str(i // 7), i % 7, i) for i in range(3000)]) == FeedbackResult(3000, 0, 0)
    assert len(store.labelled("flights")) == 3000


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers wait for one another as long as a busy machine needs."""
    monkeypatch.setattr("monitoring.store.database.BUSY", 60.0)


@pytest.mark.usefixtures("patient")
def test_writers_at_the_same_time_lose_nothing_and_count_each_row_once(store: Store) -> None:
    def write(worker: int) -> tuple[int, int]:
        new = accepted = 0
        for i in range(10):
            rows = [f"{(i * 10 + j) % 50}" for j in range(20)]
            new += store.add_predictions([prediction(id) for id in (rows if worker % 2 else reversed(rows))]).new
            accepted += store.add_feedback([label(id) for id in rows]).accepted
        return new, accepted

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(write, range(4)))
    assert [sum(counts) for counts in zip(*done, strict=True)] == [50, 50]


@pytest.mark.usefixtures("patient")
def test_of_two_contradicting_labels_at_the_same_time_one_is_refused(store: Store) -> None:
    def give(value: int) -> bool:
        try:
            store.add_feedback([label(str(i), value=value) for i in range(20)])
        except LabelConflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(give, range(4))) == 1


def test_what_is_too_old_is_pruned(url: str) -> None:
    store = open_store(url, Retention(days=10, waiting_days=2))
    store.add_predictions([prediction("old", time=NOW - 11 * DAY), prediction("new", time=NOW - 9 * DAY)])
    store.add_feedback([label("old", time=NOW - 10 * DAY), label("new", time=NOW - 8 * DAY)])
    store.add_feedback([label("never", time=NOW - 3 * DAY), label("soon", time=NOW - DAY)])
    assert store.prune(NOW) == 1
    assert [one.request_id for one in store.predictions("flights")] == ["new"]
    left = {one.request_id for one in store.waiting([(id, 0) for id in ("old", "new", "never", "soon")])}
    assert left == {"new", "soon"}
    assert store.prune(NOW) == 0
    store.close()


def test_of_too_many_the_oldest_go_first_and_those_without_a_label_before_those_with_one(url: str) -> None:
    store = open_store(url, Retention(rows=3))
    store.add_predictions(prediction(str(i), time=NOW + i * HOUR) for i in range(6))
    store.add_feedback([label("0"), label("1"), label("4")])
    assert store.prune(NOW) == 3
    assert [one.request_id for one in store.predictions("flights")] == ["0", "1", "4"]
    store.close()
    smaller = open_store(url, Retention(rows=2))
    assert smaller.prune(NOW) == 1
    assert [one.request_id for one in smaller.predictions("flights")] == ["1", "4"]
    smaller.close()


def test_a_time_without_a_zone_is_refused(store: Store) -> None:
    with pytest.raises(Exception, match="has no zone; it must be an aware time"):
        store.add_predictions([prediction(time=datetime(2013, 2, 17))])


def test_the_store_is_there_again_after_it_was_closed(url: str) -> None:
    first = open_store(url)
    first.add_predictions([prediction()])
    first.close()
    second = open_store(url)
    assert second.predictions("flights") == [prediction()]
    second.close()


def test_two_processes_that_open_a_new_database_at_once_both_can(url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: open_store(url), range(4)))
    assert [store.add_predictions([prediction(str(i))]).new for i, store in enumerate(stores)] == [1] * 4
    for store in stores:
        store.close()


def test_the_migrations_make_the_tables_that_the_code_names(url: str) -> None:
    def is_named(object: Any, name: str, kind: str, *_: Any) -> bool:
        return kind != "table" or not name.startswith("predictions_")  # PostgreSQL's partitions

    engine = open_database(url).engine
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": is_named})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_a_postgresql_without_an_encoding_keeps_every_text(server: str) -> None:
    store = open_store(new_database(server, "ascii", "ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'"))
    one = prediction(features={"text": "naïve ☃"}, output={"label": "Kätzchen", "probabilities": [1.0]})
    store.add_predictions([one])
    assert store.predictions("flights") == [one]
    store.close()


def test_the_database_is_beside_the_run_unless_one_is_named(tmp_path: Path) -> None:
    assert database_url({}, tmp_path) == f"sqlite:///{tmp_path}/monitor.db"
    assert database_url({"DATABASE_URL": "sqlite:////x.db"}, tmp_path) == "sqlite:////x.db"
    for scheme in ("postgres", "postgresql"):
        assert database_url({"DATABASE_URL": f"{scheme}://u:p@h/d"}, tmp_path) == "postgresql+psycopg://u:p@h/d"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql+psycopg://u:secret@127.0.0.1:1/d", r"database postgresql\+psycopg://u:\*\*\*@127.0.0.1:1/d: "),
        ("mysql://u@h/d", "MySQLdb|must be sqlite or postgresql"),
        ("monitor.db", "of DATABASE_URL, which is no URL"),
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(url: str, reason: str) -> None:
    with pytest.raises(DatabaseError, match=reason) as caught:
        open_database(url)
    assert "secret" not in str(caught.value)
