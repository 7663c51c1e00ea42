import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.registry import ArchiveError, Registry, next_number, write_atomically
from serving.settings import ROOT
from tests.serving.stores import add, alter

CRASH = """
import os, sys
from pathlib import Path
from serving.registry import Registry

def crash(*arguments, **options):
    os._exit(9)

os.{call} = crash
Registry(Path(sys.argv[1])).promote("doubling", "1.1")
"""

WRITER = """
import sys
from pathlib import Path
from serving.registry import Registry, Version

registry, me, rounds = Registry(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
for i in range(rounds):
    with registry.change() as models:
        models.setdefault(me, {})[f"1.{i}"] = Version("a.mar", "0", "challenger", "now")
        shared = models.setdefault("shared", {})
        shared[f"1.{len(shared)}"] = Version(me, "0", "challenger", "now")
"""


def run(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], cwd=ROOT)


def states(registry: Registry, name: str = "doubling") -> dict[str, str]:
    return {number: version.state for number, version in registry.models()[name].items()}


def test_a_store_without_a_registry_has_no_models_and_is_not_made_by_reading(registry: Registry) -> None:
    assert registry.models() == {}
    assert registry.champions() == {}
    assert not registry.store.exists()


def test_what_was_registered_is_read_again(registry: Registry) -> None:
    add(registry, "doubling", "1.0")
    with registry.change() as models:
        models["doubling"]["1.0"].evaluation = {"metrics": {"rmse": 0.5}}
    (version,) = Registry(registry.store).models()["doubling"].values()
    assert (version.archive, version.state) == ("doubling-1.0.mar", "champion")
    assert version.evaluation == {"metrics": {"rmse": 0.5}}


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_failure_while_writing_leaves_the_old_registry_and_no_other_file(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    add(registry)
    before = registry.path.read_bytes()

    def fail(*arguments: object, **options: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, call, fail)
        with pytest.raises(OSError, match="no space"), registry.change() as models:
            models.clear()
    assert registry.path.read_bytes() == before
    assert {path.name for path in registry.store.iterdir()} == {
        "doubling-1.0.mar",
        "registry.json",
        "registry.lock",
    }


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_crash_while_writing_leaves_the_old_registry_which_can_be_written_again(
    registry: Registry, call: str
) -> None:
    add(registry, number="1.0", state="champion")
    add(registry, number="1.1", state="challenger")
    assert run(CRASH.format(call=call), registry.store).wait(timeout=30) == 9
    assert states(registry) == {"1.0": "champion", "1.1": "challenger"}
    registry.promote("doubling", "1.1")
    assert states(registry) == {"1.0": "retired", "1.1": "champion"}


def test_the_new_content_is_on_disk_before_it_replaces_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fsync, replace = os.fsync, os.replace

    def noting_fsync(file: int) -> None:
        calls.append("fsync")
        fsync(file)

    def noting_replace(source: Path, target: Path) -> None:
        assert Path(source).read_bytes() == b"new"
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "replace", noting_replace)
    write_atomically(tmp_path / "file", b"new")
    assert calls == ["fsync", "replace", "fsync"]  # the last one is of the folder


def test_a_block_that_raises_changes_nothing(registry: Registry) -> None:
    add(registry)

    def clear_and_fail() -> None:
        with registry.change() as models:
            models.clear()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        clear_and_fail()
    assert states(registry) == {"1.0": "champion"}


def test_processes_that_write_at_once_lose_nothing_and_a_reader_never_sees_half_a_file(registry: Registry) -> None:
    rounds, names = 60, ("a", "b", "c")
    writers = [run(WRITER, registry.store, name, rounds) for name in names]
    while any(writer.poll() is None for writer in writers):
        registry.models()  # raises if the file is damaged
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    models = registry.models()
    assert all(len(models[name]) == rounds for name in names)
    assert len(models["shared"]) == len(names) * rounds


def test_an_archive_that_is_as_registered_is_verified(registry: Registry) -> None:
    path = add(registry)
    assert registry.verify(registry.champions()["doubling"][1]) == path


def test_an_altered_archive_is_named_with_both_sums(registry: Registry) -> None:
    path = add(registry)
    version = registry.champions()["doubling"][1]
    alter(path)
    with pytest.raises(ArchiveError, match=f"{path} has SHA-256 [0-9a-f]{{64}}, but {version.sha256} was registered"):
        registry.verify(version)


def test_a_missing_archive_is_named(registry: Registry) -> None:
    path = add(registry)
    path.unlink()
    with pytest.raises(ArchiveError, match=f"{path} is not there: train the model again"):
        registry.verify(registry.champions()["doubling"][1])


