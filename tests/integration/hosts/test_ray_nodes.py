"""A cluster of Ray of two nodes: what each counts reaches Prometheus and the console, and load makes replicas come.

Both nodes run on this machine, each with an address, ports, folders and an exporter of its own.
"""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from msgspec.structs import replace

from serving.hosts.ray import background
from serving.hosts.ray.cluster import ServeApi
from serving.hosts.ray.settings import Place
from serving.ports import free_ports, free_span
from serving.processes import running
from serving.settings import RAY_PORTS, ROOT, Settings
from serving.supervision.companion import exporter, monitor
from tests.chaos.load import RIGHT, Question, clients
from tests.integration.conftest import CHAT, needs_ray, put, settings_for
from tests.support.chat_archive import echoed, register_echo
from tests.support.monitoring.programs import need, prometheus
from tests.support.waiting import wait_until

pytestmark = pytest.mark.ray
REPLICAS = 4  # of linear, so that each node has some
SLOW = echoed("Say it again, and slowly, until somebody comes to help.")
SCALING = {"min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 2, "upscale_delay_s": 1}


@dataclass(frozen=True)
class Cluster:
    """A head with front and monitor, and another node."""

    head: Settings
    node: Settings

    def replicas(self, model: str) -> list[str]:
        """The addresses of a model's replicas that run."""
        place = Place(self.head)
        with contextlib.suppress(Exception):
            apps = ServeApi(place.dashboard, place.token).applications()
            running = [app.replicas for name, app in apps.items() if name.startswith(f"{model}-")]
            return [str(replica.node_ip) for replicas in running for replica in replicas]
        return []

    def targets(self) -> list[str]:
        """The exporters that the monitor names to Prometheus."""
        (group,) = httpx.get(f"{self.head.monitor_url}/targets", trust_env=False).json()
        return list(group["targets"])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with replicas of linear, and a language model that may have two."""
    needs_ray()
    folder = tmp_path_factory.mktemp("nodes")
    store = put(folder / "store", "linear")
    register_echo(store, CHAT, 8, 8, 0.05, autoscaling=SCALING | {"downscale_delay_s": 2})
    settings = settings_for(store, folder / "run", host="ray")
    cluster = Cluster(
        replace(settings, private_address="127.0.0.2"),
        replace(settings, run_dir=folder / "node", ray_port=free_span(RAY_PORTS), private_address="127.0.0.3"),
    )
    head, node = Place(cluster.head), Place(cluster.node)
    with contextlib.ExitStack() as stack:
        variables = stack.enter_context(pytest.MonkeyPatch.context())
        started = {
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "MARLOOP_RAY_PROXIES": proxies(head, node),
            "MARLOOP_RAY_NODES": "2",  # Ray spreads replicas over the nodes that are there, and moves none later
            "MARLOOP_RAY_REPLICAS": str(REPLICAS),
        }
        for name, value in started.items():
            variables.setenv(name, value)
        # It waits for its head. Started again where it ends, as systemd does.
        command = ["sh", "-c", f"until {sys.executable} -m serving ray-node {head.head}; do sleep 1; done"]
        environment = os.environ | cluster.node.to_environment()
        cluster.node.run_dir.mkdir()
        stack.enter_context(running(command, environment, cluster.node.run_dir / "node.log", ROOT))
        stack.callback(background.stop, cluster.head)
        background.start(cluster.head)
        for settings in (cluster.head, cluster.node):
            stack.callback(exporter(settings).stop, settings)
            exporter(settings).start(settings)
        stack.callback(monitor(cluster.head).stop, cluster.head)
        monitor(cluster.head).start(cluster.head)
        wait_until(lambda: len(cluster.targets()) == 2, timeout=240)
        wait_until(lambda: len(cluster.replicas("linear")) == REPLICAS, timeout=240)
        yield cluster


def proxies(*places: Place) -> str:
    """The addresses of Ray Serve's proxies on these nodes."""
    return ",".join(place.proxy for place in places)


def counted(target: str) -> float:
    """Linear's answers with 400 that an exporter shows."""
    lines = httpx.get(f"http://{target}/metrics", trust_env=False, timeout=30).text.splitlines()
    wanted = ("model_requests_total{", 'model="linear"', 'code="400"')
    return sum(float(line.rpartition(" ")[2]) for line in lines if all(part in line for part in wanted))


def test_prometheus_finds_the_exporters_of_both_nodes_and_counts_each_answer_once(
    cluster: Cluster, tmp_path: Path
) -> None:
    need("prometheus")
    assert set(cluster.replicas("linear")) == {"127.0.0.2", "127.0.0.3"}
    config = yaml.safe_load((ROOT / "deploy/ray/prometheus.yml").read_text())
    for job in config["scrape_configs"]:
        for discovery in job["http_sd_configs"]:
            discovery["url"] = discovery["url"].replace("http://monitor:8090", cluster.head.monitor_url)
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    path = tmp_path / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    with prometheus(path, free_ports(1)[0]) as client:

        def shown(expression: str) -> dict[str, float]:
            result = client.get("/api/v1/query", params={"query": expression}).json()["data"]["result"]
            return {one["metric"].get("instance", ""): float(one["value"][1]) for one in result}

        with httpx.Client(trust_env=False, timeout=30) as asking:
            asked = 0

            def all_count() -> bool:
                """Ask until each node has answered: the proxy of one may not take requests yet."""
                nonlocal asked
                for _ in range(20):
                    url = f"{cluster.head.inference_url}/predictions/linear"
                    assert asking.post(url, json={"x": "six"}).status_code == 400
                    asked += 1
                return all(map(counted, cluster.targets()))

            wait_until(all_count, timeout=240, poll=1)
        wanted = 'sum by (instance) (model_requests_total{job="exporter", model="linear", code="400"})'
        wait_until(lambda: sum(shown(wanted).values()) == asked)
        assert set(shown(wanted)) == set(cluster.targets())
        assert shown(wanted) == {target: counted(target) for target in cluster.targets()}
        assert set(shown("up").values()) == {1.0}


def test_the_console_charts_the_traffic_of_both_nodes(cluster: Cluster) -> None:
    url = f"{cluster.head.inference_url}/predictions/linear"

    def is_charted() -> bool:
        httpx.post(url, json={"x": "six"}, trust_env=False, timeout=30)
        page = httpx.get(f"{cluster.head.monitor_url}/console/models/linear/traffic", trust_env=False).text
        return "Requests a second" in page and page.count("<polyline") > 6 and "does not tell" not in page

    wait_until(is_charted, timeout=60)


def test_load_makes_a_second_replica_of_a_model_come_and_its_end_makes_it_go(cluster: Cluster) -> None:
    assert len(cluster.replicas(CHAT)) == 1
    question = Question(f"/predictions/{CHAT}", SLOW.request, SLOW.response)
    with clients(cluster.head.inference_url, question, count=8, timeout=60) as outcomes:
        wait_until(lambda: len(cluster.replicas(CHAT)) == 2, timeout=240, poll=1)
        count = outcomes.counts[RIGHT]
        wait_until(lambda: outcomes.counts[RIGHT] > count + 20)
    wait_until(lambda: len(cluster.replicas(CHAT)) == 1, timeout=240, poll=1)
    assert set(outcomes.counts) == {RIGHT}, outcomes
    assert len(cluster.replicas("linear")) == REPLICAS
