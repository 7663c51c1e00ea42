"""A client of TorchServe's management API ("Management API" in its documentation)."""

from typing import Any

import httpx


class ManagementError(Exception):
    """TorchServe refused a request, or cannot be reached; the message has its words."""


class Management:
    """Registers, lists and removes models of a running TorchServe.

    Args:
        url: of the management port.
        client: of httpx; registering waits for workers, so its timeout must allow that.
    """

    def __init__(self, url: str, client: httpx.Client) -> None:
        self._url, self._client = url, client

    def versions(self) -> dict[str, list[str]]:
        """Every registered model's versions, the default one first."""
        models = self._call("GET", "/models", params={"limit": 1000})["models"]
        return {model["modelName"]: self._versions_of(model["modelName"]) for model in models}

    def register(self, archive: str, name: str | None = None) -> None:
        """Load an archive of the model store, under its own name or another, and wait until its workers are ready."""
        params = {"url": archive, "synchronous": "true"} | ({"model_name": name} if name else {})
        self._call("POST", "/models", params=params)

    def set_default(self, name: str, version: str) -> None:
        """Answer requests that name no version with this one."""
        self._call("PUT", f"/models/{name}/{version}/set-default")

    def unregister(self, name: str, version: str) -> None:
        """Remove one version and end its workers; the default version only when it is the last."""
        self._call("DELETE", f"/models/{name}/{version}")

    def describe(self, name: str, version: str) -> dict[str, Any]:
        """What TorchServe says of one version, its workers among it."""
        found: list[dict[str, Any]] = self._call("GET", f"/models/{name}/{version}")
        return found[0]

    def is_ready(self, name: str, version: str) -> bool:
        """Whether all workers of a registered version have loaded it."""
        workers = self.describe(name, version)["workers"]
        return bool(workers) and all(worker["status"] == "READY" for worker in workers)

    def _versions_of(self, name: str) -> list[str]:
        default = self._call("GET", f"/models/{name}")[0]["modelVersion"]
        numbers = [found["modelVersion"] for found in self._call("GET", f"/models/{name}/all")]
        return [default, *(number for number in numbers if number != default)]

    def _call(self, method: str, path: str, params: dict[str, Any] | None = None) -> Any:
        try:
            response = self._client.request(method, self._url + path, params=params)
            body = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ManagementError(f"{method} {self._url}{path}: {str(error) or type(error).__name__}") from error
        if response.is_error:
            raise ManagementError(f"{method} {path}: {response.status_code} {body.get('message', body)}")
        return body
