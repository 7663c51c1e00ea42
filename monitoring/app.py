"""The monitor's HTTP interface."""

import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from sqlalchemy.exc import SQLAlchemyError

from monitoring.probe import Prober

Task = Callable[[threading.Event], None]
LEAVING = 6.0  # s that the tasks have in the end


def create_app(
    prober: Prober,
    registry: CollectorRegistry,
    interval: float,
    routers: Sequence[APIRouter] = (),
    tasks: Sequence[Task] = (),
) -> FastAPI:
    """The application; it probes while it runs.

    Args:
        prober: asks the models.
        registry: of the metrics that are shown.
        interval: seconds between two probes of a model.
        routers: of everything beside health and metrics.
        tasks: run while the application does, each in a thread of its own, until the event is set; then they have a few
            seconds to come to their end.
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

    app = FastAPI(title="Marloop monitor", lifespan=lifespan)
    app.include_router(_health(prober, registry))
    for router in routers:
        app.include_router(router)

    app.add_exception_handler(SQLAlchemyError, _unavailable)
    app.add_exception_handler(RequestValidationError, _invalid)
    return app


def _unavailable(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"the store does not answer: {error}"}, 503)


def _invalid(_: Request, error: Exception) -> JSONResponse:
    """What FastAPI answers, without the input: it can be large, and a NaN in it is no JSON."""
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"detail": [{key: one[key] for key in ("type", "loc", "msg")} for one in error.errors()]}, 422)


def _health(prober: Prober, registry: CollectorRegistry) -> APIRouter:
    router = APIRouter()

    @router.get("/healthz")
    def healthz() -> dict[str, str]:
        """Whether the monitor runs."""
        return {"status": "ok"}

    @router.get("/readyz")
    def readyz(response: Response) -> dict[str, Any]:
        """Whether every model answered its example a moment ago; 503 if not."""
        last = prober.last
        response.status_code = 200 if last.ready else 503
        answers = {f"{one.name} {one.version}": "as expected" if one.ready else one.detail for one in last.found}
        reason = {"reason": last.fault} if last.fault else {}
        return {"ready": last.ready, "time": last.time, **reason, "models": answers}

    @router.get("/readyz/{model}")
    def readyz_of(model: str, response: Response) -> dict[str, Any]:
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
    def metrics() -> Response:
        """What the probes found, for Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router
