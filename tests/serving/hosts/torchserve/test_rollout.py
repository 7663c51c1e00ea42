import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from serving.hosts.host import LOCK, LaunchError
from serving.hosts.torchserve import rollout
from serving.hosts.torchserve.management import Management
from serving.hosts.torchserve.rollout import TorchServeRollout
from serving.registry import ArchiveError, Registry
from tests.support.chat_archive import register_echo
from tests.support.serving.stores import add, alter
from tests.support.serving.torchserve import FakeTorchServe


class Changes:
    """A rollout of a TorchServe in memory; draining is noted among its changes."""

    def __init__(self, registry: Registry, torchserve: FakeTorchServe) -> None:
        self.registry, self.torchserve = registry, torchserve
        self.said: list[str] = []
        self.asked: set[tuple[str, str]] = set()  # versions that clients name all the time
        self.rollout = TorchServeRollout(registry, torchserve.management, self.drain, self.said.append)

    def drain(self, name: str, number: str) -> bool:
        assert self.torchserve.versions[name][0] != number, "it still gets new requests"
        self.torchserve.changes.append(f"drain {name} {number}")
        return (name, number) not in self.asked

    @property
    def states(self) -> dict[str, str]:
        return {number: version.state for number, version in self.registry.models()["a"].items()}


def a_challenger(registry: Registry, **torchserve: object) -> Changes:
    """Version 1.0 of a is champion and served, 1.1 waits."""
    add(registry, "a", "1.0")
    add(registry, "a", "1.1", state="challenger")
    return Changes(registry, FakeTorchServe({"a": ["1.0"]}, **torchserve))  # type: ignore[arg-type]


def test_a_challenger_stands_beside_the_champion_once_and_goes_again(registry: Registry) -> None:
    own = a_challenger(registry)
    for _ in range(2):
        own.rollout.beside("a", "1.1")
        assert own.torchserve.versions == {"a": ["1.0", "1.1"]}
    for _ in range(2):
        own.rollout.withdraw("a", "1.1")
        assert own.torchserve.versions == {"a": ["1.0"]}
    assert own.torchserve.changes == ["register a 1.1", "drain a 1.1", "unregister a 1.1"]
    assert own.states == {"1.0": "champion", "1.1": "challenger"}


def test_a_model_that_the_registry_has_no_more_is_withdrawn_whole(registry: Registry) -> None:
    own = a_challenger(registry)
    own.torchserve.versions["a"].append("1.1")
    withdrawing = TorchServeRollout(registry, own.torchserve.management, lambda name, number: True)
    for number in registry.remove("a"):
        withdrawing.withdraw("a", number)
    assert own.torchserve.versions == {"a": []}


def test_a_removed_model_goes_with_the_next_look_at_the_registry(registry: Registry) -> None:
    own = a_challenger(registry)
    own.torchserve.versions |= {"a": ["1.0", "1.1"], "on_trial": ["1.0"]}
    registry.remove("a")
    TorchServeRollout(registry, own.torchserve.management, lambda name, number: True).converge()
    assert own.torchserve.versions == {"a": [], "on_trial": ["1.0"]}


def test_the_champion_is_not_withdrawn(registry: Registry) -> None:
    own = a_challenger(registry)
    own.rollout.withdraw("a", "1.0")
    assert own.torchserve.changes == []


def test_nothing_stands_beside_a_champion_that_is_not_served(registry: Registry) -> None:
    add(registry, "b", "1.0", state="challenger")
    own = Changes(registry, FakeTorchServe({}))
    with pytest.raises(LaunchError, match=r"b is not served, so that 1\.0 would be its default: promote it instead"):
        own.rollout.beside("b", "1.0")
    assert own.torchserve.changes == []


