"""Two monitors on one PostgreSQL: one leads, whatever happens to it, and both answer."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import URL, make_url

from monitoring.store.predictions import open_store
from serving.ports import free_ports
from serving.registry import Registry
from serving.settings import on_free_ports
from tests.conftest import Figures
from tests.support.monitoring.databases import PostgreSQL, new_database, postgresql_server
from tests.support.serving.stores import add
from tests.support.waiting import wait_until

HANDOVER = 15.0  # s that are promised, from a leader's end to the next one
# A network of its own: what goes into one port comes out of another, unless the process is stopped.
NETWORK = """
import asyncio, sys
here, there = map(int, sys.argv[1:])
async def pass_on(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
async def accept(reader, writer):
    try:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", there)
    except OSError:
        writer.close()
    else:
        await asyncio.gather(pass_on(reader, far_writer), pass_on(far_reader, writer))
async def main():
    async with await asyncio.start_server(accept, "127.0.0.1", here) as server:
        await server.serve_forever()
asyncio.run(main())
"""


class Monitor:
    """A monitor in a process and a run's folder of its own, with its own way to the database."""

    def __init__(self, folder: Path, models: Path, database: URL) -> None:
        self.settings = on_free_ports(models, folder)
        (port,) = free_ports(1)
        self.network = subprocess.Popen([sys.executable, "-c", NETWORK, str(port), str(database.port)])
        url = database.set(port=port).render_as_string(hide_password=False)
        self._environ = os.environ | self.settings.to_environment() | {"DATABASE_URL": url}
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "monitoring", "serve"]
        self.settings.run_dir.mkdir(exist_ok=True)
        with (self.settings.run_dir / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env=self._environ, stdout=log, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, path: str, **content: Any) -> httpx.Response | None:
        """The answer to a GET, or to a POST of what is given; None where there is none in time."""
        method = "POST" if content else "GET"
        try:
            return httpx.request(method, f"{self.settings.monitor_url}{path}", timeout=5, trust_env=False, **content)
        except httpx.TransportError:
            return None

    def leads(self) -> bool:
        response = self.ask("/leader")
        return response is not None and response.status_code == 200

    def takes(self, label: str) -> bool:
        content = {"request_id": label, "label": 1.0, "model": "doubling"}
        response = self.ask("/feedback", json=content)
        return response is not None and response.status_code == 200

    def says(self, metric: str) -> bool:
        response = self.ask("/metrics")
        return response is not None and any(
            line.startswith(f"{metric}{{") or line == metric for line in response.text.splitlines()
        )


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql_server() as server:
        yield server


@pytest.fixture(scope="module")
def database(server: PostgreSQL) -> URL:
    return make_url(new_database(server.url, "monitors"))


@pytest.fixture(scope="module")
def monitors(server: PostgreSQL, database: URL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Monitor]]:
    folder = tmp_path_factory.mktemp("monitors")
    add(Registry(folder / "models"))
    pair = [Monitor(folder / name, folder / "models", database) for name in ("first", "second")]
    try:
        yield pair
    finally:
        for monitor in pair:
            for process in (monitor.process, monitor.network):
                process.kill()
                process.wait()


def leader_of(monitors: list[Monitor]) -> tuple[Monitor, Monitor]:
    """The monitor that leads, and the other one, once both answer and exactly one leads."""

    def settled() -> bool:
        return all(monitor.takes("settled") for monitor in monitors) and sum(one.leads() for one in monitors) == 1

    wait_until(settled)
    return tuple(sorted(monitors, key=Monitor.leads, reverse=True))  # type: ignore[return-value]


def test_one_leads_and_both_answer(monitors: list[Monitor]) -> None:
    leader, other = leader_of(monitors)
    wait_until(lambda: leader.says("model_champion_info"))
    assert not other.says("model_champion_info")  # else each figure would be there twice
    assert other.says("monitor_feedback_total")
    response, same = leader.ask("/leader"), other.ask("/leader")
    assert response is not None
    assert same is not None
    assert same.status_code == 503
    assert same.json()["leader"] == response.json()["monitor"]
    for monitor in monitors:
        page = monitor.ask("/")
        assert page is not None
        assert "doubling" in page.text


def test_a_leader_that_is_killed_is_followed_in_time(monitors: list[Monitor], figures: Figures) -> None:
    leader, other = leader_of(monitors)
    leader.kill()
    began = time.monotonic()
    wait_until(other.leads)
    figures.took("the other leads", time.monotonic() - began, HANDOVER)
    assert other.takes("while-one-is-away")
    leader.start()
    assert leader_of(monitors) == (other, leader)


def test_a_frozen_leader_is_followed_in_time_and_does_not_lead_when_it_wakes_up(
    monitors: list[Monitor], figures: Figures
) -> None:
    leader, other = leader_of(monitors)
    leader.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    wait_until(other.leads)
    figures.took("the other leads", time.monotonic() - began, HANDOVER)
    leader.process.send_signal(signal.SIGCONT)
    wait_until(lambda: leader.ask("/healthz") is not None)
    assert not leader.leads()
    assert leader_of(monitors) == (other, leader)


def test_a_leader_that_is_cut_off_from_the_database_is_followed_in_time(
    monitors: list[Monitor], figures: Figures
) -> None:
    leader, other = leader_of(monitors)
    leader.network.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        wait_until(other.leads)
        figures.took("the other leads", time.monotonic() - began, HANDOVER)
        assert not leader.leads()
        assert not leader.takes("cut-off")
        wait_until(lambda: other.takes("settled"))
    finally:
        leader.network.send_signal(signal.SIGCONT)
    assert leader_of(monitors) == (other, leader)


def test_after_a_restart_of_the_database_one_leads_and_both_answer(
    server: PostgreSQL, database: URL, monitors: list[Monitor]
) -> None:
    leader_of(monitors)
    server.stop()
    try:
        assert not any(monitor.takes("lost") for monitor in monitors)
        assert all(monitor.ask("/healthz") for monitor in monitors)
    finally:
        server.start()
    leader_of(monitors)
    store = open_store(database.render_as_string(hide_password=False))
    labels = {label.request_id for label in store.waiting([(name, 0) for name in ("settled", "lost")])}
    store.close()
    assert labels == {"settled"}


def test_a_leader_that_is_ended_hands_over_at_once(monitors: list[Monitor]) -> None:
    leader, other = leader_of(monitors)
    leader.process.terminate()
    leader.process.wait()
    wait_until(other.leads, timeout=5)  # less than a lease lasts
