"""Ports of copies that start side by side."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving import ports
from serving.ports import FIRST, KEPT, free_ports, free_span

SPAN = 20


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the ports that were given: none of another test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"marloop-ports-{os.getuid()}"


@pytest.fixture
def few(kept: Path, monkeypatch: pytest.MonkeyPatch) -> range:
    """All ports that can be given: some more than a span needs."""
    first = free_span(2 * SPAN - 1)
    kept.unlink()
    monkeypatch.setattr(ports, "FIRST", first)
    monkeypatch.setattr(ports, "_first_outgoing", lambda: first + 2 * SPAN - 1)
    return range(first, first + 2 * SPAN - 1)


def test_they_are_distinct_and_none_that_an_outgoing_connection_could_take() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="utf-8").split()[0])
    given = free_ports(200)
    assert len(set(given)) == 200
    assert min(given) >= FIRST
    assert max(given) < max(first, 32768)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.3", "0.0.0.0"])
def test_in_a_span_nothing_listens_on_any_address_of_this_machine(few: range, address: str) -> None:
    with contextlib.ExitStack() as stack:
        for port in few[: SPAN - 1]:
            stack.enter_context(socket.socket()).bind((address, port))
        assert free_span(SPAN) == few[SPAN - 1]


def test_a_port_is_given_to_one_process_of_those_that_ask_at_once(few: range, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys; from serving import ports; ports.FIRST = int(sys.argv[1]);"
        "ports._first_outgoing = lambda: int(sys.argv[2]); print(*ports.free_ports(9))"
    )
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())

    def ask(_: int) -> list[int]:
        command = [sys.executable, "-c", program, str(few.start), str(few.stop)]
        return [int(port) for port in subprocess.check_output(command, text=True).split()]

    with ThreadPoolExecutor(4) as pool:
        given = [port for own in pool.map(ask, range(4)) for port in own]
    assert len(set(given)) == 36
    assert set(given) <= set(few)


def test_a_port_that_no_server_took_is_given_again_later(few: range, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(free_ports(len(few))) == len(few)
    later = time.time() + KEPT + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert len(free_ports(len(few))) == len(few)


@pytest.mark.parametrize("left", [b"", b"{", b"[1]", b'{"1": "x"}', b"\xff"])
def test_a_file_that_no_write_finished_is_written_anew(few: range, kept: Path, left: bytes) -> None:
    kept.write_bytes(left)
    first = free_ports(SPAN)
    assert not set(first).intersection(free_ports(SPAN - 1))


def test_without_the_file_ports_are_free_all_the_same(kept: Path, tmp_path: Path) -> None:
    kept.symlink_to(tmp_path / "of-somebody-else")
    assert len(free_ports(3)) == 3
    assert not (tmp_path / "of-somebody-else").exists()
