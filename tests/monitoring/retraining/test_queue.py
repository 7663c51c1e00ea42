"""Who may ask for a retraining, and when; what an alert, the schedule and a hand are answered."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from monitoring.retraining.queue import RetrainRefused
from monitoring.store.records import Trigger
from tests.support.documents import replaced
from tests.support.monitoring.loops import MODEL, POLICY, START, Loop
from tests.support.serving.stores import add, add_contract, contract_of_doubling

HOUR = timedelta(hours=1)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    one = Loop(tmp_path)
    yield one
    one.store.close()


def refusal(loop: Loop, trigger: Trigger = "alert", model: str = MODEL) -> str:
    with pytest.raises(RetrainRefused) as caught:
        loop.retraining.request(model, trigger, "a test")
    return str(caught.value)


def test_a_request_is_a_queued_job_and_written_down(loop: Loop) -> None:
    job = loop.retraining.request(MODEL, "alert", "its error rose")
    assert (job.state, job.trigger, job.reason) == ("queued", "alert", "its error rose")
    (decision,) = loop.store.journal.decisions()
    assert (decision.kind, decision.details["job"], decision.details["reason"]) == ("requested", 1, "its error rose")


def test_there_is_one_job_a_model_at_a_time_also_by_hand(loop: Loop) -> None:
    loop.request()
    assert refusal(loop, "hand") == "job 1 of doubling is queued: one at a time"
    loop.look()
    assert refusal(loop, "hand") == "job 1 of doubling is running: one at a time"


def test_after_a_retraining_all_but_a_hand_wait(loop: Loop) -> None:
    loop.versions.better = False
    loop.promote()
    loop.now += 23 * HOUR
    assert "none before 2013-02-18T12:00:00+00:00" in refusal(loop, "alert")
    assert "none before" in refusal(loop, "schedule")
    loop.retraining.request(MODEL, "hand", "now")
    loop.retraining.cancel(2)
    loop.look()
    loop.now += HOUR
    loop.label([23])
    assert loop.retraining.request(MODEL, "alert", "still").state == "queued"  # what was cancelled does not count


def test_in_a_day_there_are_only_so_many_retrainings_but_by_hand(loop: Loop) -> None:
    loop.policy = replace(POLICY, cooldown_hours=0, per_day=2)
    loop.restart()
    loop.versions.better = False
    loop.promote("1.1")
    loop.now += HOUR
    loop.promote("1.2")
    assert refusal(loop) == "2 retrainings in 24 hours: no more than 2 (MARLOOP_RETRAIN_PER_DAY)"
    loop.retraining.request(MODEL, "hand", "now")


def test_switched_off_only_a_hand_may_ask(loop: Loop) -> None:
    loop.policy = replace(POLICY, enabled=False)
    loop.restart()
    assert refusal(loop) == "MARLOOP_RETRAIN is off: only by hand"
    loop.request()


def test_too_few_labelled_rows_are_not_worth_it(loop: Loop) -> None:
    loop.policy = replace(POLICY, rows=21)
    loop.restart()
    assert "doubling has 20 labelled rows of the last 28 days, but 21 are needed" in refusal(loop, "hand")
    loop.policy = replace(POLICY, days=5 / 24)
    loop.restart()
    assert "doubling has 6 labelled rows" in refusal(loop, "hand")


def test_what_the_champion_knows_already_is_no_reason_for_another_but_by_hand(loop: Loop) -> None:
    known = START.isoformat()
    contract = replaced(contract_of_doubling(version="1.1"), lineage={"until": known})
    add_contract(loop.models, contract, "challenger")
    loop.models.promote(MODEL, "1.1")
    loop.label(range(1, 10))
    assert f"doubling 1.1 knows rows until {known}, and 9 labelled ones are newer" in refusal(loop)
    loop.retraining.request(MODEL, "hand", "all the same")
    loop.retraining.cancel(1)
    loop.look()
    loop.label([10])
    assert loop.retraining.request(MODEL, "alert", "its error rose").state == "queued"


def test_a_model_that_cannot_learn_and_one_without_a_champion_are_refused(loop: Loop) -> None:
    loop.unlearnable = "of image only the mean is captured"
    assert refusal(loop, "hand") == "of image only the mean is captured"
    add(loop.models, "new", state="challenger")
    assert refusal(loop, "hand", "new") == "'new' has no champion, only doubling have one"
    assert [one.kind for one in loop.store.journal.decisions("new")] == ["refused_request"]


def test_what_nobody_knows_is_refused_and_fills_no_store(loop: Loop) -> None:
    assert "has no champion" in refusal(loop, "hand", "x" * 10_000)
    assert loop.store.journal.decisions() == []


def test_an_alert_that_is_refused_again_and_again_is_written_down_once_in_an_hour(loop: Loop) -> None:
    loop.versions.better = False
    loop.promote()
    for _ in range(3):
        refusal(loop)
    assert loop.kinds() == ["requested", "refused", "refused_request"]
    loop.now += HOUR
    refusal(loop)
    assert loop.kinds().count("refused_request") == 2


def test_the_schedule_asks_every_so_often(loop: Loop) -> None:
    loop.policy = replace(POLICY, every_hours=168)
    loop.restart()
    loop.versions.better = False
    loop.look()
    assert (loop.job().trigger, loop.job().reason) == ("schedule", "every 168 h")
    loop.look()
    loop.train()
    loop.look(3)
    assert loop.job().state == "refused"
    loop.now += 167 * HOUR
    loop.look()
    assert len(loop.store.journal.jobs()) == 1
    loop.now += HOUR
    loop.look()
    assert len(loop.store.journal.jobs()) == 2


def test_without_a_schedule_nothing_is_asked(loop: Loop) -> None:
    loop.look()
    assert loop.store.journal.jobs() == []


def test_a_job_that_has_ended_or_never_was_cannot_be_cancelled(loop: Loop) -> None:
    loop.promote()
    with pytest.raises(RetrainRefused, match="job 1 has ended: promoted"):
        loop.retraining.cancel(1)
    with pytest.raises(KeyError, match="there is no job 7"):
        loop.retraining.cancel(7)


def test_a_job_that_is_being_promoted_cannot_be_cancelled(loop: Loop) -> None:
    loop.request()
    loop.look()
    loop.train()
    loop.look(3)
    assert loop.job().result.stage == "promote"
    with pytest.raises(RetrainRefused, match="roll it back instead"):
        loop.retraining.cancel(1)
    loop.look()
    assert loop.job().state == "promoted"
