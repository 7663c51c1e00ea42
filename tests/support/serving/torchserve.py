"""The management API of a TorchServe, as far as ours uses it, in memory."""

import re
from collections.abc import Collection

import httpx

from serving.hosts.torchserve.management import Management

URL = "http://127.0.0.1:8081"


class FakeTorchServe:
    """Holds versions as TorchServe does, and notes what it is asked to change.

    Args:
        versions: of each model, the default one first.
        loading: models and versions whose workers are not ready.
        broken: archives that it cannot load.
    """

    def __init__(
        self, versions: dict[str, list[str]], loading: Collection[tuple[str, str]] = (), broken: Collection[str] = ()
    ) -> None:
        self.versions, self.loading, self.broken = versions, set(loading), broken
        self.pid = 100
        self.registrations: list[dict[str, str]] = []  # their parameters
        self.workers: dict[tuple[str, str], int] = {}  # of versions that were scaled, or registered with a number
        self.changes: list[str] = []
        self.asked: list[str] = []

    @property
    def management(self) -> Management:
        return Management(URL, self.client)

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked.append(f"{request.method} {path}")
        parts = path.split("/")[2:]
        match request.method, parts:
            case "GET", []:
                return httpx.Response(200, json={"models": [{"modelName": name} for name in self.versions]})
            case "GET", [name] if name in self.versions:
                return httpx.Response(200, json=[{"modelVersion": self.versions[name][0]}])
            case "GET", [name, "all"]:
                return httpx.Response(200, json=[{"modelVersion": number} for number in sorted(self.versions[name])])
            case "GET", [name, number] if number in self.versions.get(name, []):
                dies = f"{name}-{number}.mar" in self.broken
                self.pid += dies  # a worker that ended is started anew
                ready = not dies and (name, number) not in self.loading
                count = self.workers.get((name, number), 1)
                status = "READY" if ready else "UNLOADING"
                workers = [{"id": f"{9000 + i}", "status": status, "pid": self.pid} for i in range(count)]
                described: dict[str, object] = {"modelName": name, "modelVersion": number}
                described |= {"modelUrl": f"{name}-{number}.mar", "minWorkers": count, "maxWorkers": count}
                return httpx.Response(200, json=[described | {"workers": workers}])
            case "POST", []:
                return self._register(request.url.params)
            case "PUT", [name, number, "set-default"]:
                self.changes.append(f"default {name} {number}")
                self.versions[name].remove(number)
                self.versions[name].insert(0, number)
                return httpx.Response(200, json={"status": "ok"})
            case "PUT", [name, number]:
                assert request.url.params["synchronous"] == "false"
                self.workers[name, number] = int(request.url.params["min_worker"])
                return httpx.Response(202, json={"status": "Processing worker updates..."})
            case "DELETE", [name, number]:
                return self._unregister(name, number)
        return httpx.Response(404, json={"code": 404, "type": "NotFound", "message": f"{path} not found"})

    def _register(self, params: httpx.QueryParams) -> httpx.Response:
        found = re.fullmatch(r"(\w+)-([\d.]+)\.mar", params["url"])
        if not found:
            return httpx.Response(400, json={"code": 400, "message": f"Given URL {params['url']} does not match"})
        name, number = found.groups()
        self.registrations.append(dict(params))
        self.changes.append(f"register {name} {number}")
        self.versions.setdefault(name, []).append(number)
        self.workers[name, number] = int(params.get("initial_workers", "1"))
        return httpx.Response(202, json={"status": "Processing worker updates..."})

    def _unregister(self, name: str, number: str) -> httpx.Response:
        if number not in self.versions.get(name, []):
            return httpx.Response(404, json={"code": 404, "message": f"Model version: {number} does not exist"})
        if self.versions[name][0] == number and len(self.versions[name]) > 1:
            return httpx.Response(403, json={"code": 403, "message": f"Cannot remove default version for {name}"})
        self.changes.append(f"unregister {name} {number}")
        self.loading.discard((name, number))
        self.versions[name].remove(number)
        return httpx.Response(200, json={"status": "unregistered"})
