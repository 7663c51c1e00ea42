"""Archives without a registry: what is registered, and what is refused in a sentence before anything is."""

import hashlib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from serving.archive import ArchiveError
from serving.hosts.unregistered import register
from serving.registry import Registry
from serving.store.trust import Trust
from tests.support.serving.signing import new_key
from tests.support.serving.stores import add, alter, contract_of_doubling


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that nobody may write to, as a mounted volume is; archives lie at two depths."""
    source = Registry(tmp_path / "source")
    paths = [add(source, number=number, state="challenger") for number in ("1.0", "1.9", "1.10")]
    other = add(source, "halving", "1.0")
    folder = tmp_path / "mounted"
    (folder / "deeper").mkdir(parents=True)
    for path in paths:
        path.rename(folder / path.name)
    other.rename(folder / "deeper" / "anything.mar")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "draft.mar").write_bytes(b"no archive")
    (folder / "config.json").write_text("{}")
    return folder


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_folder_is_served_with_the_newest_version_of_each_model_and_stays_as_it_is(
    folder: Path, registry: Registry
) -> None:
    before = sorted(folder.rglob("*"))
    assert register([str(folder)], registry) == {"doubling": "1.10", "halving": "1.0"}
    assert {name: champion.number for name, champion in registry.champions().items()} == {
        "doubling": "1.10",
        "halving": "1.0",
    }
    assert [*registry.models()["doubling"]] == ["1.0", "1.10", "1.9"]
    for versions in registry.models().values():
        for version in versions.values():
            assert registry.verify(version).is_symlink()
    assert registry.champion_contract("halving").name == "halving"
    assert sorted(folder.rglob("*")) == before


def test_registering_again_changes_nothing(folder: Path, registry: Registry) -> None:
    register([str(folder)], registry)
    models = registry.models()
    assert register([str(folder)], registry) == {"doubling": "1.10", "halving": "1.0"}
    assert registry.models() == models


def test_a_former_version_that_is_named_alone_is_champion_again(folder: Path, registry: Registry) -> None:
    register([str(folder)], registry)
    register([str(folder / "doubling-1.0.mar")], registry)
    assert registry.champion("doubling").number == "1.0"
    assert registry.promotions()[-1].by == "serving register"


def test_a_url_is_fetched_once_its_sha256_is_right(folder: Path, registry: Registry) -> None:
    path = folder / "doubling-1.0.mar"
    right = f"file://{path}#sha256={sha256(path)}"
    with pytest.raises(ArchiveError, match="was asked for"):
        register([right[:-1] + ("0" if right[-1] != "0" else "1")], registry)
    assert registry.models() == {}
    register([right], registry)
    fetched = registry.verify(registry.champion("doubling").version).resolve()
    path.unlink()
    assert sha256(fetched) == registry.champion("doubling").version.sha256
    register([right], registry)  # it is kept, as for a container that starts again


def test_what_cannot_be_served_is_told_and_nothing_is_registered(folder: Path, registry: Registry) -> None:
    (folder.parent / "empty").mkdir()
    foreign, evil = folder.parent / "foreign.mar", folder.parent / "evil.mar"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", "{}")
    with zipfile.ZipFile(evil, "w") as archive:
        archive.writestr("contract.json", contract_of_doubling("../../doubling").to_json())
    for source, sentence in {
        "https://models.example/a.mar?token=secret": r"https://models\.example/a\.mar needs the SHA-256 of its file",
        f"file://{folder}/doubling-1.0.mar#sha256=12": "no SHA-256, which has 64 digits",
        str(folder.parent / "empty"): "holds no archive, which is a file that ends on .mar",
        str(folder / "nowhere"): "is neither a folder nor a file",
        str(foreign): r"brought in by `marloop import",
        str(evil): r"has a model or version '\.\./\.\./doubling'",
    }.items():
        with pytest.raises(ArchiveError, match=sentence):
            register([str(folder), source], registry)
    assert registry.models() == {}


def test_a_damaged_archive_is_named(folder: Path, registry: Registry) -> None:
    path = folder / "doubling-1.9.mar"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ArchiveError, match=r"doubling-1\.9\.mar cannot be read"):
        register([str(folder)], registry)
    assert registry.models() == {}


def test_two_archives_that_differ_cannot_be_one_version(folder: Path, registry: Registry) -> None:
    other = folder / "deeper" / "again.mar"
    other.write_bytes((folder / "doubling-1.0.mar").read_bytes())
    register([str(folder)], registry)  # the same content is the same version
    alter(other)
    with pytest.raises(ArchiveError, match=r"both hold doubling 1\.0, and differ"):
        register([str(folder)], registry)
    with pytest.raises(ArchiveError, match=r"doubling 1\.0 is registered in .* give another content another version"):
        register([str(other)], registry)


@pytest.mark.skipif(find_spec("model_signing") is None, reason="the package model-signing is not installed")
@pytest.mark.parametrize("source", ["{path}", "file://{path}#sha256={sha256}", "{folder}"])
def test_where_signatures_are_asked_for_one_beside_the_archive_is_taken_along(
    source: str, tmp_path: Path, registry: Registry
) -> None:
    keys = new_key(tmp_path, "ours")
    path = add(Registry(tmp_path / "signed"))
    named = source.format(path=path, sha256=sha256(path), folder=path.parent)
    own = Registry(registry.store, trust=Trust(keys.public_key))
    with pytest.raises(ArchiveError, match=r"is not signed, and .*ours.pub is asked for: `marloop sign`"):
        register([named], own)
    assert own.models() == {}
    keys.sign(path)
    register([named], own)
    assert own.verify(own.champion("doubling").version).is_symlink()
    new_key(tmp_path, "theirs").sign(path)
    with pytest.raises(ArchiveError, match="is not what was signed for"):
        register([named], own)
