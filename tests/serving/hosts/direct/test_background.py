"""The direct host is found and stopped by the folder of its run; what it does not serve it names."""

import subprocess
import sys

import pytest
from msgspec.structs import replace

from serving import archive
from serving.hosts.direct import background
from serving.hosts.host import LaunchError
from serving.registry import Registry
from serving.settings import Settings
from tests.support.chat_archive import register_echo
from tests.support.serving.stores import add


def test_nothing_is_found_and_nothing_stopped_where_nothing_runs(settings: Settings) -> None:
    assert background.find(settings) is None
    assert background.memory(settings) == {"workers": 0.0}
    assert background.stop(settings) == 0


def test_a_worker_that_nobody_supervises_is_found_by_the_folder_of_its_run_and_stopped(settings: Settings) -> None:
    command = background.command(settings, "direct-1")
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)", *command[2:]]
    with subprocess.Popen(sleeper) as process:
        assert [worker.pid for worker in background.find_workers(settings)] == [process.pid]
        assert background.find(replace(settings, run_dir=settings.run_dir / "other")) is None
        assert background.stop(settings) == 1
        process.wait(10)


def test_with_an_empty_store_nothing_starts(settings: Settings) -> None:
    with pytest.raises(LaunchError, match="nothing to serve: .* holds no champion"):
        background.start(settings)
    assert background.find(settings) is None


def test_an_archive_with_a_handler_of_its_own_is_refused_with_the_way_out(registry: Registry) -> None:
    path = add(registry)
    contract = archive.read_file(path, archive.CONTRACT)
    manifest = b'{"model": {"handler": "predict.py:handle"}}'
    path.write_bytes(archive.zipped({archive.CONTRACT: contract, archive.MANIFEST: manifest}))
    fault = background.unserved(registry)["doubling"]
    assert "predict.py is code of the archive" in fault
    assert "make up HOST=torchserve" in fault
    assert "image, tabular, text" in fault


def test_a_language_model_is_a_part_of_its_own(settings: Settings, registry: Registry) -> None:
    register_echo(registry.store, "chat", 1, 1, 0.0)
    assert background.unserved(registry) == {}
    assert background.parts(settings)[-1] == "direct-model-chat"
    command = background.command(settings, "direct-model-chat")
    assert command[command.index("--only") + 1] == "chat"
    assert "--only" not in background.command(settings, "direct-1")
