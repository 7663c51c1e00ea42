"""The ways back from a damaged registry."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from serving.registry import ArchiveError, Registry
from serving.store.restore import restore
from tests.support.serving.stores import add, alter

AT = datetime(2013, 2, 17, 12, 30, tzinfo=UTC)


@pytest.fixture
def full(registry: Registry) -> Registry:
    """A store with two models and three versions."""
    add(registry, "doubling", "1.0", "retired")
    add(registry, "doubling", "1.1")
    add(registry, "halving", "1.0", "refused")
    return registry


def states(registry: Registry) -> dict[str, str]:
    return {f"{name} {number}": v.state for name, all in registry.models().items() for number, v in all.items()}


WHOLE = {"doubling 1.0": "retired", "doubling 1.1": "champion", "halving 1.0": "refused"}


@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 4096, b'{"models": 3}', b"\xff\xfe"])
def test_the_copy_comes_back_and_the_damaged_file_is_kept(full: Registry, content: bytes) -> None:
    good = full.path.read_bytes()
    full.path.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"registry\.json\.bak, of 20.*`marloop restore-registry` puts it"):
        full.models()
    told = restore(full, lambda: AT).steps
    assert full.path.read_bytes() == good
    assert (full.store / "registry.json.damaged-20130217T123000Z").read_bytes() == content
    assert f"{full.backup} was put back: doubling 1.0, 1.1, halving 1.0" in told


def test_a_registry_that_was_deleted_comes_back_too(full: Registry) -> None:
    full.path.unlink()
    with pytest.raises(ArchiveError, match="is not there; the last good copy is"):
        full.models()
    restore(full)
    assert states(full) == WHOLE


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.999])
def test_without_a_copy_the_archives_and_what_is_left_of_the_file_tell(full: Registry, share: float) -> None:
    full.backup.unlink()
    content = full.path.read_bytes()
    full.path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ArchiveError, match="there is no copy of it: `marloop restore-registry`"):
        full.models()
    restore(full)
    found = states(full)
    assert found.keys() == WHOLE.keys()
    assert share < 0.9 or found == WHOLE
    full.verify(full.models()["doubling"]["1.1"])


def test_without_anything_each_model_with_one_version_is_served_and_the_others_are_asked_for(full: Registry) -> None:
    full.backup.unlink()
    full.path.write_bytes(b"")
    told = restore(full).steps
    assert states(full) == {"doubling 1.0": "challenger", "doubling 1.1": "challenger", "halving 1.0": "champion"}
    assert "doubling has no champion: choose one of 1.0, 1.1 by `marloop promote doubling …`" in told


def test_a_damaged_archive_is_left_out_and_told(full: Registry) -> None:
    full.backup.unlink()
    path = full.store / "halving-1.0.mar"
    path.write_bytes(path.read_bytes()[:60])
    cut = full.path.read_bytes()[:-30]
    full.path.write_bytes(cut)
    alter(full.store / "doubling-1.0.mar")
    told = " ".join(restore(full).steps)
    assert states(full) == {"doubling 1.1": "champion"}
    assert "halving-1.0.mar was left out" in told
    assert "doubling-1.0.mar was left out" in told


@pytest.mark.parametrize("copied", [True, False])
def test_a_damaged_entry_is_mended_and_the_others_stay(full: Registry, copied: bool) -> None:
    if not copied:
        full.backup.unlink()
    content = json.loads(full.path.read_bytes())
    del content["models"]["doubling"]["1.1"]["created"]
    full.path.write_text(json.dumps(content))
    full.promote("halving", "1.0")  # a change meanwhile spoils no copy, and is not undone
    told = restore(full).steps
    assert "doubling 1.1 was restored as champion" in told
    assert states(full) == WHOLE | {"halving 1.0": "champion"}
    assert list(full.models()["doubling"]) == ["1.0", "1.1"]


def test_nan_is_written_away(full: Registry) -> None:
    full.path.write_text(full.path.read_text().replace('"evaluation": {}', '"evaluation": {"a": NaN}', 1))
    assert any("had NaN" in sentence for sentence in restore(full).steps)
    assert b"NaN" not in full.path.read_bytes()
    assert states(full) == WHOLE


def test_what_is_not_damaged_stays(full: Registry) -> None:
    good = full.path.read_bytes()
    assert restore(full).steps[0] == f"{full.path} is not damaged"
    assert full.path.read_bytes() == good


def test_nothing_comes_of_nothing(registry: Registry, tmp_path: Path) -> None:
    registry.store.mkdir()
    registry.path.write_bytes(b"{")
    with pytest.raises(ArchiveError, match="can be read: train again"):
        restore(registry)
    assert registry.path.read_bytes() == b"{"
