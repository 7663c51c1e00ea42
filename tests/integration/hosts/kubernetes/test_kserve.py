"""Marloop on KServe: manifests that KServe's own types know, and the runtime's command on a read-only folder."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serving.registry import Registry
from serving.settings import ROOT, Settings
from tests.clients import environments
from tests.integration.conftest import put, settings_for
from tests.support.waiting import wait_until

KSERVE = ROOT / "deploy" / "kubernetes" / "kserve"
MOUNTED = "/mnt/models"  # where KServe puts what a storageUri names


def manifest(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((KSERVE / name).read_text())
    return document


@pytest.fixture(scope="module")
def container() -> dict[str, Any]:
    (only,) = manifest("runtime.yaml")["spec"]["containers"]
    return dict(only)


def test_kserves_own_types_know_every_field_and_would_tell_of_one_that_they_do_not_know(tmp_path: Path) -> None:
    manifests = [manifest(name) for name in ("runtime.yaml", "inferenceservice.yaml", "inferenceservice.yaml")]
    manifests[2]["spec"]["predictor"] |= {"canaryTraffic": 10, "minReplicas": "two"}
    file = tmp_path / "objects.json"
    file.write_text(json.dumps(manifests))
    place = "InferenceService.spec.predictor"
    assert environments.run("kserve", "manifests.py", str(file)) == [
        [],
        [],
        [f"{place}.minReplicas is 'two', not int", f"{place}.canaryTraffic is not known"],
    ]


def test_the_service_asks_for_a_format_and_a_protocol_that_the_runtime_has() -> None:
    runtime, model = manifest("runtime.yaml")["spec"], manifest("inferenceservice.yaml")["spec"]["predictor"]["model"]
    formats = [(known["name"], known["version"]) for known in runtime["supportedModelFormats"]]
    assert (model["modelFormat"]["name"], model["modelFormat"]["version"]) in formats
    assert model["protocolVersion"] in runtime["protocolVersions"]
    assert model["runtime"] == manifest("runtime.yaml")["metadata"]["name"]


def test_the_container_runs_without_rights(container: dict[str, Any]) -> None:
    security = container["securityContext"]
    assert (security["runAsNonRoot"], security["allowPrivilegeEscalation"]) == (True, False)
    assert security["capabilities"] == {"drop": ["ALL"]}


@pytest.fixture(scope="module")
def served(container: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The container's command on a folder with archives, which nobody may write to, and no registry."""
    base = tmp_path_factory.mktemp("kserve")
    store = put(base / "trained", "linear", "flights")
    mounted = base / "mounted" / "models"
    mounted.mkdir(parents=True)
    for version in (champion.version for champion in Registry(store).champions().values()):
        shutil.copy(store / version.archive, mounted)
    mounted.chmod(0o555)
    settings = settings_for(base / "store", base / "run", "0.0.0.0", "direct")
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    program = base / "bin" / "marloop"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m marloop "$@"\n')
    program.chmod(0o755)
    environ = os.environ | settings.to_environment() | variables | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    command = [word.replace(MOUNTED, str(mounted.parent)) for word in (*container["command"], *container["args"])]
    with (base / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log, start_new_session=True)
    try:
        path = container["readinessProbe"]["httpGet"]["path"]
        wait_until(lambda: process.poll() is not None or answers(settings, path), timeout=90)
        assert process.poll() is None, (base / "log").read_text()
        yield settings
    finally:
        mounted.chmod(0o755)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert process.returncode == 0, (base / "log").read_text()


def answers(settings: Settings, path: str) -> bool:
    try:
        return httpx.get(f"{settings.inference_url}{path}", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def ask(settings: Settings, path: str, body: Any) -> Any:
    response = httpx.post(f"{settings.inference_url}{path}", json=body, timeout=30, trust_env=False)
    assert response.status_code == 200, response.text
    return response.json()


def test_what_kserve_fetched_is_served_in_both_protocols(served: Settings) -> None:
    assert ask(served, "/v1/models/linear:predict", {"instances": [{"x": 6}]})["predictions"] == [
        pytest.approx(12, abs=0.01)
    ]
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 6]}
    (output,) = ask(served, "/v2/models/linear/infer", {"inputs": [tensor]})["outputs"]
    assert output["data"] == pytest.approx([2, 12], abs=0.05)


def test_each_model_of_the_folder_is_ready(served: Settings) -> None:
    for model in ("linear", "flights"):
        assert answers(served, f"/v2/models/{model}/ready")
    assert answers(served, "/v2/health/live")
