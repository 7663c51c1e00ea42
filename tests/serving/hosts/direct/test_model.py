"""When a batch is shown to its observers: after its requests are answered, where the event loop runs it."""

import asyncio
from functools import partial

from handlers.message import Request, Response
from serving.hosts.direct.batches import Batches
from serving.hosts.direct.model import after_answers


def order(inline: bool) -> list[str]:
    """What happens to a request, in order."""
    happened: list[str] = []

    async def ask() -> None:
        loop = asyncio.get_running_loop()

        def handle(requests: object, waited: object) -> list[Response]:
            after_answers(loop, partial(happened.append, "shown"))
            return [Response(200, b"")]

        batches = Batches(handle, loop, inline=inline)
        future = batches.submit(Request(b"", {}), 1.0)
        future.add_done_callback(lambda _: happened.append("answered"))
        await future
        while len(happened) < 2:
            await asyncio.sleep(0)
        batches.close()

    asyncio.run(asyncio.wait_for(ask(), 10))
    return happened


def test_an_answer_is_sent_before_its_batch_is_shown_to_observers() -> None:
    assert order(inline=True) == ["answered", "shown"]


def test_in_a_thread_a_batch_is_shown_at_once() -> None:
    assert order(inline=False) == ["shown", "answered"]
