"""A monitor's application on stores of the test's own, and clients of it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import httpx2
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from handlers.observe.settings import Credentials
from handlers.observe.sink import BATCH
from monitoring.api.access import Access
from monitoring.api.catalog import catalog_router
from monitoring.api.events import Ingest, events_router
from monitoring.api.feedback import feedback_router
from monitoring.app import Health, create_app
from monitoring.live.probe import Prober
from monitoring.store.contracts import Contracts
from monitoring.store.predictions import open_store
from serving.registry import Registry

NOW = datetime(2013, 2, 17, 12, tzinfo=UTC)


class Monitor:
    """The application beside a registry and an empty store, on SQLite without a database's URL; asked from loopback."""

    def __init__(self, folder: Path, token: str = "", database: str = "") -> None:
        self.models = Registry(folder / "models")
        self.store = open_store(database or f"sqlite:///{folder / 'monitor.db'}")
        self.metrics = CollectorRegistry()
        prober = Prober(self.models, "http://127.0.0.1:1", self.metrics, httpx.Client())
        contracts, access = Contracts(self.models), Access(Credentials(token))
        routers = [
            events_router(Ingest(self.store, contracts, self.metrics), access),
            feedback_router(self.store, contracts, access, self.metrics, lambda: NOW),
            catalog_router(self.store, contracts),
        ]
        self.app = create_app(Health(prober, self.metrics), 3600, routers, admit=access.admit)
        self.client = self.client_from("127.0.0.1")

    def client_from(self, address: str, url: str = "http://127.0.0.1:8090") -> TestClient:
        return TestClient(self.app, url, client=(address, 50000))

    def send(self, *events: Any, content_type: str = BATCH) -> httpx2.Response:
        return self.client.post("/events", json=list(events), headers={"Content-Type": content_type})

    def tell(self, *labels: Any) -> httpx2.Response:
        return self.client.post("/feedback", json=labels[0] if len(labels) == 1 else list(labels))


def event(request_id: str = "a", row: int = 0, **data: Any) -> dict[str, Any]:
    """One event of the model that doubles."""
    told = {"request_id": request_id, "row": row, "model": "doubling", "version": "1.0"}
    return {
        "specversion": "1.0",
        "type": "marloop.prediction",
        "source": "/models/doubling/versions/1.0",
        "id": f"{request_id}/{row}",
        "time": "2013-02-17T07:00:00-05:00",
        "datacontenttype": "application/json",
        "data": told | {"features": {"x": 6.0}, "output": 12.0} | data,
    }
