"""``POST /feedback``: the truth about predictions, sooner or later than they arrive."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException
from prometheus_client import CollectorRegistry, Counter
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

from monitoring.access import Access
from monitoring.contracts import Contracts
from monitoring.ingest import MOST_ROWS
from monitoring.records import Feedback, LabelConflict
from monitoring.store import Store
from training.labels import label_fault

MOST_LABELS = 10_000  # in one call
_LARGEST = 10**300  # of an integer: a float holds it


class Given(BaseModel):
    """The truth about one row of a request."""

    model_config = ConfigDict(extra="forbid")

    request_id: str = Field(
        pattern=r"^[\x21-\x7e]{1,200}$",
        description="the `X-Request-Id` that the request was sent with, else the `x-request-id` of its answer",
    )
    row: int = Field(default=0, ge=0, lt=MOST_ROWS, description="position in the request")
    label: (
        Annotated[StrictFloat, Field(allow_inf_nan=False)]
        | Annotated[StrictInt, Field(ge=-_LARGEST, le=_LARGEST)]
        | Annotated[StrictStr, Field(min_length=1, max_length=200)]
    ) = Field(description="a number of a regression, a class name of a classification")


class Taken(BaseModel):
    """What came of it: labels that are new, that were known, and that wait for their prediction."""

    accepted: int
    duplicates: int
    waiting: int


def feedback_router(
    store: Store, contracts: Contracts, access: Access, registry: CollectorRegistry, clock: Callable[[], datetime]
) -> APIRouter:
    """The route.

    Args:
        store: that labels are kept in.
        contracts: that they must agree with.
        access: who may call it.
        registry: that the instruments belong to.
        clock: the time, in UTC.
    """
    router = APIRouter()
    labels = Counter("monitor_feedback", "Labels that arrived", ("result",), registry=registry)
    conflict: dict[int | str, dict[str, Any]] = {
        409: {"description": "a row has another label already; nothing was kept"}
    }

    @router.post("/feedback", dependencies=[Depends(access)], responses=conflict)
    def feedback(given: Given | Annotated[list[Given], Field(min_length=1, max_length=MOST_LABELS)]) -> Taken:
        """Keep labels: all of them, on disk, or none. A label that is known may be sent again."""
        now = clock()
        many = given if isinstance(given, list) else [given]
        told = [Feedback(one.request_id, one.row, _label(one.label), now) for one in many]
        _check(told, store, contracts)
        try:
            result = store.add_feedback(told)
        except LabelConflict as error:
            labels.labels("conflict").inc(len(error.conflicts))
            conflicts = [vars(one) for one in error.conflicts]
            raise HTTPException(409, {"message": str(error), "conflicts": conflicts}) from None
        labels.labels("accepted").inc(result.accepted)
        labels.labels("duplicate").inc(result.duplicates)
        return Taken(accepted=result.accepted, duplicates=result.duplicates, waiting=result.waiting)

    return router


def _label(given: float | str) -> float | str:
    return given if isinstance(given, str) else float(given)


def _check(told: Sequence[Feedback], store: Store, contracts: Contracts) -> None:
    """Labels of predictions that are here must be such as the model has; of others that is seen when they come."""
    models = store.models_of([one.request_id for one in told])
    known = {model: contracts.of(model) for model in set(models.values())}
    faults = []
    for one in told:
        contract = known.get(models.get(one.request_id, ""))
        if contract and (expected := label_fault(contract, one.label)):
            faults.append({"request_id": one.request_id, "row": one.row, "label": one.label, "expected": expected})
    if faults:
        raise HTTPException(422, {"message": "labels that the model does not have; none was kept", "faults": faults})
