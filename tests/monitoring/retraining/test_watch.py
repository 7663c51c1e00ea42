"""The time after a promotion: what rolls back, what does not, and that nothing flaps."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from monitoring.retraining.policy import WatchPolicy
from monitoring.retraining.queue import RetrainRefused
from tests.support.monitoring.loops import MODEL, START, Loop, watched_of
from tests.support.serving.stores import add
from training.statistics.paired import Gain

HOUR = timedelta(hours=1)
WORSE = Gain(champion=3.0, challenger=2.0, low=0.2, high=0.4)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    """With a version 1.1 that a job promoted at the start."""
    one = Loop(tmp_path)
    one.promote()
    yield one
    one.store.close()


def answer(loop: Loop, rows: int = 10, delay: timedelta = timedelta(0)) -> None:
    """Rows that the new version answers within the first quarter of an hour, and their truth."""
    loop.now += HOUR / 4
    loop.label([0.01 * i for i in range(1, rows + 1)], "1.1", delay)


def test_a_version_that_errs_more_than_the_former_would_is_rolled_back(loop: Loop) -> None:
    loop.versions.gain = WORSE
    answer(loop)
    loop.look()
    job = loop.job()
    assert job.state == "rolled_back"
    assert "1.0 would err 33% less, 20% at least" in job.progress
    assert loop.champions() == ["1.0"]
    assert loop.rollout.serving == {MODEL: ["1.0"]}
    newest = loop.store.journal.decisions()[0]
    assert (newest.kind, newest.details["who"], newest.details["job"]) == ("rolled_back", "watch", 1)


def test_what_chance_explains_and_too_few_rows_roll_nothing_back(loop: Loop) -> None:
    loop.versions.gain = WORSE
    answer(loop, rows=9)
    loop.look()
    assert loop.job().state == "promoted"
    loop.versions.gain = Gain(champion=3.0, challenger=2.5, low=0.09, high=0.4)
    loop.label([0.2], "1.1")
    loop.look()
    assert loop.job().state == "promoted"


def test_it_does_not_flap_since_the_cooldown_begins_with_the_rollback(loop: Loop) -> None:
    loop.versions.gain = WORSE
    loop.now += 20 * HOUR
    answer(loop)
    loop.look(3)
    assert loop.kinds() == ["requested", "promoted", "rolled_back"]
    loop.now += 23 * HOUR
    with pytest.raises(RetrainRefused, match="none before"):
        loop.retraining.request(MODEL, "alert", "again")
    loop.look(3)
    assert loop.champions() == ["1.0"]


def test_the_watch_ends_and_later_errors_are_not_its_business(loop: Loop) -> None:
    answer(loop)
    loop.look()
    assert watched_of(loop.job()).open
    loop.now = START + 25 * HOUR
    loop.look()
    watch = watched_of(loop.job())
    assert (watch.open, watch.reason) == (False, "it did no worse")
    loop.versions.gain = WORSE
    loop.label([1], "1.1")
    loop.look()
    assert loop.job().state == "promoted"


def test_the_watch_waits_for_labels_that_come_as_late_as_usual(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    loop.label([-30, -29], delay=48 * HOUR)
    loop.promote()
    loop.now = START + 36 * HOUR
    loop.look()
    assert watched_of(loop.job()).open
    loop.versions.gain = WORSE
    answer(loop, delay=35 * HOUR)
    loop.look()
    assert loop.job().state == "rolled_back"
    loop.store.close()


def test_a_version_that_another_replaced_is_watched_no_longer(loop: Loop) -> None:
    add(loop.models, MODEL, "1.2", "challenger")
    loop.promotions.promote(MODEL, "1.2", "hand")
    loop.versions.gain = WORSE
    answer(loop)
    loop.look()
    assert watched_of(loop.job()).reason == "1.2 was promoted"
    assert loop.champions() == ["1.2"]


def test_three_looks_that_fail_roll_back(loop: Loop) -> None:
    loop.versions.probes["1.1"] = (False, 4.0)
    loop.look(2)
    loop.versions.probes["1.1"] = (True, 4.0)
    loop.look()
    loop.versions.probes["1.1"] = (False, 4.0)
    loop.look(2)
    assert loop.job().state == "promoted"
    loop.look()
    assert loop.job().state == "rolled_back"
    assert "it failed its probe in 3 looks in a row" in loop.job().progress


def test_while_torchserve_is_away_no_version_is_at_fault(loop: Loop) -> None:
    loop.versions.probes["1.1"] = (False, 4.0)
    loop.versions.serves = False
    loop.look(5)
    assert loop.job().state == "promoted"


def test_a_probe_that_failed_before_the_promotion_too_is_no_reason(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    loop.versions.probes = {"1.0": (False, 4.0), "1.1": (False, 4.0)}
    loop.promote()
    loop.look(5)
    assert loop.job().state == "promoted"
    loop.store.close()


def test_a_version_that_is_slower_also_side_by_side_is_rolled_back(loop: Loop) -> None:
    loop.versions.probes["1.1"] = (True, 12.0)
    loop.look(2)
    assert loop.job().state == "promoted"
    loop.look()
    assert loop.job().state == "rolled_back"
    assert "its example takes 12.0 ms, that of 1.0 4.0 ms" in loop.job().progress


def test_load_that_slows_both_rolls_nothing_back_and_is_the_new_measure(loop: Loop) -> None:
    loop.versions.probes = {"1.0": (True, 11.0), "1.1": (True, 12.0)}
    loop.look(3)
    assert loop.job().state == "promoted"
    assert watched_of(loop.job()).former_ms == 11.0
    assert loop.rollout.serving == {MODEL: ["1.1"]}
    loop.look(10)
    assert loop.job().state == "promoted"


def test_a_few_milliseconds_of_a_fast_model_are_noise(loop: Loop) -> None:
    loop.versions.probes["1.1"] = (True, 8.9)
    loop.look(5)
    assert loop.job().state == "promoted"


def test_latency_says_nothing_while_a_training_takes_the_machine(loop: Loop) -> None:
    loop.versions.probes["1.1"] = (True, 50.0)
    loop.request()
    loop.look(5)
    assert loop.job(1).state == "promoted"
    assert loop.job(2).result.stage == "train"


def test_a_watch_goes_on_after_a_restart(loop: Loop) -> None:
    loop.restart()
    loop.versions.gain = WORSE
    answer(loop)
    loop.look()
    assert loop.job().state == "rolled_back"


def test_a_rollback_that_torchserve_refuses_is_tried_again(loop: Loop) -> None:
    loop.versions.gain = WORSE
    loop.rollout.refuses = True
    answer(loop)
    loop.look()
    assert loop.job().state == "promoted"
    loop.rollout.refuses = False
    loop.look()
    assert loop.job().state == "rolled_back"


def test_with_no_time_there_is_no_watch(tmp_path: Path) -> None:
    loop = Loop(tmp_path, watch=WatchPolicy(0, 10))
    loop.promote()
    assert not watched_of(loop.job()).open
    loop.store.close()
