"""Answers part by part: steps as long as requests are open, each with the next part of some answers.

It imports no handlers, so that a process may use it before it knows whose it will run.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handlers.message import Request, Response

NEXT = "ts_stream_next"  # the header by which a part says whether another follows, as handlers.message has it
Step = Callable[[Sequence["Request"]], Sequence["Response | None"]]


class Streams:
    """Makes steps as long as requests are open, and hands each request its parts of the answer.

    Args:
        step: takes all open requests, and returns the next part of each, or None; never raises.
        idle: called when none is open any more.
    """

    def __init__(self, step: Step, idle: Callable[[], None]) -> None:
        self._step, self._idle = step, idle
        self._open: dict[str, tuple[Request, asyncio.Queue[Response]]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="steps")
        self._stepping: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether every request was answered."""
        return self._stepping is None

    async def answer(self, request: "Request") -> AsyncIterator["Response"]:
        """Yield the parts of an answer; a caller that closes the iterator gives the request up."""
        queue: asyncio.Queue[Response] = asyncio.Queue()
        self._open[request.id] = (request, queue)
        if self._stepping is None:
            self._stepping = asyncio.create_task(self._steps())
        try:
            while True:
                response = await queue.get()
                yield response
                if response.headers.get(NEXT) != "true":
                    return
        finally:
            self._open.pop(request.id, None)

    def close(self) -> None:
        """Give the thread back."""
        self._thread.shutdown(wait=False)

    async def _steps(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            open_now = dict(self._open)
            requests = [request for request, _ in open_now.values()]
            responses = await loop.run_in_executor(self._thread, self._step, requests)
            for request, response in zip(requests, responses, strict=True):
                if response is not None:
                    open_now[request.id][1].put_nowait(response)
                    if response.headers.get(NEXT) != "true":
                        self._open.pop(request.id, None)
            if not requests and not self._open:  # a step without requests frees those whose clients are gone
                self._idle()
                self._stepping = None
                return
