"""Changes of versions on a Ray Serve that a test plays: what does not load is taken out, and the others stay."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from serving.hosts.host import LaunchError
from serving.hosts.ray import rollout
from serving.hosts.ray.cluster import Deployed, Deployment, Replica, ServeApi
from serving.hosts.ray.keeper import Keeper
from serving.hosts.ray.rollout import RayRollout
from serving.hosts.ray.settings import Place, RaySettings
from serving.readiness import Readiness
from serving.registry import Registry, file_sha256
from serving.security.folders import make_private
from serving.settings import Settings
from tests.support.serving.stores import add, alter

ERROR = "Deploying app failed:\nTraceback\n  RuntimeError: doubling 1.1: answered 13, not 12"


class Serve(ServeApi):
    """Runs what it is given, but versions that are broken."""

    def __init__(self, broken: set[str]) -> None:
        self.broken, self.configs = broken, [dict[str, Any]()]
        self.joined: list[int] = []  # machines at each look; -1 where the head does not answer

    def lives(self) -> bool:
        return True

    def applications(self) -> dict[str, Deployed]:
        return {entry["name"]: self._one(entry) for entry in self.configs[-1].get("applications", [])}

    def count_nodes(self) -> int:
        if (count := self.joined.pop(0)) < 0:
            raise LaunchError("Ray's head does not say which machines there are")
        return count

    def deploy(self, config: Mapping[str, Any]) -> None:
        self.configs.append(dict(config))

    def names(self) -> list[str]:
        return sorted(self.applications())

    def _one(self, entry: dict[str, Any]) -> Deployed:
        if entry["name"] in self.broken:
            return Deployed("DEPLOY_FAILED", ERROR, entry)
        return Deployed("RUNNING", "", entry, {"replica": Deployment("HEALTHY", "", [Replica("RUNNING")])})


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = Place(Settings(run_dir=tmp_path / "run", model_store=tmp_path / "store"))
    make_private(place.settings.temporary)
    return place


@pytest.fixture
def registry(place: Place, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """One model with a champion, and a version that waits."""
    monkeypatch.setattr("serving.archive.read_config", lambda archive: {})
    monkeypatch.setattr(rollout, "ask", lambda client, url, contract, patience: Readiness("", "", True, "", 1.0))
    registry = Registry(place.settings.model_store)
    add(registry)
    add(registry, number="1.1", state="challenger")
    return registry


@pytest.fixture
def serve() -> Serve:
    return Serve(set())


@pytest.fixture
def changes(registry: Registry, place: Place, serve: Serve) -> RayRollout:
    changes = RayRollout(registry, place, RaySettings(), serve, {}, "http://127.0.0.1:1")
    changes.converge()
    return changes


def test_the_champions_are_deployed_and_the_front_knows_them(changes: RayRollout, serve: Serve, place: Place) -> None:
    assert serve.names() == ["doubling-1.0"]
    assert "doubling 1.0\n" in place.front_map.read_text()


def test_the_first_versions_are_deployed_once_the_machines_are_there(
    registry: Registry, place: Place, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "POLL", 0.0)
    serve.joined = [-1, 1, 2, 3]
    changes = RayRollout(registry, place, RaySettings(nodes=3), serve, {}, "http://127.0.0.1:1")
    changes.converge()
    assert serve.joined == []
    assert serve.names() == ["doubling-1.0"]
    changes.converge()  # a machine that is missing later keeps nothing from being served


def test_machines_that_do_not_join_are_told_with_the_command_for_them(
    registry: Registry, place: Place, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "TIMEOUT", -1.0)
    serve.joined = [2]
    changes = RayRollout(registry, place, RaySettings(nodes=3), serve, {}, "http://127.0.0.1:1")
    with pytest.raises(LaunchError, match=r"2 of MARLOOP_RAY_NODES=3 .* `marloop ray-node 127\.0\.0\.1:6300`"):
        changes.converge()
    assert serve.names() == []


def test_a_version_beside_leaves_the_champion(changes: RayRollout, serve: Serve, place: Place) -> None:
    changes.beside("doubling", "1.1")
    assert serve.names() == ["doubling-1.0", "doubling-1.1"]
    assert "doubling 1.0\n" in place.front_map.read_text()
    changes.withdraw("doubling", "1.1")
    assert serve.names() == ["doubling-1.0"]


def test_a_promotion_deploys_first_and_takes_the_former_one_out_last(
    changes: RayRollout, serve: Serve, place: Place, registry: Registry
) -> None:
    before = len(serve.configs)
    assert changes.promote("doubling", "1.1") == "1.0"
    names = [sorted(entry["name"] for entry in config["applications"]) for config in serve.configs[before:]]
    assert names == [["doubling-1.0", "doubling-1.1"], ["doubling-1.1"]]
    assert registry.champion("doubling").number == "1.1"
    assert "doubling 1.1\n" in place.front_map.read_text()


def test_a_broken_version_is_taken_out_again_and_the_champion_stays(
    changes: RayRollout, serve: Serve, place: Place, registry: Registry
) -> None:
    serve.broken.add("doubling-1.1")
    with pytest.raises(LaunchError, match=r"doubling 1\.1 does not load: RuntimeError: doubling 1\.1: answered 13"):
        changes.promote("doubling", "1.1")
    assert serve.names() == ["doubling-1.0"]
    assert registry.champion("doubling").number == "1.0"
    assert "doubling 1.0\n" in place.front_map.read_text()


def test_an_altered_archive_reaches_no_machine(changes: RayRollout, serve: Serve, registry: Registry) -> None:
    alter(registry.store / "doubling-1.1.mar")
    before = len(serve.configs)
    with pytest.raises(Exception, match="SHA-256"):
        changes.promote("doubling", "1.1")
    assert len(serve.configs) == before


def test_a_champion_that_does_not_load_leaves_the_former_one_and_the_other_models(
    changes: RayRollout, serve: Serve, place: Place, registry: Registry
) -> None:
    add(registry, "tripling")
    registry.promote("doubling", "1.1")
    serve.broken.add("doubling-1.1")
    with pytest.raises(LaunchError, match=r"doubling 1\.1 does not load"):
        changes.converge()
    assert serve.names() == ["doubling-1.0", "tripling-1.0"]
    assert {"doubling 1.0", "tripling 1.0"} <= set(place.front_map.read_text().splitlines())


def test_an_application_is_never_changed_in_place(changes: RayRollout, serve: Serve, registry: Registry) -> None:
    path = registry.store / "doubling-1.0.mar"
    path.write_bytes(path.read_bytes() + b" ")
    with registry.change() as models:
        models["doubling"]["1.0"].sha256 = file_sha256(path)
    before = serve.configs[-1]
    with pytest.raises(LaunchError, match="registered anew"):
        changes.converge()
    assert serve.configs[-1] == before


def test_what_serve_has_forgotten_is_deployed_again(
    changes: RayRollout, serve: Serve, place: Place, registry: Registry
) -> None:
    keeper = Keeper(place, registry, serve, changes)
    assert not keeper.look()
    serve.configs.append({})
    assert keeper.look()
    assert serve.names() == ["doubling-1.0"]
    assert not keeper.look()


def test_a_champion_of_the_registry_is_deployed_and_one_that_does_not_load_is_not_tried_for_ever(
    changes: RayRollout, serve: Serve, place: Place, registry: Registry
) -> None:
    keeper = Keeper(place, registry, serve, changes)
    registry.promote("doubling", "1.1")
    serve.broken.add("doubling-1.1")
    with pytest.raises(LaunchError):
        keeper.look()
    count = len(serve.configs)
    assert not keeper.look()
    assert len(serve.configs) == count
    serve.broken.clear()
    registry.promote("doubling", "1.0")
    registry.promote("doubling", "1.1")
    assert keeper.look()
    assert serve.names() == ["doubling-1.1"]


def test_a_model_that_was_removed_goes(changes: RayRollout, serve: Serve, registry: Registry) -> None:
    add(registry, "tripling")
    changes.converge()
    registry.remove("doubling", None)
    changes.converge()
    assert serve.names() == ["tripling-1.0"]
