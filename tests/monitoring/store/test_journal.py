"""Jobs and decisions, on SQLite and on a real PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.exc import StatementError

from monitoring.retraining.result import JobResult
from monitoring.store.predictions import Store
from monitoring.store.records import Job

NOW = datetime(2013, 2, 17, 12, tzinfo=UTC)


def test_a_job_is_queued_changed_and_found_by_model_and_state(store: Store) -> None:
    first = store.journal.create_job("flights", "alert", "error rose", NOW)
    assert first == Job(first.id, "flights", "alert", "error rose", "queued", NOW)
    second = store.journal.create_job("linear", "hand", "asked", NOW)
    started = NOW + timedelta(seconds=1)
    running = store.journal.extend_job(first.id, JobResult(rows=10), state="running", started=started, pid=7)
    assert (running.state, running.started, running.pid, running.result.rows) == ("running", started, 7, 10)
    assert store.journal.job(first.id) == running
    assert store.journal.jobs() == [second, running]
    assert store.journal.jobs("flights", ["running", "queued"]) == [running]
    assert store.journal.jobs(states=["failed"]) == []
    assert store.journal.jobs(limit=1) == [second]


def test_a_job_that_there_is_not_and_a_change_that_makes_no_sense_are_refused(store: Store) -> None:
    with pytest.raises(KeyError, match="there is no job 7"):
        store.journal.job(7)
    with pytest.raises(KeyError, match="there is no job 7"):
        store.journal.update_job(7, state="failed")
    job = store.journal.create_job("flights", "schedule", "weekly", NOW)
    with pytest.raises(ValueError, match=r"cannot change \['created', 'speed'\] of a job"):
        store.journal.update_job(job.id, speed=1, created=NOW)
    assert store.journal.job(job.id) == job


def test_decisions_are_kept_newest_first(store: Store) -> None:
    store.journal.record("flights", "alarm", {"rmse": 17.5}, NOW)
    store.journal.record("linear", "promoted", {}, NOW)
    store.journal.record("flights", "refused", {"why": "no better"}, NOW + timedelta(hours=1))
    assert [(one.kind, one.details, one.time) for one in store.journal.decisions("flights")] == [
        ("refused", {"why": "no better"}, NOW + timedelta(hours=1)),
        ("alarm", {"rmse": 17.5}, NOW),
    ]
    assert [one.kind for one in store.journal.decisions(limit=2)] == ["refused", "promoted"]


def test_what_threads_add_to_a_job_at_once_is_all_kept(store: Store) -> None:
    job = store.journal.create_job("flights", "hand", "asked", NOW)
    with ThreadPoolExecutor(4) as pool:
        parts = [
            JobResult(stage="train"),
            JobResult(attempts=0),
            JobResult(rows=4),
            JobResult(version="1.1"),
            JobResult(cancel=True),
            JobResult(error="no"),
        ]
        list(pool.map(lambda part: store.journal.extend_job(job.id, part), parts))
    extended = store.journal.extend_job(job.id, JobResult(error="anew"), progress="done")
    expected = JobResult(stage="train", attempts=0, rows=4, version="1.1", cancel=True, error="anew")
    assert (extended.result, extended.progress) == (expected, "done")
    with pytest.raises(KeyError, match="there is no job 7"):
        store.journal.extend_job(7, JobResult())


def test_a_job_ends_with_the_decision_that_ended_it_or_not_at_all(store: Store) -> None:
    job = store.journal.create_job("flights", "hand", "asked", NOW)
    ended = store.journal.conclude_job(job.id, "refused", {"reason": "no better"}, NOW, state="refused", ended=NOW)
    assert (ended.state, ended.ended) == ("refused", NOW)
    (decision,) = store.journal.decisions()
    assert (decision.model, decision.kind) == ("flights", "refused")
    assert decision.details == {"job": job.id, "reason": "no better"}
    with pytest.raises(StatementError, match="is a object, which JSON cannot hold"):
        store.journal.conclude_job(job.id, "failed", {"reason": object()}, NOW, state="failed")
    assert store.journal.job(job.id).state == "refused"


def test_jobs_and_decisions_are_counted(store: Store) -> None:
    assert (store.journal.job_counts(), store.journal.decision_counts()) == ({}, {})
    for model in ("flights", "flights", "linear"):
        store.journal.create_job(model, "hand", "asked", NOW)
        store.journal.record(model, "requested", {}, NOW)
    store.journal.update_job(1, state="failed")
    assert store.journal.job_counts() == {("flights", "failed"): 1, ("flights", "queued"): 1, ("linear", "queued"): 1}
    assert store.journal.decision_counts() == {("flights", "requested"): 2, ("linear", "requested"): 1}