def test_a_promoted_version_is_ready_and_champion_before_the_former_one_is_drained_and_goes(registry: Registry) -> None:
    own = a_challenger(registry)
    assert own.rollout.promote("a", "1.1") == "1.0"
    assert own.torchserve.changes == ["register a 1.1", "default a 1.1", "drain a 1.0", "unregister a 1.0"]
    assert own.states == {"1.0": "retired", "1.1": "champion"}
    assert own.said == ["registered a 1.1", "removed a 1.0"]


def test_promoting_the_champion_finishes_what_was_broken_off(registry: Registry) -> None:
    add(registry, "a", "1.0", state="retired")
    add(registry, "a", "1.1")
    own = Changes(registry, FakeTorchServe({"a": ["1.0", "1.1"]}))
    assert own.rollout.promote("a", "1.1") == "1.1"
    assert own.torchserve.versions == {"a": ["1.1"]}


def test_the_first_version_of_a_model_is_promoted(registry: Registry) -> None:
    add(registry, "a", "1.0", state="challenger")
    own = Changes(registry, FakeTorchServe({}))
    assert own.rollout.promote("a", "1.0") == ""
    assert own.torchserve.versions == {"a": ["1.0"]}
    assert own.states == {"1.0": "champion"}


@pytest.mark.parametrize("damage", [alter, Path.unlink])
def test_an_archive_that_is_altered_or_gone_changes_nothing(registry: Registry, damage: Callable[[Path], None]) -> None:
    own = a_challenger(registry)
    damage(registry.store / "a-1.1.mar")
    for change in (own.rollout.beside, own.rollout.promote):
        with pytest.raises(ArchiveError, match=r"a-1\.1\.mar"):
            change("a", "1.1")
    assert own.torchserve.changes == []
    assert own.states == {"1.0": "champion", "1.1": "challenger"}


def test_what_torchserve_cannot_load_is_an_error_and_changes_nothing(registry: Registry) -> None:
    own = a_challenger(registry, broken=["a-1.1.mar"])
    with pytest.raises(
        LaunchError, match=r"^a 1\.1 cannot be promoted: its workers do not start: .* a-1\.1\.mar does not load$"
    ):
        own.rollout.promote("a", "1.1")
    assert own.torchserve.versions == {"a": ["1.0"]}
    assert own.states == {"1.0": "champion", "1.1": "challenger"}


def test_an_unknown_version_is_named_with_those_that_there_are(registry: Registry) -> None:
    own = a_challenger(registry)
    for change in (own.rollout.beside, own.rollout.promote):
        with pytest.raises(KeyError, match=r"a 2\.0 is not registered; there are 1\.0, 1\.1"):
            change("a", "2.0")
    with pytest.raises(KeyError, match=r"b 1\.0 is not registered; there are none"):
        own.rollout.promote("b", "1.0")


def test_a_version_whose_loading_was_broken_off_is_loaded_again(registry: Registry) -> None:
    own = a_challenger(registry, loading=[("a", "1.1")])
    own.torchserve.versions["a"].append("1.1")
    own.rollout.promote("a", "1.1")
    changes = ["unregister a 1.1", "register a 1.1", "default a 1.1", "drain a 1.0", "unregister a 1.0"]
    assert own.torchserve.changes == changes


def test_without_torchserve_nothing_is_promoted(registry: Registry) -> None:
    own = a_challenger(registry)
    with httpx.Client() as client:
        management = Management("http://127.0.0.1:1", client)
        away = rollout.connect(registry, management, "http://127.0.0.1:1", client)
        with pytest.raises(
            LaunchError, match=r"a 1\.1 cannot be promoted: GET http://127\.0\.0\.1:1/models: .*refused"
        ):
            away.promote("a", "1.1")
        with pytest.raises(LaunchError, match="TorchServe cannot be brought up to date: .*refused"):
            away.converge()
    assert own.states == {"1.0": "champion", "1.1": "challenger"}


