"""The configuration of Ray Serve: an application a version, the same for the same registry."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.hosts.ray.config import IMPORT_PATH, Application, application, as_yaml, serve_config
from serving.hosts.ray.settings import RaySettings
from serving.registry import ArchiveError, Registry
from tests.support.serving.stores import add

FLIGHTS = Application("flights", "1.0", "s3://models/flights-1.0.mar", "0" * 64)


def test_a_version_is_an_application_of_its_own() -> None:
    later = Application("flights", "1.1", "s3://models/flights-1.1.mar", "1" * 64)
    first, second = serve_config([FLIGHTS, later])["applications"]
    assert (first["name"], first["route_prefix"]) == ("flights-1.0", "/predictions/flights/1.0")
    assert (second["name"], second["route_prefix"]) == ("flights-1.1", "/predictions/flights/1.1")
    assert first["import_path"] == second["import_path"] == IMPORT_PATH
    assert first["args"]["archive"] == "s3://models/flights-1.0.mar"
    assert first["args"]["sha256"] == "0" * 64


def test_a_version_more_changes_nothing_of_the_others() -> None:
    later = Application("flights", "1.1", "s3://models/flights-1.1.mar", "1" * 64)
    assert serve_config([FLIGHTS, later])["applications"][0] == serve_config([FLIGHTS])["applications"][0]


def test_replicas_follow_the_load_only_where_there_may_be_more() -> None:
    fixed, following = (
        serve_config([Application("a", "1.0", "a.mar", "0" * 64, replicas=2, most_replicas=most, target=8)])
        for most in (2, 5)
    )
    assert fixed["applications"][0]["deployments"][0]["num_replicas"] == 2
    deployment = following["applications"][0]["deployments"][0]
    assert "num_replicas" not in deployment
    assert deployment["autoscaling_config"] == {"min_replicas": 2, "max_replicas": 5, "target_ongoing_requests": 8}


def test_variables_are_those_of_the_replicas() -> None:
    config = serve_config([FLIGHTS], variables={"PROMETHEUS_MULTIPROC_DIR": "/dev/shm/metrics"})
    assert config["applications"][0]["runtime_env"] == {"env_vars": {"PROMETHEUS_MULTIPROC_DIR": "/dev/shm/metrics"}}


def test_yaml_holds_the_same() -> None:
    assert yaml.safe_load(as_yaml(serve_config([FLIGHTS]))) == serve_config([FLIGHTS])


@pytest.mark.parametrize(("config", "replicas"), [({}, (2, 2)), ({"minWorkers": 3, "maxWorkers": 6}, (3, 6))])
def test_a_version_of_the_registry_is_found_where_each_machine_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], replicas: tuple[int, int]
) -> None:
    monkeypatch.setattr("serving.archive.read_config", lambda archive: config)
    registry = Registry(tmp_path / "store")
    add(registry)
    number, version = registry.champion("doubling")
    here = application(registry, "doubling", number, version, RaySettings())
    assert here.archive == str(registry.store / version.archive)
    assert (here.replicas, here.most_replicas, here.sha256) == (*replicas, version.sha256)
    there = application(registry, "doubling", number, version, RaySettings(archives="s3://models/"))
    assert there.archive == f"s3://models/{version.archive}"


@pytest.mark.parametrize(
    ("section", "replicas"),
    [
        ({"min_replicas": 1}, (1, 5)),  # fewer than the settings' two
        ({"min_replicas": 7}, (7, 7)),
        ({"max_replicas": 9}, (2, 9)),
        ({"max_replicas": 1}, (1, 1)),
        ({"min_replicas": 3, "max_replicas": 4}, (3, 4)),
    ],
)
def test_a_models_own_numbers_of_replicas_go_before_those_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: dict[str, Any], replicas: tuple[int, int]
) -> None:
    numbers = section | {"target_ongoing_requests": 3, "upscale_delay_s": 1}
    monkeypatch.setattr("serving.archive.read_config", lambda archive: {"autoscaling": numbers})
    registry = Registry(tmp_path / "store")
    add(registry)
    settings = RaySettings(replicas=2, most_replicas=5, target=16)
    deployed = application(registry, "doubling", *registry.champion("doubling"), settings)
    assert (deployed.replicas, deployed.most_replicas, deployed.target) == (*replicas, 3)
    deployment = serve_config([deployed])["applications"][0]["deployments"][0]
    if replicas[0] == replicas[1]:
        assert deployment["num_replicas"] == replicas[0]
    else:
        scaling = {"min_replicas": replicas[0], "max_replicas": replicas[1], "target_ongoing_requests": 3}
        assert deployment["autoscaling_config"] == scaling | {"upscale_delay_s": 1}


def test_an_archive_with_wrong_numbers_of_replicas_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.archive.read_config", lambda archive: {"autoscaling": {"min_replicas": "two"}})
    registry = Registry(tmp_path / "store")
    add(registry)
    with pytest.raises(ArchiveError, match=r"doubling.*\.mar, model-config\.yaml: autoscaling\.min_replicas is 'two'"):
        application(registry, "doubling", *registry.champion("doubling"), RaySettings())
