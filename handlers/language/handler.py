"""The core of a language model: requests that join and leave at every step, free of sockets and of TorchServe.

Called once a step with all requests that are open, it lets new ones into the engine, takes out those that are missing,
makes one step, and says what each is to be sent now.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from handlers.batch import Accepted, Batch, Observer, Observers
from handlers.contract import ModelContract
from handlers.handler import same_answer
from handlers.http.packing import is_packed, unpack
from handlers.language import requests
from handlers.language.generation import Finished, Generate, GenerationEngine, PromptTooLong, QueueFull, Token
from handlers.language.responses import Answer, Reason, answer_of, models_body, usage
from handlers.language.routes import MODELS, error_of, path_of, protocol, read, too_long
from handlers.language.telemetry import LanguageTelemetry
from handlers.language.template import ChatTemplate
from handlers.language.text import Shown, StoppedText
from handlers.message import JSON, NEXT, InputError, Request, Response

logger = logging.getLogger(__name__)

RUNNING = "X-Running-Requests"  # response header of the list of models
PATIENCE = 1.0  # s
CHARACTERS = 32  # for each token of the context; no text has so many, and to split one that has would halt the others
LEFT = 499  # status of a request whose client went away, as nginx counts it; it is sent to nobody


@dataclass
class _Open:
    """A request that is being answered."""

    request: Request
    answer: Answer
    text: StoppedText
    prompt_tokens: int
    received: float  # s since the epoch
    started: float  # s of the timer
    latest: float = 0.0  # when its last token came
    generated: int = 0
    cached: int = 0  # tokens of the prompt
    begun: bool = False  # its status is sent
    unsent: bytes = b""
    end: Response | None = None  # the last that it is sent
    failure: Response | None = None  # as observers are told

    def take(self) -> Response | None:
        """What it is sent now; None for nothing, not even the status."""
        body, self.unsent = self.unsent, b""
        if self.end:
            return self.end._replace(body=body + self.end.body, headers={NEXT: "false"} if self.begun else {})
        return Response(200, body, self.answer.content_type, {NEXT: "true"}) if self.begun else None


class ChatHandler:
    """Answers requests for text.

    A request's status is sent with its first token: until then a failure has a status of its own. One that waits longer
    than ``patience`` gets its status at once, since only then does TorchServe notice that its client has left.

    Args:
        contract: of the model.
        engine: that generates.
        template: for conversations.
        observers: told of each request when it ends, as a batch of one; one that fails never breaks a request.
        telemetry: told of each step.
        patience: in seconds.
        executor: of one thread, in which the engine makes its next step while answers are sent and requests are read;
            None for a step only when ``handle`` is called.
        clock: seconds since the epoch.
        timer: seconds since whenever, which never goes back.
    """

    def __init__(
        self,
        contract: ModelContract,
        engine: GenerationEngine,
        template: ChatTemplate,
        observers: Sequence[Observer] = (),
        telemetry: LanguageTelemetry | None = None,
        patience: float = PATIENCE,
        executor: Executor | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.contract = contract
        self._engine, self._template = engine, template
        self._observers, self._telemetry = Observers(contract.name, observers), telemetry
        self._patience, self._clock, self._timer = patience, clock, timer
        self._executor = executor
        self._ahead: Future[list[Token | Finished]] | None = None
        self._created = int(clock())
        self._open: dict[str, _Open] = {}

    def handle(self, requests: Sequence[Request]) -> list[Response | None]:
        """Make a step; this never raises.

        Args:
            requests: all that are open, old and new; of an old one only the id counts.

        Returns:
            What each is sent now. One with the header ``ts_stream_next: true`` must come again, and so must one with
            None, to which nothing is sent yet.
        """
        ahead, self._ahead = self._ahead, None
        if ahead:
            wait([ahead])  # nothing else may be asked of the engine meanwhile
        present = {request.id for request in requests}
        for ident in self._open.keys() - present:
            self._leave(ident)
        answered: dict[str, Response] = {}
        for request in requests:
            if request.id not in self._open:
                refused = self._accept(request)
                if refused:
                    answered[request.id] = refused
        if self._open:
            self._step(ahead)
        responses = [answered.get(request.id) or self._take(request.id) for request in requests]
        if self._executor and self._open:
            self._ahead = self._executor.submit(self._engine.step)
        return responses

    def idle(self) -> None:
        """Tell that no request is open any more."""
        if self._telemetry:
            self._telemetry.idle()

    def check_example(self) -> None:
        """Answer the contract's example: the model is ready only if it says what training said.

        Raises:
            RuntimeError: the answer differs.
        """
        alone = ChatHandler(self.contract, self._engine, self._template, executor=self._executor)
        found, cause = alone.answer(msgspec.json.encode(self.contract.example.request))
        if not same_answer(found, self.contract.example.response):
            what = f"answered {found}, not {self.contract.example.response}"
            raise RuntimeError(f"{self.contract.name} {self.contract.version}: {what}") from cause

    def answer(self, body: bytes) -> tuple[dict[str, Any], Exception | None]:
        """The whole answer to one native request that is alone, or the error, and what caused that.

        Args:
            body: JSON.
        """
        parts = self.handle([Request(body, {"content-type": JSON}, id="alone")])
        while parts[-1] is None or parts[-1].headers.get(NEXT) == "true":
            parts += self.handle([Request(b"", {}, id="alone")])
        return msgspec.json.decode(b"".join(part.body for part in parts if part)), parts[-1].cause

    def _leave(self, ident: str) -> None:
        gone = self._open.pop(ident)
        self._cancel(ident)
        left = Response(LEFT, b"", error=InputError("client_left", "the client went away"))
        self._observe(gone.request, left, gone)

    def _cancel(self, ident: str) -> None:
        with contextlib.suppress(Exception):  # an engine that fails at this has failed before, and was told of then
            self._engine.cancel(ident)

    def _accept(self, request: Request) -> Response | None:
        """Let a new request in; its whole answer, where there is nothing to generate."""
        try:
            if is_packed(request):
                request = unpack(request)
            path = path_of(request)
            if path == MODELS or path.startswith(f"{MODELS}/"):
                return self._models(request, path)
            self._add(request, path)
        except InputError as error:
            return self._refuse(request, error)
        except QueueFull as error:
            return self._refuse(request, InputError("overloaded", str(error)))._replace(headers={"Retry-After": "1"})
        except Exception as error:
            told = InputError("internal", "it could not be taken in; the log has the traceback under this id")
            return self._refuse(request, told, error)
        return None

    def _add(self, request: Request, path: str) -> None:
        received, started = self._clock(), self._timer()
        asked = read(request, path)
        prompt = self._tokens(asked)
        context, most = self._engine.context, asked.max_tokens
        if most and len(prompt) + most > context:
            raise too_long(asked, context, len(prompt), most)
        try:
            self._engine.add(Generate(request.id, prompt, most or max(1, context - len(prompt)), asked.sampling))
        except PromptTooLong as error:
            raise too_long(asked, context, len(prompt)) from error
        except ValueError as error:
            raise InputError("invalid_parameter", str(error)) from error
        answer = answer_of(asked, self.contract.name, request.id, int(received))
        self._open[request.id] = _Open(request, answer, StoppedText(asked.stop), len(prompt), received, started)

    def _tokens(self, asked: requests.Asked) -> list[int]:
        texts = [asked.prompt] if isinstance(asked.prompt, str) else [one["content"] for one in asked.prompt]
        characters = sum(map(len, texts))
        if characters > CHARACTERS * self._engine.context:
            # No token of a usual vocabulary has so many characters.
            raise too_long(asked, self._engine.context, characters // CHARACTERS, least=True)
        if not isinstance(asked.prompt, str):
            return self._template.tokens(asked.prompt)
        if not asked.prompt:
            raise InputError("empty", "the prompt is empty", asked.path, "a text")
        return self._engine.tokenize(asked.prompt, False)

    def _step(self, ahead: Future[list[Token | Finished]] | None) -> None:
        try:
            events = ahead.result() if ahead else []
            if not any(event.id in self._open for event in events):
                # Always in the same thread: an engine may have others that serve the one that calls it.
                events = self._executor.submit(self._engine.step).result() if self._executor else self._engine.step()
        except Exception as error:  # not of one request: what the engine holds is unknown
            for ident, one in self._open.items():
                self._cancel(ident)
                self._fail(one, "the engine failed; the log has the traceback under this id", error)
            return
        now = self._timer()
        for event in events:
            asker = self._open.get(event.id)
            if asker and not asker.end:
                self._tell(asker, event, now)
        for one in self._open.values():
            one.begun = one.begun or (not one.end and (one.generated > 0 or now - one.started >= self._patience))
        if self._telemetry:
            self._telemetry.stepped(self._engine.usage, sum(isinstance(event, Token) for event in events))

    def _tell(self, one: _Open, event: Token | Finished, now: float) -> None:
        try:
            if isinstance(event, Token):
                self._token(one, event, now)
            elif event.reason == "error":
                self._fail(one, event.error)
            else:
                one.cached = event.cached_tokens
                self._end(one, one.text.end(), event.reason)
        except Exception as error:
            self._cancel(event.id)
            self._fail(one, "its answer could not be written; the log has the traceback under this id", error)

    def _token(self, one: _Open, token: Token, now: float) -> None:
        one.generated += 1
        one.cached = token.cached_tokens
        if self._telemetry:
            if one.generated == 1:
                self._telemetry.first_token(now - one.started, one.prompt_tokens)
            else:
                self._telemetry.next_token(now - one.latest)
        one.latest = now
        shown = one.text.add(token)
        if one.text.stopped:
            self._engine.cancel(token.id)
            self._end(one, shown, "stop")
        else:
            one.unsent += one.answer.add(shown)

    def _end(self, one: _Open, shown: Shown, reason: Reason) -> None:
        counts = usage(one.prompt_tokens, one.generated, one.cached)
        one.end = Response(200, one.answer.end(shown, reason, counts), one.answer.content_type)

    def _fail(self, one: _Open, message: str, cause: Exception | None = None) -> None:
        error = InputError("internal", message)
        one.failure = error_of(error, one.request, cause)
        if one.begun:
            one.end = Response(200, one.answer.fail(error), one.answer.content_type)
        else:
            one.unsent = b""
            one.end = one.failure

    def _take(self, ident: str) -> Response | None:
        one = self._open[ident]
        response = one.take()
        if one.end:
            del self._open[ident]
            self._observe(one.request, one.failure or one.end, one)
        return response

    def _models(self, request: Request, path: str) -> Response:
        asked = path.removeprefix(MODELS).strip("/")
        if asked not in ("", self.contract.name):
            raise InputError("not_found", f"there is no model {asked!r} here", "model", self.contract.name)
        body = models_body(self.contract.name, self._created, bool(asked))
        # Who takes this version out of service waits until nobody is being answered.
        response = Response(200, body, headers={RUNNING: str(len(self._open))})
        self._observe(request, response)
        return response

    def _refuse(self, request: Request, error: InputError, cause: Exception | None = None) -> Response:
        response = error_of(error, request, cause)
        self._observe(request, response)
        return response

    def _observe(self, request: Request, response: Response, one: _Open | None = None) -> None:
        """Tell the observers of a request that ended."""
        batch = Batch(self.contract, [request], one.received if one else self._clock(), responses=[response])
        batch.seconds = {"decode": 0.0, "predict": self._timer() - one.started if one else 0.0, "encode": 0.0}
        if one or response.status == HTTPStatus.OK:
            batch.accepted[0] = Accepted(protocol(request), 1)
        self._observers(batch)
