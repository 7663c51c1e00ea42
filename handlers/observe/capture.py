"""Capture: a thread sends a sample of the predictions to a sink.

The thread that answers requests only puts references into a bounded queue; rows without a place there are counted and
dropped. So a sink that is slow, hangs or is away costs a request nothing.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import orjson
from prometheus_client import CollectorRegistry, Counter

from handlers.batch import AnsweredConversation, Batch, Decoded, Outputs
from handlers.contract import ModelContract
from handlers.features import FeatureRows
from handlers.message import Request
from handlers.observe.conversations import MOST_CHARACTERS, CapturedAnswers, ConversationEvents, characters, teaches
from handlers.observe.events import Answered, Events, request_id
from handlers.observe.redaction import Redact, RedactionError, redact, redaction_of
from handlers.observe.settings import CaptureSettings, Credentials, WorkerSettings
from handlers.observe.sink import RefusedError, Sink, SinkError
from handlers.observe.telemetry import MODEL

logger = logging.getLogger(__name__)
SWITCH = "x-marloop-capture"  # a header; "off" leaves out the request of a probe, a replay or a load test
TIME = "x-marloop-time"  # a header with the time of an event, for replays and backfills
INTERVAL = 0.5  # s between two looks into the queue: waking the thread for each request would cost the request
MOST_EVENTS = 500  # in one delivery
LARGEST_DELIVERY = 8 * 1024 * 1024  # bytes, but for its last request
MOST_REQUESTS = 5000  # in the queue
MOST_BYTES = 16 * 1024 * 1024  # held by them, about
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # s before another attempt
REASONS = ("rate", "full", "refused", "failed", "redaction", "large")


class _Waiting(NamedTuple):
    """Rows of a request in the queue; ``events`` makes an event of each."""

    size: int
    request_id: str
    rows: int
    events: Callable[[], Iterable[dict[str, Any]]]


class Capture:
    """An observer of batches.

    Args:
        registry: owner of the instruments.
        sample: share of the rows that are captured, 0 to 1.
        rows_per_second: most rows that are captured.
        clock: monotonic, in s.
        chance: draws from [0, 1).
        redact: of what conversations say.
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
        redact: Redact = redact,
    ) -> None:
        self._events, self._conversations = Events(contract), ConversationEvents(contract, redact)
        self._sink = sink
        self._sample, self._rate, self._clock, self._chance = sample, rows_per_second, clock, chance
        self._budget, self._filled = max(1.0, rows_per_second), clock()
        self._queue: deque[_Waiting] = deque()
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
            elif _allows(batch.requests[i]):
                self._add(batch.requests[i], decoded, outputs, batch.received)
        if lost:
            self._lose("rate", lost)
        for i, conversation in batch.conversations.items():
            if _allows(batch.requests[i]) and teaches(conversation):
                self._add_conversation(batch.requests[i], conversation, batch.received)

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
        size = _size(request, decoded) if rows else 0
        if rows := self._admitted(rows, size):
            sent = decoded.data if decoded.sent is None else decoded.sent
            ident, time = request_id(request), request.headers.get(TIME, "")
            answered = Answered(ident, received, rows, sent, outputs, time)
            self._queue.append(_Waiting(size, ident, len(rows), partial(self._events.of, answered)))

    def _add_conversation(self, request: Request, conversation: AnsweredConversation, received: float) -> None:
        said = [i for i, answer in enumerate(conversation.answers) if answer.text.strip()]
        rows: Sequence[int] = [said[i] for i in self._sampled(len(said))]
        if rows and characters(conversation) > MOST_CHARACTERS:
            self._lose("large", len(rows))
            return
        size = 512 + 4 * characters(conversation) * len(rows)
        if rows := self._admitted(rows, size):
            ident, time = request_id(request), request.headers.get(TIME, "")
            answers = CapturedAnswers(ident, received, rows, conversation, time)
            self._queue.append(_Waiting(size, ident, len(rows), partial(self._conversations.of, answers)))

    def _admitted(self, rows: Sequence[int], size: int) -> Sequence[int]:
        """Return the rows of a request for which there is room, and count the others; ``size`` is in bytes."""
        allowed = int(self._budget)
        if len(rows) > allowed:
            self._lose("rate", len(rows) - allowed)
            rows = rows[:: -(-len(rows) // allowed)] if allowed else ()  # spread over the request
        if rows and (len(self._queue) >= MOST_REQUESTS or self._put - self._taken + size > MOST_BYTES):
            self._lose("full", len(rows))
            rows = ()
        if rows:
            self._budget -= len(rows)
            self._put += size
        return rows

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
        size = 0
        while self._queue and len(events) < MOST_EVENTS and size < LARGEST_DELIVERY:
            waiting = self._queue.popleft()
            self._taken += waiting.size
            size += waiting.size
            try:
                events += [orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY) for event in waiting.events()]
            except RedactionError as error:
                logger.error("the conversation %s is dropped: %s", waiting.request_id, error)
                self._lose("redaction", waiting.rows)
                continue
            except Exception:
                logger.exception("capture of request %s failed", waiting.request_id)
                self._lose("failed", waiting.rows)
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


def capture_of(contract: ModelContract, environ: Mapping[str, str], registry: CollectorRegistry) -> Capture | None:
    """Return the capture that a worker's settings ask for; None where there is no sink, or no use for the answers.

    Raises:
        ValueError: a setting is wrong.
    """
    worker, settings = WorkerSettings.from_environment(environ), CaptureSettings.from_environment(environ)
    wanted = settings.conversations if contract.task == "generation" else contract.task != "opaque"
    if not worker.captures or not wanted:
        return None
    sink = Sink(worker.capture_url, Credentials.from_environment(environ).token)
    own = redaction_of(settings.redaction) if contract.task == "generation" else redact
    return Capture(contract, sink, registry, settings.sample, settings.rows_per_second, redact=own)


def _allows(request: Request) -> bool:
    """Tell whether nothing about a request forbids its capture."""
    return request.headers.get(SWITCH) != "off" and not _is_foreign(request.headers)


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
