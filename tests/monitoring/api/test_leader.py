"""Who leads is told without the database."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from monitoring.api.leader import leader_router
from monitoring.store.leases import Lease
from monitoring.store.predictions import open_store


def test_the_leader_answers_200_and_another_monitor_503_with_its_name(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'monitor.db'}")
    leases = {name: Lease(store.database, owner=name) for name in ("first", "second")}
    clients, metrics = {}, {name: CollectorRegistry() for name in leases}
    for name, lease in leases.items():
        app = FastAPI()
        app.include_router(leader_router(lease, metrics[name]))
        clients[name] = TestClient(app)
    before = clients["first"].get("/leader")
    assert (before.status_code, before.json()) == (503, {"leads": False, "monitor": "first", "leader": ""})
    for lease in leases.values():
        lease.renew()
    store.close()
    for name, client in clients.items():
        leads = name == "first"
        response = client.get("/leader")
        assert response.status_code == (200 if leads else 503)
        assert response.json() == {"leads": leads, "monitor": name, "leader": "first"}
        assert metrics[name].get_sample_value("monitor_leader") == leads
