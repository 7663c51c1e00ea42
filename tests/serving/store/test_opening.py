"""What the settings name is opened, or the reason is said why it cannot be."""

from pathlib import Path

import pytest
from msgspec import structs

from serving.registry import ArchiveError, Registry
from serving.settings import Settings
from serving.store.commands import share
from serving.store.opening import open_at, open_copy, open_registry
from tests.serving.store.conftest import SharedStore
from tests.support.serving.stores import add


def test_a_folder_is_opened_as_before(tmp_path: Path) -> None:
    registry = open_registry(Settings(model_store=tmp_path / "store"), {})
    assert registry.origin is None
    assert (registry.store, registry.place) == (tmp_path / "store", str(tmp_path / "store"))


@pytest.mark.parametrize(
    ("settings", "environ", "message"),
    [
        (Settings(registry="database"), {}, "MARLOOP_REGISTRY is database, and MARLOOP_MODEL_STORE a folder"),
        (Settings(store_url="file:///mnt/models"), {}, "no registry that several machines change"),
        (Settings(store_url="gs://bucket/models"), {}, "no registry that several machines change"),
        (Settings(store_url="s3://bucket", registry="database"), {}, "DATABASE_URL must name a PostgreSQL"),
        (
            Settings(store_url="s3://bucket", registry="database"),
            {"DATABASE_URL": "sqlite:///monitor.db"},
            "DATABASE_URL must name a PostgreSQL",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    settings: Settings, environ: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ArchiveError, match=message):
        open_registry(structs.replace(settings, model_store=tmp_path), environ)


def test_a_database_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    settings = Settings(model_store=tmp_path, store_url="file:///mnt/models", registry="database")
    registry = open_registry(settings, {"DATABASE_URL": "postgresql://marloop:secret@127.0.0.1:1/models"})
    with pytest.raises(ArchiveError, match="the registry in the database of DATABASE_URL cannot be read: ") as caught:
        registry.models()
    assert "secret" not in str(caught.value)


def test_a_command_s_option_names_a_folder_a_url_or_the_copy_of_one(shared: SharedStore, tmp_path: Path) -> None:
    add(shared.registry("a"))
    environ = {**shared.environment, "MARLOOP_RUN_DIR": str(tmp_path / "b")}
    assert open_at(shared.url, environ).champion("doubling").number == "1.0"
    copy = {**environ, **shared.settings("b").to_environment(), "MARLOOP_MODEL_STORE": str(tmp_path / "copy")}
    assert open_at(str(tmp_path / "copy"), copy).champion("doubling").number == "1.0"
    assert open_at(str(tmp_path / "other"), copy).models() == {}
    with pytest.raises(ArchiveError, match="MARLOOP_INFERENCE_PORT is 'x'"):
        open_at(shared.url, {**environ, "MARLOOP_INFERENCE_PORT": "x"})


def test_what_serves_reads_its_folder_alone(shared: SharedStore) -> None:
    add(shared.registry("a"))
    assert open_copy(shared.settings("b")).models() == {}


def test_a_folder_with_a_store_of_its_own_is_never_made_a_copy(shared: SharedStore) -> None:
    settings = shared.settings("a")
    add(Registry(settings.model_store), "line")
    before = {path.name: path.read_bytes() for path in settings.model_store.iterdir()}
    with pytest.raises(ArchiveError, match="is a model store of its own, and would be overwritten by a copy of"):
        shared.registry("a")
    assert {path.name: path.read_bytes() for path in settings.model_store.iterdir()} == before


def test_what_is_in_a_folder_is_copied_into_a_shared_store(shared: SharedStore, tmp_path: Path) -> None:
    folder = Registry(tmp_path / "folder")
    for number, state in (("1.0", "retired"), ("1.1", "champion")):
        add(folder, "line", number, "champion" if state == "champion" else "retired")
    add(folder, "doubling")
    add(shared.registry("a"), "doubling", "1.7")
    registry = shared.registry("b")
    assert share(folder, registry) == ["line 1.0 (retired)", "line 1.1 (champion)", "doubling 1.0 (retired)"]
    other = shared.registry("c")
    assert {name: champion.number for name, champion in other.champions().items()} == {"line": "1.1", "doubling": "1.7"}
    for versions in other.models().values():
        for version in versions.values():
            other.verify(version)
    assert share(folder, registry) == []
    assert folder.models()["line"]["1.1"].state == "champion"
