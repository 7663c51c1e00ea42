"""Jobs and decisions over HTTP: queue a retraining or a challenge, follow it, cancel it, and list decisions."""

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from monitoring.api.access import Access
from monitoring.retraining.challenge import Challenges
from monitoring.retraining.queue import Retraining, RetrainRefused
from monitoring.store.journal import Journal
from monitoring.store.records import Decision, Job, State

MOST_LOG = 65_536  # bytes of a log in one answer
NEXT = "X-Next-Offset"  # of the byte after this part of the log
_Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most, the newest.")]
_Model = Annotated[str | None, Query(description="Only of this model.")]


class Asked(BaseModel):
    """A request for a retraining."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="asked for by hand", min_length=1, max_length=500, description="for the record")


class Challenger(Asked):
    """A request for a challenge."""

    version: str = Field(min_length=1, max_length=100, description="number of a registered version")


def jobs_router(journal: Journal, retraining: Retraining, challenges: Challenges, access: Access) -> APIRouter:
    """Return the routes; those that queue and cancel need access."""
    router = APIRouter()
    changes = [Depends(access)]

    @router.post("/models/{model}/retrain", status_code=202, dependencies=changes, responses=_may(409))
    def retrain(model: str, asked: Asked | None = None) -> Job:
        """Queue a retraining by hand."""
        try:
            return retraining.request(model, "hand", (asked or Asked()).reason)
        except RetrainRefused as error:
            raise HTTPException(409, str(error)) from error

    @router.post("/models/{model}/challenge", status_code=202, dependencies=changes, responses=_may(404, 409))
    def challenge(model: str, asked: Challenger) -> Job:
        """Queue a challenge: compare a registered version with the champion, and promote the better one."""
        try:
            return challenges.request(model, asked.version, asked.reason)
        except KeyError as error:
            raise HTTPException(404, str(error.args[0])) from error
        except RetrainRefused as error:
            raise HTTPException(409, str(error)) from error

    @router.get("/jobs")
    def jobs(
        model: _Model = None,
        state: Annotated[list[State] | None, Query(description="Only in one of these.")] = None,
        limit: _Limit = 100,
    ) -> list[Job]:
        """Return jobs, newest first."""
        return journal.jobs(model, state, limit)

    @router.get("/jobs/{id}", responses=_may(404))
    def job(id: int) -> Job:
        """Return one job: its state, its stage, and its result so far."""
        return _job(journal, id)

    @router.get("/jobs/{id}/log", response_class=Response, responses=_may(404))
    def log(
        id: int, offset: Annotated[int | None, Query(ge=0, description="First byte; default: the end.")] = None
    ) -> Response:
        """Return a part of the training's log; the header X-Next-Offset has the offset of the next part."""
        content, following = read_log(_job(journal, id).log, offset)
        headers = {NEXT: str(following), "X-Content-Type-Options": "nosniff"}
        return Response(content, media_type="text/plain; charset=utf-8", headers=headers)

    @router.post("/jobs/{id}/cancel", status_code=202, dependencies=changes, responses=_may(404, 409))
    def cancel(id: int) -> Job:
        """End a job whose promotion has not begun; its state becomes cancelled soon."""
        _job(journal, id)
        try:
            return retraining.cancel(id)
        except RetrainRefused as error:
            raise HTTPException(409, str(error)) from error

    @router.get("/decisions")
    def decisions(model: _Model = None, limit: _Limit = 100) -> list[Decision]:
        """Return decisions with their reasons, newest first."""
        return journal.decisions(model, limit)

    return router


def read_log(path: str, offset: int | None) -> tuple[bytes, int]:
    """Read a part of a log.

    Args:
        path: need not exist yet.
        offset: the first byte; None for the end of the log.

    Returns:
        The part, and the offset of the next one.
    """
    try:
        with Path(path).open("rb") as log:
            size = log.seek(0, 2)
            start = max(0, size - MOST_LOG) if offset is None else min(offset, size)
            log.seek(start)
            content = log.read(MOST_LOG)
    except (FileNotFoundError, IsADirectoryError):  # the job has not started; its path is still empty
        return b"", 0
    return content, start + len(content)


def _job(journal: Journal, id: int) -> Job:
    try:
        return journal.job(id)
    except KeyError as error:
        raise HTTPException(404, str(error.args[0])) from error


def _may(*codes: int) -> dict[int | str, dict[str, Any]]:
    words = {404: "no such job, model or version", 409: "not now; the detail says why"}
    return {code: {"description": words[code]} for code in codes}
