import json
import math
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import documents
from serving.documents import write_atomically
from serving.registry import ArchiveError, Registry, Version, champion_of, file_sha256, next_number
from serving.settings import ROOT
from tests.support.serving.stores import add, alter, contract_of_doubling

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
        "registry.json.bak",
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
        assert registry.damaged() == {}
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
        (b'{"models": []}', "Expected `object`, got `array`"),
        (b'{"models": {"\xff": {}}}', "UTF-8"),
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


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"state": "winner"}, "Invalid enum value 'winner'"),
        ({"sha256": None}, "Expected `str`, got `null` - at `$.sha256`"),
        ({"evaluation": []}, "Expected `object`, got `array` - at `$.evaluation`"),
        ({"signed": True}, "unknown field `signed`"),
    ],
)
def test_a_damaged_entry_is_told_and_takes_no_other_along(
    registry: Registry, damage: dict[str, object], reason: str
) -> None:
    add(registry, "doubling", "1.0", "retired")
    add(registry, "doubling", "1.1")
    add(registry, "halving", "1.0")
    content = json.loads(registry.path.read_bytes())
    content["models"]["doubling"]["1.1"] |= damage
    registry.path.write_text(json.dumps(content))
    assert states(registry) == {"1.0": "retired"}
    assert registry.champions().keys() == {"halving"}
    (fault,) = registry.damaged()["doubling"].values()
    assert reason in fault
    assert "marloop restore-registry" in fault
    with pytest.raises(ArchiveError, match=r"doubling 1\.1: its entry"):
        registry.promote("doubling", "1.1")
    registry.promote("doubling", "1.0")  # the damaged entry stays as it is
    assert json.loads(registry.path.read_bytes())["models"]["doubling"]["1.1"] == content["models"]["doubling"]["1.1"]
    assert states(registry) == {"1.0": "champion"}


def test_a_damaged_model_takes_no_other_along(registry: Registry) -> None:
    add(registry, "halving", "1.0")
    content = json.loads(registry.path.read_bytes())
    content["models"]["doubling"] = "gone"
    registry.path.write_text(json.dumps(content))
    assert registry.models().keys() == {"halving"}
    assert registry.damaged().keys() == {"doubling"}
    add(registry, "halving", "1.1", "challenger")
    assert json.loads(registry.path.read_bytes())["models"]["doubling"] == "gone"


def test_a_damaged_entry_keeps_its_number(registry: Registry) -> None:
    assert next_number({"1.0": 0}, {"1.4": "damaged"}) == "1.5"
    assert next_number({"1.0": 0, "by hand": 0, "2.7": 0}) == "1.1"


