"""Tuning beside a served model: it goes on answering, and is left as it was found."""

from collections.abc import Iterator

import httpx
import pytest

from loadtests.candidates import Candidate, configured
from loadtests.tune import Measure, Point, Tuner
from serving.management import Management
from serving.registry import Registry
from tests.integration.conftest import Server
from tests.waiting import wait_until

CANDIDATES = [Candidate(1, 1), Candidate(2, 16, 3)]


@pytest.fixture
def management(server: Server) -> Iterator[Management]:
    """The management API; the workers of candidates are gone when the test ends."""
    before = server.worker_pids()
    with httpx.Client(timeout=120) as client:
        yield Management(server.settings.management_url, client)
    wait_until(lambda: server.worker_pids() == before)


def tuner(server: Server, management: Management, measure: Measure) -> Tuner:
    registry = Registry(server.settings.model_store)
    archive = registry.verify(registry.champions()["linear"][1]).read_bytes()
    return Tuner(management, server.settings.model_store, server.contract("linear"), archive, measure, lambda _: None)


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


def test_ctrl_c_leaves_the_service_as_it_was(server: Server, management: Management) -> None:
    def measure(name: str, candidate: Candidate, clients: int) -> Point:
        raise KeyboardInterrupt

    before = management.versions(), sorted(path.name for path in server.settings.model_store.iterdir())
    with pytest.raises(KeyboardInterrupt):
        tuner(server, management, measure).sweep(CANDIDATES)
    assert (management.versions(), sorted(p.name for p in server.settings.model_store.iterdir())) == before


def test_what_a_killed_tuning_left_is_removed_by_the_next(server: Server, management: Management) -> None:
    own = tuner(server, management, lambda name, candidate, clients: Point(candidate, clients, 1, 1, 1, 0))
    (server.settings.model_store / f"{own.name}.mar").write_bytes(configured(own.archive, CANDIDATES[0]))
    management.register(f"{own.name}.mar", own.name)
    own.sweep(CANDIDATES[:1], [1])
    assert set(management.versions()) == {"linear", "flights", "fashion"}
