"""The monitor's HTTP interface."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from monitoring.probe import Prober


def create_app(prober: Prober, registry: CollectorRegistry, interval: float) -> FastAPI:
    """The application; it probes while it runs.

    Args:
        prober: asks the models.
        registry: of the metrics that are shown.
        interval: seconds between two probes of a model.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=prober.run_forever, args=(interval, stop), name="probe", daemon=True)
        thread.start()
        yield
        stop.set()

    app = FastAPI(title="Marloop monitor", lifespan=lifespan)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Whether the monitor runs."""
        return {"status": "ok"}

    @app.get("/readyz")
    def readyz(response: Response) -> dict[str, Any]:
        """Whether every model answered its example at the last probe; 503 if not."""
        last = prober.last
        response.status_code = 200 if last.ready else 503
        answers = {f"{one.name} {one.version}": "as expected" if one.ready else one.detail for one in last.found}
        return {"ready": last.ready, "time": last.time, "models": answers}

    @app.get("/metrics")
    def metrics() -> Response:
        """What the probes found, for Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app
