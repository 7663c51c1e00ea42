"""What docker-compose.yml says, as Compose reads it; no engine is needed."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from monitoring.retraining.wiring import Policies
from serving.settings import ROOT
from tests.compose.conftest import SECRETS, configuration
from tests.compose.docker import Docker

pytestmark = pytest.mark.compose
FAKE_DOCKER = """#!/bin/sh
[ "$1" = pull ] || echo "registry.example/some/name@sha256:$(printf %064d 0)"
"""
CONTROL = ("torchserve", "monitor")
LOAD = {"locust", "locust-worker"}
STACK = {"torchserve", "exporter", "monitor", "database", "prometheus", "alertmanager", "grafana"}
SERVICES = STACK | {"train"} | LOAD


@pytest.fixture(scope="module")
def services(docker: Docker) -> dict[str, Any]:
    found: dict[str, Any] = configuration(docker)["services"]
    return found


def test_secrets_are_files_that_only_those_have_who_need_them(services: dict[str, Any]) -> None:
    holders = {name: {secret["source"] for secret in service.get("secrets", [])} for name, service in services.items()}
    assert {name: held for name, held in holders.items() if held} == {
        "torchserve": {"marloop_events_token"},
        "monitor": {"marloop_token", "marloop_events_token", "database_url"},
        "database": {"postgres_password"},
        "alertmanager": {"marloop_token"},
        "grafana": {"grafana_password"},
    }
    environments = [str(service.get("environment", {})) for service in services.values()]
    assert not any(value in environment for environment in environments for value in SECRETS.values())


def test_the_database_shares_a_network_with_the_monitor_alone(services: dict[str, Any]) -> None:
    (network,) = services["database"]["networks"]
    assert {name for name, service in services.items() if network in service.get("networks", {})} == {
        *("database", "monitor")
    }


def test_opentelemetrys_variables_reach_what_serves_as_a_user_sets_them(docker: Docker, tmp_path: Path) -> None:
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=a,x-tenant=b=c",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_SERVICE_NAME": "flights",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.01",
    }
    file = tmp_path / ".env"
    file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()) + "EXTRAS=otel\n")
    for set_ones, services in (
        ({}, configuration(docker)["services"]),
        (variables, configuration(docker, **variables)["services"]),
        (variables, configuration(docker, COMPOSE_ENV_FILES=str(file))["services"]),
    ):
        for name, service in services.items():
            environment = dict(service.get("environment") or {}).items()
            passed = {key: value for key, value in environment if key.startswith("OTEL_") and value is not None}
            assert passed == (set_ones if name == "torchserve" else {})
    assert services["torchserve"]["build"]["args"]["EXTRAS"] == "otel"


def test_every_variable_of_the_running_stack_is_in_env_example() -> None:
    of_one_command = {"MODEL", "PROFILE", "LOAD_WORKERS"}
    of_a_build = {"PIP_EXTRA_INDEX_URL", "GIT_COMMIT", "EXTRAS"}
    variables = re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text())
    images = {name for name in variables if name.endswith("_IMAGE")}
    named = {name.removesuffix("_FILE") for name in variables} - images - of_one_command - of_a_build
    documented = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert named
    assert named <= documented


def test_the_monitor_gets_the_loops_settings_with_the_defaults_of_the_code(services: dict[str, Any]) -> None:
    given = services["monitor"]["environment"]
    assert given["MARLOOP_RETRAIN_DAYS"] == ""
    assert Policies.from_environment(given) == Policies.from_environment({})


def test_a_setting_of_the_loop_reaches_the_monitor(docker: Docker) -> None:
    services = configuration(docker, MARLOOP_RETRAIN="off")["services"]
    assert services["monitor"]["environment"]["MARLOOP_RETRAIN"] == "off"


def test_the_monitor_can_retrain_as_the_service_train_does(services: dict[str, Any]) -> None:
    train, monitor = services["train"], services["monitor"]
    assert volumes(train) <= volumes(monitor)
    assert monitor["mem_limit"] == train["mem_limit"]
    assert monitor["tmpfs"] == train["tmpfs"]


def test_what_a_retraining_needs_after_a_restart_is_in_a_volume(services: dict[str, Any]) -> None:
    monitor = services["monitor"]
    assert Path(monitor["environment"]["MARLOOP_RUN_DIR"]).is_relative_to("/work")
    assert "/work" in {target for _, target, _ in volumes(monitor)}


def test_management_is_a_socket_that_torchserve_shares_with_the_monitor_alone(services: dict[str, Any]) -> None:
    named = {services[name]["environment"].get("MARLOOP_MANAGEMENT_SOCKET") for name in CONTROL}
    assert named == {"/control/management.sock"}
    holders = {name for name, one in services.items() for _, target, _ in volumes(one) if target == "/control"}
    assert holders == set(CONTROL)
    assert not any("MARLOOP_MANAGEMENT_URL" in one.get("environment", {}) for one in services.values())


def test_alertmanager_reads_the_token_from_its_secret(services: dict[str, Any]) -> None:
    config = (ROOT / "monitoring" / "alertmanager" / "alertmanager.yml").read_text()
    (file,) = re.findall(r"credentials_file: ([\w/]+)", config)
    assert file == f"/run/secrets/{services['alertmanager']['secrets'][0]['source']}"


def test_every_service_is_confined(services: dict[str, Any]) -> None:
    assert services.keys() == SERVICES
    for name, service in services.items():
        assert service["read_only"], name
        assert service["init"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert float(service["cpus"]) > 0, name
        assert int(service["mem_limit"]) > 0, name
        assert service["ulimits"] == {"nofile": 16384}, name
        assert service["pids_limit"] > 0, name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert not service.get("privileged"), name


def test_every_service_that_stays_has_a_health_check(services: dict[str, Any]) -> None:
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"train", *LOAD}


def test_foreign_images_are_pinned_to_a_release(services: dict[str, Any]) -> None:
    foreign = [service["image"] for service in services.values() if "build" not in service]
    assert len(foreign) == 4
    assert all(re.fullmatch(r"[\w/]+:v?\d+\.\d+(\.\d+)?", image) for image in foreign)


def test_foreign_images_can_be_named_by_their_digests(docker: Docker, tmp_path: Path) -> None:
    fake = tmp_path / "docker"
    fake.write_text(FAKE_DOCKER)
    fake.chmod(0o755)
    command = ["sh", str(ROOT / "deploy" / "pin-images.sh")]
    done = subprocess.run(command, env=os.environ | {"DOCKER": str(fake)}, capture_output=True, text=True, check=True)
    pinned = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert pinned.keys() == {
        f"{name}_IMAGE" for name in ("ALERTMANAGER", "GRAFANA", "POSTGRES", "PROMETHEUS", "PYTHON")
    }
    assert pinned["POSTGRES_IMAGE"] == f"postgres:17.6@sha256:{'0' * 64}"
    services = configuration(docker, **pinned)["services"]
    assert {one["image"] for one in services.values() if "build" not in one} < set(pinned.values())
    assert services["monitor"]["build"]["args"]["PYTHON_IMAGE"] == pinned["PYTHON_IMAGE"]


def test_three_ports_are_published_and_on_loopback(services: dict[str, Any]) -> None:
    published = {
        (name, port["host_ip"], port["target"])
        for name, service in services.items()
        for port in service.get("ports", [])
    }
    assert published == {
        ("torchserve", "127.0.0.1", 8080),
        ("monitor", "127.0.0.1", 8090),
        ("grafana", "127.0.0.1", 3000),
    }


def test_grpc_is_published_where_it_is_on_and_on_loopback_too(docker: Docker) -> None:
    for switch, ports in (("off", {8080}), ("on", {8080, 8001})):
        service = configuration(docker, MARLOOP_GRPC=switch)["services"]["torchserve"]
        assert {port["target"] for port in service["ports"]} == ports
        assert {port["host_ip"] for port in service["ports"]} == {"127.0.0.1"}
        assert service["environment"]["MARLOOP_GRPC"] == switch


def test_the_host_knows_the_address_that_is_published(docker: Docker) -> None:
    for variables, address in (({}, "127.0.0.1"), ({"BIND_ADDRESS": "0.0.0.0"}, "0.0.0.0")):
        environment = configuration(docker, **variables)["services"]["torchserve"]["environment"]
        assert environment["MARLOOP_PUBLISHED_ADDRESS"] == address


def test_bind_address_opens_the_published_ports(docker: Docker) -> None:
    services = configuration(docker, BIND_ADDRESS="0.0.0.0")["services"]
    addresses = {port["host_ip"] for service in services.values() for port in service.get("ports", [])}
    assert addresses == {"0.0.0.0"}


def test_a_model_store_of_ones_own_takes_the_volumes_place(docker: Docker) -> None:
    services = configuration(docker, MODEL_STORE="./model_store")["services"]
    stores = {
        (name, mount["type"], mount["source"].rpartition("/")[2], mount.get("read_only", False))
        for name, service in services.items()
        for mount in service.get("volumes", [])
        if mount["target"] == "/models"
    }
    readers = {(name, "bind", "model_store", True) for name in {"torchserve", *LOAD}}
    assert stores == readers | {(name, "bind", "model_store", False) for name in ("train", "monitor")}


def test_torchserve_shares_no_network_with_grafana_and_alertmanager(services: dict[str, Any]) -> None:
    mine = services["torchserve"]["networks"].keys()
    for name in ("grafana", "alertmanager", "train"):
        assert not mine & services[name]["networks"].keys(), name


def volumes(service: dict[str, Any]) -> set[tuple[str, str, bool]]:
    """Source and target of each, and whether it is read-only."""
    return {(one["source"], one["target"], one.get("read_only", False)) for one in service.get("volumes", [])}
