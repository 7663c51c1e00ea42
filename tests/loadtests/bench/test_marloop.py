"""Marloop in the bench: the champion's archive, changed by a profile, in a store of its own and on ports of its own."""

import json
import zipfile
from pathlib import Path

import pytest
import yaml
from msgspec.structs import asdict

from loadtests.bench.tensors.marloop import BARE, repacked, settings, unpack
from loadtests.tune.candidates import Candidate
from serving.archive import CONFIG, MANIFEST, read_file
from serving.registry import Registry, file_sha256
from serving.settings import Settings
from tests.support.serving.stores import add

PACKED = {"minWorkers": 2, "maxWorkers": 2, "batchSize": 32, "maxBatchDelay": 3, "handler": {"max_rows": 9}}


@pytest.fixture
def champion(tmp_path: Path) -> Path:
    """A champion as the bench unpacks it."""
    registry = Registry(tmp_path / "registered")
    path = add(registry)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model.onnx", b"graph")
        archive.writestr("model.pt2", b"program")
        archive.writestr(CONFIG, yaml.safe_dump(PACKED))
        archive.writestr(MANIFEST, json.dumps({"model": {"modelName": "doubling", "handler": "tabular.py"}}))
    with registry.change() as models:
        models["doubling"]["1.0"].sha256 = file_sha256(path)
    return unpack(registry, "doubling", tmp_path / "champion")


def served(champion: Path, profile: str, store: Path) -> bytes:
    """The archive that a profile serves, as its registry vouches for it."""
    registry = Registry(repacked(champion, profile, store))
    return registry.verify(registry.champions()["doubling"][1]).read_bytes()


def test_throughput_is_as_the_champion_was_packed(champion: Path, tmp_path: Path) -> None:
    assert served(champion, "throughput", tmp_path / "store") == (champion / "champion.mar").read_bytes()


def test_latency_answers_each_request_alone_and_changes_nothing_else(champion: Path, tmp_path: Path) -> None:
    found = served(champion, "latency", tmp_path / "store")
    assert Candidate.of(found) == Candidate(2, 1, 3)
    assert yaml.safe_load(read_file(found, CONFIG)) == PACKED | {"batchSize": 1}
    assert read_file(found, "model.onnx") == b"graph"


def test_bare_has_the_same_settings_and_another_handler(champion: Path, tmp_path: Path) -> None:
    found = served(champion, "bare", tmp_path / "store")
    assert yaml.safe_load(read_file(found, CONFIG)) == PACKED
    assert json.loads(read_file(found, MANIFEST))["model"] == {"modelName": "doubling", "handler": BARE.name}
    assert read_file(found, BARE.name) == BARE.read_bytes()


def test_a_service_beside_others_has_ports_of_its_own_and_the_one_it_is_asked_on(tmp_path: Path) -> None:
    found = asdict(settings(1234, tmp_path, tmp_path))
    ports = {name: port for name, port in found.items() if name.endswith("_port")}
    assert ports["inference_port"] == 1234
    assert len(set(ports.values())) == len(ports)
    usual = asdict(Settings())
    assert not [name for name, port in ports.items() if port == usual[name]]
