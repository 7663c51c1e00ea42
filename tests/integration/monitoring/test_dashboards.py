"""No dead panel: a real Prometheus scrapes the service under load, and every query of the dashboards finds data."""

import itertools
import json
import math
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml

from monitoring.grafana.generate import FOLDER
from serving.ports import free_ports
from serving.settings import ROOT, HostName, Settings
from serving.supervision.companion import monitor as companion
from tests.integration.conftest import CHAT, MODELS, RAY, Server
from tests.support.monitoring.programs import alertmanager, need, prometheus
from tests.support.waiting import wait_until

NAMES = [*MODELS]
FLIGHT = {"distance": 1400, "hour": 5, "carrier": "UA", "origin": "EWR", "dest": "IAH"}
# What each round of the load asks: good and bad requests of every model, and a model that nobody knows.
ASKED: list[tuple[str, Any]] = [
    ("linear", {"x": 6}),
    ("linear", {"instances": [{"x": 1}, {"x": 2}]}),
    ("linear", {"x": "six"}),
    ("flights", FLIGHT),
    ("flights", FLIGHT | {"dest": "IAHH"}),
    ("fashion", {"inputs": [[0] * 28] * 28}),
    ("fashion", {"inputs": [[0]]}),
    (CHAT, {"prompt": "Say it again."}),
    (CHAT, {"prompt": ""}),
    ("nobody", {"x": 6}),
]
LANGUAGE = "language"  # the board of language models, which shows no others
HEALTHY = ("Requests5XX", "ALERTS")  # are not there while nothing fails
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
PANELS = [
    pytest.param(name, panel, id=f"{name}, {panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
VARIABLES = [
    pytest.param(name, one["query"]["query"], id=f"{name}, {one['name']}")
    for name, board in BOARDS.items()
    for one in board["templating"]["list"]
]


class Watched(NamedTuple):
    """A host, and a client of a Prometheus that watches it."""

    host: HostName
    client: httpx.Client


@pytest.fixture(scope="module", params=["torchserve", RAY])
def watched(request: pytest.FixtureRequest) -> Iterator[Watched]:
    """A Prometheus that watches a service with all models, which is under load, and an Alertmanager."""
    need("prometheus")
    need("prometheus-alertmanager", "alertmanager")
    chatting: Server = request.getfixturevalue("chatting_ray" if request.param == "ray" else "chatting")
    stop = threading.Event()
    load = threading.Thread(target=ask, args=(chatting, stop))
    monitor = companion(chatting.settings)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARLOOP_PROBE_INTERVAL", "1")
        patch.setenv("MARLOOP_LIVE_INTERVAL", "1")
        own, other = free_ports(2)
        try:
            monitor.start(chatting.settings)
            load.start()
            with (
                alertmanager(alertmanager_config(Path(folder), chatting.settings), other),
                prometheus(prometheus_config(Path(folder), chatting.settings, own, other), own) as client,
            ):
                yield Watched(chatting.settings.host, client)
        finally:
            stop.set()
            load.join()
            monitor.stop(chatting.settings)


def ask(server: Server, stop: threading.Event) -> None:
    """Ask a few times a second until told to stop, and tell the monitor the truth about the answers."""
    with httpx.Client(timeout=30) as client:
        for number, (model, body) in enumerate(itertools.cycle(ASKED)):
            if stop.wait(0.02):
                return
            headers = {"X-Request-Start": f"t={time.time():.3f}", "X-Request-Id": f"dashboards-{number}"}
            response = client.post(f"{server.url}/predictions/{model}", json=body, headers=headers)
            if response.status_code == 200 and "prediction" in response.json():
                told = {"request_id": f"dashboards-{number}", "label": truth(response.json()["prediction"], number)}
                client.post(f"{server.settings.monitor_url}/feedback", json=told).raise_for_status()


def truth(answer: Any, number: int) -> Any:
    """As answered, but now and then another class: of one class alone there is no area under the curve."""
    if not isinstance(answer, dict):
        return answer
    another = "Bag" if answer["label"] != "Bag" else "Shirt"
    return another if number // len(ASKED) % 20 == 0 else answer["label"]


def alertmanager_config(folder: Path, settings: Settings) -> Path:
    """The configuration with the monitor's address of here."""
    path = folder / "alertmanager" / "alertmanager.yml"
    path.parent.mkdir()
    text = (ROOT / "monitoring/alertmanager/alertmanager.yml").read_text()
    path.write_text(text.replace("http://monitor:8090", settings.monitor_url))
    return path


def prometheus_config(folder: Path, settings: Settings, own: int, other: int) -> Path:
    """The configuration with the real rules, the addresses of here, and a scrape a second."""
    ports = {
        "torchserve:8082": settings.metrics_port,
        "exporter:8083": settings.exporter_port,
        "monitor:8090": settings.monitor_port,
        "localhost:9090": own,
        "alertmanager:9093": other,
        "locust:8089": 1,  # no load test runs
    }
    path = folder / "prometheus" / "prometheus.yml"
    path.parent.mkdir()
    real = ROOT / "monitoring/prometheus"
    config = yaml.safe_load((real / "prometheus.yml").read_text())
    if settings.host == "ray":
        beside_ray(config, settings)
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    config["rule_files"] = [str(real / pattern) for pattern in config["rule_files"]]
    for job in [*config["scrape_configs"], *config["alerting"]["alertmanagers"]]:
        for static in job.get("static_configs", []):
            static["targets"] = [f"127.0.0.1:{ports[target]}" for target in static["targets"]]
    path.write_text(yaml.safe_dump(config))
    return path


def beside_ray(config: dict[str, Any], settings: Settings) -> None:
    """Change the configuration as deploy/ray/prometheus.yml says."""
    ours = yaml.safe_load((ROOT / "deploy/ray/prometheus.yml").read_text())["scrape_configs"]
    for discovery in ours[0]["http_sd_configs"]:
        discovery["url"] = discovery["url"].replace("http://monitor:8090", settings.monitor_url)
    others = [job for job in config["scrape_configs"] if job["job_name"] not in ("torchserve", "exporter")]
    config["scrape_configs"] = [*ours, *others]


def without_data(host: HostName) -> set[tuple[str, str]]:
    """Dashboards and panels that docs/machines/ray.md says have nothing to show on the Ray host; none on TorchServe."""
    text = (ROOT / "docs/machines/ray.md").read_text() if host == "ray" else ""
    table = text.partition("| dashboard | panel |")[2].partition("\n\n")[0]
    return {(row[0].lower(), row[1]) for row in re.findall(r"^\| (\w+) \| ([^|]+?) \|", table, re.MULTILINE)}


def fill(text: str, model: str, version: str) -> str:
    """A query as Grafana sends it."""
    return text.replace("$model", model).replace("$version", version).replace("$__rate_interval", "10s")


def numbers(client: httpx.Client, expression: str) -> list[float]:
    """What a query gives, without what is no number."""
    response = client.get("/api/v1/query", params={"query": expression})
    assert response.status_code == 200, f"{expression}: {response.text}"
    found = [float(one["value"][1]) for one in response.json()["data"]["result"]]
    return [value for value in found if not math.isnan(value)]


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_every_query_of_a_panel_finds_data_for_all_models_and_for_each(
    watched: Watched, board: str, panel: dict[str, Any]
) -> None:
    # As Grafana fills in: All, or one value escaped.
    choices = [(".+", ".+"), *((name, r"1\\.0") for name in ([CHAT] if board == LANGUAGE else NAMES))]
    expressions = [target["expr"] for target in panel["targets"]]
    queries = [fill(expression, *choice) for expression in expressions for choice in choices]
    # Here every model is asked everything: no panel needs the 0 that stands for nothing, which would hide a wrong name.
    bare = [one.partition(" or on () ")[0] for one in expressions if not any(name in one for name in HEALTHY)]
    queries += [fill(one, *choices[0]) for one in bare]

    def dead() -> list[str]:
        return [expression for expression in queries if not numbers(watched.client, expression)]

    if (board, panel["title"]) in without_data(watched.host):
        assert dead(), "docs/machines/ray.md says that there is nothing to show"
        return
    deadline = time.monotonic() + 60  # the rules need a moment after the start
    while dead() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert dead() == []


@pytest.mark.parametrize(("board", "expression"), VARIABLES)
def test_every_variable_has_values(watched: Watched, board: str, expression: str) -> None:
    match = re.fullmatch(r"label_values\((.+), (\w+)\)", fill(expression, ".+", ".+"))
    assert match
    selector, label = match.groups()

    def values() -> list[str]:
        return list(watched.client.get(f"/api/v1/label/{label}/values", params={"match[]": selector}).json()["data"])

    models = [CHAT] if board == LANGUAGE else sorted([*NAMES, CHAT])
    expected = models if label == "model" else ["1.0"]
    wait_until(lambda: values() == expected)


def test_every_rule_can_be_evaluated(watched: Watched) -> None:
    def states() -> set[str]:
        groups = watched.client.get("/api/v1/rules").json()["data"]["groups"]
        return {f"{rule['health']} {rule.get('lastError', '')}".strip() for group in groups for rule in group["rules"]}

    wait_until(lambda: "unknown" not in states())
    assert states() == {"ok"}


def test_no_alert_fires_where_only_clients_make_mistakes(watched: Watched) -> None:
    if watched.host == "torchserve":  # which counts what it refuses itself
        wait_until(lambda: numbers(watched.client, "service:frontend_refusals:rate5m > 0") != [])
    # The same picture again and again is a drift indeed.
    assert numbers(watched.client, 'ALERTS{alertstate="firing", alertname!="ModelDrift"}') == []
    assert numbers(watched.client, "service:frontend_errors:rate5m") == [0]


def test_the_scrapes_count_what_workers_answered_and_what_the_frontend_answered_itself(watched: Watched) -> None:
    if watched.host == "ray":
        pytest.skip("the front of the Ray host counts nothing")
    # Of ten requests in a round the workers answer nine, four of them with 400, and the frontend one with 404.
    worker = numbers(watched.client, 'sum(increase(model_requests_total{code="400"}[20s]))')
    frontend = numbers(
        watched.client, "sum(increase(Requests4XX[20s])) - sum(increase(model_requests_total{code=~'4..'}[20s]))"
    )
    assert worker[0] == pytest.approx(4 * frontend[0], rel=0.3)
