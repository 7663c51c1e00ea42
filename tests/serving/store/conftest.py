"""Shared model stores for tests: on a real S3 server, and with the registry in a real PostgreSQL."""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from serving.registry import Registry
from serving.settings import ROOT, Settings
from serving.store.opening import open_registry
from tests.support.monitoring.databases import new_database, postgresql
from tests.support.serving.s3 import S3Server, s3_server

numbers = itertools.count()


@dataclass(frozen=True)
class SharedStore:
    """A shared store as the machines of a test see it.

    Attributes:
        environment: variables that name it.
    """

    url: str
    environment: Mapping[str, str]
    folder: Path

    def settings(self, machine: str = "a") -> Settings:
        """The settings of a machine, which has a folder of its own."""
        run_dir = {"MARLOOP_MODEL_STORE": self.url, "MARLOOP_RUN_DIR": str(self.folder / machine)}
        return Settings.from_environment({**self.environment, **run_dir})

    def registry(self, machine: str = "a") -> Registry:
        return open_registry(self.settings(machine), self.environment)

    def run(self, script: str, *arguments: object) -> subprocess.Popen[bytes]:
        """A process that has the store's variables, with ``registry(machine)`` at hand."""
        beginning = (
            "import os, sys, time\nfrom serving.settings import Settings\n"
            "from serving.registry import Version, file_sha256\nfrom serving.store.opening import open_registry\n"
            "def registry(machine):\n"
            f"    run_dir = {str(self.folder)!r} + '/' + machine\n"
            f"    names = {{'MARLOOP_MODEL_STORE': {self.url!r}, 'MARLOOP_RUN_DIR': run_dir}}\n"
            "    return open_registry(Settings.from_environment({**os.environ, **names}))\n"
        )
        command = [sys.executable, "-c", beginning + script, *map(str, arguments)]
        return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **self.environment})


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """The URL of a PostgreSQL server."""
    with postgresql() as url:
        yield url


@pytest.fixture
def on_s3(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SharedStore:
    """A store on S3, with its registry there."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    forget_clients()
    return SharedStore(s3.bucket(f"store-{next(numbers)}"), s3.environment, tmp_path)


@pytest.fixture
def in_database(request: pytest.FixtureRequest, tmp_path: Path) -> SharedStore:
    """A store in a folder that all machines reach, with its registry in PostgreSQL."""
    url = new_database(request.getfixturevalue("database"), f"registry{next(numbers)}")
    environment = {"MARLOOP_REGISTRY": "database", "DATABASE_URL": url.replace("+psycopg", "")}
    return SharedStore(f"file://{tmp_path / 'shared'}", environment, tmp_path)


@pytest.fixture(params=["on_s3", "in_database"])
def shared(request: pytest.FixtureRequest) -> SharedStore:
    store: SharedStore = request.getfixturevalue(request.param)
    return store


def forget_clients() -> None:
    """Have fsspec make a client for the endpoint of this test, not one of an earlier one."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
