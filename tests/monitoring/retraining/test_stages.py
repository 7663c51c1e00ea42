"""The stages of a job: what ends each, what becomes of what was made, and that a kill at any of them loses nothing."""

import json
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from monitoring.retraining.result import Check
from tests.support.monitoring.loops import MODEL, START, Killed, Loop, shadowed_of, verdict_of, watched_of
from tests.support.serving.stores import add
from training.packaging.result_file import Trained


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    one = Loop(tmp_path)
    yield one
    one.store.close()


def test_a_job_is_trained_judged_shadowed_and_promoted(loop: Loop) -> None:
    id = loop.request()
    assert loop.job().state == "queued"
    loop.look()
    job = loop.job()
    assert (job.state, job.started, job.pid, job.result.stage) == ("running", START, 4001, "train")
    learned = ["--feedback", str(loop.trainings.rows(id)), "--hold-out", "0.1"]
    assert loop.trainings.started == [(id, MODEL, ["--preset", "default", *learned])]
    rows = [json.loads(line) for line in loop.trainings.rows(id).read_text().splitlines()]
    assert len(rows) == 20
    assert rows[-1] == {"time": START.isoformat(), "features": {"x": 1.0}, "label": 2.0}
    assert rows[0]["time"] < rows[1]["time"]
    loop.look()
    assert loop.job().progress == "doubling: fitting"

    loop.now += timedelta(minutes=5)
    loop.train()
    loop.look(4)
    job = loop.job()
    assert (job.state, job.ended, job.pid) == ("promoted", loop.now, None)
    assert loop.versions.judged == [("1.0", "1.1", 4)]  # the rows from three hours before the start to it
    assert verdict_of(job).checks == (Check("gain", True, "its RMSE is lower"),)
    assert shadowed_of(job).requests == 20
    assert watched_of(job).open
    assert loop.champions() == ["1.1"]
    assert loop.rollout.serving == {MODEL: ["1.1"]}
    decision = loop.store.journal.decisions(MODEL)[0]
    assert decision.details == {
        "job": id,
        "from": "1.0",
        "to": "1.1",
        "reason": "its RMSE is lower",
        "who": "judge",
    }
    assert loop.kinds() == ["requested", "promoted"]


def test_the_judge_sees_no_row_that_came_after_the_training_began(loop: Loop) -> None:
    loop.request()
    loop.look()
    loop.label([1, 2])
    loop.train()
    loop.look()
    loop.look()
    assert loop.versions.judged == [("1.0", "1.1", 4)]


def test_what_the_judge_refuses_stays_refused_with_the_reason(loop: Loop) -> None:
    loop.versions.better = False
    job = loop.promote()
    assert (job.state, job.progress) == ("refused", "refused: its RMSE is no lower")
    assert verdict_of(job).reason == "its RMSE is no lower"
    assert loop.state("1.1") == "refused"
    assert loop.champions() == ["1.0"]
    assert loop.kinds() == ["requested", "refused"]


def test_what_the_shadow_refuses_is_no_longer_served_beside(loop: Loop) -> None:
    loop.versions.alike = False
    job = loop.promote()
    assert (job.state, shadowed_of(job).reason) == ("refused", "3 of 20 requests failed")
    assert loop.state("1.1") == "refused"
    assert loop.rollout.serving == {MODEL: ["1.0"]}


def test_a_training_that_ends_without_a_result_is_started_again_on_the_same_rows_three_times_at_most(
    loop: Loop,
) -> None:
    loop.request()
    for attempt in (1, 2, 3):
        loop.look()
        assert loop.job().result.attempts == attempt
        loop.label([attempt])
        loop.trainings.running.clear()
    assert len(loop.trainings.rows(1).read_text().splitlines()) == 20
    loop.look()
    job = loop.job()
    assert job.state == "failed"
    assert job.result.error.endswith("Traceback: out of memory")
    assert len(loop.trainings.started) == 3
    assert loop.kinds() == ["requested", "failed"]


def test_a_training_that_says_why_it_failed_is_not_started_again(loop: Loop) -> None:
    loop.request()
    loop.look()
    loop.trainings.results[1] = Trained(MODEL, error="none of its rows fits")
    loop.trainings.running.clear()
    loop.look(2)
    assert (loop.job().state, loop.job().result.error) == ("failed", "the training ended: none of its rows fits")
    assert len(loop.trainings.started) == 1


