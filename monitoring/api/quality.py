"""``GET /models/{model}/quality`` and ``/drift``."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel

from handlers.contract import ModelContract
from monitoring.live.drift import Finding, Kind
from monitoring.live.live import Live, QualityWindow
from monitoring.live.quality import Quality
from monitoring.store.contracts import Contracts, unmeasured


class DriftSummary(BaseModel):
    """Drift of a model's newest rows, with the alarm of each kind that could be judged."""

    model: str
    version: str
    since: datetime | None
    until: datetime | None
    alarm: bool
    alarms: dict[Kind, bool]
    findings: list[Finding]


def live_router(live: Live, contracts: Contracts, window: QualityWindow) -> APIRouter:
    """Return the routes; ``window`` is the default window of the quality."""
    router = APIRouter(
        responses={
            404: {"description": "no such model"},
            409: {"description": "a model without labels"},
        }
    )

    @router.get("/models/{model}/quality")
    def quality(
        model: str,
        hours: Annotated[float | None, Query(gt=0, le=24 * 3660, description="Age of the predictions at most.")] = None,
        rows: Annotated[int | None, Query(gt=0, le=100_000, description="The newest of them at most.")] = None,
    ) -> Quality:
        """Return metrics of the predictions whose truth is known, over all versions and of each, with intervals."""
        if hours is None and rows is None:
            return live.quality(_contract(contracts, model))
        chosen = QualityWindow(hours or window.hours, rows or window.rows)
        return live.quality(_contract(contracts, model), chosen)

    @router.get("/models/{model}/drift")
    def drift(model: str) -> DriftSummary:
        """Compare inputs, predictions and errors of the newest rows with the reference of the champion's contract."""
        measured = live.drift(_contract(contracts, model))
        return DriftSummary(
            model=measured.model,
            version=measured.version,
            since=measured.since,
            until=measured.until,
            alarm=measured.alarm,
            alarms=measured.alarms,
            findings=list(measured.findings),
        )

    return router


def _contract(contracts: Contracts, model: str) -> ModelContract:
    contract = contracts.of(model)
    if contract is None:
        models = contracts.models.models()
        names = ", ".join(sorted(models)) or "none"
        why = "has no archive that can be read" if model in models else f"is unknown, there is only {names}"
        raise HTTPException(404, f"the model {model!r} {why}")
    if reason := unmeasured(contract):
        raise HTTPException(409, reason)
    return contract
