"""The core of a language model: requests that join and leave at every step, free of sockets and of TorchServe.

Each call gets all open requests. It parses new ones while the engine makes a step, adds them before the next one,
removes those that are missing, and returns the next part of each answer.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from http import HTTPStatus
from typing import Any

import msgspec

from handlers.batch import Accepted, Batch, Observer, Observers
from handlers.contract import ModelContract
from handlers.contract.example import same_answer
from handlers.http.content_encoding import refusal_headers
from handlers.http.drain import MESSAGE, RETRY_AFTER, Drain
from handlers.http.packing import is_packed, unpack
from handlers.language.api.answers import Reason, usage
from handlers.language.api.defaults import NO_DEFAULTS, Defaults
from handlers.language.api.models import ModelNames
from handlers.language.api.routes import (
    DETOKENIZE,
    MODELS,
    TOKENIZE,
    answer_of,
    check_json,
    error_of,
    path_of,
    protocol,
)
from handlers.language.arrivals import Arrival, Arrivals, add_texts
from handlers.language.exchange import Exchange, Text
from handlers.language.generation import Drafts, QueueFull, Scored, Token
from handlers.language.prompts import Prompts
from handlers.language.scheduling.batching import ContinuousBatching, Event
from handlers.language.scheduling.steps import NEWS, Steps
from handlers.language.telemetry import LanguageTelemetry
from handlers.language.template import ChatTemplate
from handlers.language.text import Shown
from handlers.message import JSON, NEXT, InputError, Request, Response
from handlers.observe.events import request_id

logger = logging.getLogger(__name__)

RUNNING = "X-Running-Requests"  # response header of the list of models
PATIENCE = 1.0  # s
LEFT = 499  # status of a request whose client went away, as nginx counts it; never sent


class ChatHandler:
    """Answers requests for text.

    A request's status is sent with its first token: until then a failure has a status of its own. One that waits longer
    than ``patience`` gets its status at once, since only then does TorchServe notice that its client has left.

    Args:
        contract: of the model.
        engine: generates the tokens.
        template: writes conversations as tokens.
        observers: called with each request when it ends; their failures harm no request.
        telemetry: records each step.
        patience: seconds.
        executor: of one thread, in which the engine makes its next step while answers are sent and requests are parsed;
            None for a step only when ``handle`` is called.
        news: seconds after which ``handle`` returns from a step that only reads a prompt, to be told of new requests;
            None to wait for its end.
        defaults: of the model, for what a request leaves out; the contract's example is asked without them.
        clock: seconds since the epoch.
        timer: a monotonic clock in s.
    """

    def __init__(
        self,
        contract: ModelContract,
        engine: ContinuousBatching,
        template: ChatTemplate,
        observers: Sequence[Observer] = (),
        telemetry: LanguageTelemetry | None = None,
        patience: float = PATIENCE,
        executor: Executor | None = None,
        news: float | None = NEWS,
        defaults: Defaults = NO_DEFAULTS,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.contract = contract
        self._engine, self._template, self._prompts = engine, template, Prompts(engine, template)
        self._names = ModelNames(contract.name, engine.adapters, int(clock()))
        self._arrivals = Arrivals(self._names, engine, self._prompts, defaults, clock, timer)
        self.observers, self._telemetry = Observers(contract.name, observers), telemetry
        self._patience, self._clock, self._timer = patience, clock, timer
        self._executor = executor
        self._steps = Steps(engine, executor, news)
        self.drain = Drain()
        self._open: dict[str, Exchange] = {}
        self._askers: dict[str, Exchange] = {}  # by the engine's ids
        self._arrived: dict[str, Arrival] = {}
        self._left: list[str] = []  # the engine's ids of texts that nobody wants any more
        self._answered: dict[str, Response] = {}

    def handle(self, requests: Sequence[Request]) -> list[Response | None]:
        """Make a step; this never raises.

        Args:
            requests: all open requests; of one that was handed in before only the id counts.

        Returns:
            The next part of each answer; None for nothing yet. A request with None, or with the header
            ``ts_stream_next: true``, must be handed in again.
        """
        self._answered.clear()
        present = {request.id for request in requests}
        for ident in (self._open.keys() | self._arrived.keys()) - present:
            self._leave(ident)
        stopping = self.drain.refuses()
        for request in requests:
            if request.id not in self._open and request.id not in self._arrived:
                self._accept(request, stopping)
        if not present:
            self._steps.settle()
        if self._open or self._arrived or self._left:
            self._advance()
        responses = [self._answered.get(request.id) or self._take(request.id) for request in requests]
        if self._open:
            self._steps.begin_ahead()
        return responses

    def idle(self) -> None:
        """Record that no request is open any more."""
        if self._telemetry:
            self._telemetry.idle()

    def check_example(self) -> None:
        """Answer the contract's example: the model is ready only if its answer equals training's.

        Raises:
            RuntimeError: the answer differs.
        """
        alone = ChatHandler(self.contract, self._engine, self._template, executor=self._executor)
        answer, cause = alone.answer(msgspec.json.encode(self.contract.example.request))
        if not same_answer(answer, self.contract.example.response):
            fault = f"answered {answer}, not {self.contract.example.response}"
            raise RuntimeError(f"{self.contract.name} {self.contract.version}: {fault}") from cause

    def answer(self, body: bytes) -> tuple[dict[str, Any], Exception | None]:
        """Return the whole answer to a single native request in JSON, or the error and its cause."""
        parts = self.handle([Request(body, {"content-type": JSON}, id="alone")])
        while parts[-1] is None or parts[-1].headers.get(NEXT) == "true":
            parts += self.handle([Request(b"", {}, id="alone")])
        return msgspec.json.decode(b"".join(part.body for part in parts if part)), parts[-1].cause

    def _leave(self, ident: str) -> None:
        response = Response(LEFT, b"", error=InputError("client_left", "the client went away"))
        if arrival := self._arrived.pop(ident, None):
            self._observe(arrival.request, response)
            return
        gone = self._closed(ident)
        self._left += gone.texts
        self._observe(gone.request, response, gone)

    def _closed(self, ident: str) -> Exchange:
        """Forget a request, and return it."""
        exchange = self._open.pop(ident)
        for text in exchange.texts:
            self._askers.pop(text, None)
        return exchange

    def _cancel(self, texts: Iterable[str]) -> None:
        for ident in texts:
            with contextlib.suppress(Exception):  # an engine that fails here has failed before, and that was reported
                self._engine.cancel(ident)

    def _accept(self, request: Request, stopping: bool) -> None:
        """Parse a new request, and answer it where there is nothing to generate."""
        try:
            if is_packed(request):
                request = unpack(request)
            path = path_of(request)
            if path == MODELS or path.startswith(f"{MODELS}/"):
                self._answered[request.id] = self._models(request, path)
            elif path in (TOKENIZE, DETOKENIZE):
                check_json(request)
                answer = self._prompts.tokenized if path == TOKENIZE else self._prompts.detokenized
                self._answered[request.id] = self._at_once(request, Response(200, answer(request.body)))
            elif stopping:
                refusal = self._refuse(request, InputError("stopping", MESSAGE))
                self._answered[request.id] = refusal._replace(headers=RETRY_AFTER)
            else:
                self._arrived[request.id] = self._arrivals.parse(request, path)
        except Exception as error:
            self._answered[request.id] = self._refusal(request, error)

    def _refusal(self, request: Request, error: Exception) -> Response:
        """Return the answer to a request that cannot be taken in."""
        if isinstance(error, InputError):
            return self._refuse(request, error)._replace(headers=refusal_headers(error))
        if isinstance(error, QueueFull):
            return self._refuse(request, InputError("overloaded", str(error)))._replace(headers={"Retry-After": "1"})
        failure = InputError("internal", "it could not be taken in; the log has the traceback under this id")
        return self._refuse(request, failure, error)

    def _join(self) -> None:
        """Add to the engine, which makes no step, those who arrived, and remove from it what nobody wants any more."""
        self._cancel(self._left)
        self._left.clear()
        for ident, arrival in self._arrived.items():
            try:
                self._add(arrival)
            except Exception as error:
                self._answered[ident] = self._refusal(arrival.request, error)
        self._arrived.clear()

    def _add(self, arrival: Arrival) -> None:
        request, asked, prompts = arrival.request, arrival.asked, arrival.prompts
        texts = add_texts(self._engine, arrival)
        name = self._names.name_with(arrival.adapter)
        answer = answer_of(asked, name, request.id, int(arrival.received), request_id(request))
        exchange = Exchange(request, answer, texts, arrival.received, arrival.started, arrival.decode)
        if asked.store and not arrival.adapter:  # what an adapter says is not the model's own to be learned
            exchange.messages = [message for message in asked.prompts[0] if isinstance(message, Mapping)]
        if asked.echo and not asked.scored:
            for text in texts.values():
                exchange.unsent += answer.add(text.index, Shown(self._prompts.text(prompts[text.index // asked.n])))
        self._open[request.id] = exchange
        self._askers |= dict.fromkeys(texts, exchange)

    def _advance(self) -> None:
        """Take what the engine's step gave, or else the next one's."""
        try:
            for arrival in self._arrived.values():
                self._steps.make_way(arrival.prompts, arrival.adapter)
            events = self._finished()
            if events is not None and self._open and not any(event.id in self._askers for event in events):
                self._steps.begin()
                events = self._finished()
        except Exception as error:  # it concerns all requests: the content of the engine is unknown
            for exchange in self._open.values():
                self._cancel(exchange.texts)
                self._fail(exchange, "the engine failed; the log has the traceback under this id", error)
            return
        now = self._timer()
        for event in events or ():
            asker = self._askers.get(event.id)
            if asker and not asker.end:
                self._take_event(asker, event, now)
        for exchange in self._open.values():
            exchange.begun = exchange.begun or (
                not exchange.end and (exchange.generated > 0 or now - exchange.started >= self._patience)
            )

    def _finished(self) -> list[Event] | None:
        """Return what a step gave that is finished, after which others may join; None if it goes on."""
        events = self._steps.take()
        if events is not None:
            if self._telemetry:
                self._telemetry.stepped(self._engine.usage, sum(isinstance(event, Token) for event in events))
            self._join()
        return events

    def _take_event(self, exchange: Exchange, event: Event, now: float) -> None:
        text = exchange.texts[event.id]
        if text.finished:  # by a string that stops it, before other tokens of the same step
            return
        try:
            if isinstance(event, Scored):
                prompt = self._prompts.text([token.token for token in event.tokens])
                exchange.unsent += exchange.answer.add(text.index, Shown(prompt, event.tokens))
                return
            text.cached, text.drafts = event.cached_tokens, event.drafts
            if isinstance(event, Token):
                self._token(exchange, text, event, now)
            elif event.reason == "error":
                self._cancel(exchange.texts)
                failure = "the engine failed; the log has the reason under this id"
                self._fail(exchange, failure, RuntimeError(event.error))
            else:
                self._finish(exchange, text, text.text.end()._replace(end=event.end), event.reason)
        except Exception as error:
            self._cancel(exchange.texts)
            self._fail(exchange, "its answer could not be written; the log has the traceback under this id", error)

    def _token(self, exchange: Exchange, text: Text, token: Token, now: float) -> None:
        exchange.generated += 1
        text.generated += 1
        if self._telemetry:
            if exchange.generated == 1:
                prompts = sum(each.prompt_tokens for each in exchange.texts.values())
                self._telemetry.first_token(now - exchange.started, prompts)
            elif text.generated > 1:
                self._telemetry.next_token(now - text.latest)
        text.latest = now
        shown = text.text.add(token)
        if text.text.stopped:
            self._engine.cancel(token.id)
            self._finish(exchange, text, shown, "stop")
        else:
            if exchange.messages:
                text.said.append(shown.text)
            exchange.unsent += exchange.answer.add(text.index, shown)

    def _finish(self, exchange: Exchange, text: Text, shown: Shown, reason: Reason) -> None:
        """End a text, and with the last one the answer."""
        text.finished, text.reason = True, reason
        if exchange.messages:
            text.said.append(shown.text)
        if self._telemetry:
            self._telemetry.finished(text.drafts)
        exchange.unsent += exchange.answer.finish(text.index, shown, reason)
        texts = exchange.texts.values()
        if all(each.finished for each in texts):
            cached = sum(min(each.cached, each.prompt_tokens) for each in texts)
            drafts = Drafts(sum(each.drafts.drafted for each in texts), sum(each.drafts.accepted for each in texts))
            counts = usage(sum(each.prompt_tokens for each in texts), exchange.generated, cached, drafts)
            exchange.end = Response(200, exchange.answer.end(counts), exchange.answer.content_type)

    def _fail(self, exchange: Exchange, message: str, cause: Exception | None = None) -> None:
        error = InputError("internal", message)
        exchange.failure = error_of(error, exchange.request, cause)
        if exchange.begun:
            exchange.end = Response(200, exchange.answer.fail(error), exchange.answer.content_type)
        else:
            exchange.unsent = b""
            exchange.end = exchange.failure

    def _take(self, ident: str) -> Response | None:
        if ident in self._arrived:
            return None
        exchange = self._open[ident]
        response = exchange.take()
        if exchange.end:
            self._closed(ident)
            self._observe(exchange.request, exchange.failure or exchange.end, exchange)
        return response

    def _models(self, request: Request, path: str) -> Response:
        body = self._names.body(path.removeprefix(MODELS).strip("/"))
        # A rollout that takes this version out of service waits until no request runs.
        return self._at_once(request, Response(200, body, headers={RUNNING: str(len(self._open) + len(self._arrived))}))

    def _at_once(self, request: Request, response: Response) -> Response:
        """Answer where there is nothing to generate."""
        self._observe(request, response)
        return response

    def _refuse(self, request: Request, error: InputError, cause: Exception | None = None) -> Response:
        response = error_of(error, request, cause)
        self._observe(request, response)
        return response

    def _observe(self, request: Request, response: Response, exchange: Exchange | None = None) -> None:
        """Show the observers a request that ended."""
        batch = Batch(self.contract, [request], exchange.received if exchange else self._clock(), responses=[response])
        decode, seconds = (exchange.decode, self._timer() - exchange.started) if exchange else (0.0, 0.0)
        batch.seconds = {"decode": decode, "predict": seconds - decode, "encode": 0.0}
        if exchange and (conversation := exchange.conversation):
            batch.conversations[0] = conversation
        if exchange or response.status == HTTPStatus.OK:
            batch.accepted[0] = Accepted(protocol(request), 1)
        self.observers(batch)
