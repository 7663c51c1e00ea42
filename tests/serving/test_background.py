import httpx
import psutil
import pytest

from serving import background
from serving.background import synchronize
from serving.launch import LaunchError
from serving.management import Management
from serving.registry import Registry
from serving.settings import Settings
from tests.serving.stores import add, alter
from tests.serving.torchserve import URL, FakeTorchServe


def bring_up_to_date(registry: Registry, torchserve: FakeTorchServe) -> list[str]:
    """What is said while it happens; draining is noted among the server's changes."""
    said: list[str] = []

    def drain(name: str, number: str) -> None:
        assert torchserve.versions[name][0] != number, "it still gets new requests"
        torchserve.changes.append(f"drain {name} {number}")

    synchronize(registry, torchserve.management, drain, said.append)
    return said


def test_a_new_champion_is_ready_and_the_default_before_the_old_one_is_drained_and_goes(registry: Registry) -> None:
    add(registry, "a", "1.0", state="retired")
    add(registry, "a", "1.1", state="champion")
    torchserve = FakeTorchServe({"a": ["1.0"]})
    said = bring_up_to_date(registry, torchserve)
    assert torchserve.changes == ["register a 1.1", "default a 1.1", "drain a 1.0", "unregister a 1.0"]
    assert torchserve.versions == {"a": ["1.1"]}
    assert said == ["registered a 1.1", "removed a 1.0"]


def test_unchanged_champions_are_not_touched(registry: Registry) -> None:
    add(registry, "a", "1.0")
    add(registry, "b", "1.4")
    add(registry, "b", "1.5", state="challenger")
    torchserve = FakeTorchServe({"a": ["1.0"], "b": ["1.4"]})
    assert bring_up_to_date(registry, torchserve) == []
    assert torchserve.changes == []


def test_a_model_that_is_new_is_registered(registry: Registry) -> None:
    add(registry, "a")
    add(registry, "b")
    torchserve = FakeTorchServe({"a": ["1.0"]})
    bring_up_to_date(registry, torchserve)
    assert torchserve.changes == ["register b 1.0"]


def test_every_old_version_goes_and_a_registered_champion_is_not_registered_again(registry: Registry) -> None:
    add(registry, "a", "1.2")
    torchserve = FakeTorchServe({"a": ["1.0", "1.1", "1.2"]})  # as an interrupted change leaves it
    bring_up_to_date(registry, torchserve)
    assert torchserve.changes == [
        "default a 1.2",
        "drain a 1.0",
        "unregister a 1.0",
        "drain a 1.1",
        "unregister a 1.1",
    ]


def test_a_refused_archive_is_left_out_and_its_old_version_goes_on(registry: Registry) -> None:
    alter(add(registry, "a", "1.1"))
    add(registry, "b", "1.1")
    torchserve = FakeTorchServe({"a": ["1.0"], "b": ["1.1"]})
    bring_up_to_date(registry, torchserve)
    assert torchserve.changes == []
    assert torchserve.versions == {"a": ["1.0"], "b": ["1.1"]}


def test_what_torchserve_refuses_is_a_launch_error_in_its_words_and_the_old_version_stays(registry: Registry) -> None:
    add(registry, "a", "1.1")

    def refuse(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            version = [{"modelVersion": "1.0"}]
            return httpx.Response(
                200, json={"models": [{"modelName": "a"}]} if "/a" not in request.url.path else version
            )
        assert request.method == "POST"
        return httpx.Response(500, json={"message": "Worker died."})

    management = Management(URL, httpx.Client(transport=httpx.MockTransport(refuse)))
    with pytest.raises(LaunchError, match="cannot be brought up to date: POST /models: 500 Worker died."):
        synchronize(registry, management, lambda name, number: pytest.fail("drained"), lambda text: None)


def test_draining_ends_once_the_old_version_has_answered_its_own_example(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "DRAIN_PAUSE", 0.0)
    add(registry, "a", "1.0", state="retired")
    asked = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json={"prediction": 12})

    with httpx.Client(transport=httpx.MockTransport(handle)) as client:
        background._drain(registry, client, "http://server", "a", "1.0")
        assert asked == ["http://server/predictions/a/1.0"]
        (registry.store / "a-1.0.mar").unlink()
        background._drain(registry, client, "http://server", "a", "1.0")  # whose example is gone
        background._drain(registry, client, "http://server", "a", "0.9")  # which was never registered
    assert len(asked) == 1


def test_nothing_is_found_and_nothing_stopped_where_nothing_runs(settings: Settings) -> None:
    assert background.find(settings) is None
    assert background.stop(settings) == 0


def test_a_frontend_is_found_by_its_temporary_folder_and_stopped(settings: Settings, frontend: int) -> None:
    assert background.find(Settings(run_dir=settings.run_dir / "other")) is None
    found = background.find(settings)
    assert found is not None
    assert found.pid == frontend
    assert background.memory(found)["frontend"] > 0
    assert background.stop(settings) == 1
    assert not psutil.pid_exists(frontend)


def test_a_torchserve_that_ends_at_once_is_an_error_with_the_end_of_its_log(settings: Settings) -> None:
    with pytest.raises(LaunchError, match=r"(?s)TorchServe ended. The end of .*/torchserve.log:\n.*nothing to serve"):
        background.start(settings, poll=0.05)
    assert background.find(settings) is None
