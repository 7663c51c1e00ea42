"""The worker's log: a JSON object a line, for each failed request and for a sample of the others."""

import json
import logging
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

from handlers.batch import Batch, Observer
from handlers.message import encodable

logger = logging.getLogger(__name__)
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")  # of W3C's header
LINES, WINDOW = 100, 10.0  # failed requests that are logged in so many s; the others are counted


class JsonFormatter(logging.Formatter):
    """Writes ``time`` (ISO 8601, UTC), ``level``, ``logger``, ``message``, the fields of ``extra={"fields": …}``, and
    an exception's ``traceback``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[0]:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(stream: TextIO = sys.stdout) -> None:
    """Log in JSON from WARNING on: every line of a worker crosses a pipe, and the frontend parses it."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logger.setLevel(logging.INFO)


class Budget:
    """Bounds the lines of failed requests, which could fill the disk; ``clock`` is monotonic, in s."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since, self._lines = clock(), 0
        self._left_out: Counter[str] = Counter()

    def allows(self, reason: str) -> bool:
        """Tell whether a line may be written; if not, its reason is counted, and logged with the next one."""
        if self._clock() - self._since >= WINDOW:
            self._since, self._lines = self._clock(), 0
            if self._left_out:
                fields = {"failed_requests": dict(self._left_out)}
                logger.warning("more failed requests that were not logged, by reason", extra={"fields": fields})
                self._left_out.clear()
        self._lines += 1
        if self._lines > LINES:
            self._left_out[reason] += 1
        return self._lines <= LINES


def log_requests(
    sample: float = 0.0, chance: Callable[[], float] = random.random, clock: Callable[[], float] = time.monotonic
) -> Observer:
    """Return an observer that logs failed requests, and a sample of the others.

    Args:
        sample: share of successful requests that are logged, 0 to 1.
        chance: draws from [0, 1).
    """
    budget = Budget(clock)

    def observe(batch: Batch) -> None:
        for i, response in enumerate(batch.responses):
            failed = response.status != 200
            reason = response.error.code if response.error else ""
            if (failed and budget.allows(reason)) or (not failed and sample and chance() < sample):
                _log(batch, i)

    return observe


def _log(batch: Batch, i: int) -> None:
    request, response = batch.requests[i], batch.responses[i]
    fields: dict[str, Any] = {"model": batch.contract.name, "version": batch.contract.version} | request.ids
    fields |= {"status": response.status, "seconds": round(sum(batch.seconds.values()), 6)}
    if trace := _TRACE.match(request.headers.get("traceparent", "")):
        fields["trace_id"] = trace[1]
    if i in batch.accepted:
        fields |= {"protocol": batch.accepted[i].protocol, "rows": batch.accepted[i].rows}
    error = response.error
    if error is None:
        logger.info("answered", extra={"fields": fields})
        return
    fields |= {"reason": error.code, "path": encodable(error.path)}
    level = logging.ERROR if response.status >= 500 else logging.WARNING
    logger.log(level, encodable(error.message), extra={"fields": fields}, exc_info=response.cause)
