"""``POST /feedback``: the truth about predictions, which may come before them."""

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query
from prometheus_client import CollectorRegistry, Counter
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, field_validator
from pydantic_core import PydanticCustomError

from handlers.language.api.answers import CHAT_ID, RESPONSE_ID, request_of_answer
from handlers.observe.redaction import Redact, RedactionError, redact
from monitoring.api.access import Access
from monitoring.api.events import MOST_ROWS
from monitoring.store.checks.labels import AmbiguousLabels, LabelCheck, WrongLabels
from monitoring.store.contracts import Contracts
from monitoring.store.predictions import Store
from monitoring.store.records import Conflict, Feedback, Label, LabelConflict, without_answer
from serving.registry import ArchiveError
from training.statistics.labels import LARGEST

MOST_LABELS = 10_000  # in one call
MOST_CORRECTIONS = 1000  # in one call: a decision lists them
LONGEST_ANSWER = 32_000  # characters of a better answer


Number = (
    Annotated[StrictFloat, Field(allow_inf_nan=False, ge=-LARGEST, le=LARGEST)]
    | Annotated[StrictInt, Field(ge=-int(LARGEST), le=int(LARGEST))]
)


class Thumb(BaseModel):
    """What a user thinks of an answer of a language model, and what it should have been."""

    model_config = ConfigDict(extra="forbid")

    thumb: Literal["up", "down"]
    answer: Annotated[StrictStr, Field(pattern=r"\S", max_length=LONGEST_ANSWER)]


class Given(BaseModel):
    """The truth about one row of a request."""

    model_config = ConfigDict(extra="forbid")

    request_id: str = Field(
        pattern=rf"^({CHAT_ID}|{RESPONSE_ID})?[\x21-\x7e]{{1,200}}$",
        description="the `X-Request-Id` that the request was sent with, else the `x-request-id` of its answer; of a "
        "language model its answer's `id` as well",
    )
    row: int = Field(default=0, ge=0, lt=MOST_ROWS, strict=True, description="position in the request")
    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="that answered; needed only where the same id was sent to several models",
    )
    label: Number | Annotated[StrictStr, Field(min_length=1, max_length=200)] | Thumb | dict[str, Number] = Field(
        description="a number of a regression, of several targets one by name; a class name of a classification; up or "
        "down of a language model's answer, or a thumb with a better answer"
    )

    @field_validator("label", mode="before")
    @classmethod
    def _has_names(cls, label: Any) -> Any:
        """Refuse a list, which does not say which number is of which target."""
        if isinstance(label, list):
            what = 'a list does not name its targets: send an object, such as {"delay": 5.0, "fuel": 300.0}'
            raise PydanticCustomError("no_names", what)
        return label


class Taken(BaseModel):
    """Numbers of labels: new, repeated, waiting for their prediction, and corrected ones."""

    accepted: int
    duplicates: int
    waiting: int
    corrected: int = 0


def feedback_router(
    store: Store,
    contracts: Contracts,
    access: Access,
    registry: CollectorRegistry,
    clock: Callable[[], datetime],
    redact: Redact = redact,
) -> APIRouter:
    """Return the route; labels must agree with the contracts.

    Args:
        clock: the time, in UTC.
        redact: of better answers.
    """
    router = APIRouter()
    labels = Counter("monitor_feedback", "Labels that arrived", ("result",), registry=registry)
    conflict: dict[int | str, dict[str, Any]] = {
        409: {"description": "a row has another label already, or several models answered; nothing was kept"}
    }

    @router.post("/feedback", dependencies=[Depends(access)], responses=conflict, response_model_exclude_defaults=True)
    def feedback(
        given: Given | Annotated[list[Given], Field(min_length=1, max_length=MOST_LABELS)],
        correct: Annotated[bool, Query(description="Whether a label may take the place of another one.")] = False,
    ) -> Taken:
        """Store labels: all of them, on disk, or none. A label may be sent again; a wrong one is changed with
        `?correct=true`, which the decisions then record.
        """
        now = clock()
        many = given if isinstance(given, list) else [given]
        if correct and len(many) > MOST_CORRECTIONS:
            raise HTTPException(422, f"{len(many)} labels; {MOST_CORRECTIONS} at most are corrected in one call")
        _check_models(many, contracts)
        others = _others(many, contracts)
        try:
            labelled = [
                Feedback(_request_id(row, others), row.row, _label(row.label, redact), now, row.model or "")
                for row in many
            ]
            result = store.add_feedback(labelled, LabelCheck(contracts), correct=correct, now=now)
        except RedactionError as error:
            raise HTTPException(422, f"a better answer cannot be kept: {error}; nothing was kept") from None
        except WrongLabels as error:
            labels.labels("wrong").inc(len(error.faults))
            raise HTTPException(422, {"message": str(error), "faults": error.faults}) from None
        except AmbiguousLabels as error:
            labels.labels("ambiguous").inc(len(error.models))
            raise HTTPException(409, {"message": str(error), "models": error.models}) from None
        except LabelConflict as error:
            labels.labels("conflict").inc(len(error.conflicts))
            conflicts = [_shown(conflict) for conflict in error.conflicts]
            message = f"{error}; to change what is known, send it to /feedback?correct=true"
            raise HTTPException(409, {"message": message, "conflicts": conflicts}) from None
        for name in ("accepted", "duplicates", "corrected"):
            labels.labels(name.removesuffix("s")).inc(getattr(result, name))
        return Taken(**asdict(result))

    return router


def _request_id(row: Given, others: Collection[str]) -> str:
    """Return the id of a request, of which a language model makes that of its answer.

    Args:
        others: names of models that are no language models.
    """
    return row.request_id if row.model in others else request_of_answer(row.request_id)


def _others(many: Sequence[Given], contracts: Contracts) -> set[str]:
    """Return the models that are named and are no language models."""
    with contextlib.suppress(ArchiveError):  # labels wait until the registry can be read
        read = {model: contracts.of(model) for model in {row.model for row in many if row.model}}
        return {model for model, contract in read.items() if contract and contract.task != "generation"}
    return set()


def _label(value: Label | Thumb, redact: Redact) -> Label:
    if isinstance(value, Thumb):
        return {"thumb": value.thumb, "answer": redact(value.answer)}
    if isinstance(value, dict):
        return {name: float(number) for name, number in value.items()}
    return value if isinstance(value, str) else float(value)


def _shown(conflict: Conflict) -> dict[str, Any]:
    place = {"request_id": conflict.request_id, "row": conflict.row}
    return {**place, "known": without_answer(conflict.stored), "given": without_answer(conflict.label)}


def _check_models(many: Sequence[Given], contracts: Contracts) -> None:
    """Raise a 422 for labels of an unregistered model: no prediction would ever join them."""
    named = {row.model for row in many if row.model}
    if not named:
        return
    try:
        models = contracts.models.models()
    except ArchiveError:  # labels wait until the registry can be read
        return
    if unknown := sorted(named - models.keys()):
        raise HTTPException(422, f"there is no model {unknown[0]!r}, only {', '.join(sorted(models)) or 'none'}")
