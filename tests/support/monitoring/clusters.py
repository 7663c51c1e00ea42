"""A Ray dashboard and a Kubernetes API server of a test's own, which note what is asked of them."""

import json
from typing import Any

import httpx


class FakeCluster:
    """Answers an HTTP API, until it is told to be away.

    Attributes:
        jobs: what was submitted, by name.
        running: names of those that run.
        away: whether nothing answers.
        refuses: status code of every submission; 0: none is refused.
        deaf: whether those that are asked to end go on.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.running: set[str] = set()
        self.printed: dict[str, str] = {}
        self.away, self.deaf, self.refuses = False, False, 0
        self.headers: httpx.Headers = httpx.Headers()

    def client(self) -> httpx.Client:
        """A client that asks it."""
        return httpx.Client(base_url="http://cluster.test", transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            raise httpx.ConnectError("connection refused", request=request)
        self.headers = request.headers
        return self.answer(request.method, request.url, json.loads(request.content or b"null"))

    def answer(self, method: str, url: httpx.URL, content: Any) -> httpx.Response:
        """Answer a request."""
        raise NotImplementedError

    def end(self, name: str) -> None:
        """End a job, unless it is deaf."""
        if not self.deaf:
            self.running.discard(name)


class FakeRay(FakeCluster):
    """The job API of a Ray dashboard, as Ray 2.60 answers."""

    def answer(self, method: str, url: httpx.URL, content: Any) -> httpx.Response:
        """Answer a request."""
        parts = url.path.strip("/").split("/")[2:]
        if method == "POST" and not parts:
            if self.refuses:
                return httpx.Response(self.refuses, text="no such runtime environment")
            name = content["submission_id"]
            self.jobs[name] = content
            self.running.add(name)
            return httpx.Response(200, json={"job_id": name, "submission_id": name})
        if parts[0] not in self.jobs:
            return httpx.Response(404, text=f"Job {parts[0]} does not exist")
        if parts[1:] == ["stop"]:
            self.end(parts[0])
            return httpx.Response(200, json={"stopped": True})
        if parts[1:] == ["logs"]:
            return httpx.Response(200, json={"logs": self.printed.get(parts[0], "")})
        status = "RUNNING" if parts[0] in self.running else "STOPPED"
        details = {"type": "SUBMISSION", "submission_id": parts[0], "status": status, "start_time": 1_000_000}
        return httpx.Response(200, json=details | {"message": "Job is currently running."})


class FakeKubernetes(FakeCluster):
    """The Jobs and pods of an API server, as Kubernetes 1.35 answers."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: dict[str, Any] = {}  # the state of the container of each pod

    def answer(self, method: str, url: httpx.URL, content: Any) -> httpx.Response:
        """Answer a request."""
        jobs, pods = "/apis/batch/v1/namespaces/lab/jobs", "/api/v1/namespaces/lab/pods"
        if method == "POST" and url.path == jobs:
            if self.refuses:
                return httpx.Response(self.refuses, json={"kind": "Status", "message": "jobs.batch is forbidden"})
            name = content["metadata"]["name"]
            self.jobs[name] = content | {
                "metadata": content["metadata"] | {"creationTimestamp": "2013-02-17T12:00:00Z"}
            }
            self.running.add(name)
            return httpx.Response(201, json=self.jobs[name])
        if url.path == pods:
            name = url.params["labelSelector"].removeprefix("job-name=")
            state = self.waits or {"running": {}}
            status = {"phase": "Running", "containerStatuses": [{"state": state}]}
            pod = {"metadata": {"name": f"{name}-x7k2p"}, "status": status}
            return httpx.Response(200, json={"kind": "PodList", "items": [pod] if name in self.jobs else []})
        if url.path.startswith(pods):
            name = url.path.removeprefix(f"{pods}/").removesuffix("-x7k2p/log")
            return httpx.Response(200, text=self.printed.get(name, ""))
        name = url.path.removeprefix(f"{jobs}/")
        if name not in self.jobs:
            return httpx.Response(404, json={"kind": "Status", "message": f'jobs.batch "{name}" not found'})
        if method == "DELETE":
            assert content == {"propagationPolicy": "Foreground"}
            self.end(name)
            if not self.deaf:
                return httpx.Response(200, json=self.jobs.pop(name))
        done = [] if name in self.running else [{"type": "Failed", "status": "True"}]
        return httpx.Response(200, json=self.jobs[name] | {"status": {"conditions": done}})
