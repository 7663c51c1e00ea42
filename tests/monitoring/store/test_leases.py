"""Of several monitors on one database, one does the jobs."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from monitoring.retraining.queue import RetrainRefused
from monitoring.store.leases import Lease, LeaseLostError
from monitoring.store.predictions import Store, open_store
from tests.monitoring.store.test_predictions import NOW, prediction
from tests.support.monitoring.databases import new_database
from tests.support.monitoring.leases import expires, let_expire
from tests.support.monitoring.loops import MODEL, Loop
from tests.support.waiting import wait_until


class Tick:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_one_of_many_that_ask_at_once_gets_it(url: str) -> None:
    stores = [open_store(url) for _ in range(3)]
    leases = [Lease(stores[i % 3].database) for i in range(9)]
    with ThreadPoolExecutor(9) as pool:
        assert sum(pool.map(Lease.renew, leases)) == 1
    (holder,) = [lease for lease in leases if lease.held]
    assert {lease.holder for lease in leases} == {holder.owner}
    assert holder.renew()
    holder.release()
    assert not holder.held
    other = next(lease for lease in leases if lease is not holder)
    assert other.renew()
    assert not holder.renew()
    for store in stores:
        store.close()


def test_a_holder_that_slept_too_long_writes_nothing_more(store: Store) -> None:
    first, second = (Lease(store.database, owner=name) for name in ("first", "second"))
    assert first.renew()
    assert not second.renew()
    let_expire(store)
    assert second.renew()
    job = store.journal.create_job("flights", "hand", "asked", NOW)
    with first.fenced(), pytest.raises(LeaseLostError, match="second has the lease 'jobs', not first"):
        store.journal.update_job(job.id, state="running")
    assert store.journal.job(job.id).state == "queued"
    with second.fenced():
        assert store.journal.update_job(job.id, state="running").state == "running"
    assert store.journal.update_job(job.id, progress="by a call").progress == "by a call"  # which needs none


def test_after_a_pause_of_the_process_it_is_not_held_before_it_was_renewed(store: Store) -> None:
    tick = Tick()
    lease = Lease(store.database, tick=tick)
    lease.renew()
    assert lease.held
    tick.now += 15
    assert not lease.held
    assert lease.renew()


HOLDER = """
import sys, threading
from monitoring.store.leases import Lease
from monitoring.store.predictions import open_store
from datetime import timedelta
lease = Lease(open_store(sys.argv[1]).database, lasts=timedelta(seconds=1.5))
lease.renew()
print(lease.held, flush=True)
lease.keep_forever(threading.Event())
"""


def test_a_holder_that_is_killed_is_followed_by_another(url: str) -> None:
    store = open_store(url)
    process = subprocess.Popen([sys.executable, "-c", HOLDER, url], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stdout.readline() == "True\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        until = expires(store)
        lease = Lease(store.database, lasts=timedelta(seconds=1.5))
        wait_until(lease.renew, poll=0.1)
        assert expires(store) - timedelta(seconds=1.5) >= until
    finally:
        process.kill()
        process.wait()
        process.stdout and process.stdout.close()
    store.close()


def test_two_monitors_on_one_database_train_a_job_once(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    leases = [Lease(loop.store.database, owner=f"monitor {i}", lasts=timedelta(minutes=1)) for i in range(2)]
    stop = threading.Event()
    runners = []
    for lease in leases:
        loop.restart()
        loop.runner._lease = lease
        runners.append(loop.runner)
    loop.request()
    threads = [threading.Thread(target=lease.keep_forever, args=(stop,)) for lease in leases]
    threads += [threading.Thread(target=runner.run_forever, args=(stop, 0.01)) for runner in runners]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: bool(loop.trainings.started), poll=0.01)
        assert not stop.wait(0.3)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(loop.trainings.started) == 1
    assert sum(lease.held for lease in leases) == 1


def test_an_alert_that_two_monitors_are_told_of_is_one_job(tmp_path: Path) -> None:
    loop = Loop(tmp_path)
    monitors = []
    for _ in range(6):
        loop.restart()
        monitors.append(loop.retraining)

    def ask(i: int) -> bool:
        try:
            monitors[i].request(MODEL, "alert", "it fell")
        except RetrainRefused:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(ask, range(6))) == 1
    assert len(loop.store.journal.jobs()) == 1


def test_a_rival_is_who_renews_and_not_who_was_killed(store: Store) -> None:
    first, second = (Lease(store.database, owner=name) for name in ("first", "second"))
    first.renew()
    for _ in range(3):
        assert not second.renew()
        assert not second.rival  # it may have been killed
    first.renew()
    assert not second.renew()
    assert second.rival
    first.release()
    assert second.renew()
    assert not second.rival


def test_it_is_renewed_while_others_write(server: str) -> None:
    store = open_store(new_database(server, "leases_beside_writers"))
    lease = Lease(store.database)
    with store.database.writing():
        assert lease.renew()
        assert lease.renew()
    store.close()


SLEEPER = """
import sys
from datetime import UTC, datetime
from monitoring.store.leases import Lease, LeaseLostError
from monitoring.store.predictions import open_store
store = open_store(sys.argv[1])
lease = Lease(store.database)
lease.renew()
with lease.fenced():
    lease.confirm()
    print("may act", flush=True)
    sys.stdin.readline()
    for act in (lease.confirm, lambda: store.journal.record("flights", "promoted", {}, datetime.now(UTC))):
        try:
            act()
            print("acted", flush=True)
        except LeaseLostError as error:
            print(type(error).__name__, flush=True)
lease.confirm()
print("by hand", flush=True)
"""


def test_a_frozen_leader_that_wakes_up_neither_acts_nor_writes(url: str) -> None:
    store = open_store(url)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", SLEEPER, url], stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdin
            assert process.stdout
            assert process.stdout.readline() == "may act\n"
            process.send_signal(signal.SIGSTOP)
            let_expire(store)
            assert Lease(store.database).renew()
            process.send_signal(signal.SIGCONT)
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.read() == "LeaseLostError\nLeaseLostError\nby hand\n"
        finally:
            process.kill()
    assert store.journal.decisions() == []
    store.close()


WRITER = """
import os, signal, sys
from monitoring.store import database
database.SESSION["idle_in_transaction_session_timeout"] = "1000"  # ms
from monitoring.store.predictions import open_store
with open_store(sys.argv[1]).database.writing():
    print("writes", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_a_process_that_is_frozen_while_it_writes_keeps_nobody_from_writing(server: str) -> None:
    url = new_database(server, "frozen_writer")
    store = open_store(url)
    with subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "writes\n"
            assert Lease(store.database).renew()  # waits for no writer
            assert store.add_predictions([prediction("a")]).new == 1
        finally:
            process.kill()
    assert [row.request_id for row in store.predictions("flights")] == ["a"]
    store.close()