def test_nan_of_a_former_version_is_read_as_unknown_told_and_gone_with_the_next_change(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    add(registry, "doubling", "1.0")
    text = registry.path.read_text().replace(
        '"evaluation": {}', '"evaluation": {"metrics": {"r2": NaN, "a": -Infinity}}'
    )
    registry.path.write_text(text)
    for _ in range(3):
        assert registry.models()["doubling"]["1.0"].evaluation == {"metrics": {"r2": None, "a": None}}
    assert [record.message for record in caplog.records] == [
        f"{registry.path} holds NaN, from a former version: read as what could not be measured"
    ]
    registry.promote("doubling", "1.0")
    assert b"NaN" not in registry.path.read_bytes()
    assert registry.models()["doubling"]["1.0"].evaluation == {"metrics": {"r2": None, "a": None}}


def test_what_cannot_be_computed_is_written_as_null(registry: Registry) -> None:
    add(registry, "doubling", "1.0")
    found = {"metrics": {"auc": math.nan, "rmse": np.float32("inf"), "rows": np.int64(3)}, "intervals": {"auc": (1, 2)}}
    with registry.change() as models:
        models["doubling"]["1.0"].evaluation = found
    assert registry.models()["doubling"]["1.0"].evaluation == {
        "metrics": {"auc": None, "rmse": None, "rows": 3},
        "intervals": {"auc": [1, 2]},
    }


@pytest.mark.parametrize(
    ("evaluation", "reason"),
    [
        ({"name": "\ud800"}, "half of a surrogate pair"),
        ({"what": object()}, r"\$\.doubling\.1\.0\.evaluation\.what is a object, which JSON cannot hold"),
        ({(1, 2): 3}, "which is no text"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(
    registry: Registry, evaluation: dict[str, object], reason: str
) -> None:
    add(registry, "doubling", "1.0")
    before = registry.path.read_bytes()
    with pytest.raises(ArchiveError, match=f"registry.json is not changed: .*{reason}"), registry.change() as models:
        models["doubling"]["1.0"].evaluation = evaluation
    assert registry.path.read_bytes() == before


def test_the_registry_and_its_copy_are_for_their_owner_alone_and_a_mode_that_was_given_stays(
    registry: Registry,
) -> None:
    umask = os.umask(0)
    try:
        add(registry)
    finally:
        os.umask(umask)
    assert [path.stat().st_mode & 0o777 for path in (registry.path, registry.backup)] == [0o600, 0o600]
    registry.path.chmod(0o640)
    registry.promote("doubling", "1.0")
    assert registry.path.stat().st_mode & 0o777 == 0o640


def test_a_promotion_leaves_a_note_of_who_and_why(registry: Registry) -> None:
    add(registry, "doubling", "1.0")
    add(registry, "doubling", "1.1", "challenger")
    registry.promote("doubling", "1.1", "serving promote", "asked for by hand")
    registry.promote("doubling", "1.1", "serving promote", "again")  # is champion already
    (promotion,) = registry.promotions()
    assert (promotion.model, promotion.version, promotion.former) == ("doubling", "1.1", "1.0")
    assert (promotion.by, promotion.why) == ("serving promote", "asked for by hand")
    assert datetime.fromisoformat(promotion.time).tzinfo is not None


def test_a_damaged_history_stops_nothing(registry: Registry) -> None:
    add(registry)
    content = json.loads(registry.path.read_bytes())
    content["promotions"] = ["nonsense", {"model": "doubling"}]
    registry.path.write_text(json.dumps(content))
    assert registry.promotions() == []
    assert states(registry) == {"1.0": "champion"}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
NAMES = st.text(min_size=1, max_size=300)


@given(
    models=st.dictionaries(
        NAMES,
        st.dictionaries(
            NAMES,
            st.builds(
                Version,
                archive=NAMES,
                sha256=st.text(),
                state=st.sampled_from(["champion", "challenger", "refused", "retired"]),
                created=st.text(),
                evaluation=st.dictionaries(st.text(), JSON_VALUES, max_size=4),
            ),
            max_size=3,
        ),
        max_size=3,
    )
)
@settings(max_examples=50)
def test_whatever_is_registered_is_read_again_or_nothing_has_changed(models: dict[str, dict[str, Version]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(Path(folder))
        try:
            with registry.change() as registered:
                registered.update(models)
        except ArchiveError:  # half of a surrogate pair
            assert not registry.path.exists()
            return
        assert documents.finite(Registry(Path(folder)).models()) == documents.finite(models)
        assert registry.damaged() == {}
        assert registry.backup.read_bytes() == registry.path.read_bytes()


def test_versions_are_numbered_one_after_the_other(registry: Registry) -> None:
    assert next_number({}) == "1.0"
    for number in ("1.0", "1.9", "1.10"):
        add(registry, number=number)
    assert next_number(registry.models()["doubling"]) == "1.11"


def test_the_champion_is_a_version_with_its_number(registry: Registry) -> None:
    add(registry, number="1.0", state="retired")
    add(registry, number="1.1", state="champion")
    add(registry, number="1.2", state="challenger")
    champion = registry.champion("doubling")
    assert champion.number == "1.1"
    assert champion == registry.champions()["doubling"]
    assert champion.version.archive == "doubling-1.1.mar"
    assert champion_of({}) is None


def test_the_contract_is_read_from_the_champions_archive(registry: Registry) -> None:
    add(registry, number="1.0", state="retired")
    add(registry, number="1.1", state="champion")
    assert registry.champion_contract("doubling") == contract_of_doubling(version="1.1")


def test_a_model_without_a_champion_has_no_contract(registry: Registry) -> None:
    add(registry, state="challenger")
    for ask in (registry.champion, registry.champion_contract):
        with pytest.raises(ArchiveError, match="^doubling has no champion: run `make train MODEL=doubling`$"):
            ask("doubling")


def test_the_contract_of_an_altered_archive_is_not_read(registry: Registry) -> None:
    alter(add(registry))
    with pytest.raises(ArchiveError, match="SHA-256"):
        registry.champion_contract("doubling")


@pytest.mark.parametrize("files", [None, {}, {"contract.json": "{}"}])
def test_an_archive_without_a_contract_is_named(registry: Registry, files: dict[str, str] | None) -> None:
    path = add(registry)
    if files is None:
        path.write_bytes(b"no zip")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
    with registry.change() as models:
        models["doubling"]["1.0"] = Version(path.name, file_sha256(path), "champion", "now")
    with pytest.raises(ArchiveError, match=f"{path} has no contract: "):
        registry.champion_contract("doubling")


REMOVAL = CRASH.replace('promote("doubling", "1.1")', 'remove("doubling", "1.1")')


@pytest.mark.parametrize("call", ["replace", "rename", "fsync"])
def test_a_crash_while_a_version_is_removed_leaves_a_registry_that_can_be_read(registry: Registry, call: str) -> None:
    add(registry)
    add(registry, number="1.1", state="challenger")
    run(REMOVAL.format(call=call), registry.store).wait()
    assert "1.0" in registry.models()["doubling"]
    assert registry.remove("doubling", "1.1") == {"1.1": "doubling-1.1.mar"}
    assert states(registry) == {"1.0": "champion"}


def test_the_number_of_a_removed_version_is_not_given_again(registry: Registry) -> None:
    add(registry)
    add(registry, number="1.1", state="challenger")
    registry.remove("doubling", "1.1")
    assert registry.removed("doubling") == ["1.1"]
    assert next_number(registry.models()["doubling"], registry.removed("doubling")) == "1.2"
    assert registry.remove("doubling") == {"1.1": "doubling-1.1.mar", "1.0": "doubling-1.0.mar"}  # the champion last
    assert registry.models() == {}
    with registry.change():
        pass  # the next change keeps the numbers
    assert registry.removed("doubling") == ["1.1", "1.0"]


def test_a_damaged_entry_can_be_removed(registry: Registry) -> None:
    add(registry)
    add(registry, number="1.1", state="challenger")
    registry.path.write_text(registry.path.read_text().replace('"doubling-1.1.mar"', "null"))
    assert registry.damaged().keys() == {"doubling"}
    registry.remove("doubling", "1.1")
    assert registry.damaged() == {}
    assert states(registry) == {"1.0": "champion"}
