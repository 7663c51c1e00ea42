"""The machines of a cluster, by Ray's own list; without one, this machine."""

import json
from pathlib import Path

import pytest

from serving.hosts.chosen import HOSTS, exporters
from serving.hosts.ray.machines import LIST
from serving.hosts.ray.settings import Place
from serving.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings = Settings(run_dir=tmp_path / "run", exporter_port=9000)
    Place(settings).folder.mkdir(parents=True)
    return settings


def test_each_machine_of_rays_list_has_one_exporter_however_many_ports_are_listed(settings: Settings) -> None:
    targets = ["10.0.0.2:6310", "10.0.0.1:6310", "10.0.0.1:44227", "[fd00::3]:6310"]
    (Place(settings).folder / LIST).write_text(json.dumps([{"labels": {"job": "ray"}, "targets": targets}]))
    urls = ["http://10.0.0.1:9000", "http://10.0.0.2:9000", "http://[fd00::3]:9000"]
    assert exporters(HOSTS["ray"], settings) == urls
    assert exporters(HOSTS["direct"], settings) == ["http://127.0.0.1:9000"]


@pytest.mark.parametrize("text", [None, "", "{", "[]", '[{"targets": [5]}]', '[{"targets": []}]', '{"targets": []}'])
def test_without_a_list_that_can_be_read_there_is_this_machine(settings: Settings, text: str | None) -> None:
    if text is not None:
        (Place(settings).folder / LIST).write_text(text)
    assert exporters(HOSTS["ray"], settings) == ["http://127.0.0.1:9000"]
