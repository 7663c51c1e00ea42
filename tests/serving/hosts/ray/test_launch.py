"""What the processes of a node have in their environment."""

from pathlib import Path

import pytest

from handlers.observe.settings import CAPTURE_URL
from serving.hosts.ray.archive_code import METRICS
from serving.hosts.ray.launch import node_environment
from serving.hosts.ray.settings import Place
from serving.settings import Settings


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.delenv(CAPTURE_URL, raising=False)
    return Place(Settings(run_dir=tmp_path / "run", private_address="10.0.0.2"))


def test_a_node_measures_into_its_own_folder_and_captures_to_its_heads_machine(place: Place) -> None:
    environment = node_environment(place, {}, "10.0.0.1:6300")
    assert environment[METRICS] == str(place.settings.metrics)
    assert environment[CAPTURE_URL] == "http://10.0.0.1:8090/events"


def test_a_head_captures_to_its_own_monitor_and_a_chosen_place_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert node_environment(place, {})[CAPTURE_URL] == f"{place.settings.monitor_url}/events"
    monkeypatch.setenv(CAPTURE_URL, "off")
    assert node_environment(place, {}, "10.0.0.1:6300")[CAPTURE_URL] == "off"
