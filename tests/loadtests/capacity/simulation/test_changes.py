"""Scenarios from files: single values may be changed, and what is wrong is named."""

from pathlib import Path

import msgspec
import pytest

from loadtests.capacity.simulation.changes import read_scenario
from loadtests.capacity.simulation.scenario import ScenarioError
from tests.loadtests.capacity.simulation.fleets import fleet


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.json"
    path.write_bytes(msgspec.json.encode(fleet(10, 60)))
    return path


def test_a_file_is_read_as_it_was_written(path: Path) -> None:
    assert read_scenario(path, []) == fleet(10, 60)


def test_values_inside_of_others_are_changed_by_their_path(path: Path) -> None:
    scenario = read_scenario(path, ["policy=random", "cluster.start=60", "cluster.losses=[5]", "traffic.peak=20"])
    assert (scenario.policy, scenario.cluster.start, scenario.cluster.losses) == ("random", 60, (5.0,))
    assert scenario.traffic.peak == 20


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("policy", "NAME=VALUE"),
        ("policy=fair", "Invalid enum value 'fair' - at `\\$.policy`"),
        ("cluster.starts=60", "unknown field `starts` - at `\\$.cluster`"),
        ("cluster.start=-1", "at `\\$.cluster.start`"),
        ("seconds.x=1", "names no value"),
        ("traffic.peak=1e9", "would take hours"),
    ],
)
def test_a_wrong_change_is_named(path: Path, change: str, fault: str) -> None:
    with pytest.raises(ScenarioError, match=fault):
        read_scenario(path, [change])


def test_a_file_that_is_not_there_or_no_scenario_is_named(path: Path) -> None:
    with pytest.raises(ScenarioError, match="gone.json: No such file"):
        read_scenario(path.with_name("gone.json"), [])
    for content in (b"", b"[]", b'{"seconds": 1}', b"\xff"):
        path.write_bytes(content)
        with pytest.raises(ScenarioError, match="is no scenario"):
            read_scenario(path, [])
