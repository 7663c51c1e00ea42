"""Retrainings by the chart: what the monitor may do for them, and the Job that it makes of the chart's manifest."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitoring.retraining.launch.kubernetes import KubernetesLauncher, read_manifest
from monitoring.retraining.launch.submissions import Api
from tests.integration.hosts.kubernetes.helm import (
    Object,
    containers,
    environment,
    named,
    of_kind,
    rendered,
)

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is of the extra dev")
KEY = "/run/config/marloop-key/signing.pub"
VALUES = "loop.yaml"


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return rendered(VALUES)


@pytest.fixture
def requests() -> list[httpx.Request]:
    return []


@pytest.fixture
def launcher(objects: list[Object], requests: list[httpx.Request], tmp_path: Path) -> KubernetesLauncher:
    """One that has the chart's manifest, and whose API server notes what it is asked."""
    file = tmp_path / "job.yaml"
    file.write_text(named(objects, "ConfigMap", "marloop-training")["data"]["job.yaml"])

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"items": [], "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}})

    client = httpx.Client(base_url="http://api", transport=httpx.MockTransport(answer))
    return KubernetesLauncher(Api("Kubernetes", client), "models", read_manifest(file), {"MARLOOP_RUNS": "/work/runs"})


@pytest.fixture
def job(launcher: KubernetesLauncher, requests: list[httpx.Request]) -> Object:
    """The Job of a training."""
    launcher.submit("marloop-7-1", ["train", "linear", "--store", "/work/monitor/model_store"])
    body: dict[str, Any] = json.loads(requests[0].content)
    return body


def test_a_training_is_a_valid_job_that_goes_on_with_what_the_monitor_left(job: Object, objects: list[Object]) -> None:
    kubernetes_validate.validate(job, "1.35", strict=True)
    (train,) = job["spec"]["template"]["spec"]["containers"]
    assert train["command"] == ["marloop", "train", "linear", "--store", "/work/monitor/model_store"]
    monitor = containers(named(objects, "Deployment", "marloop-monitor"))["monitor"]
    shared = {"MARLOOP_MODEL_STORE", "MARLOOP_RUN_DIR", "MARLOOP_PUBLIC_KEY"}
    own, other = environment(train), environment(monitor)
    assert {name: own[name] for name in shared} == {name: other[name] for name in shared}
    assert own["MARLOOP_RUNS"] == "/work/runs"
    assert train["envFrom"] == monitor["envFrom"]
    work = {"name": "work", "mountPath": "/work", "subPath": "work"}
    assert work in train["volumeMounts"]
    assert work in monitor["volumeMounts"]


def test_a_training_has_no_rights_in_the_cluster_and_none_on_its_node(job: Object) -> None:
    pod = job["spec"]["template"]["spec"]
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert "serviceAccountName" not in pod
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    mounted = {mount["name"] for each in (*pod["initContainers"], *pod["containers"]) for mount in each["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_monitor_may_do_what_a_launcher_asks_for_and_nothing_else(
    launcher: KubernetesLauncher, requests: list[httpx.Request], objects: list[Object]
) -> None:
    launcher.submit("marloop-7-1", ["train", "linear"])
    launcher.running_since("marloop-7-1")
    launcher.printed("marloop-7-1")
    launcher.stop("marloop-7-1")
    asked = {(request.method, request.url.path) for request in requests}
    jobs, pods = "/apis/batch/v1/namespaces/models/jobs", "/api/v1/namespaces/models/pods"
    one = f"{jobs}/marloop-7-1"
    assert asked == {("POST", jobs), ("GET", one), ("DELETE", one), ("GET", pods)}  # the log of a pod, where one is
    (role,) = of_kind(objects, "Role")
    assert role["rules"] == [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "delete"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    ]
    (binding,) = of_kind(objects, "RoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    account = {"kind": "ServiceAccount", "name": "marloop-monitor", "namespace": "models"}
    assert binding["subjects"] == [account]
    pod = named(objects, "Deployment", "marloop-monitor")["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == account["name"]


def test_trainings_alone_can_sign_and_whatever_serves_or_promotes_checks(job: Object, objects: list[Object]) -> None:
    assert environment(job["spec"]["template"]["spec"]["containers"][0])["MARLOOP_SIGNING_KEY"].startswith(
        "/run/secrets/"
    )
    for deployment, name in (("marloop-all", "host"), ("marloop-monitor", "monitor")):
        container = containers(named(objects, "Deployment", deployment))[name]
        assert environment(container)["MARLOOP_PUBLIC_KEY"] == KEY
        assert any(KEY.startswith(mount["mountPath"]) for mount in container["volumeMounts"])
    assert "marloop-signing" not in json.dumps([each for each in objects if each["kind"] == "Deployment"])
    key = named(objects, "ConfigMap", "marloop-public-key")["data"]["signing.pub"]
    assert key.startswith("-----BEGIN PUBLIC KEY-----\n")


def test_archives_of_urls_are_checked_before_the_pod_starts() -> None:
    key = named(rendered(VALUES), "ConfigMap", "marloop-public-key")["data"]["signing.pub"]
    deployment = named(rendered("one-model.yaml", f"publicKey={key}"), "Deployment", "marloop-flights")
    for name in ("register", "host"):
        assert environment(containers(deployment)[name])["MARLOOP_PUBLIC_KEY"] == KEY


def test_a_monitor_that_trains_nothing_has_no_rights_at_all() -> None:
    objects = rendered(VALUES, "training.enabled=false")
    assert [each for each in objects if each["kind"] in ("Role", "RoleBinding", "ServiceAccount")] == []
    pod = named(objects, "Deployment", "marloop-monitor")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert (
        environment(containers(named(objects, "Deployment", "marloop-monitor"))["monitor"])["MARLOOP_RETRAIN"] == "off"
    )
