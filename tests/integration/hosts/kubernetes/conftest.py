"""An engine with the image, and archives of one model that its pods serve."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import archive
from serving.registry import Registry
from tests.compose.docker import Docker
from tests.integration.conftest import put
from tests.integration.hosts.kubernetes.deployment import Deployment, deploying, engine


@pytest.fixture(scope="package")
def docker() -> Docker:
    return engine()


@pytest.fixture
def deployment(docker: Docker, tmp_path: Path) -> Iterator[Deployment]:
    yield from deploying(docker, tmp_path / "pods")


@pytest.fixture(scope="package")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Archives of a model by version: two that answer alike, and one whose graph is broken."""
    store = put(tmp_path_factory.mktemp("rollout") / "store", "linear")
    number, version = Registry(store).champion("linear")
    first = store / version.archive
    contract = json.loads(archive.read_file(first, archive.CONTRACT))
    changed = {archive.CONTRACT: json.dumps(contract | {"version": "7.7"}).encode()}
    second, broken = store / "second.mar", store / "broken.mar"
    second.write_bytes(archive.rewritten(first.read_bytes(), changed))
    broken.write_bytes(archive.rewritten(second.read_bytes(), {archive.ONNX: b"no graph"}))
    for path in (first, second, broken):
        path.chmod(0o644)
    return {number: first, "7.7": second, "broken": broken}