def test_a_model_store_that_cannot_be_written_is_an_error_that_says_so(registry: Registry) -> None:
    own = a_challenger(registry)
    (registry.store / LOCK).mkdir()  # fails as a read-only folder does, also for root
    with pytest.raises(LaunchError, match=r"where the model store can be written: .*rollout\.lock"):
        own.rollout.converge()
    assert own.torchserve.changes == []


def test_two_promotions_at_once_come_one_after_the_other(registry: Registry) -> None:
    own = a_challenger(registry)
    add(registry, "a", "1.2", state="challenger")
    arrived, go = threading.Event(), threading.Event()

    def drain(name: str, number: str) -> bool:
        arrived.set()
        return go.wait(10)

    first = TorchServeRollout(registry, own.torchserve.management, drain)
    threads = [threading.Thread(target=first.promote, args=("a", "1.1"))]
    threads[0].start()
    assert arrived.wait(10)
    threads.append(threading.Thread(target=own.rollout.promote, args=("a", "1.2")))
    threads[1].start()
    threads[1].join(0.3)
    assert own.torchserve.changes == ["register a 1.1", "default a 1.1"]
    go.set()
    for thread in threads:
        thread.join()
    second = ["register a 1.2", "default a 1.2", "drain a 1.1", "unregister a 1.1"]
    assert own.torchserve.changes == ["register a 1.1", "default a 1.1", "unregister a 1.0", *second]
    assert own.states == {"1.0": "retired", "1.1": "retired", "1.2": "champion"}


def test_converging_serves_a_new_champion_as_promoting_does(registry: Registry) -> None:
    add(registry, "a", "1.0", state="retired")
    add(registry, "a", "1.1", state="champion")
    own = Changes(registry, FakeTorchServe({"a": ["1.0"]}))
    own.rollout.converge()
    assert own.torchserve.changes == ["register a 1.1", "default a 1.1", "drain a 1.0", "unregister a 1.0"]
    assert own.torchserve.versions == {"a": ["1.1"]}
    assert own.said == ["registered a 1.1", "removed a 1.0"]


def test_unchanged_champions_are_not_touched(registry: Registry) -> None:
    add(registry, "a", "1.0")
    add(registry, "b", "1.4")
    add(registry, "b", "1.5", state="challenger")
    own = Changes(registry, FakeTorchServe({"a": ["1.0"], "b": ["1.4"]}))
    own.rollout.converge()
    assert own.torchserve.changes == []
    assert own.said == []


def test_a_model_that_is_new_is_registered(registry: Registry) -> None:
    add(registry, "a")
    add(registry, "b")
    own = Changes(registry, FakeTorchServe({"a": ["1.0"]}))
    own.rollout.converge()
    assert own.torchserve.changes == ["register b 1.0"]


def test_every_other_version_goes_but_those_to_keep_and_a_served_champion_is_not_loaded_again(
    registry: Registry,
) -> None:
    for number in ("1.0", "1.1", "1.3"):
        add(registry, "a", number, state="retired")
    add(registry, "a", "1.2")
    own = Changes(registry, FakeTorchServe({"a": ["1.0", "1.1", "1.2", "1.3"]}))
    own.rollout.converge(keep=[("a", "1.3"), ("b", "1.0")])
    drained = ["drain a 1.0", "unregister a 1.0", "drain a 1.1", "unregister a 1.1"]
    assert own.torchserve.changes == ["default a 1.2", *drained]
    own.rollout.converge()
    assert own.torchserve.versions == {"a": ["1.2"]}


def test_models_that_the_registry_does_not_know_are_left_alone(registry: Registry) -> None:
    add(registry, "a")
    own = Changes(registry, FakeTorchServe({"a": ["1.0"], "a-tried": ["1.0"]}))
    own.rollout.converge()
    assert own.torchserve.versions == {"a": ["1.0"], "a-tried": ["1.0"]}


