"""A registry in a folder of the test's own."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.registry import Registry
from serving.settings import Settings


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "store")


@pytest.fixture
def settings(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings that touch nothing outside the test's folders; nothing listens on port 1."""
    folders = {"model_store": registry.store, "run_dir": tmp_path / "run", "metrics_dir": tmp_path / "metrics"}
    with tempfile.TemporaryDirectory() as short:  # as the path of a socket in it must be
        monkeypatch.setenv("TMPDIR", short)
        monkeypatch.setattr(tempfile, "tempdir", None)  # so that the variable is read again
        yield Settings(inference_port=1, management_port=1, exporter_port=1, **folders)  # type: ignore[arg-type]


@pytest.fixture
def frontend(settings: Settings) -> Iterator[int]:
    """A process with the mark of the settings' TorchServe, which answers nothing; its id."""
    mark = f"-Djava.io.tmpdir={settings.temporary}"
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", mark]) as process:
        yield process.pid
        process.kill()
