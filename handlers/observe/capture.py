"""Capture: a thread sends a sample of the predictions to a sink.

The thread that answers requests only puts references into a bounded queue; rows without a place there are counted and
dropped. So a sink that is slow, hangs or is away costs a request nothing.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import orjson
from prometheus_client import CollectorRegistry, Counter

from handlers.batch import Batch, Decoded, Outputs
from handlers.contract import ModelContract
from handlers.features import FeatureRows
from handlers.message import Request
from handlers.observe.events import Answered, Events, request_id
from handlers.observe.sink import RefusedError, Sink, SinkError
from handlers.observe.telemetry import MODEL

logger = logging.getLogger(__name__)
SWITCH = "x-marloop-capture"  # a header; "off" leaves out the request of a probe, a replay or a load test
TIME = "x-marloop-time"  # a header with the time of an event, for replays and backfills
INTERVAL = 0.5  # s between two looks into the queue: waking the thread for each request would cost the request
MOST_EVENTS = 500  # in one delivery
MOST_REQUESTS = 5000  # in the queue
MOST_BYTES = 16 * 1024 * 1024  # held by them, about
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # s before another attempt
REASONS = ("rate", "full", "refused", "failed")


class Capture:
    """An observer of batches.

    Args:
        registry: owner of the instruments.
        sample: share of the rows that are captured, 0 to 1.
        rows_per_second: most rows that are captured.
        clock: monotonic, in s.
        chance: draws from [0, 1).
    """

    def __init__(
        self,
        contract: ModelContract,
        sink: Sink,
        registry: CollectorRegistry,
        sample: float,
        rows_per_second: float,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._events, self._sink = Events(contract), sink
        self._sample, self._rate, self._clock, self._chance = sample, rows_per_second, clock, chance
        self._budget, self._filled = max(1.0, rows_per_second), clock()
        self._queue: deque[tuple[int, Answered]] = deque()
        # Bytes in and out: only one thread changes each, so that no lock is needed.
        self._put = self._taken = 0
        names = {"model": contract.name, "version": contract.version}
        sent = Counter("model_captured_rows", "Rows delivered to the sink", MODEL, registry=registry)
        lost = Counter("model_capture_dropped_rows", "Rows lost on the way", (*MODEL, "reason"), registry=registry)
        self._delivered = sent.labels(**names)
        self._dropped = {reason: lost.labels(**names, reason=reason) for reason in REASONS}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def __call__(self, batch: Batch) -> None:
        """Queue a sample of the rows that a batch answered."""
        now = self._clock()
        self._budget = min(max(1.0, self._rate), self._budget + (now - self._filled) * self._rate)
        self._filled = now
        lost = 0
        for i, (decoded, outputs) in batch.answered.items():
            if self._budget < 1 and self._sample == 1:  # as nearly always under load
                lost += decoded.rows
            elif batch.requests[i].headers.get(SWITCH) != "off" and not _is_foreign(batch.requests[i].headers):
                self._add(batch.requests[i], decoded, outputs, batch.received)
        if lost:
            self._lose("rate", lost)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop the thread; waiting rows are lost. ``timeout`` in s."""
        self._stop.set()
        self._thread.join(timeout)

    def flush(self) -> None:
        """Send the queue, and try again until it is delivered or refused."""
        while self._queue:
            self._deliver(self._take())

    def _add(self, request: Request, decoded: Decoded, outputs: Outputs, received: float) -> None:
        rows = self._sampled(decoded.rows)
        if not rows:
            return
        allowed = int(self._budget)
        if len(rows) > allowed:
            self._lose("rate", len(rows) - allowed)
            if not allowed:
                return
            rows = rows[:: -(-len(rows) // allowed)]  # spread over the request
        size = _size(request, decoded)
        if len(self._queue) >= MOST_REQUESTS or self._put - self._taken + size > MOST_BYTES:
            self._lose("full", len(rows))
            return
        self._budget -= len(rows)
        self._put += size
        sent = decoded.data if decoded.sent is None else decoded.sent
        time = request.headers.get(TIME, "")
        self._queue.append((size, Answered(request_id(request), received, rows, sent, outputs, time)))

    def _sampled(self, rows: int) -> Sequence[int]:
        if self._sample == 1:
            return range(rows)
        return [row for row in range(rows) if self._chance() < self._sample]

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            try:
                self.flush()
            except Exception:
                logger.exception("capture failed; what was to be sent is lost")
        self._sink.close()

    def _take(self) -> list[bytes]:
        events: list[bytes] = []
        while self._queue and len(events) < MOST_EVENTS:
            size, answered = self._queue.popleft()
            self._taken += size
            try:
                of_rows = self._events.of(answered)
                events += [orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY) for event in of_rows]
            except Exception:
                logger.exception("capture of request %s failed", answered.request_id)
                self._lose("failed", len(answered.rows))
                continue
            time.sleep(0)  # lets the thread that answers have its turn
        return events

    def _deliver(self, events: Sequence[bytes]) -> None:
        body, pause = b"[" + b",".join(events) + b"]", FIRST_PAUSE
        while events:
            try:
                self._sink.post(body)
            except RefusedError as error:
                logger.warning("the sink refused %d captured rows: %s", len(events), error)
                self._lose("refused", len(events))
                return
            except SinkError as error:
                if pause == FIRST_PAUSE:
                    logger.warning("the sink took no captured rows, which is tried again: %s", error)
            else:
                self._delivered.inc(len(events))
                return
            if self._stop.wait(pause * (0.5 + self._chance() / 2)):  # not all workers at once
                return
            pause = min(2 * pause, LONGEST_PAUSE)

    def _lose(self, reason: str, rows: int) -> None:
        """Count lost rows."""
        self._dropped[reason].inc(rows)


def _is_foreign(headers: Mapping[str, str]) -> bool:
    """Tell whether another site's page sent a request without a key, by the browser's headers: visitors of such a page
    would teach the model ("Fetch Metadata Request Headers"; the Fetch standard, "Origin header").
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if (site is None and origin is None) or "authorization" in headers:
        return False
    if site is not None:
        return site not in ("same-origin", "none")
    return origin.partition("://")[2] != headers.get("host") if origin else False


def _size(request: Request, decoded: Decoded) -> int:
    """Return about the bytes that a waiting request holds."""
    arrays = 0 if isinstance(decoded.data, FeatureRows) else sum(array.nbytes for array in decoded.data.values())
    return 512 + max(len(request.body), arrays)
