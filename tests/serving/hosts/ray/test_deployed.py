"""The file of what is deployed: what is read is what was written, and a damaged one is none."""

from pathlib import Path

import pytest

from serving.hosts.ray import deployed
from serving.hosts.ray.config import Application
from serving.hosts.ray.deployed import State
from serving.hosts.ray.settings import Place
from serving.settings import Settings

OLD, NEW = (Application("flights", number, f"flights-{number}.mar", "0" * 64) for number in ("1.0", "1.1"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(Settings(run_dir=tmp_path))


def test_what_is_read_is_what_was_written(place: Place) -> None:
    state = State((OLD,), {"flights": "1.0"}).with_version(NEW).with_champion("flights", "1.1")
    deployed.write(place, state)
    assert deployed.read(place) == state
    assert state.served() == {"flights": ["1.0", "1.1"]}


def test_a_version_that_goes_is_no_champion_any_more() -> None:
    state = State((OLD, NEW), {"flights": "1.1"})
    assert state.without([("flights", "1.1")]) == State((OLD,), {})
    assert state.without([("flights", "1.0")]) == State((NEW,), {"flights": "1.1"})


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"applications": 3}'])
def test_a_missing_or_damaged_file_is_an_empty_state(place: Place, content: bytes | None) -> None:
    if content is not None:
        place.state.parent.mkdir(parents=True)
        place.state.write_bytes(content)
    assert deployed.read(place) == State()
