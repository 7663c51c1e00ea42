"""gRPC of the direct host as a user runs it: an unmodified client, every worker, and a port that is taken."""

import importlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from serving.hosts.direct import background
from serving.hosts.host import LaunchError
from serving.settings import Settings
from tests.clients import environments
from tests.integration.conftest import Server, serve, settings_for

pytest.importorskip("grpc", reason="grpcio is not installed: pip install -e '.[grpc]'")
grpc: Any = importlib.import_module("grpc")
RIGHT = pytest.approx([2, 12], abs=0.05)


def settings_with_grpc(store: Path, folder: str) -> Settings:
    return replace(settings_for(store, Path(folder), host="direct"), grpc=True)


@pytest.fixture(scope="module")
def host(store: Path) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder, serve(settings_with_grpc(store, folder)) as running:
        yield running


@pytest.fixture(scope="module")
def triton(host: Server) -> Any:
    address = f"127.0.0.1:{host.settings.grpc_port}"
    return environments.run("mlserver", "triton_grpc.py", address, "linear", host.contract("linear").version)


def test_tritons_client_is_answered_whatever_it_sends(host: Server, triton: Any) -> None:
    assert [triton[name] for name in ("plain", "column", "version", "options", "compressed")] == [RIGHT] * 5
    assert triton["label"][0] in host.contract("fashion").labels
    assert [text.split(":")[2] in host.contract("fashion").labels for text in triton["classes"][0]] == [True] * 3


def test_tritons_client_prints_what_was_wrong(triton: Any) -> None:
    for name, (status, words) in {
        "wrong shape": ("INVALID_ARGUMENT", "x has shape [1, 2] at $.inputs[0].shape; expected: shape [-1]"),
        "unknown output": ("INVALID_ARGUMENT", "unknown output 'z' at $.outputs[0].name; expected: one of y"),
        "unknown model": ("NOT_FOUND", "there is no model 'another' here"),
        "unknown version": ("NOT_FOUND", "there is no version '9.9' of linear here"),
    }.items():
        assert triton[name]["status"] == f"StatusCode.{status}"
        assert words in triton[name]["message"]


def test_tritons_client_learns_of_health_and_metadata(host: Server, triton: Any) -> None:
    assert [triton[name] for name in ("live", "ready", "model ready", "another ready")] == [True, True, True, False]
    assert triton["server"]["name"] == "marloop"
    assert triton["metadata"]["versions"] == [host.contract("linear").version]
    assert triton["metadata"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1"]}]


def test_every_worker_answers_the_health_protocol(host: Server) -> None:
    for _ in range(4 * background.worker_count()):  # the system hands each connection to one of them
        with grpc.insecure_channel(
            f"127.0.0.1:{host.settings.grpc_port}", [("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10) == b"\x08\x01"


def test_a_port_that_is_taken_is_an_error_that_names_its_setting(store: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_with_grpc(store, folder)
        with (
            socket.create_server((settings.bind_address, settings.grpc_port), reuse_port=True),
            pytest.raises(LaunchError, match="in use; set MARLOOP_GRPC_PORT"),
        ):
            background.start(settings)


def test_a_worker_without_grpc_does_not_import_it() -> None:
    code = "import sys, serving.hosts.direct.worker; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
