"""Three nodes of Ray on this machine, each with an address, ports and folders of its own.

The head is that of `make up HOST=ray`. A node that ends is started again, as systemd does it.
"""

import contextlib
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from msgspec.structs import replace

from serving.hosts.ray import background
from serving.hosts.ray.cluster import ServeApi
from serving.hosts.ray.config import serve_config
from serving.hosts.ray.launch import MARK, mark_of
from serving.hosts.ray.settings import Offset, Place
from serving.ports import free_span
from serving.processes import marked, running
from serving.readiness import ask_all
from serving.registry import Registry
from serving.settings import RAY_PORTS
from tests.integration.conftest import put, settings_for
from tests.support.waiting import wait_until

NODES = 3
AGAIN = 'while true; do "$@"; sleep 1; done'  # as Restart=always of deploy/ray/marloop-ray-node.service
TRIES = 4  # deployments


class Cluster:
    """A head with a front, and two more nodes.

    Args:
        folder: of all.
        stack: ends the nodes.
    """

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        head = settings_for(put(folder / "store", "linear"), folder / "run", host="ray")
        self.head = replace(head, private_address="127.0.0.2")
        self.nodes = [
            self.head,
            *(
                replace(
                    head, run_dir=folder / f"node{i}", ray_port=free_span(RAY_PORTS), private_address=f"127.0.0.{i}"
                )
                for i in (3, 4)
            ),
        ]
        self._stack = stack
        self._place = Place(self.head)

    @property
    def proxies(self) -> str:
        """Addresses of the proxies of all nodes."""
        return ",".join(Place(settings).proxy for settings in self.nodes)

    def up(self) -> None:
        """Start the head, which deploys once the nodes are there, and the nodes."""
        with ThreadPoolExecutor(1) as pool:
            started = pool.submit(background.start, self.head)
            wait_until(lambda: self.joined() == 1 or started.done(), timeout=180, poll=0.5)
            for node in self.nodes[1:]:
                node.run_dir.mkdir(exist_ok=True)
                shutil.rmtree(node.temporary, ignore_errors=True)
                command = ["sh", "-c", AGAIN, "sh", sys.executable, "-m", "serving", "ray-node", self._place.head]
                environment = os.environ | node.to_environment()
                self._stack.enter_context(running(command, environment, node.run_dir / "node.log"))
            started.result()

    def mend(self) -> None:
        """Wait until all nodes are there, all replicas answer, and so do the proxies of nodes that have some.

        Serve ends the proxy of a node without replicas, and starts one where a replica comes.
        """

        def is_whole() -> bool:
            return self.joined() == NODES and self.running() == NODES and self.served() and self.proxied()

        wait_until(is_whole, timeout=240, poll=0.5)

    def with_replica(self, *nodes: int) -> int:
        """Return one of some nodes with a replica, beside which other nodes have one too.

        Ray spreads replicas when it starts them, and moves none later: where there is no such node, all are taken out,
        and the keeper deploys them anew.
        """
        for _ in range(TRIES):
            having = [node for node in range(NODES) if self.processes(node, background.REPLICA)]
            if len(having) > 1 and (found := [node for node in nodes if node in having]):
                return found[0]
            self.api.deploy(serve_config([], self._place.served_at, self._place.port(Offset.PROXY)))
            wait_until(lambda: self.running() == 0, timeout=120, poll=0.2)
            self.mend()
        pytest.fail(f"after {TRIES} deployments none of these nodes has a replica")

    @property
    def api(self) -> ServeApi:
        """Ray Serve's."""
        return ServeApi(self._place.dashboard, self._place.token)

    def joined(self) -> int:
        """The nodes that the head knows."""
        with contextlib.suppress(Exception):
            return self.api.count_nodes()
        return 0

    def running(self) -> int:
        """The replicas that Serve says run."""
        with contextlib.suppress(Exception):
            return sum(len(app.replicas) for app in self.api.applications().values())
        return 0

    def processes(self, node: int, title: str = "") -> list[psutil.Process]:
        """The processes of a node with a title; the head is node 0."""
        members = marked(MARK, mark_of(Place(self.nodes[node])))
        return [process for process in members if title in " ".join(line_of(process))]

    def proxied(self) -> bool:
        """Whether every node with a replica has a proxy that takes requests."""
        having = [node for node in range(NODES) if self.processes(node, background.REPLICA)]
        return all(is_healthy(Place(self.nodes[node])) for node in having)

    def served(self) -> bool:
        """Whether the champion answers its example."""
        return all(model.ready for model in ask_all(Registry(self.head.model_store), self.head.inference_url))


def is_healthy(place: Place) -> bool:
    """Whether the proxy of a node takes requests, as the front asks it."""
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"http://{place.proxy}/-/healthz", timeout=2, trust_env=False).is_success
    return False


def line_of(process: psutil.Process) -> list[str]:
    """The command line of a process; empty where it has ended."""
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []
