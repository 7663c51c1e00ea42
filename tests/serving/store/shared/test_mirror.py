"""The copy of a shared store: archives come before the registry that names them, and what was seen last stays."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving import documents
from serving.registry import ArchiveError, Registry
from serving.settings import ROOT
from serving.store.opening import open_copy
from serving.store.shared import mirror
from serving.store.shared.mirror import AGAIN, KEPT, Mirror
from serving.store.storage import MARK
from serving.supervision import watcher
from serving.supervision.companion import mirror_socket
from tests.serving.store.conftest import SharedStore, forget_clients
from tests.support.serving.s3 import S3Server
from tests.support.serving.stores import add, alter
from tests.support.waiting import wait_until


def champion(registry: Registry) -> str:
    return registry.champion("doubling").number


def test_a_copy_serves_without_the_store(shared: SharedStore) -> None:
    add(shared.registry("trainer"))
    Mirror(shared.registry("host")).synchronise()
    copy = open_copy(shared.settings("host"))
    version = copy.champion("doubling").version
    assert copy.origin is None
    assert copy.verify(version).parent == shared.settings("host").model_store
    assert copy.backup.read_bytes() == copy.path.read_bytes()


def test_the_archive_is_there_before_the_registry_that_names_it(
    shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, host = shared.registry("trainer"), Mirror(shared.registry("host"))
    add(trainer)
    host.synchronise()
    add(trainer, number="1.1", state="challenger")
    trainer.promote("doubling", "1.1")
    copy = open_copy(shared.settings("host"))
    written = documents.write_atomically

    def checking(path: Path, content: bytes, private: bool = False) -> None:
        assert (copy.store / "doubling-1.1.mar").is_file()
        assert champion(copy) in ("1.0", "1.1")
        written(path, content, private)

    monkeypatch.setattr(mirror, "write_atomically", checking)
    wait_until(lambda: follows(host, copy, "1.1"))


def follows(host: Mirror, copy: Registry, number: str) -> bool:
    host.synchronise()
    return champion(copy) == number


def test_an_archive_that_cannot_be_had_keeps_no_other_model_back_and_is_tried_again(
    shared: SharedStore, caplog: pytest.LogCaptureFixture
) -> None:
    trainer, now = shared.registry("trainer"), 0.0
    add(trainer, "doubling")
    path = add(trainer, "line")
    content = path.read_bytes()
    version = trainer.champion("line").version
    trainer.files.discard(version.archive)
    host = Mirror(shared.registry("host"), lambda: now)
    with caplog.at_level(logging.ERROR):
        host.synchronise()
        host.synchronise()
    assert [record.message for record in caplog.records if "line-1.0.mar is not here" in record.message] != []
    copy = open_copy(shared.settings("host"))
    copy.verify(copy.champion("doubling").version)
    assert not (copy.store / "line-1.0.mar").exists()
    path.write_bytes(content)
    trainer.files.publish(path.name, version.sha256)
    now += AGAIN + 1
    host.synchronise()
    copy.verify(copy.champion("line").version)


def test_a_copy_that_was_altered_is_fetched_anew(shared: SharedStore) -> None:
    add(shared.registry("trainer"))
    host = shared.registry("host")
    path = host.verify(host.champion("doubling").version)
    alter(path)
    with pytest.raises(ArchiveError, match="has SHA-256"):
        Registry(host.store).verify(host.champion("doubling").version)
    assert host.verify(host.champion("doubling").version) == path
    Registry(host.store).verify(host.champion("doubling").version)


def test_archives_that_nothing_serves_go_after_a_day(shared: SharedStore) -> None:
    trainer = shared.registry("trainer")
    for number in ("1.0", "1.1", "1.2"):
        add(trainer, number=number, state="challenger")
    host = shared.registry("host")
    for version in trainer.models()["doubling"].values():
        host.verify(version)
    trainer.promote("doubling", "1.0")
    trainer.promote("doubling", "1.1")
    for path in host.store.glob("*.mar"):
        os.utime(path, (time.time() - KEPT - 60,) * 2)
    Mirror(shared.registry("host")).synchronise()
    assert {path.name for path in host.store.glob("*.mar")} == {"doubling-1.1.mar", "doubling-1.2.mar"}


def test_a_folder_is_no_copy_of_another_store(shared: SharedStore) -> None:
    add(shared.registry("trainer"))
    Mirror(shared.registry("host")).synchronise()
    mark = shared.settings("host").model_store / MARK
    mark.write_text(mark.read_text().replace(shared.url, "s3://other/models"))
    assert mirror.last_known(shared.settings("host")) is None
    Mirror(shared.registry("host")).synchronise()
    assert mirror.last_known(shared.settings("host")) is not None


def test_while_the_store_does_not_answer_what_was_seen_last_is_served(
    on_s3: SharedStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add(on_s3.registry("trainer"))
    host = on_s3.registry("host")
    Mirror(host).synchronise()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    forget_clients()
    later = on_s3.registry("host")
    with caplog.at_level(logging.WARNING):
        Mirror(later).synchronise()
    assert champion(later) == champion(open_copy(on_s3.settings("host"))) == "1.0"
    assert "nothing answers there" in caplog.text
    assert "what was last registered there counts until it answers" in caplog.text
    with pytest.raises(ArchiveError, match="registry.lock cannot be read: nothing answers there"):
        later.promote("doubling", "1.0")
    with pytest.raises(ArchiveError, match="nothing answers there"):
        Mirror(on_s3.registry("new machine")).synchronise()


def test_a_damaged_registry_leaves_the_copy_as_it_is_and_is_restored_from_it(on_s3: SharedStore, s3: S3Server) -> None:
    from serving.store.restore import restore

    add(on_s3.registry("host"))
    Mirror(on_s3.registry("host")).synchronise()
    bucket, _, prefix = on_s3.url.removeprefix("s3://").partition("/")
    s3.client().put_object(Bucket=bucket, Key=f"{prefix}/registry.json", Body=b'{"models": ')
    host = on_s3.registry("host")
    with pytest.raises(ArchiveError, match="registry.json is damaged: .*`marloop restore-registry` mends it"):
        host.models()
    with pytest.raises(ArchiveError, match="registry.json is damaged"):
        Mirror(host).synchronise()
    assert champion(open_copy(on_s3.settings("host"))) == "1.0"
    restore(host)
    assert champion(on_s3.registry("other")) == "1.0"


def test_the_process_follows_the_store_and_answers_on_its_socket(on_s3: SharedStore) -> None:
    add(on_s3.registry("trainer"))
    settings = on_s3.settings("host")
    settings.run_dir.mkdir()
    environment = {**os.environ, **on_s3.environment, "MARLOOP_MODEL_STORE": on_s3.url}
    environment |= {"MARLOOP_RUN_DIR": str(settings.run_dir), "MARLOOP_ENV_FILE": "off"}
    command = [sys.executable, "-m", "serving", "mirror", "--run-dir", str(settings.run_dir)]
    settings.temporary.mkdir(mode=0o700, exist_ok=True)
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
        try:
            copy = open_copy(settings)
            wait_until(lambda: watcher.answers(f"unix:{mirror_socket(settings)}"))
            wait_until(lambda: copy.path.exists())
            add(on_s3.registry("trainer"), number="1.1", state="challenger")
            on_s3.registry("trainer").promote("doubling", "1.1")
            wait_until(lambda: champion(copy) == "1.1")
            copy.verify(copy.champion("doubling").version)
        finally:
            process.kill()


def test_a_copy_that_is_not_compared_any_more_is_told_of(shared: SharedStore) -> None:
    settings = shared.settings("host")
    assert mirror.why_late(settings) == f"{shared.url} was never seen from here"
    add(shared.registry("trainer"))
    host = Mirror(shared.registry("host"))
    host.synchronise()
    assert mirror.why_late(settings) == ""
    os.utime(settings.model_store / MARK, (0, 0))
    assert "was last compared at 1970-01-01T00:00:00+00:00; the store does not answer" in mirror.why_late(settings)
    host.synchronise()
    assert mirror.why_late(settings) == ""
