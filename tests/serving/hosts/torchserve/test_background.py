import psutil
import pytest

from serving.hosts.host import LaunchError
from serving.hosts.torchserve import background
from serving.registry import Registry
from serving.settings import Settings
from tests.support.serving.stores import add


def test_nothing_is_found_and_nothing_stopped_where_nothing_runs(settings: Settings) -> None:
    assert background.find(settings) is None
    assert background.stop(settings) == 0


def test_a_frontend_is_found_by_its_temporary_folder_and_stopped(settings: Settings, frontend: int) -> None:
    assert background.find(Settings(run_dir=settings.run_dir / "other")) is None
    found = background.find(settings)
    assert found is not None
    assert found.pid == frontend
    assert background.memory(settings)["frontend"] > 0
    assert background.stop(settings) == 1
    assert not psutil.pid_exists(frontend)


def test_a_torchserve_that_ends_at_once_is_an_error_with_the_end_of_its_log(
    settings: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(registry)
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(LaunchError, match=r"(?s)TorchServe ended. The end of .*/torchserve.log:\n.*JAVA_HOME is"):
        background.start(settings, poll=0.05)
    assert background.find(settings) is None
