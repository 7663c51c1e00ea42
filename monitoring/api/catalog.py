"""``GET /models`` and their versions: what is registered, and how much is known of it."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel

from monitoring.store.contracts import Contracts
from monitoring.store.predictions import Store
from serving.registry import champion_of


class ModelSummary(BaseModel):
    """One model; predictions and labels are of all its versions. Damaged is why an entry cannot be read, by version."""

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
    """The routes.

    Args:
        store: counts predictions and labels.
    """
    router = APIRouter()

    @router.get("/models", response_model_exclude_defaults=True)
    def models() -> list[ModelSummary]:
        """Every model."""
        names = {*contracts.models.models(), *contracts.models.damaged()}
        return [_model(name, store, contracts) for name in sorted(names)]

    @router.get("/models/{model}/versions", responses={404: {"description": "no such model"}})
    def versions(model: str) -> list[VersionSummary]:
        """Every version of a model, oldest first."""
        found = contracts.models.models().get(model)
        if found is None:
            names = ", ".join(sorted(contracts.models.models())) or "none"
            raise HTTPException(404, f"there is no model {model!r}, only {names}")
        counts = store.counts(model)
        summaries = []
        for number, version in found.items():
            known = counts.get(number)
            summaries.append(
                VersionSummary(
                    version=number,
                    state=version.state,
                    created=version.created,
                    evaluation=version.evaluation,
                    predictions=known.predictions if known else 0,
                    labelled=known.labelled if known else 0,
                    newest=known.newest if known else None,
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
        predictions=sum(one.predictions for one in counts),
        labelled=sum(one.labelled for one in counts),
        damaged=contracts.models.damaged().get(name, {}),
    )
