"""Trainings as real processes: found again, ended with all that they started, and told by their result."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from monitoring.retraining.launch import process
from monitoring.retraining.launch.trainings import JobTrainings, write_rows
from monitoring.store.records import Labelled, Prediction
from serving.settings import Settings
from tests.support.waiting import wait_until
from training.packaging.result_file import Trained

# Stands for `python -m training`: the model that it is to train says what it does.
PROGRAM = """
import signal, subprocess, sys, time
print("\\x1b[1mdoubling\\x1b[0m: fitting 10 rows", flush=True)
if sys.argv[2] == "stubborn":
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    subprocess.Popen([sys.executable, "-c", deaf])
    exec(deaf)
if sys.argv[2] != "ends":
    time.sleep(60)
print("warning: \\r  50 % \\r 100 %", flush=True)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(model_store=tmp_path / "store", run_dir=tmp_path / "run")


@pytest.fixture
def trainings(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobTrainings]:
    """Trainings that run the program above."""
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "__main__.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # else the working directory's package would be the first
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(process, "GRACE", 0.5)
    one = JobTrainings(settings)
    one.rows(1).parent.mkdir(parents=True)
    yield one
    one.end_all()


def test_a_training_is_found_again_by_another_monitor_and_only_for_its_job_and_run(
    trainings: JobTrainings, settings: Settings, tmp_path: Path
) -> None:
    assert trainings.age(1) is None
    pid = trainings.start(1, "hangs", ["--hold-out", "0.1"])
    another = JobTrainings(settings)
    age = another.age(1)
    assert age is not None
    assert 0 <= age < 30
    assert another.age(2) is None
    assert JobTrainings(Settings(run_dir=tmp_path / "other")).age(1) is None
    command = psutil.Process(pid).cmdline()
    assert command[1:5] == ["-m", "training", "train", "hangs"]
    for option in (
        "--hold-out 0.1",
        "--promote never",
        f"--store {tmp_path}/store",
        f"--result {tmp_path}/run/jobs/1/result.json",
    ):
        assert option in " ".join(command)


def test_it_has_a_session_of_its_own(trainings: JobTrainings) -> None:
    pid = trainings.start(1, "hangs", [])
    assert pid is not None
    assert os.getsid(pid) != os.getsid(0)


def test_it_is_ended_with_all_that_it_started_however_deaf_they_are(trainings: JobTrainings) -> None:
    pid = trainings.start(1, "stubborn", [])
    wait_until(lambda: trainings.log(1).read_text().count("deaf") == 2, poll=0.05)
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    assert len(family) == 2
    trainings.end(1)
    assert trainings.age(1) is None
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family)


def test_it_is_gone_when_it_has_ended_and_its_log_is_kept_and_goes_on(trainings: JobTrainings) -> None:
    for _ in range(2):
        trainings.start(1, "ends", [])
        wait_until(lambda: trainings.age(1) is None, poll=0.05)
    assert trainings.last_lines(1).count("fitting") == 2


def test_progress_is_the_last_line_of_the_command_itself_without_colours(trainings: JobTrainings) -> None:
    assert trainings.progress(1) == ""
    log = trainings.log(1)
    log.write_text("\x1b[1mdoubling\x1b[0m: fitting 10 rows\nsome library\n 50 %\r 100 %\r\n\n")
    assert trainings.progress(1) == "doubling: fitting 10 rows"
    log.write_text("doubling: fitting 10 rows\nepoch 3/20 loss 114.3\nsome library\n")
    assert trainings.progress(1) == "epoch 3/20 loss 114.3"
    log.write_text("Traceback\nKeyError\n")
    assert trainings.progress(1) == "KeyError"


def test_a_result_is_read_and_a_damaged_one_is_an_error(trainings: JobTrainings) -> None:
    assert trainings.result(1) is None
    told = {"model": "a", "version": "1.1", "archive": "a-1.1.mar", "state": "challenger", "why": "as asked"}
    path = trainings.rows(1).with_name("result.json")
    path.write_text(json.dumps(told | {"held_out_since": "2013-02-17T12:00:00+00:00"}))
    assert trainings.result(1) == Trained(**told, held_out_since="2013-02-17T12:00:00+00:00")
    path.write_text("{}")
    with pytest.raises(ValueError, match="missing required field"):
        trainings.result(1)


def test_what_an_earlier_job_of_the_same_number_left_is_removed(trainings: JobTrainings) -> None:
    trainings.start(1, "hangs", [])
    trainings.clear(1)
    assert trainings.age(1) is None
    assert not trainings.rows(1).parent.exists()


def test_every_training_of_a_run_is_ended_at_once(trainings: JobTrainings) -> None:
    trainings.rows(2).parent.mkdir()
    trainings.start(1, "hangs", [])
    trainings.start(2, "hangs", [])
    assert trainings.end_all() == 2
    assert (trainings.age(1), trainings.age(2)) == (None, None)


def test_rows_are_written_a_line_each(tmp_path: Path) -> None:
    time = datetime(2013, 2, 17, 12, 0, 0, 250_000, UTC)
    row = Prediction("a", 0, "flights", "1.0", time, {"carrier": "ÜA", "distance": 1400.0}, 200.0)
    path = tmp_path / "jobs" / "1" / "rows.jsonl"
    write_rows(path, [Labelled(row, 227.0, time)])
    assert json.loads(path.read_text()) == {
        "time": "2013-02-17T12:00:00.250000+00:00",
        "features": {"carrier": "ÜA", "distance": 1400.0},
        "label": 227.0,
    }
    write_rows(path, [])
    assert path.read_text() == ""


def test_a_training_that_another_monitor_of_this_machine_left_is_ended_and_no_other(
    trainings: JobTrainings, tmp_path: Path
) -> None:
    pid = trainings.start(1, "hangs", [])
    assert pid is not None
    other = JobTrainings(Settings(run_dir=tmp_path / "other"))
    assert (trainings.under_way(), other.under_way()) == ([1], [])
    machine, _, folder = trainings.place.partition(":")
    for id, place in ((1, ""), (2, trainings.place), (1, f"elsewhere:{folder}"), (1, other.place)):
        other.end_former(id, place)
        assert trainings.under_way() == [1]
    trainings.end_former(1, trainings.place)  # its own
    assert psutil.pid_exists(pid)
    other.end_former(1, f"{machine}:{folder}")
    assert trainings.under_way() == []
