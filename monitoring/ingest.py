"""``POST /events``: the sink of captured predictions, CloudEvents 1.0 in batches."""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from msgspec import Meta
from prometheus_client import CollectorRegistry, Counter
from pydantic import BaseModel

from handlers.contract import ModelContract
from handlers.events import TYPE
from handlers.sink import BATCH
from monitoring.access import Access
from monitoring.body import body_of
from monitoring.contracts import Contracts, output_fault
from monitoring.records import Prediction
from monitoring.store import Store
from training.labels import label_fault

logger = logging.getLogger(__name__)
LARGEST = 32 * 1024 * 1024  # bytes of one batch
MOST_ROWS = 1_000_000  # of a request
Id = Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,200}$")]


class Data(msgspec.Struct):
    """What an event says: one row."""

    request_id: Id
    row: Annotated[int, Meta(ge=0, lt=MOST_ROWS)]
    model: str
    version: str
    features: dict[str, Any]
    output: Any


class Event(msgspec.Struct):
    """A CloudEvent; attributes that are not named here are allowed, as its specification says."""

    specversion: Literal["1.0"]
    type: Literal["marloop.prediction"]
    source: Annotated[str, Meta(min_length=1)]
    id: Annotated[str, Meta(min_length=1)]
    time: Annotated[datetime, Meta(tz=True)]
    data: Data

    def prediction(self) -> Prediction:
        """What is kept of it."""
        one = self.data
        time = self.time.astimezone(UTC)
        return Prediction(one.request_id, one.row, one.model, one.version, time, one.features, one.output)


class Ingested(BaseModel):
    """What came of a batch."""

    new: int
    duplicates: int


class Ingest:
    """Checks events and keeps them.

    Args:
        store: that they are kept in.
        contracts: that they must agree with.
        registry: that the instruments belong to.
        arrived: is told the newest time of each batch, once it is kept.
    """

    def __init__(
        self,
        store: Store,
        contracts: Contracts,
        registry: CollectorRegistry,
        arrived: Callable[[datetime], None] = lambda time: None,
    ) -> None:
        self._store, self._contracts, self._arrived = store, contracts, arrived
        self._decoder = msgspec.json.Decoder(list[Event])
        self._rows = Counter("monitor_events", "Captured rows that arrived", ("result",), registry=registry)
        self._wrong = Counter("monitor_wrong_labels", "Labels that no model has, told late", registry=registry)

    def __call__(self, body: bytes) -> Ingested:
        """Keep a batch, or refuse all of it.

        Raises:
            HTTPException: 400 or 422, with the place of the fault.
        """
        try:
            events = self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise HTTPException(422, str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise HTTPException(400, f"no JSON: {error}") from None
        versions = {(event.data.model, event.data.version) for event in events}
        contracts = {version: self._contracts.of(*version) for version in versions}
        for i, event in enumerate(events):
            _check(event.data, contracts[event.data.model, event.data.version], f"$[{i}].data")
        predictions = [event.prediction() for event in events]
        new = self._store.add_predictions(predictions)
        if predictions:
            self._arrived(max(one.time for one in predictions))
        self._drop_wrong_labels(predictions)
        self._rows.labels("new").inc(new)
        self._rows.labels("duplicate").inc(len(events) - new)
        return Ingested(new=new, duplicates=len(events) - new)

    def _drop_wrong_labels(self, predictions: Sequence[Prediction]) -> None:
        """Labels that came first could not be checked: whose they are was not known."""
        models = {(one.request_id, one.row): one.model for one in predictions}
        contracts = {model: self._contracts.of(model) for model in set(models.values())}
        wrong = []
        for one in self._store.waiting(list(models)):
            contract = contracts[models[one.request_id, one.row]]
            if contract and (expected := label_fault(contract, one.label)):
                logger.warning("label %r of %s is dropped: %s", one.label, one.request_id, expected)
                wrong.append((one.request_id, one.row))
        self._wrong.inc(self._store.remove_feedback(wrong))


def _check(data: Data, contract: ModelContract | None, path: str) -> None:
    if contract is None:
        raise HTTPException(422, f"{data.model} {data.version} is not registered - at `{path}.model`")
    unknown = data.features.keys() - {spec.name for spec in contract.inputs}
    if unknown:
        raise HTTPException(422, f"{sorted(unknown)[0]!r} is no input of the model - at `{path}.features`")
    if expected := output_fault(contract, data.output):
        raise HTTPException(422, f"Expected {expected} - at `{path}.output`")


def events_router(ingest: Ingest, access: Access) -> APIRouter:
    """The route."""
    router = APIRouter()
    schema = {"type": "array", "items": {"type": "object", "description": f"a CloudEvent 1.0 of type {TYPE}"}}
    described = {"requestBody": {"required": True, "content": {BATCH: {"schema": schema}}}}

    @router.post("/events", dependencies=[Depends(access)], openapi_extra=described)
    async def events(request: Request) -> Ingested:
        """Keep captured predictions; one that is known is kept once. A fault refuses the whole batch."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != BATCH:
            raise HTTPException(415, f"the content type must be {BATCH}")
        return await run_in_threadpool(ingest, await body_of(request, LARGEST))

    return router
