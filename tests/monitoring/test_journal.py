"""Jobs and decisions, on SQLite and on a real PostgreSQL."""

from datetime import UTC, datetime, timedelta

import pytest

from monitoring.records import Job
from monitoring.store import Store

NOW = datetime(2013, 2, 17, 12, tzinfo=UTC)


def test_a_job_is_queued_changed_and_found_by_model_and_state(store: Store) -> None:
    first = store.create_job("flights", "alert", "error rose", NOW)
    assert first == Job(first.id, "flights", "alert", "error rose", "queued", NOW)
    second = store.create_job("linear", "hand", "asked", NOW)
    started = NOW + timedelta(seconds=1)
    running = store.update_job(first.id, state="running", started=started, pid=7, result={"rmse": 10.0})
    assert (running.state, running.started, running.pid, running.result) == ("running", started, 7, {"rmse": 10.0})
    assert store.job(first.id) == running
    assert store.jobs() == [second, running]
    assert store.jobs("flights", ["running", "queued"]) == [running]
    assert store.jobs(states=["failed"]) == []
    assert store.jobs(limit=1) == [second]


def test_a_job_that_there_is_not_and_a_change_that_makes_no_sense_are_refused(store: Store) -> None:
    with pytest.raises(KeyError, match="there is no job 7"):
        store.job(7)
    with pytest.raises(KeyError, match="there is no job 7"):
        store.update_job(7, state="failed")
    job = store.create_job("flights", "schedule", "weekly", NOW)
    with pytest.raises(ValueError, match=r"cannot change \['created', 'speed'\] of a job"):
        store.update_job(job.id, speed=1, created=NOW)
    assert store.job(job.id) == job


def test_decisions_are_kept_newest_first(store: Store) -> None:
    store.record("flights", "alarm", {"rmse": 17.5}, NOW)
    store.record("linear", "promoted", {}, NOW)
    store.record("flights", "refused", {"why": "no better"}, NOW + timedelta(hours=1))
    assert [(one.kind, one.details, one.time) for one in store.decisions("flights")] == [
        ("refused", {"why": "no better"}, NOW + timedelta(hours=1)),
        ("alarm", {"rmse": 17.5}, NOW),
    ]
    assert [one.kind for one in store.decisions(limit=2)] == ["refused", "promoted"]
