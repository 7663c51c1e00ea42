"""Machines that follow a shared store by themselves: what loads is promoted, and counts once all of them serve it."""

from collections.abc import Callable

import httpx
import pytest

from serving.archive import ArchiveError
from serving.hosts import fleet
from serving.hosts.fleet import ENOUGH, FleetRollout
from serving.hosts.host import LaunchError
from serving.registry import Registry
from tests.support.serving.stores import add

READY = "/v2/models/doubling/versions/1.1/ready"
Answers = Callable[..., FleetRollout]


@pytest.fixture
def asked() -> list[httpx.Request]:
    return []


@pytest.fixture
def rollout(registry: Registry, asked: list[httpx.Request], monkeypatch: pytest.MonkeyPatch) -> Answers:
    """A rollout whose machines answer with these statuses, and then with the last one for ever; version 1.1 waits."""
    monkeypatch.setattr(fleet, "check_served", lambda path: None)
    monkeypatch.setattr(fleet, "check_loads", lambda path: None)
    monkeypatch.setattr(fleet, "POLL", 0.0)
    add(registry)
    add(registry, number="1.1", state="challenger")

    def make(*statuses: int) -> FleetRollout:
        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            status = statuses[min(len(asked), len(statuses)) - 1]
            if status == 0:
                raise httpx.ConnectError("refused")
            return httpx.Response(status)

        return FleetRollout(registry, httpx.Client(transport=httpx.MockTransport(answer)), "http://models")

    return make


def test_a_promotion_ends_when_so_many_answers_in_a_row_are_of_machines_that_serve_it(
    rollout: Answers, asked: list[httpx.Request], registry: Registry
) -> None:
    assert rollout(404, 200, 200, 404, 0, 503, 200).promote("doubling", "1.1") == "1.0"
    assert registry.champion("doubling").number == "1.1"
    assert len(asked) == 6 + ENOUGH
    assert {request.url.path for request in asked} == {READY}
    assert {request.headers["Connection"] for request in asked} == {"close"}  # else one machine would answer them all


def test_an_archive_that_does_not_load_is_not_promoted(
    rollout: Answers, registry: Registry, monkeypatch: pytest.MonkeyPatch, asked: list[httpx.Request]
) -> None:
    def broken(_: object) -> None:
        raise ArchiveError("it cannot be loaded")

    monkeypatch.setattr(fleet, "check_loads", broken)
    with pytest.raises(ArchiveError, match="cannot be loaded"):
        rollout(200).promote("doubling", "1.1")
    assert registry.champion("doubling").number == "1.0"
    assert asked == []


def test_machines_that_do_not_follow_are_told_of_while_the_registry_names_the_new_champion(
    rollout: Answers, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "TIMEOUT", 0.05)
    with pytest.raises(LaunchError, match=r"doubling 1\.1 is champion, and not every machine .* last one answered 404"):
        rollout(404).promote("doubling", "1.1")
    assert registry.champion("doubling").number == "1.1"


def test_it_answers_when_a_machine_does(rollout: Answers) -> None:
    assert rollout(200).answers()


def test_it_does_not_answer_when_none_does(rollout: Answers) -> None:
    assert not rollout(0).answers()


def test_nothing_is_served_beside_a_champion_and_nothing_is_taken_away(
    rollout: Answers, registry: Registry, asked: list[httpx.Request]
) -> None:
    none = rollout(500)
    none.beside("doubling", "1.1")
    none.withdraw("doubling", "1.1")
    none.converge()
    with pytest.raises(KeyError):
        none.beside("doubling", "7.0")
    assert asked == []
    assert registry.champion("doubling").number == "1.0"
