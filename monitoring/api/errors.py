"""Answers to calls that fail: a sentence and an id that the log has too, never SQL or a traceback."""

import logging
import secrets

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, DBAPIError, SQLAlchemyError, StatementError

from monitoring.api.gate import RETRY_AFTER
from monitoring.store.database import StoreBusyError, StoreDamagedError
from serving.registry import ArchiveError

logger = logging.getLogger(__name__)


def add_handlers(app: FastAPI) -> None:
    """Add handlers that answer in this way to an application."""
    app.add_exception_handler(SQLAlchemyError, _store_answer)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ArchiveError, _registry_answer)
    app.add_exception_handler(Exception, _internal_answer)


def store_fault(error: SQLAlchemyError) -> tuple[int, str]:
    """Return the status and the sentence for an error of the store; the log has the rest."""
    if isinstance(error, StoreBusyError):
        return 503, "the store is busy: other writers hold it; try again"
    if isinstance(error, StoreDamagedError):
        return 503, f"{error}; until then nothing is kept"
    is_value = isinstance(error, StatementError) and not isinstance(error, DBAPIError)
    if is_value or isinstance(error, DataError):
        return 422, f"a value that the store cannot keep; the monitor's log has it as {log_error(error)}"
    return 503, f"the store does not answer; the monitor's log says why, as {log_error(error)}"


def log_error(error: Exception) -> str:
    """Log an error, and return the id under which the log has it."""
    id = secrets.token_hex(4)
    if isinstance(error, SQLAlchemyError):  # one line, since every call logs a database that is away
        logger.error("%s: %s: %s", id, type(error).__name__, getattr(error, "orig", None) or error)
    else:
        logger.error("%s: %s", id, type(error).__name__, exc_info=error)
    return id


def _store_answer(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SQLAlchemyError)
    status, sentence = store_fault(error)
    return JSONResponse({"detail": sentence}, status, {"Retry-After": RETRY_AFTER} if status == 503 else None)


def _invalid(_: Request, error: Exception) -> JSONResponse:
    """Answer as FastAPI does, but without the input: it can be large, and a NaN in it is no JSON."""
    assert isinstance(error, RequestValidationError)
    faults = [{key: fault[key] for key in ("type", "loc", "msg")} for fault in error.errors()]
    return JSONResponse({"detail": faults}, 422)


def _registry_answer(_: Request, error: Exception) -> JSONResponse:
    detail = f"the model store cannot be read: {error}"
    return JSONResponse({"detail": detail}, 503, {"Retry-After": RETRY_AFTER})


def _internal_answer(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"a fault of the monitor's; its log has it as {log_error(error)}"}, 500)
