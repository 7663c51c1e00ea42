"""Prometheus finds the exporters of all machines, also of those that come later, and what serves."""

from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from monitoring.api.targets import targets_router


def test_the_machines_of_now_are_listed_as_prometheus_reads_them() -> None:
    urls, metrics, app = ["http://10.0.0.1:8083"], CollectorRegistry(), FastAPI()
    app.include_router(targets_router(lambda: urls, "ray", metrics))
    client = TestClient(app)
    assert client.get("/targets").json() == [{"targets": ["10.0.0.1:8083"], "labels": {}}]
    urls.append("http://[fd00::2]:8083")
    response = client.get("/targets")
    assert response.headers["content-type"] == "application/json"
    assert response.json() == [{"targets": ["10.0.0.1:8083", "[fd00::2]:8083"], "labels": {}}]
    assert metrics.get_sample_value("marloop_host_info", {"host": "ray"}) == 1
