"""A short prompt interrupts the reading of a long one, which goes on with the same answer."""

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from handlers.contract import Array
from handlers.language.decoders.decoder import Interrupted, Part
from handlers.language.generation import Generate, Sampling, Token
from handlers.language.handler import ChatHandler
from handlers.language.scheduling.batching import ContinuousBatching
from handlers.language.template import ChatTemplate
from handlers.message import JSON, Request
from tests.support.chat_archive import contract, echoed
from tests.support.handlers.echo_engine import SMOLLM2
from tests.support.handlers.generating import GREEDY, ToyDecoder, run

LONG, SHORT = Generate("long", [2] * 200, 2, GREEDY), Generate("short", [5, 6, 7], 2, GREEDY)
HANG = 30.0  # s


class Interruptible(ToyDecoder):
    """While it computes, something else happens, and may interrupt it."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        super().__init__(context=256, batch=64)
        self.meanwhile = meanwhile
        self.interrupted = False
        self.interruptions = 0

    def decode(self, parts: Sequence[Part]) -> Array:
        self.interrupted = False
        self.meanwhile()
        if self.interrupted:
            self.interruptions += 1
            raise Interrupted
        return super().decode(parts)

    def interrupt(self) -> None:
        self.interrupted = True


def engine_on(decoder: ToyDecoder) -> ContinuousBatching:
    return ContinuousBatching(decoder, lone_chunk=16)


def alone(asked: Generate) -> list[int]:
    return run(engine_on(Interruptible()), asked)[asked.id].numbers


def test_a_short_prompt_that_comes_in_the_middle_of_a_step_gets_its_token_from_the_next_one() -> None:
    decoder = Interruptible()
    engine = engine_on(decoder)
    decoder.meanwhile = lambda: engine.make_way(SHORT.prompt)
    engine.add(LONG)
    assert engine.step() == []
    decoder.meanwhile = lambda: None
    engine.add(SHORT)
    assert [event.id for event in engine.step() if isinstance(event, Token)] == ["short"]
    answers = run(engine)
    assert answers["long"].numbers == alone(LONG)
    assert answers["short"].numbers == alone(SHORT)[1:]
    assert decoder.interruptions == 1


def test_who_comes_at_every_step_does_not_keep_a_long_prompt_from_being_read() -> None:
    decoder = Interruptible()
    engine = engine_on(decoder)
    decoder.meanwhile = lambda: engine.make_way(SHORT.prompt)
    answers = run(engine, LONG)
    assert answers["long"].numbers == alone(LONG)
    assert answers["long"].steps[0] <= 2 * -(-len(LONG.prompt) // 16)  # every other step is whole


def test_a_prompt_that_is_not_much_shorter_waits() -> None:
    decoder = Interruptible()
    engine = engine_on(decoder)
    decoder.meanwhile = lambda: engine.make_way([7] * 60)
    assert run(engine, LONG)["long"].numbers == alone(LONG)
    assert decoder.interruptions == 0


def test_a_step_that_gives_somebody_a_token_is_not_interrupted() -> None:
    decoder = Interruptible()
    engine = engine_on(decoder)
    stream = Generate("stream", [9, 9], 250, Sampling(temperature=0, ignore_eos=True))
    engine.add(stream)
    engine.step()
    decoder.meanwhile = lambda: engine.make_way(SHORT.prompt)
    run(engine, LONG)
    assert decoder.interruptions == 0


def test_without_a_free_slot_nothing_is_interrupted() -> None:
    decoder = Interruptible()
    decoder.slots = 1
    engine = engine_on(decoder)
    decoder.meanwhile = lambda: engine.make_way(SHORT.prompt)
    run(engine, LONG)
    assert decoder.interruptions == 0


class Halted(Interruptible):
    """Computes a chunk that gives nobody a token only once it was interrupted; then the others too."""

    def __init__(self) -> None:
        super().__init__()
        self._went_on = threading.Event()

    def decode(self, parts: Sequence[Part]) -> Array:
        if not any(part.rows for part in parts):
            self.meanwhile = self._wait
        return super().decode(parts)

    def interrupt(self) -> None:
        super().interrupt()
        self._went_on.set()

    def _wait(self) -> None:
        assert self._went_on.wait(HANG), "nobody interrupted it"


def body(prompt: Sequence[int]) -> bytes:
    return json.dumps({"prompt": list(prompt), "max_tokens": 2, "temperature": 0, "stream": True}).encode()


def test_a_handler_hears_of_new_requests_while_a_long_prompt_is_read() -> None:
    engine = engine_on(Halted())
    headers = {"content-type": JSON, "url_path": "v1/completions"}
    long, short = (Request(body(one.prompt), headers, {}, one.id) for one in (LONG, SHORT))
    with ThreadPoolExecutor(1) as executor:
        template = ChatTemplate(SMOLLM2, engine.tokenize)
        handler = ChatHandler(contract("chat", echoed("Hello")), engine, template, executor=executor, patience=HANG)
        assert handler.handle([long]) == [None]
        answers = handler.handle([long, short])
        assert answers[0] is None
        assert answers[1]
        assert answers[1].body.startswith(b"data: ")
        handler.handle([])
    assert engine.usage.running == 0
