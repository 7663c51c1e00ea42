"""Jobs when another monitor leads: a job goes on once, and who led before does nothing more."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monitoring.retraining.result import JobResult, Watched
from monitoring.retraining.wiring import ConfirmedRollout
from monitoring.store.leases import Lease, LeaseLostError
from serving.hosts.host import Rollout
from tests.support.monitoring.leases import let_expire
from tests.support.monitoring.loops import MODEL, Loop
from tests.support.serving.stores import add

ACTS: dict[str, Callable[[Rollout], object]] = {
    "beside": lambda rollout: rollout.beside(MODEL, "1.1"),
    "withdraw": lambda rollout: rollout.withdraw(MODEL, "1.1"),
    "promote": lambda rollout: rollout.promote(MODEL, "1.1"),
    "converge": lambda rollout: rollout.converge(),
}


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    loop = Loop(tmp_path)
    add(loop.models, MODEL, "1.1", "challenger")
    yield loop
    loop.store.close()


def overtaken(loop: Loop) -> Lease:
    """A lease that another monitor has taken over."""
    first, second = (Lease(loop.store.database, owner=name) for name in ("first", "second"))
    first.renew()
    let_expire(loop.store)
    assert second.renew()
    return first


@pytest.mark.parametrize("act", ACTS.values(), ids=list(ACTS))
def test_no_act_of_the_host_is_made_by_who_leads_no_longer(loop: Loop, act: Callable[[Rollout], object]) -> None:
    lease = overtaken(loop)
    loop.rollout.serving[MODEL] = ["1.0", "1.1"]
    rollout = ConfirmedRollout(loop.rollout, lease.confirm)
    with lease.fenced(), pytest.raises(LeaseLostError, match="second has the lease"):
        act(rollout)
    assert loop.rollout.serving == {MODEL: ["1.0", "1.1"]}
    assert loop.champions() == ["1.0"]
    act(rollout)  # what a person asks for needs no lease


def test_a_lease_that_ran_out_is_not_enough_even_where_nobody_took_it(loop: Loop) -> None:
    ticks = iter([0.0, 0.0, 100.0])
    lease = Lease(loop.store.database, tick=lambda: next(ticks))
    lease.renew()
    with lease.fenced():
        lease.confirm()
        with pytest.raises(LeaseLostError, match="has run out"):
            lease.confirm()


def test_a_promotion_that_the_former_leader_was_about_to_make_is_made_by_the_next(loop: Loop) -> None:
    lease = overtaken(loop)
    job = loop.store.journal.create_job(MODEL, "hand", "a test", loop.now)
    ready = JobResult(stage="promote", champion="1.0", version="1.1", watch=Watched("1.0"))
    job = loop.store.journal.extend_job(job.id, ready, state="running")
    loop.promotions.rollout = ConfirmedRollout(loop.rollout, lease.confirm)
    with lease.fenced(), pytest.raises(LeaseLostError):
        loop.promotions.promote_job(job, Watched("1.0"))
    assert loop.champions() == ["1.0"]
    loop.restart()
    loop.look()
    assert loop.champions() == ["1.1"]
    assert loop.kinds() == ["promoted"]


def test_a_training_of_a_monitor_elsewhere_is_started_here_and_counted(loop: Loop) -> None:
    loop.request()
    loop.look()
    assert loop.job().result.place == "here:jobs"
    loop.store.journal.extend_job(1, JobResult(place="elsewhere:jobs"))
    loop.trainings.running.clear()  # it runs there, if it does
    loop.look()
    assert len(loop.trainings.started) == 2
    assert (loop.job().result.attempts, loop.job().result.place) == (2, "here:jobs")
    loop.look(5)
    assert len(loop.trainings.started) == 2


def test_a_job_that_no_leader_could_end_fails_with_its_reason(loop: Loop) -> None:
    loop.request()
    for place in "abcd":
        loop.look()
        loop.store.journal.extend_job(1, JobResult(place=place))
        loop.trainings.running.clear()
    assert loop.job().state == "failed"
    assert loop.job().result.error.startswith("the training ended 3 times without a result")
    assert len(loop.trainings.started) == 3


def test_who_leads_no_longer_ends_its_trainings_and_no_others(loop: Loop) -> None:
    loop.request()
    loop.look()
    lease = overtaken(loop)
    lease.renew()
    loop.runner._lease = lease
    lease.rival = True
    loop.runner._round(threading.Event())
    assert loop.trainings.ended == []  # both monitors have the same folder
    loop.store.journal.extend_job(1, JobResult(place="elsewhere:jobs"))
    loop.runner._stood = None
    loop.runner._round(threading.Event())
    assert loop.trainings.ended == [1]
    assert loop.job().state == "running"
