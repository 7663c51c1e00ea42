"""Tuning beside a served model: it goes on answering, and is left as it was found."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from loadtests.tune import guard
from loadtests.tune.candidates import Candidate, configured, registered
from loadtests.tune.champion import Champion
from loadtests.tune.tune import Measure, Point, Tuner
from serving.hosts.torchserve.management import Management
from serving.registry import Registry
from tests.integration.conftest import Server
from tests.support.waiting import wait_until

CANDIDATES = [Candidate(1, 1), Candidate(2, 16, 3)]


@pytest.fixture
def management(server: Server) -> Iterator[Management]:
    """The management API; the workers of candidates are gone when the test ends."""
    before = server.worker_pids()
    with httpx.Client(timeout=120) as client:
        yield Management(server.settings.management_address, client)
    wait_until(lambda: server.worker_pids() == before)


def tuner(server: Server, management: Management, measure: Measure) -> Tuner:
    store = server.settings.model_store
    return Tuner(management, store, Champion.of(store, "linear"), measure, lambda _: None)


def test_each_candidate_is_served_with_its_settings_while_the_champion_answers(
    server: Server, management: Management
) -> None:
    seen = []

    def measure(name: str, candidate: Candidate, clients: int) -> Point:
        answers = [server.client.post(f"{server.url}/predictions/{m}", json={"x": 6}) for m in (name, "linear")]
        assert [answer.status_code for answer in answers] == [200, 200]
        described = management.describe(name, "1.0")
        seen.append((described["minWorkers"], described["batchSize"], described["maxBatchDelay"]))
        return Point(candidate, clients, 1, 1, 1, 0)

    points = tuner(server, management, measure).sweep(CANDIDATES, [1, 2])
    assert {(point.candidate, point.clients) for point in points} == {(c, n) for c in CANDIDATES for n in (1, 2)}
    assert set(seen) == {(1, 1, 1), (2, 16, 3)}
    assert set(management.versions()) == {"linear", "flights", "fashion"}


@contextlib.contextmanager
def asking(server: Server) -> Iterator[list[int]]:
    """Ask linear without a pause within the block; gives the codes so far, all of which must be 200."""
    stop, codes = threading.Event(), list[int]()

    def ask() -> None:
        with httpx.Client(timeout=60) as client:
            while not stop.is_set():
                codes.append(client.post(f"{server.url}/predictions/linear", json={"x": 6}).status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        wait_until(lambda: len(codes) > 10)
        yield codes
    finally:
        stop.set()
        thread.join()
    assert set(codes) == {200}


def test_while_a_candidate_is_loaded_other_models_answer(
    server: Server, management: Management, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, describe = list[int](), management.describe
    store = server.settings.model_store

    def looked(name: str, number: str) -> dict[str, Any]:
        answered.append(len(codes))
        return describe(name, number)

    monkeypatch.setattr(management, "describe", looked)
    champion = Champion.of(store, "linear")
    with (
        asking(server) as codes,
        registered(management, store, champion.archive, CANDIDATES[0], "linear-candidate"),
    ):
        loaded = answered[-1]
    assert loaded > answered[0] + 10


def test_while_a_user_registers_and_scales_by_the_port_other_models_answer(
    server: Server, management: Management
) -> None:
    url = f"{server.settings.management_url}/models"
    archive = Registry(server.settings.model_store).champion("linear").version.archive
    registration = {"url": archive, "model_name": "linear-again", "synchronous": "true"}
    scaling = {"min_worker": "2", "synchronous": "true"}
    counts = []
    with asking(server) as codes, httpx.Client(timeout=120) as client:
        for method, path, asked, said in (
            ("POST", url, registration, 'Model "linear-again" Version: 1.0 registered with 1 initial workers'),
            ("PUT", f"{url}/linear-again", scaling, "Workers scaled to 2 for model: linear-again"),
        ):
            before = len(codes)
            answer = client.request(method, path, params=asked)
            counts.append(len(codes) - before)
            assert (answer.status_code, answer.json()) == (200, {"status": said})
        again = client.post(url, params=registration)
        assert (again.status_code, again.json()["code"]) == (409, 409)
        assert client.delete(f"{url}/linear-again").status_code == 200
    assert all(count > 10 for count in counts), counts


def test_ctrl_c_leaves_the_service_as_it_was(server: Server, management: Management) -> None:
    def measure(name: str, candidate: Candidate, clients: int) -> Point:
        raise KeyboardInterrupt

    before = management.versions(), sorted(path.name for path in server.settings.model_store.iterdir())
    with pytest.raises(KeyboardInterrupt):
        tuner(server, management, measure).sweep(CANDIDATES)
    assert (management.versions(), sorted(p.name for p in server.settings.model_store.iterdir())) == before


def test_what_a_killed_tuning_left_is_removed_by_the_next(server: Server, management: Management) -> None:
    own = tuner(server, management, lambda name, candidate, clients: Point(candidate, clients, 1, 1, 1, 0))
    (server.settings.model_store / f"{own.name}.mar").write_bytes(configured(own.champion.archive, CANDIDATES[0]))
    management.register(f"{own.name}.mar", own.name)
    own.sweep(CANDIDATES[:1], [1])
    assert set(management.versions()) == {"linear", "flights", "fashion"}


def test_the_guard_compares_the_model_with_an_echo_on_the_same_service(server: Server, management: Management) -> None:
    champion = Champion.of(server.settings.model_store, "linear")
    asked = []

    def throughput(name: str) -> float:
        answer = server.client.post(f"{server.url}/predictions/{name}", json={"x": 6}).json()["prediction"]
        asked.append(name)
        assert answer == (0 if name == "linear-echo" else pytest.approx(12, abs=0.05))
        return 100.0 if name == "linear-echo" else 60.0

    share = guard.measure(management, server.settings.model_store, "linear", champion.archive, throughput, 2)
    assert share == guard.Share(60.0, 100.0, 0.6)
    assert asked == ["linear", "linear-echo"] * 3
    assert set(management.versions()) == {"linear", "flights", "fashion"}