def test_a_refused_archive_is_told_and_its_old_version_goes_on(registry: Registry) -> None:
    alter(add(registry, "a", "1.1"))
    add(registry, "b", "1.1")
    own = Changes(registry, FakeTorchServe({"a": ["1.0"], "b": ["1.1"]}))
    own.rollout.converge()
    assert own.torchserve.versions == {"a": ["1.0"], "b": ["1.1"]}
    (said,) = own.said
    assert said.startswith(f"refused a 1.1: {registry.store}/a-1.1.mar has SHA-256")


def test_a_champion_that_torchserve_refuses_keeps_no_other_model_from_converging(registry: Registry) -> None:
    add(registry, "a", "1.1")
    add(registry, "b", "1.1")
    own = Changes(registry, FakeTorchServe({"a": ["1.0"], "b": ["1.0"]}, broken=["a-1.1.mar"]))
    add(registry, "b", "1.0", state="retired")
    with pytest.raises(LaunchError, match=r"^a cannot be brought up to date: its workers do not start: .* load$"):
        own.rollout.converge()
    assert own.torchserve.versions == {"a": ["1.0"], "b": ["1.1"]}


def test_draining_ends_once_the_old_version_has_answered_its_own_example(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "DRAIN_PAUSE", 0.0)
    add(registry, "a", "1.0", state="retired")
    asked = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json={"prediction": 12})

    with httpx.Client(transport=httpx.MockTransport(handle)) as client:
        rollout.drain(registry, client, "http://server", "", "a", "1.0")
        assert asked == ["http://server/predictions/a/1.0"]
        (registry.store / "a-1.0.mar").unlink()
        rollout.drain(registry, client, "http://server", "", "a", "1.0")  # whose example is gone
        rollout.drain(registry, client, "http://server", "", "a", "0.9")  # which was never registered
    assert len(asked) == 1


def test_a_version_that_is_still_asked_by_its_number_stays_until_it_is_not(registry: Registry) -> None:
    own = a_challenger(registry)
    own.asked.add(("a", "1.0"))
    own.rollout.promote("a", "1.1")
    own.rollout.converge()
    assert own.torchserve.versions == {"a": ["1.1", "1.0"]}
    assert "a 1.0 is still asked by its number: it stays beside until nobody does" in own.said
    own.asked.clear()
    own.rollout.converge()
    assert own.torchserve.versions == {"a": ["1.1"]}


@pytest.mark.parametrize(("others", "quiet"), [(0, True), (3, False), (None, True)])
def test_the_frontends_count_tells_whether_a_version_is_still_asked(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, others: int | None, quiet: bool
) -> None:
    monkeypatch.setattr(rollout, "DRAIN_PAUSE", 0.0)
    add(registry, "a", "1.0", state="retired")
    count = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal count
        if request.url.host == "server":
            count += 1 + (others or 0)
            return httpx.Response(200, json={"prediction": 12})
        if others is None:  # as on another machine, whose port is closed
            raise httpx.ConnectError("refused")
        labels = 'model_name="{}",model_version="{}",hostname="h"'
        lines = [("a", "1.0", count), ("a", "default", 7 * count), ("b", "1.0", 7 * count)]
        text = "".join(f"{rollout.REQUESTS}{{{labels.format(*line)}}} {line[2]}.0\n" for line in lines)
        return httpx.Response(200, text=f"# TYPE {rollout.REQUESTS} counter\n{text}")

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        assert rollout.drain(registry, client, "http://server", "http://metrics", "a", "1.0") is quiet


def test_a_language_model_goes_when_it_has_ended_the_answers_that_it_had_begun(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "DRAIN_PAUSE", 0.01)
    register_echo(registry.store, "chat", 1, 1, 0)
    running = iter(("2", "1", "0"))
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if request.url.path.endswith("/v1/models"):
            return httpx.Response(200, json={}, headers={"X-Running-Requests": next(running)})
        return httpx.Response(200, json=registry.champion_contract("chat").example.response)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        rollout.drain(registry, client, "http://host", "", "chat", "1.0")
    assert asked[1:] == ["/predictions/chat/1.0/v1/models"] * 3
