"""``GET /leader``: which of several monitors on one database leads."""

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, Gauge
from pydantic import BaseModel

from monitoring.store.leases import Lease


class Leadership(BaseModel):
    """Whether this monitor leads, its own name, and the name of the one that was last seen to lead."""

    leads: bool
    monitor: str
    leader: str


def leader_router(lease: Lease, registry: CollectorRegistry) -> APIRouter:
    """Return the route, which asks no database: it answers while that is away."""
    router = APIRouter()
    gauge = Gauge("monitor_leader", "Whether this monitor leads, and does what is done by itself", registry=registry)
    gauge.set_function(lambda: lease.held)

    @router.get("/leader", responses={503: {"description": "another monitor leads, or none"}})
    async def leader(response: Response) -> Leadership:
        """Answer 200 if this monitor leads, else 503: a proxy may so find the one that does."""
        leads = lease.held
        response.status_code = 200 if leads else 503
        return Leadership(leads=leads, monitor=lease.owner, leader=lease.holder)

    return router
