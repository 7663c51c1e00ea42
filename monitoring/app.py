"""The monitor's HTTP interface."""

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from monitoring.api.errors import add_handlers
from monitoring.api.gate import Admit, Gate
from monitoring.live.lately import Lately
from monitoring.live.probe import Prober

Task = Callable[[threading.Event], None]
METRICS_PATIENCE = 8.0  # s; Prometheus waits for ten
LEAVING = 6.0  # s that the tasks have in the end


def create_app(
    prober: Prober,
    registry: CollectorRegistry,
    interval: float,
    routers: Sequence[APIRouter] = (),
    tasks: Sequence[Task] = (),
    admit: Admit | None = None,
    notices: Callable[[], Iterable[str]] = tuple,
) -> FastAPI:
    """The application; it probes while it runs.

    Args:
        prober: asks the models.
        registry: of the metrics that are shown.
        interval: seconds between two probes of a model.
        routers: of everything beside health and metrics.
        tasks: run while the application does, each in a thread of its own, until the event is set; then they have a few
            seconds to come to their end.
        admit: says who may change something, before the body is read; None where the routes alone do.
        notices: what else ``/readyz`` tells, whether ready or not.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        stop = threading.Event()
        probing: Task = partial(prober.run_forever, interval)
        threads = [threading.Thread(target=task, args=(stop,), daemon=True) for task in (probing, *tasks)]
        for thread in threads:
            thread.start()
        yield
        stop.set()
        deadline = time.monotonic() + LEAVING
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    app = FastAPI(title="Marloop monitor", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.include_router(_health(prober, registry, notices))
    for router in routers:
        app.include_router(router)
    add_handlers(app)
    app.add_middleware(Gate, admit=admit)
    return app


def _health(prober: Prober, registry: CollectorRegistry, notices: Callable[[], Iterable[str]]) -> APIRouter:
    """Routes that answer whatever the store does: they need none of the threads that wait for it."""
    limiter = anyio.CapacityLimiter(2)
    shown = Lately(lambda: generate_latest(registry), METRICS_PATIENCE)
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the monitor runs."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz(response: Response) -> dict[str, Any]:
        """Whether every model answered its example a moment ago; 503 if not."""
        last = prober.last
        response.status_code = 200 if last.ready else 503
        answers = {f"{one.name} {one.version}": "as expected" if one.ready else one.detail for one in last.found}
        reason = {"reason": last.fault} if last.fault else {}
        told = list(notices())
        return {
            "ready": last.ready,
            "time": last.time,
            **reason,
            "models": answers,
            **({"notices": told} if told else {}),
        }

    @router.get("/readyz/{model}")
    async def readyz_of(model: str, response: Response) -> dict[str, Any]:
        """Whether one model did; 503 if not, 404 where it has no champion."""
        last = prober.last
        found = next((one for one in last.found if one.name == model), None)
        if found is None:
            response.status_code = 503 if last.fault else 404
            return {"ready": False, "model": model, "reason": last.fault or f"{model} has no champion"}
        response.status_code = 200 if found.ready else 503
        reason = {} if found.ready else {"reason": found.detail}
        return {"ready": found.ready, "model": model, "version": found.version, **reason}

    @router.get("/metrics")
    async def metrics() -> Response:
        """What the probes found, for Prometheus."""
        known = await anyio.to_thread.run_sync(shown, limiter=limiter)
        return Response(known or b"", 503 if known is None else 200, media_type=CONTENT_TYPE_LATEST)

    return router
