"""``GET /targets``: where Prometheus finds the workers' metrics, as it asks over HTTP.

The form is that of `Prometheus's HTTP service discovery <https://prometheus.io/docs/prometheus/latest/http_sd/>`_.
"""

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, Info
from pydantic import BaseModel


class TargetGroup(BaseModel):
    """Addresses, HOST:PORT, and labels of all of them."""

    targets: list[str]
    labels: dict[str, str]


def targets_router(urls: Callable[[], Sequence[str]], host: str, registry: CollectorRegistry) -> APIRouter:
    """Return the route; the metric ``marloop_host_info`` tells alerts which jobs there should be.

    Args:
        urls: returns those of the exporters, one of each machine.
        host: what serves the models.
    """
    router = APIRouter()
    Info("marloop_host", "What serves the models", registry=registry).info({"host": host})

    @router.get("/targets")
    def targets() -> list[TargetGroup]:
        """List the exporters of the workers' metrics: one of each machine that serves."""
        return [TargetGroup(targets=[urlsplit(url).netloc for url in urls()], labels={})]

    return router