def test_a_job_that_hangs_is_ended_after_its_limit(loop: Loop) -> None:
    loop.request()
    loop.look()
    loop.trainings.running[1] = 3601
    loop.look()
    job = loop.job()
    assert job.state == "failed"
    assert "limit of 60 minutes" in job.result.error
    assert "doubling: fitting" in job.result.error
    assert loop.trainings.ended == [1]


def test_a_training_that_hangs_after_its_result_is_used(loop: Loop) -> None:
    loop.request()
    loop.look()
    loop.train()
    loop.trainings.running[1] = 3601
    loop.look(5)
    assert loop.job().state == "promoted"


@pytest.mark.parametrize("looks", range(1, 5))
def test_a_job_can_be_cancelled_until_it_is_promoted(loop: Loop, looks: int) -> None:
    loop.request()
    if looks > 1:
        loop.look()
        if looks > 2:
            loop.train()
            loop.look(looks - 2)
    loop.retraining.cancel(1)
    loop.look()
    job = loop.job()
    assert (job.state, job.ended) == ("cancelled", START)
    assert loop.trainings.running == {}
    assert loop.champions() == ["1.0"]
    assert loop.rollout.serving == {MODEL: ["1.0"]}
    assert loop.kinds() == ["requested", "cancelled"]


def test_a_cancellation_during_the_shadow_takes_effect_after_it(loop: Loop) -> None:
    loop.versions.shadowing = partial(loop.retraining.cancel, 1)
    assert loop.promote().state == "cancelled"
    assert loop.rollout.serving == {MODEL: ["1.0"]}


@pytest.mark.parametrize("looks", range(5))
def test_a_monitor_that_is_killed_between_two_stages_goes_on_where_it_was(loop: Loop, looks: int) -> None:
    loop.request()
    for number in range(6):
        if number == looks:
            loop.restart()
        loop.look()
        if number == 0:
            loop.train()
    assert loop.job().state == "promoted"
    assert len(loop.trainings.started) == 1
    assert len(loop.versions.judged) == 1
    assert loop.champions() == ["1.1"]
    assert loop.kinds() == ["requested", "promoted"]


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_monitor_that_is_killed_while_it_promotes_has_one_champion_and_one_decision(loop: Loop, where: str) -> None:
    loop.rollout.kill = where
    with pytest.raises(Killed):
        loop.promote()
    loop.restart()
    loop.look()
    job = loop.job()
    assert (job.state, watched_of(job).former) == ("promoted", "1.0")
    assert loop.champions() == ["1.1"]
    assert loop.rollout.serving == {MODEL: ["1.1"]}
    assert loop.store.journal.decisions(MODEL)[0].details["from"] == "1.0"
    assert loop.kinds() == ["requested", "promoted"]


def test_a_monitor_that_is_killed_in_the_shadow_sends_the_requests_again(loop: Loop) -> None:
    def kill() -> None:
        loop.versions.shadowing = lambda: None
        raise Killed

    loop.versions.shadowing = kill
    with pytest.raises(Killed):
        loop.promote()
    assert loop.rollout.serving == {MODEL: ["1.0", "1.1"]}
    loop.restart()
    loop.look(3)
    assert loop.job().state == "promoted"


def test_a_training_whose_monitor_was_killed_is_watched_on(loop: Loop) -> None:
    loop.request()
    loop.look()
    loop.restart()
    loop.look()
    assert len(loop.trainings.started) == 1
    assert loop.job().state == "running"


def test_an_orderly_end_of_the_monitor_ends_the_training_which_then_goes_on_without_a_lost_attempt(loop: Loop) -> None:
    loop.request()
    loop.look()
    stop = threading.Event()
    stop.set()
    loop.runner.run_forever(stop)
    assert loop.trainings.running == {}
    job = loop.job()
    assert (job.state, job.result.attempts) == ("running", 0)
    assert "goes on" in job.progress
    loop.restart()
    loop.look()
    assert loop.job().result.attempts == 1
    assert len(loop.trainings.started) == 2


def test_a_shadow_that_the_monitors_end_cut_short_decides_nothing(loop: Loop) -> None:
    stop = threading.Event()
    loop.versions.alike = False
    loop.versions.shadowing = stop.set
    loop.request()
    loop.look()
    loop.train()
    for _ in range(3):
        loop.runner.look(stop)
    assert loop.job().state == "running"
    assert loop.state("1.1") == "challenger"


