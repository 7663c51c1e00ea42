"""Promote and roll back by hand, over HTTP."""

from typing import Any

from fastapi import APIRouter, Depends, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from monitoring.api.access import Access
from monitoring.retraining.promotions import PromotionRefused, Promotions
from serving.hosts.host import LaunchError
from serving.registry import ArchiveError


class Wanted(BaseModel):
    """The version to serve."""

    model_config = ConfigDict(extra="forbid")

    version: str = Field(min_length=1, max_length=100, description="number of a registered version")


class Served(BaseModel):
    """The version that is served now, and the one before it."""

    model: str
    champion: str | None
    former: str | None


def actions_router(promotions: Promotions, access: Access) -> APIRouter:
    """Return the routes, which need access."""
    responses: dict[int | str, dict[str, Any]] = {
        404: {"description": "no such model or version"},
        409: {"description": "nothing to promote or to go back to, or its archive is missing or altered"},
        503: {"description": "the service does not answer, or does not take it"},
    }
    router = APIRouter(dependencies=[Depends(access)], responses=responses)

    @router.post("/models/{model}/promote")
    def promote(model: str, target: Wanted) -> Served:
        """Serve this version from now on; no request fails meanwhile."""
        try:
            former = promotions.promote(model, target.version, "hand")
        except Exception as error:
            raise _answer(error) from error
        return Served(model=model, champion=target.version, former=former)

    @router.post("/models/{model}/rollback")
    def rollback(model: str) -> Served:
        """Serve the former version again."""
        try:
            former = promotions.champion(model)
            champion = promotions.rollback(model, "hand")
        except Exception as error:
            raise _answer(error) from error
        return Served(model=model, champion=champion, former=former)

    return router


def _answer(error: Exception) -> Exception:
    match error:
        case KeyError():
            return HTTPException(404, str(error.args[0]))
        case PromotionRefused() | ArchiveError():
            return HTTPException(409, str(error))
        case LaunchError():
            return HTTPException(503, str(error))
    return error
