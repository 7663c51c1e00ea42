"""``GET /models`` and their versions: the registry, with numbers of predictions and labels."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel

from monitoring.store.contracts import Contracts
from monitoring.store.predictions import Store
from serving.registry import champion_of


class ModelSummary(BaseModel):
    """One model; predictions and labels are of all its versions. Damaged has the fault of each unreadable version."""

    name: str
    task: str | None
    champion: str | None
    versions: int
    predictions: int
    labelled: int
    damaged: dict[str, str] = {}


class VersionSummary(BaseModel):
    """One version of a model."""

    version: str
    state: str
    created: str
    evaluation: dict[str, Any]
    predictions: int
    labelled: int
    newest: datetime | None


def catalog_router(store: Store, contracts: Contracts) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/models", response_model_exclude_defaults=True)
    def models() -> list[ModelSummary]:
        """Return every model."""
        names = {*contracts.models.models(), *contracts.models.damaged()}
        return [_model(name, store, contracts) for name in sorted(names)]

    @router.get("/models/{model}/versions", responses={404: {"description": "no such model"}})
    def versions(model: str) -> list[VersionSummary]:
        """Return every version of a model, oldest first."""
        registered = contracts.models.models().get(model)
        if registered is None:
            names = ", ".join(sorted(contracts.models.models())) or "none"
            raise HTTPException(404, f"there is no model {model!r}, only {names}")
        counts = store.counts(model)
        summaries = []
        for number, version in registered.items():
            rows = counts.get(number)
            summaries.append(
                VersionSummary(
                    version=number,
                    state=version.state,
                    created=version.created,
                    evaluation=version.evaluation,
                    predictions=rows.predictions if rows else 0,
                    labelled=rows.labelled if rows else 0,
                    newest=rows.newest if rows else None,
                )
            )
        return summaries

    return router


def _model(name: str, store: Store, contracts: Contracts) -> ModelSummary:
    versions = contracts.models.models().get(name, {})
    champion = champion_of(versions)
    contract, counts = contracts.of(name), store.counts(name).values()
    return ModelSummary(
        name=name,
        task=contract.task if contract else None,
        champion=champion.number if champion else None,
        versions=len(versions),
        predictions=sum(rows.predictions for rows in counts),
        labelled=sum(rows.labelled for rows in counts),
        damaged=contracts.models.damaged().get(name, {}),
    )
