"""A worker starts and answers wherever its metrics cannot be written, and says once that they are lost.

Each worker is a process of its own, since what it must survive is a signal.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from handlers.observe.metrics_folder import FILES, ROOM, hold_folder
from serving.metrics.exporter import is_usable, without_metrics
from serving.settings import ROOT
from tests.support.handlers.models import LINE

# A service answers 50 requests as TorchServe has it do, with every label that a request can bring about.
WORKER = """
import logging, sys
from prometheus_client import CollectorRegistry
from handlers.observe.capture import Capture
from handlers.handler import ModelHandler
from handlers.formats.codec import Codec
from handlers.language.telemetry import LanguageTelemetry
from handlers.observe.logs import configure
from handlers.torchserve import Worker
from tests.support.handlers import wire
from tests.support.handlers.models import LINE, MAX_ROWS, Formula
configure()
worker, codec, registry = Worker(), Codec(LINE, MAX_ROWS), CollectorRegistry()
telemetry = worker.telemetry(LINE, codec.protocol, registry)
LanguageTelemetry(LINE, registry)
telemetry.loaded(0.5, "onnxruntime", "abc")
capture = Capture(LINE, None, registry, 1.0, 1.0)
handler = ModelHandler(LINE, Formula(LINE), codec, [telemetry, capture])
good, bad = wire.request({"x": 6}), wire.request({"x": "six"})
statuses = [response.status for _ in range(25) for response in handler.handle([good, bad])]
print("\\nanswered", statuses.count(200), statuses.count(400), flush=True)
sys.stdin.read()
"""


def serve(folder: Path, check: Callable[[int], None] = lambda pid: None) -> list[dict[str, str]]:
    """Let a worker with that folder answer, and return its log.

    Args:
        folder: of the metrics.
        check: is called with the worker's process id while it lives.
    """
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(folder), "PATH": ""}
    command = [sys.executable, "-c", WORKER]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        assert process.stdin
        lines = []
        for line in process.stdout:
            if line.startswith("answered"):
                assert line == "answered 25 25\n"
                check(process.pid)
                process.stdin.close()
            elif line.strip():
                lines.append(json.loads(line))
    assert process.returncode == 0
    return lines


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system in memory with options of the test's."""
    folders = []

    def mount(options: str) -> Path:
        folder = tmp_path / "mounted"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", str(folder)], check=True)


def lost(log: list[dict[str, str]]) -> str:
    """Why the metrics are lost, which is said once."""
    (line,) = [line for line in log if line["message"].startswith("serving without metrics")]
    assert (line["level"], line["model"], line["version"]) == ("ERROR", "line", "1.2")
    return line["message"]


def test_a_worker_with_a_folder_logs_nothing_and_has_all_its_room_at_once(tmp_path: Path) -> None:
    def check(pid: int) -> None:
        sizes = {path.name: path.stat() for path in tmp_path.glob("*.db")}
        assert set(sizes) == {f"{name}_{pid}.db" for name in FILES}
        assert all(size.st_size >= ROOM and size.st_blocks * 512 >= ROOM for size in sizes.values())
        assert without_metrics(tmp_path) == []

    assert serve(tmp_path, check) == []


def test_a_folder_that_is_missing_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    assert serve(folder, lambda pid: None) == []
    assert list(folder.glob("counter_*.db"))


@pytest.mark.parametrize("size", ["64k", "128k", "300k"])
def test_a_full_folder_costs_the_metrics_and_not_the_worker(size: str, mounted: Callable[[str], Path]) -> None:
    folder = mounted(f"size={size}")
    (folder / "other").write_bytes(bytes(60_000))

    def check(pid: int) -> None:
        assert without_metrics(folder) == [pid]
        assert not list(folder.glob("*.db"))

    assert "No space left" in lost(serve(folder, check))


def test_a_folder_that_takes_nothing_at_all(mounted: Callable[[str], Path]) -> None:
    folder = mounted("size=64k,nr_inodes=1")
    assert "No space left" in lost(serve(folder))


def test_a_folder_that_is_read_only(mounted: Callable[[str], Path]) -> None:
    folder = mounted("size=1m,ro")
    assert "Read-only" in lost(serve(folder))
    assert not is_usable(folder)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    assert "File exists" in lost(serve(path))
    assert not is_usable(path)


def hold(folder: Path) -> None:
    lock = hold_folder(folder, LINE)
    assert lock
    lock.close()


def test_what_another_process_of_the_same_number_left_is_kept_if_it_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    counter = folder / f"counter_{os.getpid()}.db"
    counter.write_bytes(b"\xff" * 100)
    hold(folder)
    assert "is damaged and made anew" in caplog.text
    assert counter.read_bytes() == bytes(counter.stat().st_size)
    whole = counter.read_bytes()[:-40] + b"counted" + bytes(33)
    counter.write_bytes(whole)
    hold(folder)
    assert counter.read_bytes() == whole
