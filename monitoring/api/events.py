"""``POST /events``: the sink of captured predictions, CloudEvents 1.0 in batches."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from msgspec import Meta
from prometheus_client import CollectorRegistry, Counter
from pydantic import BaseModel

from handlers.contract import ModelContract
from handlers.language.api.answers import request_of_answer
from handlers.observe.events import TYPE
from handlers.observe.sink import BATCH
from monitoring.api.access import Access
from monitoring.api.body import body_of
from monitoring.live.clock import AHEAD, Clock, wall_clock
from monitoring.store.checks.captured import RowCheck
from monitoring.store.checks.conversations import ConversationCheck
from monitoring.store.checks.labels import LabelCheck
from monitoring.store.contracts import Contracts
from monitoring.store.predictions import Store
from monitoring.store.records import Prediction, without_answer

logger = logging.getLogger(__name__)
LARGEST = 32 * 1024 * 1024  # bytes of one batch
MOST_EVENTS = 20_000  # in one batch; a worker sends 500
MOST_FAULTS = 10  # in one answer
SHOWN = 60  # characters of a name in a message
MOST_ROWS = 1_000_000  # in one request
Checks = RowCheck | ConversationCheck
Id = Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,200}$")]


class Data(msgspec.Struct):
    """The data of an event: one row."""

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
        """Return the prediction that is stored."""
        data = self.data
        time = self.time.astimezone(UTC)
        return Prediction(data.request_id, data.row, data.model, data.version, time, data.features, data.output)


class Refused(BaseModel):
    """A row that was not kept."""

    index: int
    fault: str


class Ingested(BaseModel):
    """Numbers of rows of a batch, and the faults of the first refused ones."""

    new: int
    duplicates: int
    refused: int = 0
    faults: list[Refused] = []


class Ingest:
    """Checks events and stores them.

    Args:
        contracts: events must agree with them.
        arrived: gets the newest time of each batch, once it is stored.
        wall: wall-clock time in UTC, which no event may be ahead of.
    """

    def __init__(
        self,
        store: Store,
        contracts: Contracts,
        registry: CollectorRegistry,
        arrived: Callable[[datetime], None] = lambda time: None,
        wall: Clock = wall_clock,
    ) -> None:
        self._store, self._contracts, self._arrived, self._wall = store, contracts, arrived, wall
        self._batch = msgspec.json.Decoder(list[msgspec.Raw])
        self._event = msgspec.json.Decoder(Event)
        self._rows = Counter("monitor_events", "Captured rows that arrived", ("result",), registry=registry)
        self._wrong = Counter("monitor_wrong_labels", "Labels that no model has, told late", registry=registry)

    def __call__(self, body: bytes) -> Ingested:
        """Store the good rows of a batch: a worker whose batch is refused drops the whole of it.

        Raises:
            HTTPException: 400 for a body that is no batch; 422 if no row is good, with the place of the first fault.
        """
        predictions, faults = self._decode(body)
        self._rows.labels("refused").inc(len(faults))
        if faults and not predictions:
            raise HTTPException(422, faults[0].fault)
        added = self._store.add_predictions(predictions, LabelCheck(self._contracts))
        if predictions:
            self._arrived(max(prediction.time for prediction in predictions))
        for fault in added.wrong:
            logger.warning(
                "the label %.200r of %s does not fit: %s",
                *(without_answer(fault.label), fault.request_id, fault.expected),
            )
        self._wrong.inc(len(added.wrong))
        duplicates = len(predictions) - added.new
        self._rows.labels("new").inc(added.new)
        self._rows.labels("duplicate").inc(duplicates)
        return Ingested(new=added.new, duplicates=duplicates, refused=len(faults), faults=faults[:MOST_FAULTS])

    def _decode(self, body: bytes) -> tuple[list[Prediction], list[Refused]]:
        try:
            raw = self._batch.decode(body)
        except msgspec.ValidationError as error:
            raise HTTPException(422, str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HTTPException(400, f"no JSON: {error}") from None
        if len(raw) > MOST_EVENTS:
            raise HTTPException(413, f"{len(raw)} events; a batch has {MOST_EVENTS} at most")
        checks: dict[tuple[str, str], Checks | None] = {}
        predictions, faults = [], []
        latest = self._wall() + AHEAD
        for i, content in enumerate(raw):
            try:
                event = self._event.decode(content)
                check = self._row_check(event.data, checks)
                _check(event, check, latest)
                prediction = event.prediction()
                if isinstance(check, ConversationCheck):  # feedback names it by the id of its answer as well
                    prediction = replace(prediction, request_id=request_of_answer(prediction.request_id))
                predictions.append(prediction)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, _Fault) as error:
                faults.append(Refused(index=i, fault=_placed(str(error), i)))
        return predictions, faults

    def _row_check(self, data: Data, checks: dict[tuple[str, str], Checks | None]) -> Checks | None:
        version = (data.model, data.version)
        if version not in checks:
            contract = self._contracts.of(*version)
            checks[version] = _check_of(contract) if contract else None
        return checks[version]


def _check_of(contract: ModelContract) -> Checks:
    return ConversationCheck() if contract.task == "generation" else RowCheck(contract)


class _Fault(Exception):  # noqa: N818
    """An event has a fault; the message is like one of msgspec's."""


def _check(event: Event, check: Checks | None, latest: datetime) -> None:
    data = event.data
    if check is None:
        name = f"{data.model[:SHOWN]} {data.version[:SHOWN]}"
        raise _Fault(f"{name} is not registered - at `$.data.model`")
    if event.time > latest:
        raise _Fault(f"{event.time.isoformat()} is ahead of this machine's clock by over {AHEAD} - at `$.time`")
    if fault := check.fault(data.features, data.output):
        raise _Fault(fault.replace("- at `", "- at `$.data."))


def _placed(fault: str, index: int) -> str:
    """Return a fault of one event with its place in the batch."""
    what, place, path = fault.rpartition("- at `$")
    return f"{what}{place}[{index}]{path}" if place else f"{fault} - at `$[{index}]`"


def events_router(ingest: Ingest, access: Access) -> APIRouter:
    """Return the route."""
    router = APIRouter()
    schema = {"type": "array", "items": {"type": "object", "description": f"a CloudEvent 1.0 of type {TYPE}"}}
    described = {"requestBody": {"required": True, "content": {BATCH: {"schema": schema}}}}

    @router.post(
        "/events", dependencies=[Depends(access)], openapi_extra=described, response_model_exclude_defaults=True
    )
    async def events(request: Request) -> Ingested:
        """Store captured predictions, each once. Rows with a fault are left out and counted; where all have one, the
        answer is a 422 with the place of the first.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != BATCH:
            raise HTTPException(415, f"the content type must be {BATCH}")
        return await run_in_threadpool(ingest, await body_of(request, LARGEST))

    return router