def test_a_promoted_challenger_is_champion_and_the_former_one_retires(registry: Registry) -> None:
    add(registry, number="1.0", state="champion")
    add(registry, number="1.1", state="challenger")
    add(registry, number="1.2", state="challenger")
    registry.promote("doubling", "1.1")
    assert states(registry) == {"1.0": "retired", "1.1": "champion", "1.2": "challenger"}


def test_a_retired_version_can_come_back(registry: Registry) -> None:
    add(registry, number="1.0", state="retired")
    add(registry, number="1.1", state="champion")
    registry.promote("doubling", "1.0")
    assert states(registry) == {"1.0": "champion", "1.1": "retired"}


def test_promoting_the_champion_again_changes_nothing(registry: Registry) -> None:
    add(registry)
    registry.promote("doubling", "1.0")
    assert states(registry) == {"1.0": "champion"}


def test_promoting_one_model_leaves_the_others(registry: Registry) -> None:
    add(registry, "doubling", "1.0")
    add(registry, "halving", "1.0", state="challenger")
    registry.promote("halving", "1.0")
    assert set(registry.champions()) == {"doubling", "halving"}


@pytest.mark.parametrize("damage", [alter, Path.unlink])
def test_a_version_whose_archive_is_altered_or_gone_cannot_be_promoted(
    registry: Registry, damage: Callable[[Path], None]
) -> None:
    add(registry, number="1.0")
    damage(add(registry, number="1.1", state="challenger"))
    with pytest.raises(ArchiveError, match=r"doubling-1\.1\.mar"):
        registry.promote("doubling", "1.1")
    assert states(registry) == {"1.0": "champion", "1.1": "challenger"}


def test_a_refused_challenger_stays_so_until_it_is_promoted(registry: Registry) -> None:
    add(registry, number="1.0")
    add(registry, number="1.1", state="challenger")
    for _ in range(2):
        registry.refuse("doubling", "1.1")
        assert states(registry) == {"1.0": "champion", "1.1": "refused"}
    registry.promote("doubling", "1.1")
    assert states(registry) == {"1.0": "retired", "1.1": "champion"}


def test_only_a_challenger_can_be_refused(registry: Registry) -> None:
    add(registry, number="1.0")
    add(registry, number="1.1", state="retired")
    for number, state in states(registry).items():
        with pytest.raises(ValueError, match=f"doubling {number} is {state}; only a challenger can be refused"):
            registry.refuse("doubling", number)
    with pytest.raises(KeyError, match=r"doubling 2\.0 is not registered; there are 1\.0, 1\.1"):
        registry.refuse("doubling", "2.0")


@pytest.mark.parametrize(
    ("name", "number", "known"), [("doubling", "2.0", "there are 1.0"), ("tripling", "1.0", "there are none")]
)
def test_what_is_not_registered_cannot_be_promoted(registry: Registry, name: str, number: str, known: str) -> None:
    add(registry)
    with pytest.raises(KeyError, match=f"{name} {number} is not registered; {known}"):
        registry.promote(name, number)
    assert states(registry) == {"1.0": "champion"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "truncated"),
        (b'{"models": {"doubling"', "truncated"),
        (b"not JSON", "malformed"),
        (b'{"models": {"doubling": {"1.0": {}}}}', "missing required field `archive`"),
        (b'{"models": {"\xff": {}}}', "utf-8"),
        (json.dumps({"models": {}, "version": 2}).encode(), "unknown field `version`"),
    ],
)
def test_a_damaged_registry_is_named_and_not_overwritten(registry: Registry, content: bytes, reason: str) -> None:
    registry.store.mkdir()
    registry.path.write_bytes(content)
    with pytest.raises(ArchiveError, match=rf"{registry.path} is damaged: .*{reason}"):
        registry.models()
    with pytest.raises(ArchiveError), registry.change():
        pass
    assert registry.path.read_bytes() == content


def test_a_registry_that_cannot_be_read_is_named(registry: Registry) -> None:
    registry.path.mkdir(parents=True)
    with pytest.raises(ArchiveError, match=f"{registry.path} is damaged: .*[Dd]irectory"):
        registry.models()


def test_an_unknown_state_is_refused(registry: Registry) -> None:
    add(registry)
    registry.path.write_text(registry.path.read_text().replace("champion", "winner"))
    with pytest.raises(ArchiveError, match="Invalid enum value 'winner'"):
        registry.models()


def test_versions_are_numbered_one_after_the_other(registry: Registry) -> None:
    assert next_number({}) == "1.0"
    for number in ("1.0", "1.9", "1.10"):
        add(registry, number=number)
    assert next_number(registry.models()["doubling"]) == "1.11"
