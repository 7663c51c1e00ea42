"""What ``MARLOOP_BIND_ADDRESS`` opens, as README says: the inference port and the monitor, on each host."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from msgspec.structs import replace

from serving.hosts.direct.background import command
from serving.hosts.torchserve.launch import configuration
from serving.processes import end
from serving.security.folders import make_private, make_run_folder
from serving.settings import ROOT, Settings, on_free_ports
from tests.support.waiting import wait_until

EVERYBODY, OWN = "0.0.0.0", "127.0.0.1"


@pytest.fixture
def opened(settings: Settings) -> Settings:
    """The settings of a user who sets this address and no other."""
    own = on_free_ports(settings.model_store, settings.run_dir)
    make_private(own.temporary)
    make_run_folder(own.run_dir)
    return replace(own, bind_address=EVERYBODY, metrics_dir=settings.metrics_dir, open=True, grpc=True)


@contextmanager
def running(settings: Settings, *arguments: str) -> Iterator[psutil.Process]:
    environ = os.environ | settings.to_environment()
    log = settings.run_dir / "log"
    command = [sys.executable, *arguments]
    with (
        log.open("wb") as stream,
        psutil.Popen(command, cwd=ROOT, env=environ, stdout=stream, stderr=stream) as process,
    ):
        try:
            yield process
        finally:
            end([process])


def listening(process: psutil.Process) -> set[tuple[str, int]]:
    """Return where a process and its children listen; both forms of every address are one."""
    family = [process, *process.children(recursive=True)]
    found = [c.laddr for one in family for c in one.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    return {(EVERYBODY if address.ip == "::" else address.ip, address.port) for address in found}


def test_torchserve_answers_predictions_there_and_all_else_on_loopback(opened: Settings) -> None:
    lines = [line for line in configuration(opened, []).splitlines() if "=" in line]
    addresses = {name: value for name, _, value in (line.partition("=") for line in lines) if "address" in name}
    assert addresses == {
        "inference_address": f"http://{EVERYBODY}:{opened.inference_port}",
        "management_address": f"unix:{opened.socket}",
        "metrics_address": f"http://{OWN}:{opened.metrics_port}",
        "grpc_inference_address": OWN,
        "grpc_management_address": OWN,
    }


def test_a_worker_of_the_direct_host_opens_its_two_ports_for_predictions(opened: Settings) -> None:
    pytest.importorskip("grpc")
    expected = {(EVERYBODY, opened.inference_port), (EVERYBODY, opened.grpc_port)}
    with running(opened, *command(opened, "direct-1")[1:]) as process:
        wait_until(lambda: len(listening(process)) >= len(expected))
        assert listening(process) == expected


@pytest.mark.parametrize(
    ("arguments", "address", "port"),
    [
        (("serving", "exporter"), OWN, "exporter_port"),
        (("serving", "management"), OWN, "management_port"),
        (("monitoring", "serve"), EVERYBODY, "monitor_port"),
    ],
    ids=["exporter", "management", "monitor"],
)
def test_beside_a_host_the_monitor_alone_is_opened(
    opened: Settings, arguments: tuple[str, str], address: str, port: str
) -> None:
    with running(opened, "-m", *arguments) as process:
        wait_until(lambda: bool(listening(process)))
        assert listening(process) == {(address, getattr(opened, port))}