def test_while_torchserve_does_not_answer_the_job_waits(loop: Loop) -> None:
    loop.request()
    loop.look()
    loop.train()
    loop.versions.serves = False
    loop.look(5)
    job = loop.job()
    assert (job.state, job.result.stage) == ("running", "shadow")
    assert "waiting for the service" in job.progress
    loop.versions.serves = True
    loop.look(2)
    assert loop.job().state == "promoted"


def test_a_shadow_that_failed_since_torchserve_died_is_repeated(loop: Loop) -> None:
    def die() -> None:
        loop.versions.serves, loop.versions.alike = False, False

    loop.versions.shadowing = die
    loop.promote()
    assert loop.job().state == "running"
    loop.versions.serves, loop.versions.alike, loop.versions.shadowing = True, True, lambda: None
    loop.look(2)
    assert loop.job().state == "promoted"


def test_a_version_that_torchserve_does_not_take_fails_the_job_and_nothing_else(loop: Loop) -> None:
    loop.rollout.refuses = True
    loop.promote()
    loop.look(3)
    job = loop.job()
    assert job.state == "failed"
    assert "broken archive" in job.result.error
    assert loop.champions() == ["1.0"]


def test_a_version_that_is_promoted_by_hand_meanwhile_is_judged_against(loop: Loop) -> None:
    loop.request()
    loop.look()
    loop.train()
    loop.look(2)
    assert loop.job().result.stage == "shadow"
    loop.train(99, "1.2")
    loop.promotions.promote(MODEL, "1.2", "hand")
    loop.look(4)
    assert loop.versions.judged == [("1.0", "1.1", 4), ("1.2", "1.1", 4)]
    assert loop.job().state == "promoted"
    assert watched_of(loop.job()).former == "1.2"


def test_what_goes_wrong_fails_the_job_with_the_reason(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.request()
    loop.look()
    loop.train()
    loop.models.verify(loop.models.models()[MODEL]["1.1"]).unlink()

    def broken(*_: object) -> None:
        raise ValueError("no graph in it")

    loop.versions.judge = broken  # type: ignore[method-assign,assignment]
    loop.restart()
    with caplog.at_level(logging.CRITICAL, "monitoring"):
        loop.look(2)
    assert loop.job().state == "failed"
    assert loop.job().result.error == "judge: ValueError: no graph in it"


def test_jobs_of_several_models_run_one_after_another(loop: Loop) -> None:
    loop.request()
    add(loop.models, "other")
    other = loop.store.journal.create_job("other", "hand", "a test", START)
    loop.look(2)
    assert loop.job(other.id).state == "queued"
    loop.train()
    loop.look(5)
    assert loop.job().state == "promoted"
    assert loop.job(other.id).state == "running"


def test_while_what_runs_the_trainings_does_not_answer_the_job_waits_and_goes_on(loop: Loop) -> None:
    loop.request()
    loop.look()
    loop.trainings.away = "the cluster does not answer"
    loop.look(5)
    job = loop.job()
    assert (job.state, job.progress) == ("running", "waiting: the cluster does not answer")
    loop.trainings.away = ""
    loop.train()
    loop.look(4)
    assert loop.job().state == "promoted"


def test_a_job_that_is_cancelled_while_nothing_answers_is_cancelled_once_its_training_has_ended(loop: Loop) -> None:
    loop.request()
    loop.look()
    loop.trainings.away = "the cluster does not answer"
    loop.retraining.cancel(1)
    loop.look(2)
    assert (loop.job().state, loop.trainings.ended) == ("running", [])
    loop.trainings.away = ""
    loop.look()
    assert (loop.job().state, loop.trainings.ended) == ("cancelled", [1])


def test_a_training_that_is_refused_fails_the_job_with_the_reason(loop: Loop) -> None:
    loop.trainings.refuses = "Kubernetes answers 403: forbidden"
    loop.request()
    loop.look()
    assert (loop.job().state, loop.job().result.error) == ("failed", "Kubernetes answers 403: forbidden")


@pytest.mark.parametrize("outlive", [False, True])
def test_the_end_of_the_monitor_leaves_a_training_elsewhere_to_the_next(loop: Loop, outlive: bool) -> None:
    loop.trainings.outlive = outlive
    loop.request()
    loop.look()
    stop = threading.Event()
    stop.set()
    loop.runner.run_forever(stop)
    assert loop.trainings.ended == ([] if outlive else [1])
    loop.restart()
    loop.look()
    assert len(loop.trainings.started) == (1 if outlive else 2)
