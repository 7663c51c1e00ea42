"""The files of dead workers are added up: no count is lost or counted twice, wherever that is broken off."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from handlers.observe.metrics_folder import ROOM, hold_lock
from serving.metrics.exporter import WorkerMetrics
from serving.metrics.metric_files import JOURNAL, add_up_dead

WORKERS = 40


def count(folder: Path, kind: str, pid: int, value: float, version: str = "1.0", name: str = "requests") -> Path:
    """Leave a worker's file."""
    path = folder / f"{kind}_{pid}.db"
    file = MmapedDict(str(path))
    labels = {"model": "linear", "version": version}
    file.write_value(mmap_key(name, f"{name}_total", [*labels], [*labels.values()], "help"), value, 0.0)
    file.close()
    return path


def total(folder: Path, version: str = "1.0") -> float:
    """What the exporter shows."""
    registry = CollectorRegistry()
    registry.register(WorkerMetrics(folder))
    lines = generate_latest(registry).decode().splitlines()
    mark = f'version="{version}"'
    return sum(float(line.split()[-1]) for line in lines if line.startswith("requests_total{") and mark in line)


def test_many_dead_workers_leave_one_file_a_version_and_kind_and_no_count_changes(tmp_path: Path) -> None:
    for pid in range(1, WORKERS + 1):
        count(tmp_path, "counter", pid, pid, version=f"1.{pid % 2}")
        count(tmp_path, "histogram", pid, pid, name="other")
    sums = [total(tmp_path, version) for version in ("1.0", "1.1")]
    assert sums == [sum(range(2, WORKERS + 1, 2)), sum(range(1, WORKERS + 1, 2))]
    assert sorted(path.name.split("_")[0] for path in tmp_path.iterdir()) == ["counter", "counter", "histogram"]
    count(tmp_path, "counter", 7, 5)
    assert total(tmp_path) == sums[0] + 5
    assert len(list(tmp_path.iterdir())) == 3
    assert all(path.stat().st_size == ROOM for path in tmp_path.iterdir())


def test_a_worker_that_lives_keeps_its_file(tmp_path: Path) -> None:
    lock = hold_lock(tmp_path)
    own = count(tmp_path, "counter", os.getpid(), 3)
    for pid in (1, 2):
        count(tmp_path, "counter", pid, 1)
    assert total(tmp_path) == 5
    assert own.exists()
    lock.close()


def test_a_damaged_file_stays_and_is_no_part_of_a_sum(tmp_path: Path) -> None:
    for pid in (1, 2, 3):
        count(tmp_path, "counter", pid, 1)
    damaged = tmp_path / "counter_2.db"
    damaged.write_bytes(b"\xff" * 100)
    assert total(tmp_path) == 2
    assert damaged.read_bytes() == b"\xff" * 100


@pytest.mark.parametrize("broken_off", range(9))
def test_an_addition_that_is_broken_off_anywhere_is_finished_by_the_next_scrape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_off: int
) -> None:
    """Each step that changes the folder may be the last one of a process that is killed."""
    for pid in (1, 2, 3):
        count(tmp_path, "counter", pid, pid)
    left = [broken_off]

    def counted(step: Callable[..., object]) -> Callable[..., object]:
        def take(*arguments: object, **options: object) -> object:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return step(*arguments, **options)

        return take

    with monkeypatch.context() as patch:
        patch.setattr("serving.metrics.metric_files.os.replace", counted(os.replace))
        for name in ("write_bytes", "write_text", "unlink"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        try:
            add_up_dead(tmp_path)
        except KeyboardInterrupt:
            assert broken_off < 8
    assert total(tmp_path) == 6
    assert [path.suffix for path in tmp_path.iterdir()] == [".db"]
    assert not (tmp_path / JOURNAL).exists()


def test_a_folder_that_cannot_be_written_is_shown_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for pid in (1, 2):
        count(tmp_path, "counter", pid, 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert total(tmp_path) == 2
    assert len(list(tmp_path.iterdir())) == 2
