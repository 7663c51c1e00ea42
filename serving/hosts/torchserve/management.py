"""A client of TorchServe's management API ("Management API" in its documentation)."""

import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

PATIENCE = 120.0  # s that workers have to load a model
POLL = 0.05  # s
SCHEME = "unix:"
SOCKET_URL = "http://localhost"  # httpx needs a host, which a socket ignores


class ManagementError(Exception):
    """TorchServe refused a request, or cannot be reached; the message quotes it."""


class Management:
    """Registers, lists and removes models of a running TorchServe.

    Args:
        address: ``unix:/path`` of TorchServe's own socket, or the URL of the port that guards it.
        client: for a socket it is replaced by one with the same timeout.
        token: for the port, where one is configured.
    """

    def __init__(self, address: str, client: httpx.Client, token: str = "") -> None:
        path = socket_path(address)
        self._address, self._url = address, address if path is None else SOCKET_URL
        self._client = client if path is None else socket_client(path, client.timeout)
        self._headers = {"Authorization": f"Bearer {token}"} if token and path is None else {}

    def answers(self, patience: float) -> bool:
        """Tell whether TorchServe answers; ``patience`` in s."""
        try:
            return self._client.get(f"{self._url}/models", headers=self._headers, timeout=patience).is_success
        except httpx.HTTPError:
            return False

    def versions(self) -> dict[str, list[str]]:
        """Return every registered model's versions, the default one first."""
        models = self._call("GET", "/models", params={"limit": 1000})["models"]
        return {model["modelName"]: self._versions_of(model["modelName"]) for model in models}

    def register(self, archive: str, name: str, number: str = "") -> None:
        """Load an archive of the model store under a name, and wait until its workers are ready.

        TorchServe shall not wait, as it does unless told otherwise (``synchronous``): it waits in the one thread that
        moves all bytes, so that no request of any model is answered meanwhile.

        Args:
            number: the archive's version; empty where the name has no other.

        Raises:
            ManagementError: also where a worker ended while it loaded the archive, or is not ready after ``PATIENCE``;
                the version stays registered then, and TorchServe goes on trying.
        """
        self._call("POST", "/models", params={"url": archive, "model_name": name, "synchronous": "false"})
        self.wait_until_ready(name, number or self.versions()[name][0])

    def wait_until_ready(self, name: str, number: str) -> dict[str, Any]:
        """Wait until a version has as many workers as it should, all of them ready, and return its description.

        Args:
            number: empty for the default version.

        Raises:
            ManagementError: a worker ended while it loaded the archive, or is not ready after ``PATIENCE``.
        """
        deadline, pids = time.monotonic() + PATIENCE, dict[str, int]()
        while not _is_ready(description := self.describe(name, number)):
            for worker in description["workers"]:
                if worker["pid"] > 0 and pids.setdefault(worker["id"], worker["pid"]) != worker["pid"]:
                    what = f"TorchServe's log says why {description['modelUrl']} does not load"
                    raise ManagementError(f"its workers do not start: {what}")
            if time.monotonic() > deadline:
                raise ManagementError(f"its workers are not ready after {PATIENCE:.0f} s")
            time.sleep(POLL)
        return description

    def set_default(self, name: str, version: str) -> None:
        """Answer requests that name no version with this one."""
        self._call("PUT", f"/models/{name}/{version}/set-default")

    def unregister(self, name: str, version: str) -> None:
        """Remove one version and end its workers; the default version only when it is the last."""
        self._call("DELETE", f"/models/{name}/{version}")

    def describe(self, name: str, version: str) -> dict[str, Any]:
        """Return TorchServe's description of a version, with its workers; without a number, of the default one."""
        descriptions: list[dict[str, Any]] = self._call("GET", f"/models/{name}/{version}".rstrip("/"))
        return descriptions[0]

    def is_ready(self, name: str, number: str) -> bool:
        """Tell whether all workers of a registered version have loaded it."""
        return _is_ready(self.describe(name, number))

    def _versions_of(self, name: str) -> list[str]:
        default = self._call("GET", f"/models/{name}")[0]["modelVersion"]
        numbers = [entry["modelVersion"] for entry in self._call("GET", f"/models/{name}/all")]
        return [default, *(number for number in numbers if number != default)]

    def _call(self, method: str, path: str, params: dict[str, Any] | None = None) -> Any:
        try:
            response = self._client.request(method, self._url + path, params=params, headers=self._headers)
            body = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ManagementError(f"{method} {self._address}{path}: {str(error) or type(error).__name__}") from error
        if response.is_error:
            raise ManagementError(f"{method} {path}: {response.status_code} {body.get('message', body)}")
        return body


def _is_ready(description: Mapping[str, Any]) -> bool:
    workers: Sequence[Mapping[str, Any]] = description["workers"]
    enough = description["minWorkers"] <= len(workers) <= description["maxWorkers"]
    return enough and all(worker["status"] == "READY" for worker in workers)


def socket_path(address: str) -> str | None:
    """Return the path in an address ``unix:/path``; None if it is another address."""
    return address.removeprefix(SCHEME) if address.startswith(SCHEME) else None


def socket_client(path: str, timeout: httpx.Timeout) -> httpx.Client:
    """Return a client of a socket; its connections close with each answer, so that nobody need close the client."""
    return httpx.Client(transport=_SocketTransport(path), timeout=timeout, trust_env=False)


class _SocketTransport(httpx.HTTPTransport):
    """Connections to a socket, one a request."""

    def __init__(self, path: str) -> None:
        super().__init__(uds=path, limits=httpx.Limits(max_keepalive_connections=0))
        self._path = path

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request after a trial connection, since httpcore leaves the socket of a refused connection open."""
        try:
            with socket.socket(socket.AF_UNIX) as trial:
                trial.connect(self._path)
        except OSError as error:
            raise httpx.ConnectError(f"{error.strerror or error}: is TorchServe running?", request=request) from error
        return super().handle_request(request)
