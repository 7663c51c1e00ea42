"""Ray Serve's REST API on the head's dashboard: what is deployed, and how it is (Ray 2.60, "Serve REST API")."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec

from serving.hosts.host import LaunchError

APPLICATIONS = "/api/serve/applications/"
NODES = "/api/v0/nodes"
PATIENCE = 10.0  # s for an answer
LONG = 180.0  # s for a deployment, the first of which starts Serve's controller and proxies
AGAIN, PAUSE = 60.0, 1.0  # s
LONGEST_CAUSE = 600  # characters of a failed application's message


class Replica(msgspec.Struct, frozen=True):
    """A process that serves a version, as Serve reports it."""

    state: str
    pid: int | None = None
    node_ip: str | None = None


class Deployment(msgspec.Struct, frozen=True):
    """The replicas of an application."""

    status: str
    message: str = ""
    replicas: list[Replica] = []


class Deployed(msgspec.Struct, frozen=True):
    """An application as Serve reports it.

    Attributes:
        status: NOT_STARTED, DEPLOYING, RUNNING, UNHEALTHY, DEPLOY_FAILED or DELETING.
        deployed_app_config: the entry of the configuration.
    """

    status: str
    message: str = ""
    deployed_app_config: dict[str, Any] | None = None
    deployments: dict[str, Deployment] = {}

    @property
    def sha256(self) -> str:
        """The SHA-256 of its archive; empty where it is another's application."""
        arguments = (self.deployed_app_config or {}).get("args") or {}
        return str(arguments.get("sha256", ""))

    @property
    def replicas(self) -> list[Replica]:
        """The replicas that run."""
        return [
            replica
            for deployment in self.deployments.values()
            for replica in deployment.replicas
            if replica.state == "RUNNING"
        ]

    @property
    def cause(self) -> str:
        """Why it does not run, in one line: the last one of the error that its replica raised."""
        texts = [self.message, *(deployment.message for deployment in self.deployments.values())]
        lines = [line.strip() for text in texts for line in text.splitlines() if _is_error(line)]
        return (lines[-1] if lines else " ".join(" ".join(texts).split()))[:LONGEST_CAUSE]


class _Instance(msgspec.Struct, frozen=True):
    applications: dict[str, Deployed] = {}


class _Node(msgspec.Struct, frozen=True):
    state: str


class _NodeList(msgspec.Struct, frozen=True):
    result: list[_Node]


class _NodeData(msgspec.Struct, frozen=True):
    result: _NodeList


class _Nodes(msgspec.Struct, frozen=True):
    data: _NodeData


class ServeApi:
    """Asks the dashboard of a head.

    Args:
        url: of the dashboard.
        token: the file of the cluster's token.
        again: s for which versions are sent again to a head that hangs up.
    """

    def __init__(self, url: str, token: Path, again: float = AGAIN) -> None:
        self._url, self._token, self._again = url, token, again

    def lives(self) -> bool:
        """Tell whether the head answers."""
        try:
            return self._send("GET", "/api/version").status_code == 200
        except httpx.HTTPError:
            return False

    def applications(self) -> dict[str, Deployed]:
        """Return the applications by name.

        Raises:
            LaunchError: the head does not answer.
        """
        try:
            response = self._send("GET", APPLICATIONS)
            response.raise_for_status()
            return msgspec.json.decode(response.content, type=_Instance).applications
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            raise LaunchError(f"Ray's head does not say what it serves: {error}") from error

    def count_nodes(self) -> int:
        """Return how many machines are in the cluster.

        Raises:
            LaunchError: the head does not answer.
        """
        try:
            response = self._send("GET", NODES)
            response.raise_for_status()
            nodes = msgspec.json.decode(response.content, type=_Nodes).data.result.result
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            raise LaunchError(f"Ray's head does not say which machines there are: {error}") from error
        return sum(node.state == "ALIVE" for node in nodes)

    def deploy(self, config: Mapping[str, Any]) -> None:
        """Have Serve bring up what a configuration names, and remove other applications.

        The dashboard of a busy head may hang up, or fail where Serve's first proxies have died as they started, and be
        there again a moment later: the same configuration is sent again, which changes nothing where Serve has it.

        Raises:
            LaunchError: it refuses, or does not answer.
        """
        deadline = time.monotonic() + self._again
        while True:
            late = time.monotonic() > deadline
            try:
                response = self._send("PUT", APPLICATIONS, config, LONG)
                if response.status_code < 500 or late:
                    break
            except httpx.HTTPError as error:
                if isinstance(error, httpx.TimeoutException) or late:
                    raise LaunchError(f"Ray's head does not take the versions: {error}") from error
            time.sleep(PAUSE)
        if response.status_code != 200:
            raise LaunchError(f"Ray Serve refuses the versions: {' '.join(response.text.split())[-LONGEST_CAUSE:]}")

    def _send(self, method: str, path: str, body: Any = None, patience: float = PATIENCE) -> httpx.Response:
        headers = {}
        if self._token.is_file():
            headers["Authorization"] = f"Bearer {self._token.read_text().strip()}"
        with httpx.Client(trust_env=False, timeout=patience) as client:
            return client.request(method, f"{self._url}{path}", json=body, headers=headers)


def _is_error(line: str) -> bool:
    """Tell whether a line of a traceback names the exception."""
    name, colon, _ = line.strip().partition(":")
    return bool(colon) and name.replace(".", "").isidentifier() and name.endswith(("Error", "Exception"))
