"""The chart as Helm renders it: every object is valid, and says what the page promises."""

import functools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.settings import PARTS
from handlers.observe import telemetry
from serving.hosts.ray.config import Application, as_yaml, serve_config
from serving.settings import ROOT, Settings
from tests.clients import environments
from tests.integration.hosts.kubernetes.helm import (
    CHART,
    FILES,
    VALUES,
    Object,
    containers,
    environment,
    helm,
    named,
    of_kind,
    rendered,
    template,
)

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is of the extra dev")
CORE = {"v1", "apps/v1", "autoscaling/v2", "policy/v1", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1"}
RAY = "ray.io/v1"
TWO = "applications: [{route_prefix: /predictions/a/1}, {route_prefix: /predictions/a/2}]"
HOST_URL = "/v1/models/flights:predict"
each_file = pytest.mark.parametrize("values", FILES)


@functools.cache
def objects(values: str) -> list[Object]:
    """What a file of values renders to; the same list for all tests."""
    return rendered(values)


def deployments(values: str) -> list[Object]:
    return of_kind(objects(values), "Deployment")


def pods(values: str) -> Iterator[tuple[str, Object]]:
    """Each Deployment's name and its pods' specification."""
    for deployment in deployments(values):
        yield deployment["metadata"]["name"], deployment["spec"]["template"]["spec"]


@each_file
def test_helm_finds_no_fault_in_it(values: str) -> None:
    done = helm("lint", "--strict", str(CHART), "--values", str(VALUES / values))
    assert done.returncode == 0, done.stdout + done.stderr


@each_file
def test_every_object_of_kubernetes_itself_is_valid(values: str) -> None:
    core = [item for item in objects(values) if item["apiVersion"] in CORE]
    for item in core:
        kubernetes_validate.validate(item, "1.35", strict=True)


@each_file
def test_every_custom_resource_is_valid_by_the_schema_of_its_project(values: str, tmp_path: Path) -> None:
    others = [item for item in objects(values) if item["apiVersion"] not in {*CORE, RAY}]  # no package has KubeRay's
    file = tmp_path / "objects.json"
    file.write_text(json.dumps(others))
    assert environments.run("kubernetes", "validate.mjs", str(file)) == []


def test_the_values_together_render_every_kind_that_the_chart_knows() -> None:
    texts = "".join(path.read_text() for path in (CHART / "templates").glob("*.yaml"))
    kinds = set(re.findall(r"^kind: (\w+)$", texts, re.MULTILINE))
    assert {item["kind"] for values in FILES for item in objects(values)} == kinds


@each_file
def test_no_two_objects_share_a_kind_and_a_name(values: str) -> None:
    names = [(item["kind"], item["metadata"]["name"]) for item in objects(values)]
    assert len(names) == len(set(names))


@each_file
def test_no_pod_but_the_one_that_starts_jobs_has_rights_in_the_cluster_and_none_has_on_its_node(values: str) -> None:
    for name, pod in pods(values):
        starts_jobs = (values, name) == ("loop.yaml", "marloop-monitor")
        assert pod["automountServiceAccountToken"] is starts_jobs, name
        assert ("serviceAccountName" in pod) is starts_jobs, name
        security = pod["securityContext"]
        assert (security["runAsNonRoot"], security["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
        assert security["runAsUser"] > 0
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            assert field not in pod
        assert {key for volume in pod["volumes"] for key in volume} <= {
            "name", "emptyDir", "secret", "persistentVolumeClaim", "configMap"
        }  # fmt: skip
        for container in (*pod["initContainers"], *pod["containers"]):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"].keys() == {"cpu", "memory"}


@each_file
def test_no_variable_of_a_service_is_taken_for_a_setting(values: str) -> None:
    """Kubernetes sets MARLOOP_MONITOR_PORT=tcp://… in each pod of a namespace with a Service marloop-monitor."""
    assert all(pod["enableServiceLinks"] is False for _, pod in pods(values))


@each_file
def test_what_a_container_mounts_is_there_and_its_temporary_folder_is_its_own(values: str) -> None:
    for name, pod in pods(values):
        volumes = {volume["name"] for volume in pod["volumes"]}
        made = set(re.findall(r"/scratch/(\w+)", pod["initContainers"][0]["command"][-1]))
        every = [*pod["initContainers"], *pod["containers"]]
        mounts = [(container, mount) for container in every for mount in container["volumeMounts"]]
        assert {mount["name"] for _, mount in mounts} == volumes, name
        assert {m["subPath"] for _, m in mounts if m["name"] == "scratch" and "subPath" in m} <= made
        folders = [mount["subPath"] for _, mount in mounts if mount["mountPath"] == "/tmp"]
        assert len(set(folders)) == len(folders) == len(every) - 1  # all but the one that makes them


@each_file
def test_every_variable_is_a_setting_that_the_code_has_and_its_value_is_valid(values: str) -> None:
    known = {setting.variable for parts in PARTS.values() for part in parts for setting in part.settings().values()}
    for deployment in deployments(values):
        for container in containers(deployment).values():
            variables = environment(container)
            names = {name.removesuffix("_FILE") if name.removesuffix("_FILE") in known else name for name in variables}
            assert names - known - {"AWS_ENDPOINT_URL"} == set()
            Settings.from_environment(variables)


@each_file
def test_the_container_that_runs_archives_of_urls_has_no_credentials_of_their_store(values: str) -> None:
    for deployment in deployments(values):
        all_of_it = containers(deployment)
        if "register" in all_of_it:
            assert [name for name, each in all_of_it.items() if "envFrom" in each] in ([], ["register"])


@each_file
def test_no_secret_is_a_value(values: str) -> None:
    for deployment in deployments(values):
        for container in containers(deployment).values():
            for name, value in environment(container).items():
                secret = re.search("TOKEN|PASSWORD|SECRET|DATABASE_URL|(?<!PUBLIC)_KEY", name)
                assert not secret or value.startswith("/run/secrets/"), name


@each_file
def test_a_new_pod_is_ready_before_an_old_one_goes_and_that_one_has_time_to_answer(values: str) -> None:
    for deployment in deployments(values):
        all_of_it = containers(deployment)
        if "host" not in all_of_it:
            continue
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        command = all_of_it["host"]["lifecycle"]["preStop"]["exec"]["command"]
        assert command[:-1] == ["python", "-m", "serving", "drain", "--seconds"]
        pod = deployment["spec"]["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] >= int(command[-1]) + 20  # of the supervisor's own grace


@each_file
def test_a_service_and_a_budget_have_the_pods_of_one_deployment_alone(values: str) -> None:
    labels = {d["metadata"]["name"]: d["spec"]["template"]["metadata"]["labels"] for d in deployments(values)}
    selecting = [*of_kind(objects(values), "Service"), *of_kind(objects(values), "PodDisruptionBudget")]
    for item in selecting:
        selector = item["spec"]["selector"]
        selector = selector.get("matchLabels", selector)
        assert [n for n, own in labels.items() if selector.items() <= own.items()] == [item["metadata"]["name"]]


def test_a_pod_with_archives_is_unready_without_its_model_and_one_with_a_store_serves_the_former_one() -> None:
    def path(values: str, name: str, *changes: str) -> Any:
        host = containers(named(rendered(values, *changes), "Deployment", name))["host"]
        assert host["startupProbe"]["httpGet"]["path"] == "/v2/health/ready"
        assert host["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
        return host["readinessProbe"]["httpGet"]["path"]

    assert path("one-model.yaml", "marloop-flights") == "/v2/models/flights/ready"
    assert path("everything.yaml", "marloop-flights") == "/v2/health/ready"  # a probe has no API key
    assert path("store.yaml", "marloop-all") == "/v2/health/live"
    assert path("store.yaml", "marloop-all", "probes.readiness=/ping") == "/ping"


def backends(routes: Sequence[Object], url: str) -> dict[str, int]:
    """The Services that HTTPRoutes send a path to, with their weights, by the Gateway API's rules."""
    for rule in (rule for route in routes for rule in route["spec"]["rules"]):
        for match in rule["matches"]:
            kind, value = match["path"]["type"], match["path"]["value"]
            if url == value or (kind == "PathPrefix" and url.startswith(f"{value}/")):
                return {ref["name"]: ref["weight"] for ref in rule["backendRefs"]}
    return {}


@pytest.mark.parametrize(
    "url",
    [
        "/predictions/flights",
        "/predictions/flights/1.0",
        HOST_URL,
        "/v1/models/flights",
        "/v1/models/flights/versions/1.0:predict",
        "/v2/models/flights/infer",
        "/v2/models/flights/versions/1.0/infer",
    ],
)
def test_a_canary_gets_its_share_of_every_path_of_its_model_and_of_no_other(url: str) -> None:
    routes = of_kind(objects("everything.yaml"), "HTTPRoute")
    assert backends(routes, url) == {"marloop-flights": 90, "marloop-flights-new": 10}
    assert backends(routes, url.replace("flights", "linear")) == {"marloop-linear": 100}
    assert backends(routes, url.replace("flights", "flights-late")) == {}


def test_an_ingress_has_the_same_paths() -> None:
    (ingress,) = of_kind(objects("ingress.yaml"), "Ingress")
    (rule,) = ingress["spec"]["rules"]
    paths = {(path["path"], path["pathType"]) for path in rule["http"]["paths"]}
    assert (HOST_URL, "Exact") in paths
    assert ("/predictions/linear", "Prefix") in paths
    assert len(paths) == 2 * 4


def test_the_dashboards_and_rules_are_those_of_the_repository() -> None:
    configs = of_kind(objects("everything.yaml"), "ConfigMap")
    maps = [item for item in configs if "dashboard" in item["metadata"]["name"]]
    shown = {name: json.loads(text) for item in maps for name, text in item["data"].items()}
    files = (ROOT / "monitoring" / "grafana" / "dashboards").glob("*.json")
    assert shown == {path.name: json.loads(path.read_text()) for path in files}
    assert all(item["metadata"]["labels"]["grafana_dashboard"] == "1" for item in maps)
    (rules,) = of_kind(objects("everything.yaml"), "PrometheusRule")
    groups = rules["spec"]["groups"]
    read = [yaml.safe_load(path.read_text()) for path in (ROOT / "monitoring" / "prometheus" / "rules").glob("*.yml")]
    known = [group for document in read for group in document["groups"]]
    assert all(group in known for group in groups)
    assert {"objectives", "slo", "latency"} <= {group["name"] for group in groups}


def test_what_scales_a_deployment_asks_for_metrics_that_workers_have() -> None:
    source = Path(telemetry.__file__).read_text(encoding="utf-8")
    scalers = of_kind(objects("everything.yaml"), "ScaledObject")
    texts = [
        *(item["spec"]["triggers"][0]["metadata"]["query"] for item in scalers),
        named(objects("everything.yaml"), "ConfigMap", "marloop-adapter-rules")["data"]["rules.yaml"],
    ]
    metrics = {name for text in texts for name in re.findall(r"model_\w+_seconds", text)}
    assert metrics == {"model_total_duration_seconds", "model_queue_duration_seconds"}
    assert all(f'"{name}"' in source for name in metrics)
    rules = yaml.safe_load(texts[-1])
    scaler = named(objects("everything.yaml"), "HorizontalPodAutoscaler", "marloop-linear")
    assert scaler["spec"]["metrics"][0]["pods"]["metric"]["name"] in [rule["name"]["as"] for rule in rules]
    assert "replicas" not in named(objects("everything.yaml"), "Deployment", "marloop-linear")["spec"]


@pytest.mark.parametrize(
    ("values", "change", "sentence"),
    [
        ("one-model.yaml", "groups=null", "groups is empty"),
        ("one-model.yaml", "open=false", "set apiKeys.secret"),
        ("one-model.yaml", "groups.flights.archives[0].sha256=abc", "does not match pattern"),
        ("one-model.yaml", "groups.flights.replica=3", "additional properties 'replica' not allowed"),
        ("one-model.yaml", "groups.flights.store.claim=models", "needs one of archives and store, and not both"),
        ("one-model.yaml", "groups.other.replicas=1", "needs one of archives and store"),
        ("everything.yaml", "groups.flights.canaryWeight=20", "needs one group without canaryWeight"),
        ("everything.yaml", "monitor.inferenceUrl=", "monitor.inferenceUrl is the address of a gateway"),
        ("ingress.yaml", "groups.all.models=[]", "name them in groups.NAME.models"),
        ("ingress.yaml", "monitor.secret=", "monitor.secret is the name of a Secret"),
        ("ingress.yaml", "groups.all.canaryWeight=5", "an Ingress has no weights"),
        ("loop.yaml", "monitor.enabled=false", "the monitor starts the trainings"),
        ("loop.yaml", "training.claim=", "training.claim is a volume that several pods may write"),
        ("loop.yaml", "publicKey=abc", "does not match pattern"),
        ("loop.yaml", "training.resource.cpu=1", "additional properties 'resource' not allowed"),
    ],
)
def test_wrong_values_are_told_in_a_sentence(values: str, change: str, sentence: str) -> None:
    done = template(values, [change])
    assert done.returncode != 0
    assert sentence in done.stderr


def test_a_rayservice_has_the_configuration_as_it_is_and_pods_without_rights() -> None:
    (service,) = of_kind(objects("ray.yaml"), "RayService")
    given = yaml.safe_load(yaml.safe_load((VALUES / "ray.yaml").read_text())["ray"]["serveConfig"])
    assert yaml.safe_load(service["spec"]["serveConfigV2"]) == given
    cluster = service["spec"]["rayClusterConfig"]
    assert cluster["authOptions"] == {"mode": "token"}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
            assert {
                "livenessProbe",
                "readinessProbe",
            } <= container.keys()  # KubeRay's own call wget


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/predictions/flights", "/predictions/flights/1.0"),
        ("/predictions/flights/1.0", "/predictions/flights/1.0"),
        ("/v1/models/flights:predict", "/predictions/flights/1.0/v1/models/flights:predict"),
        ("/v1/models/flights", "/predictions/flights/1.0/v1/models/flights"),
        ("/v2/models/flights/infer", "/predictions/flights/1.0/v2/models/flights/infer"),
        ("/v2/models/flights/ready", "/predictions/flights/1.0/v2/models/flights/ready"),
    ],
)
def test_a_path_of_a_model_leads_to_the_champion_on_ray(url: str, path: str) -> None:
    (route,) = of_kind(objects("ray.yaml"), "HTTPRoute")
    assert rewritten(route, url) == path


def rewritten(route: Object, url: str) -> str:
    """The path that a backend gets, by the Gateway API's rules: the most exact match decides, then the longest."""
    rules = [(match["path"], rule) for rule in route["spec"]["rules"] for match in rule["matches"]]
    matching = [
        (path["type"] == "Exact", len(path["value"]), path["value"], rule)
        for path, rule in rules
        if url == path["value"] or (path["type"] == "PathPrefix" and url.startswith(f"{path['value']}/"))
    ]
    _, _, prefix, rule = max(matching, key=lambda match: match[:2])
    for each in rule.get("filters", []):
        change = each["urlRewrite"]["path"]
        if change["type"] == "ReplaceFullPath":
            return str(change["replaceFullPath"])
        return str(change["replacePrefixMatch"]) + url.removeprefix(prefix)
    return url


@pytest.mark.parametrize(
    ("config", "champions", "sentence"),
    [
        ("{}", [], "has no applications"),
        (TWO, [], "several versions of a"),
        (TWO, ["ray.champions.a=1"], ""),
    ],
)
def test_a_route_leads_to_one_version_of_a_model(
    config: str, champions: list[str], sentence: str, tmp_path: Path
) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(config)
    options = [option for change in champions for option in ("--set-string", change)]
    values = ("--values", str(VALUES / "ray.yaml"), "--set-file", f"ray.serveConfig={file}", *options)
    done = helm("template", "marloop", str(CHART), *values)
    assert sentence in done.stderr
    if not sentence:
        (route,) = [item for item in yaml.safe_load_all(done.stdout) if item and item["kind"] == "HTTPRoute"]
        assert rewritten(route, "/predictions/a") == "/predictions/a/1"


def test_a_fault_in_a_custom_resource_would_be_found(tmp_path: Path) -> None:
    wrong = json.loads(json.dumps(of_kind(objects("everything.yaml"), "HTTPRoute")[0]))
    wrong["spec"]["rules"][0]["backendRefs"][0]["wait"] = wrong["spec"]["rules"][0]["backendRefs"][0].pop("weight")
    wrong["spec"]["rules"][0]["matches"][0]["path"]["type"] = "Anywhere"
    file = tmp_path / "objects.json"
    file.write_text(json.dumps([wrong]))
    (fault,) = environments.run("kubernetes", "validate.mjs", str(file))
    assert "type" in fault


def test_a_rayservice_takes_what_ray_config_prints(tmp_path: Path) -> None:
    champion = Application("flights", "1.0", "s3://models/flights-1.0.mar", "0" * 64, most_replicas=8)
    file = tmp_path / "serve.yaml"
    file.write_text(as_yaml(serve_config([champion])))
    done = helm(
        "template", "marloop", str(CHART), "--values", str(VALUES / "ray.yaml"), "--set-file", f"ray.serveConfig={file}"
    )
    (service, route) = (
        next(item for item in yaml.safe_load_all(done.stdout) if item and item["kind"] == kind)
        for kind in ("RayService", "HTTPRoute")
    )
    assert yaml.safe_load(service["spec"]["serveConfigV2"]) == serve_config([champion])
    assert rewritten(route, "/predictions/flights") == champion.route
