"""The users: they send requests to one model at a steady pace, and check every answer. Each model has a class of them.

Users of a language model read its answers as streams, token by token. Beside the request, Locust counts two figures of
each stream under names of their own: the time to its first token, and its tokens per second after that, which stand in
the report where others have milliseconds. The size of both is the number of tokens.
"""

import random
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from locust import FastHttpUser, constant, constant_pacing, task
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS, ResponseContextManager

from handlers.contract import ModelContract
from handlers.observe.capture import SWITCH
from loadtests.requests import chat_answers, conversations
from loadtests.requests.answers import complaint
from loadtests.requests.conversations import ChatRequest
from loadtests.requests.faults import invalid
from loadtests.requests.payloads import Payload, edge, example, valid
from loadtests.results import tally

POOL = 500  # requests of a model, drawn before the run: drawing must not slow the load down
SHARES = {"example": 0.01, "edge": 0.05, "invalid": 0.05}  # the rest is valid
key: dict[str, str] = {}  # headers that let the users in
PARTS = 3  # parts of an answer after which a client leaves that does not wait for the end
# TorchServe's message, which it also sends where workers exist but the model's queue is full; a language model's own.
_FULL = (b"no worker to serve inference request", b'"code":"overloaded"')


class TensorUser(FastHttpUser):
    """A user of one model of tensors.

    Attributes:
        pool: requests to choose from.
    """

    network_timeout = 30.0
    connection_timeout = 10.0
    contract: ClassVar[ModelContract]
    pool: ClassVar[Sequence[Payload]]

    @task
    def ask(self) -> None:
        """Send a request and check the answer."""
        model, payload = self.contract.name, random.choice(self.pool)
        with self.client.request(
            "POST",
            payload.path(model),
            name=tally.name_of(model, payload),
            data=payload.body,  # type: ignore[arg-type]  # bytes are sent as they are
            headers=marked(payload.headers),
            catch_response=True,
        ) as response:
            if response.status_code == 0:
                response.failure(f"no answer: {type(response.error).__name__}")
            elif is_shed(response.status_code, response.content or b""):
                response.request_meta["name"] = tally.shed_name(model)
                response.failure("503: the model's queue is full")
            elif wrong := complaint(self.contract, payload, response.status_code, response.content or b""):
                response.failure(wrong)
            else:
                response.success()


class ChatUser(FastHttpUser):
    """A user of one language model.

    Attributes:
        pool: requests to choose from.
    """

    network_timeout = 120.0  # an answer may wait behind hundreds of others
    connection_timeout = 10.0
    contract: ClassVar[ModelContract]
    pool: ClassVar[Sequence[ChatRequest]]

    @task
    def ask(self) -> None:
        """Send a request and check the answer as it comes."""
        request = random.choice(self.pool)
        started = time.perf_counter()
        with self.client.request(
            "POST",
            request.url(self.contract),
            name=f"{self.contract.name} {request.kind}",
            data=request.body,  # type: ignore[arg-type]  # bytes are sent as they are
            headers=marked(request.headers),
            catch_response=True,
            stream=True,
        ) as response:
            try:
                wrong = self._read(request, response, started)
            except FAILURE_EXCEPTIONS as error:
                wrong = f"no whole answer: {type(error).__name__}"
            response.request_meta["response_time"] = 1000 * (time.perf_counter() - started)
            if wrong:
                response.failure(wrong)
            else:
                response.success()

    def _read(self, request: ChatRequest, response: ResponseContextManager, started: float) -> str:
        """Return the fault of the answer; empty for a right one."""
        if response.status_code == 0:
            response.raise_for_status()  # type: ignore[no-untyped-call]
        if response.status_code == 200 and request.kind in ("stream", "counted", "left"):
            return self._follow(request, response, started)
        body = response.content or b""
        if is_shed(response.status_code, body):
            response.request_meta["name"] = tally.shed_name(self.contract.name)
            return "503: the model's queue is full"
        return chat_answers.complaint(self.contract, request, response.status_code, body)

    def _follow(self, request: ChatRequest, response: ResponseContextManager, started: float) -> str:
        stream = chat_answers.ChatStream(request)
        leaves = request.kind == "left"
        while event := response.stream.readline(chat_answers.END):
            stream.add(event, time.perf_counter())
            response.request_meta["response_length"] += len(event)
            if leaves and stream.events == PARTS and not stream.complete:
                response.stream.release()  # closes the connection, since there is more
                break
        else:
            leaves = False
        wrong = stream.complaint() if leaves else stream.end()
        if not wrong and stream.first is not None:
            self._count(tally.FIRST_TOKEN, 1000 * (stream.first - started), stream.tokens, "ms")
            if (rate := stream.rate()) is not None:
                self._count(tally.RATE, rate, stream.tokens, "tokens/s")
        return wrong

    def _count(self, figure: str, value: float, tokens: int, unit: str) -> None:
        self.environment.events.request.fire(
            request_type=unit,
            name=f"{self.contract.name} {figure}",
            response_time=value,
            response_length=tokens,
            exception=None,
            context={},
        )


def marked(headers: Mapping[str, str]) -> dict[str, str]:
    """Add headers for the service: the time of sending, and that the request is not captured.

    From the time, in seconds since 1970, the server computes how long the request waited. Made-up requests must not be
    learned from.
    """
    return {**headers, **key, "X-Request-Start": f"t={time.time():.6f}", SWITCH: "off"}


def is_shed(status: int, body: bytes) -> bool:
    """Tell whether a request was refused because the model's queue is full."""
    return status == 503 and any(words in body for words in _FULL)


def user_class(contract: ModelContract, weight: int, pacing: float, seed: int) -> type[TensorUser] | type[ChatUser]:
    """Return the class of the users of one model.

    Args:
        weight: share of the users in a run of several models.
        pacing: seconds from one request of a user to its next; 0 is without a pause.
    """
    rng, chats = np.random.default_rng(seed), contract.task == "generation"
    attributes = {
        "contract": contract,
        "pool": conversations.draw_requests(contract, rng, POOL) if chats else draw_requests(contract, rng),
        "weight": weight,
        "wait_time": constant_pacing(pacing) if pacing else constant(0),
        "__doc__": f"Asks {contract.name}.",
    }
    return type(f"{contract.name}_users", (ChatUser if chats else TensorUser,), attributes)


def draw_requests(contract: ModelContract, rng: np.random.Generator) -> list[Payload]:
    """Draw requests for one model: most are valid, some at the limits, some invalid, and some the example.

    Of a handler from elsewhere only the example is known.
    """
    if contract.task == "opaque":
        return [example(contract)]
    counts = {kind: round(POOL * share) for kind, share in SHARES.items()}
    payloads = [example(contract)] * counts["example"]
    payloads += [edge(contract, rng) for _ in range(counts["edge"])]
    payloads += [invalid(contract, rng) for _ in range(counts["invalid"])]
    return payloads + [valid(contract, rng) for _ in range(POOL - len(payloads))]
