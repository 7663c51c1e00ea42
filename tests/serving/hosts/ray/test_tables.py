"""The head's tables are kept, and given up only where a head did not come up with them several times in a row."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from serving.hosts.ray import tables
from serving.hosts.ray.settings import Place
from serving.settings import Settings


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = Place(Settings(run_dir=tmp_path / "run"))
    place.folder.mkdir(parents=True, mode=0o700)
    place.settings.temporary.chmod(0o700)
    return place


def start(place: Place) -> bool:
    """Start a head, and return whether it finds the tables of the first one."""
    tables.prepare(place)
    row = place.tables / "row"
    found = row.exists()
    row.touch()
    return found


def test_a_head_that_comes_back_finds_its_tables_however_often_it_was_killed(place: Place) -> None:
    start(place)
    for _ in range(3 * tables.TRIES):
        tables.came_up(place)
        assert start(place)


def test_tables_with_which_a_head_does_not_come_up_are_given_up(place: Place) -> None:
    assert [start(place) for _ in range(tables.TRIES + 2)] == [False, *[True] * (tables.TRIES - 1), False, True]


def test_they_lie_on_disk_where_other_machines_join_or_the_environment_says_so(place: Place) -> None:
    on_disk = {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(place.tables)}
    joined = Place(replace(place.settings, private_address="10.0.0.1"))
    assert tables.variables(joined, {}) == tables.variables(place, {"RAY_gcs_storage": "rocksdb"}) == on_disk
    assert tables.variables(place, {}) == {}
    assert tables.variables(joined, {"RAY_gcs_storage": "memory"}) == {}
    assert tables.variables(joined, {"RAY_REDIS_ADDRESS": "10.0.0.9:6379"}) == {}
