"""The monitor's HTTP interface."""

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from monitoring.api.errors import add_handlers
from monitoring.api.gate import Admit, Gate
from monitoring.live.last_known import LastKnown
from monitoring.live.probe import Prober

Task = Callable[[threading.Event], None]
METRICS_PATIENCE = 8.0  # s; Prometheus waits for ten
LEAVING = 6.0  # s that the tasks have to end


class Health(NamedTuple):
    """Health of the monitor and of the models.

    Attributes:
        registry: has the metrics of ``/metrics``.
        notices: further sentences of ``/readyz``, whether ready or not.
    """

    prober: Prober
    registry: CollectorRegistry
    notices: Callable[[], Iterable[str]] = tuple


def create_app(
    health: Health,
    interval: float,
    routers: Sequence[APIRouter] = (),
    tasks: Sequence[Task] = (),
    admit: Admit | None = None,
    leave: Callable[[], object] = lambda: None,
) -> FastAPI:
    """Return the application; it probes while it runs.

    Args:
        health: source of ``/healthz``, ``/readyz`` and ``/metrics``.
        interval: seconds between two probes of a model.
        routers: all routes beside health and metrics.
        tasks: run with the application, each in a thread of its own, until the event is set; then they have a few
            seconds to end.
        admit: refuses callers that may change nothing, before the body is read; None where the routes alone do.
        leave: called once the tasks have ended, while the process still runs: uvicorn ends it by its signal.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        stop = threading.Event()
        probing: Task = partial(health.prober.run_forever, interval)
        threads = [threading.Thread(target=task, args=(stop,), daemon=True) for task in (probing, *tasks)]
        for thread in threads:
            thread.start()
        yield
        stop.set()
        deadline = time.monotonic() + LEAVING
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        leave()

    app = FastAPI(title="Marloop monitor", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.include_router(_health_router(health))
    for router in routers:
        app.include_router(router)
    add_handlers(app)
    app.add_middleware(Gate, admit=admit)
    return app


def _health_router(health: Health) -> APIRouter:
    """Return routes that answer even while the store does not: they use none of the threads that wait for it."""
    limiter = anyio.CapacityLimiter(2)
    metrics_lately = LastKnown(lambda: generate_latest(health.registry), METRICS_PATIENCE)
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Answer that the monitor runs."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz(response: Response) -> dict[str, Any]:
        """Answer 200 if every model answered its example a moment ago, else 503."""
        last = health.prober.last
        response.status_code = 200 if last.ready else 503
        answers = {
            f"{model.name} {model.version}": "as expected" if model.ready else model.detail for model in last.models
        }
        reason = {"reason": last.fault} if last.fault else {}
        notices = list(health.notices())
        return {
            "ready": last.ready,
            "time": last.time,
            **reason,
            "models": answers,
            **({"notices": notices} if notices else {}),
        }

    @router.get("/readyz/{model}")
    async def readyz_of(model: str, response: Response) -> dict[str, Any]:
        """Answer 200 if one model answered its example a moment ago, else 503; 404 where it has no champion."""
        last = health.prober.last
        readiness = next((readiness for readiness in last.models if readiness.name == model), None)
        if readiness is None:
            response.status_code = 503 if last.fault else 404
            return {"ready": False, "model": model, "reason": last.fault or f"{model} has no champion"}
        response.status_code = 200 if readiness.ready else 503
        reason = {} if readiness.ready else {"reason": readiness.detail}
        return {"ready": readiness.ready, "model": model, "version": readiness.version, **reason}

    @router.get("/metrics")
    async def metrics() -> Response:
        """Return the monitor's metrics, for Prometheus."""
        content = await anyio.to_thread.run_sync(metrics_lately, limiter=limiter)
        return Response(content or b"", 503 if content is None else 200, media_type=CONTENT_TYPE_LATEST)

    return router
