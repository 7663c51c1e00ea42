"""The users of a language model: they read its answers as streams, token by token, and look at every one.

Beside the request itself Locust is told two figures of each stream, under names of their own: the time to its first
token, and its tokens per second after that, which stands in the report where others have milliseconds. The size of
both is the number of tokens.
"""

import random
import time
from collections.abc import Sequence
from typing import ClassVar

from locust import FastHttpUser, task
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS, ResponseContextManager

from handlers.contract import ModelContract
from loadtests.requests.chat_answers import END, ChatStream, complaint
from loadtests.requests.conversations import ChatRequest
from loadtests.requests.shedding import is_shed, marked
from loadtests.results import tally

PARTS = 3  # after which a client that leaves has left


class ChatUser(FastHttpUser):
    """Asks one language model.

    Attributes:
        contract: of the model.
        pool: requests, one of which is sent each time.
    """

    abstract = True
    network_timeout = 120.0  # an answer may wait behind hundreds of others
    connection_timeout = 10.0
    contract: ClassVar[ModelContract]
    pool: ClassVar[Sequence[ChatRequest]]

    @task
    def ask(self) -> None:
        """Send a request and read the answer."""
        asked = random.choice(self.pool)
        started = time.perf_counter()
        with self.client.request(
            "POST",
            asked.url(self.contract),
            name=f"{self.contract.name} {asked.kind}",
            data=asked.body,  # type: ignore[arg-type]  # bytes are sent as they are
            headers=marked(asked.headers),
            catch_response=True,
            stream=True,
        ) as response:
            try:
                wrong = self._read(asked, response, started)
            except FAILURE_EXCEPTIONS as error:
                wrong = f"no whole answer: {type(error).__name__}"
            response.request_meta["response_time"] = 1000 * (time.perf_counter() - started)
            if wrong:
                response.failure(wrong)
            else:
                response.success()

    def _read(self, asked: ChatRequest, response: ResponseContextManager, started: float) -> str:
        """What is wrong with the answer; empty if nothing is."""
        if response.status_code == 0:
            response.raise_for_status()  # type: ignore[no-untyped-call]
        if response.status_code == 200 and asked.kind in ("stream", "counted", "left"):
            return self._follow(asked, response, started)
        body = response.content or b""
        if is_shed(response.status_code, body):
            response.request_meta["name"] = tally.shed_name(self.contract.name)
            return "503: the model's queue is full"
        return complaint(self.contract, asked, response.status_code, body)

    def _follow(self, asked: ChatRequest, response: ResponseContextManager, started: float) -> str:
        stream = ChatStream(asked)
        leaves = asked.kind == "left"
        while event := response.stream.readline(END):
            stream.add(event, time.perf_counter())
            response.request_meta["response_length"] += len(event)
            if leaves and stream.events == PARTS and not stream.done:
                response.stream.release()  # closes the connection, since there is more
                break
        else:
            leaves = False
        wrong = stream.complaint() if leaves else stream.end()
        if not wrong and stream.first is not None:
            self._tell(tally.FIRST_TOKEN, 1000 * (stream.first - started), stream.tokens, "ms")
            if (rate := stream.rate()) is not None:
                self._tell(tally.RATE, rate, stream.tokens, "tokens/s")
        return wrong

    def _tell(self, what: str, value: float, tokens: int, unit: str) -> None:
        self.environment.events.request.fire(
            request_type=unit,
            name=f"{self.contract.name} {what}",
            response_time=value,
            response_length=tokens,
            exception=None,
            context={},
        )
