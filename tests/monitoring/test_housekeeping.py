"""What goes after a while beside predictions and labels, and what never does."""

import os
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.values import MultiProcessValue
from typer.testing import CliRunner

from monitoring.__main__ import app
from monitoring.housekeeping import Housekeeping, Keeping, Leftover
from monitoring.retraining.result import JobResult
from monitoring.store.leases import Lease, LeaseLostError
from monitoring.store.predictions import Store, open_store
from serving.metrics.metric_files import versions_of
from serving.registry import ArchiveError, Registry
from serving.settings import Settings
from tests.monitoring.store.test_predictions import DAY, NOW, prediction
from tests.support.serving.stores import add

LONG_AGO = (NOW - 1000 * DAY).timestamp()


class World:
    """A run's folder, a registry and a store."""

    def __init__(self, folder: Path, **keeping: object) -> None:
        self.environ = {
            "MARLOOP_RUN_DIR": str(folder / "run"),
            "MARLOOP_MODEL_STORE": str(folder / "models"),
            "MARLOOP_METRICS_DIR": str(folder / "metrics"),
        }
        self.settings = Settings.from_environment(self.environ)
        self.models = Registry(self.settings.model_store)
        self.store: Store = open_store(f"sqlite:///{folder / 'run' / 'monitor.db'}")
        self.kept = Keeping(**keeping)  # type: ignore[arg-type]
        self.housekeeping = Housekeeping(self.settings, self.store.journal, self.models, self.kept)

    def file(self, name: str, time: float = LONG_AGO, content: bytes = b"x" * 100) -> Path:
        path = self.settings.run_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (time, time))
        return path

    def leftovers(self, kind: str) -> list[Leftover]:
        return [one for one in self.housekeeping.leftovers(NOW) if one.kind == kind]

    def names(self, kind: str) -> list[str]:
        return [Path(one.name).name for one in self.leftovers(kind)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_folders_of_jobs_go_when_their_job_has_ended_long_ago(world: World) -> None:
    ended = {1: NOW - 31 * DAY, 2: NOW - 29 * DAY, 3: None}
    for id, time in ended.items():
        job = world.store.journal.create_job("flights", "hand", "asked", NOW - 40 * DAY)
        assert job.id == id
        world.store.journal.update_job(id, state="succeeded" if time else "running", ended=time)
        world.file(f"jobs/{id}/rows.jsonl")
        world.file(f"jobs/{id}/train.log")
    (one,) = world.leftovers("jobs")
    assert (Path(one.name).name, one.size) == ("1", 200)
    one.remove()
    assert sorted(path.name for path in (world.settings.run_dir / "jobs").iterdir()) == ["2", "3"]


def test_only_archives_that_nothing_goes_back_to_are_removed(tmp_path: Path) -> None:
    world = World(tmp_path, versions=2)
    states = ["refused", "retired", "retired", "retired", "challenger", "refused", "champion", "retired", "refused"]
    for i, state in enumerate(states):
        add(world.models, "doubling", f"1.{i}", state)  # type: ignore[arg-type]
    world.store.journal.record("doubling", "promoted", {"from": "1.1", "to": "1.6"}, NOW)
    job = world.store.journal.create_job("doubling", "hand", "asked", NOW)
    world.store.journal.extend_job(job.id, JobResult(version="1.2"))
    assert world.names("versions") == ["doubling-1.0.mar", "doubling-1.3.mar", "doubling-1.5.mar"]
    world.housekeeping.tidy(NOW)
    left = {path.name for path in world.settings.model_store.glob("*.mar")}
    assert left == {f"doubling-1.{i}.mar" for i in (1, 2, 4, 6, 7, 8)}
    assert world.names("versions") == []


def test_what_monitors_share_is_left_to_the_leader(world: World) -> None:
    for i in range(12):
        add(world.models, "doubling", f"1.{i}", "retired")
    world.store.journal.record("flights", "requested", {}, NOW - 731 * DAY)
    rotated = world.file("monitor.log.3")
    assert [Path(one.name) for one in world.housekeeping.tidy(NOW, shared=False)] == [rotated]
    assert {one.kind for one in world.housekeeping.tidy(NOW)} == {"audit", "versions"}


def test_nothing_goes_once_another_monitor_leads(world: World) -> None:
    old = world.file("reports/old.html")
    lease = Lease(world.store.database, tick=lambda: 0.0)
    with lease.fenced(), pytest.raises(LeaseLostError):
        world.housekeeping.tidy(NOW, confirm=lease.confirm)
    assert old.exists()


def test_reports_and_rotated_logs_go_by_their_age(world: World) -> None:
    old, new = world.file("reports/old.html"), world.file("reports/new.html", NOW.timestamp())
    log, rotated = world.file("monitor.log"), world.file("monitor.log.3")
    gone = world.housekeeping.tidy(NOW)
    assert {Path(one.name) for one in gone} == {old, rotated}
    assert new.exists()
    assert log.exists()


def test_the_audit_forgets_all_but_promotions_and_rollbacks(world: World) -> None:
    early = NOW - 731 * DAY
    for kind in ("requested", "promoted", "rolled_back", "label_corrected"):
        world.store.journal.record("flights", kind, {}, early)
    world.store.journal.record("flights", "requested", {}, NOW)
    for state in ("failed", "promoted", "running"):
        job = world.store.journal.create_job("flights", "hand", "asked", early)
        world.store.journal.update_job(job.id, state=state, ended=None if state == "running" else early)
    (one,) = world.leftovers("audit")
    assert one.name == "3 entries of audit and jobs"
    one.remove()
    assert [one.kind for one in world.store.journal.decisions()] == ["requested", "rolled_back", "promoted"]
    assert [one.state for one in world.store.journal.jobs()] == ["running", "promoted"]


def test_metric_files_go_of_ended_workers_whose_version_nobody_serves(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = world.settings.metrics
    folder.mkdir(parents=True)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    add(world.models, "doubling", "1.1")
    for pid, version in ((11, "1.0"), (12, "1.0"), (13, "1.1")):
        value = MultiProcessValue(lambda pid=pid: pid)
        monkeypatch.setattr("prometheus_client.metrics.values.ValueClass", value)
        counter = Counter("rows", "Rows", ("model", "version"), registry=CollectorRegistry())
        counter.labels("doubling", version).inc()
    (folder / "12.lock").touch()
    (folder / "counter_14.db").write_bytes(b"\xff" * 50)  # damaged, so that nobody counts it
    for path in folder.iterdir():
        os.utime(path, (LONG_AGO, LONG_AGO))
    assert versions_of(folder / "counter_13.db") == {("doubling", "1.1")}
    assert world.names("metrics") == ["counter_11.db", "counter_14.db"]
    os.utime(folder / "counter_11.db", (NOW.timestamp(), NOW.timestamp()))
    assert world.names("metrics") == ["counter_14.db"]


def test_with_a_damaged_registry_no_archive_goes(world: World) -> None:
    add(world.models)
    world.models.path.write_text("{")
    world.models.backup.unlink(missing_ok=True)
    with pytest.raises(ArchiveError):
        world.housekeeping.tidy(NOW)
    assert list(world.settings.model_store.glob("*.mar"))


def test_a_dry_run_says_what_would_go_and_removes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    old = world.file("reports/old.html", content=b"x" * 2_500_000)
    world.store.add_predictions([prediction(str(i)) for i in range(3)])
    run = CliRunner().invoke
    told = run(app, ["prune", "--dry-run"])
    assert told.exit_code == 0, told.output
    assert "of 3 predictions 3 are too old, 0 too many" in told.output
    assert f"reports        2.50 MB  {old}" in told.output
    assert "would free 2.50 MB" in told.output
    refused = run(app, ["prune"])
    assert (refused.exit_code, "MARLOOP_PRUNE_SHARE" in refused.output) == (1, True)
    assert old.exists()
    assert len(world.store.predictions("flights")) == 3
    done = run(app, ["prune", "--all"])
    assert (done.exit_code, "removed 3 predictions" in done.output) == (0, True)
    assert not old.exists()


def test_its_settings_are_read_from_the_environment() -> None:
    assert Keeping.from_environment({}) == Keeping()
    names = {"MARLOOP_KEEP_VERSIONS": "3", "MARLOOP_KEEP_JOBS_DAYS": "2", "MARLOOP_KEEP_LOGS_DAYS": ""}
    assert Keeping.from_environment(names) == Keeping(jobs_days=2, versions=3)
    for kind in ("JOBS_DAYS", "VERSIONS", "AUDIT_DAYS", "REPORTS_DAYS", "LOGS_DAYS", "METRICS_DAYS"):
        with pytest.raises(ValueError, match=f"MARLOOP_KEEP_{kind}"):
            Keeping.from_environment({f"MARLOOP_KEEP_{kind}": "0"})
