"""A SQLite database whose file is damaged: told at the start and soon after, copied before, and brought back."""

import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from monitoring.__main__ import app
from monitoring.store.database import DatabaseError, StoreDamagedError
from monitoring.store.predictions import Store, open_store
from monitoring.store.sqlite.backup_task import BackupPolicy, BackupTask
from monitoring.store.sqlite.sqlite_file import Backups, FileFault, fault_of
from tests.monitoring.store.test_predictions import HOUR, NOW, label, prediction
from tests.support.monitoring.worlds import Monitor
from tests.support.serving.stores import add


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def cut_unevenly(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1000)


def empty_pages(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(4096)
        opened.write(bytes(file.stat().st_size - 4096))


def zero_the_head(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(bytes(4096))


def make_it_text(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(0)
        opened.write(b"these are notes of somebody's\n" * 10_000)


def remove(file: Path) -> None:
    file.unlink()


def replace(file: Path) -> None:
    other = file.with_name("other.db")
    open_store(f"sqlite:///{other}").close()
    other.replace(file)


DAMAGES = [cut, cut_unevenly, empty_pages, zero_the_head, make_it_text]


def filled(file: Path) -> Store:
    store = open_store(f"sqlite:///{file}")
    store.add_predictions(prediction(str(i)) for i in range(2000))
    with store.database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return store


@pytest.mark.parametrize("damage", DAMAGES)
def test_at_the_start_a_damaged_file_is_told_in_a_sentence_with_the_way_back(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    file = tmp_path / "monitor.db"
    filled(file).close()
    damage(file)
    with pytest.raises(DatabaseError, match=r"monitor\.db is damaged: .*marloop restore"):
        open_store(f"sqlite:///{file}")


@pytest.mark.parametrize("damage", [*DAMAGES, remove, replace])
def test_labels_are_not_acknowledged_by_a_monitor_whose_file_is_damaged(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    monitor = Monitor(tmp_path)
    add(monitor.models)
    store = monitor.store
    store.add_predictions(prediction(str(i)) for i in range(2000))
    with store.database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    assert store.database.watched
    store.database.watched.glance()  # as before each write
    damage(tmp_path / "monitor.db")
    keeper = BackupTask(store.database.watched, BackupPolicy(), CollectorRegistry(), lambda: NOW)
    if damage is empty_pages:  # which only a look at every page tells
        keeper.run()
        assert "is damaged" in keeper.fault
    refused = monitor.tell({"request_id": "a", "label": 1})
    assert refused.status_code == 503
    assert "marloop restore" in refused.json()["detail"]
    assert "nothing is kept" in refused.json()["detail"]
    with pytest.raises(StoreDamagedError):
        store.journal.record("doubling", "promoted", {}, NOW)


def test_a_newer_schema_and_other_files_are_told_without_a_traceback(tmp_path: Path) -> None:
    file = tmp_path / "monitor.db"
    store = filled(file)
    with store.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    store.close()
    with pytest.raises(DatabaseError, match="another version of Marloop"):
        open_store(f"sqlite:///{file}")
    folder = tmp_path / "folder.db"
    folder.mkdir()
    with pytest.raises(DatabaseError, match=r"folder\.db is damaged: it cannot be read: Is a directory"):
        open_store(f"sqlite:///{folder}")
    other = tmp_path / "other.db"
    foreign = sqlite3.connect(other)
    foreign.execute("CREATE TABLE jobs (song TEXT)")
    foreign.close()
    with pytest.raises(DatabaseError, match="table jobs already exists"):
        open_store(f"sqlite:///{other}")


def test_a_file_without_its_log_opens_with_what_was_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "monitor.db"
    store = filled(file)
    store.add_predictions([prediction("late")])
    copy = tmp_path / "copy" / "monitor.db"
    copy.parent.mkdir()
    copy.write_bytes(file.read_bytes())
    store.close()
    opened = open_store(f"sqlite:///{copy}")
    assert len(opened.predictions("flights")) == 2000
    opened.close()


def test_copies_are_made_while_others_write_and_the_newest_are_kept(tmp_path: Path) -> None:
    store = filled(tmp_path / "monitor.db")
    assert store.database.watched
    now = NOW
    keeper = BackupTask(store.database.watched, BackupPolicy(1, 2), metrics := CollectorRegistry(), lambda: now)
    stop = threading.Event()

    def write() -> None:
        i = 0
        while not stop.is_set():
            store.add_feedback([label(f"w{i}")])
            i += 1

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        for _ in range(4):
            keeper.run()
            keeper.run()  # is too early for another
            assert keeper.fault == ""
            now += HOUR
        stop.set()
        writing.result()
    copies = keeper.backups.list()
    assert [one.time for one in copies] == [NOW + 3 * HOUR, NOW + 2 * HOUR]
    assert metrics.get_sample_value("monitor_backup_timestamp_seconds") == (NOW + 3 * HOUR).timestamp()
    for one in copies:
        assert fault_of(one.path) is None
        assert one.path.stat().st_mode & 0o777 == 0o600
    assert {path.suffix for path in keeper.backups.folder.iterdir()} == {".db"}
    store.close()


def test_a_damaged_database_pushes_no_good_copy_out(tmp_path: Path) -> None:
    file = tmp_path / "monitor.db"
    store = filled(file)
    assert store.database.watched
    now = NOW
    keeper = BackupTask(store.database.watched, BackupPolicy(1, 1), metrics := CollectorRegistry(), lambda: now)
    keeper.run()
    cut(file)
    now += 2 * HOUR
    keeper.run()
    assert "it was cut from" in keeper.fault
    assert metrics.get_sample_value("monitor_database_damaged") == 1
    assert [one.time for one in keeper.backups.list()] == [NOW]
    with pytest.raises(FileFault):
        Backups(file, 1).make(now)
    store.close()


def test_one_command_brings_the_newest_good_copy_back_and_keeps_the_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "monitor.db"
    for name, value in {"RUN_DIR": str(tmp_path), "MONITOR_PORT": "1", "MODEL_STORE": str(tmp_path / "m")}.items():
        monkeypatch.setenv(f"MARLOOP_{name}", value)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    run = CliRunner().invoke
    empty = run(app, ["restore"])
    assert (empty.exit_code, "there is no backup that is whole" in empty.output) == (1, True)
    store = filled(file)
    good = Backups(file, 5).make(NOW)
    bad = Backups(file, 5).make(NOW + timedelta(hours=1))
    store.close()
    make_it_text(bad.path)
    make_it_text(file)
    listed = run(app, ["restore", "--list"])
    assert [str(one.path) in listed.output for one in (good, bad)] == [True, True]
    refused = run(app, ["restore", "--from", str(bad.path)])
    assert (refused.exit_code, "is damaged too" in refused.output) == (1, True)
    done = run(app, ["restore"])
    assert (done.exit_code, f"restored: {good.path}" in done.output) == (0, True)
    opened = open_store(f"sqlite:///{file}")
    assert len(opened.predictions("flights")) == 2000
    opened.close()
    (kept,) = tmp_path.glob("monitor.db.damaged-*")
    assert kept.read_bytes().startswith(b"these are notes")


def test_its_settings_are_read_from_the_environment() -> None:
    assert BackupPolicy.from_environment({}) == BackupPolicy(6, 4)
    named = {"MARLOOP_BACKUP_HOURS": "0", "MARLOOP_BACKUPS": "2"}
    assert BackupPolicy.from_environment(named) == BackupPolicy(0, 2)
    for name in named:
        with pytest.raises(ValueError, match=name):
            BackupPolicy.from_environment({name: "-1"})
