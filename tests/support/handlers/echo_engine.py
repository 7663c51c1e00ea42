"""A generation engine that needs no weights: it says again what it was told. It is packed into archives, too.

Its tokens are bytes of UTF-8 and two control tokens; three bytes are a piece, so pieces end inside characters. Where
what it was told has ``FAIL`` it fails, ``FOREVER`` it goes on without an end, and at ``CRASH`` the whole step fails.
"""

import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from handlers.language.generation import Finished, Generate, PromptTooLong, QueueFull, Scored, Token, Usage
from handlers.language.scheduling.batching import ContinuousBatching, Event

START, END = 256, 257
NAMES = {"<|im_start|>": START, "<|im_end|>": END}
SIZE = 3  # bytes of a piece
SMOLLM2 = (  # the template of the model that is served, but for its system prompt
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass
class _Running:
    request: Generate
    pieces: list[bytes]
    said: int = 0
    scored: bool = False  # whether its prompt was told


class EchoEngine(ContinuousBatching):
    """A token a step for each of ``slots`` requests.

    Args:
        slots: requests that run at once.
        context: tokens of each.
        queue: requests that wait at most.
        seconds: that a step takes.
    """

    def __init__(self, slots: int = 2, context: int = 400, queue: int = 4, seconds: float = 0.0) -> None:
        self.slots, self.context = slots, context
        self.adapters: Sequence[str] = ()
        self.batches: list[list[str]] = []  # ids of what ran, step by step
        self.cancelled: list[str] = []
        self.asked: list[Generate] = []
        self.queue, self._seconds = queue, seconds
        self._steps = False  # whether it is in the middle of a step, where nothing else may be asked of it
        self._waiting: deque[Generate] = deque()
        self._echoes: dict[str, _Running] = {}
        self.is_reading = False

    def tokenize(self, text: str, special: bool) -> list[int]:
        tokens: list[int] = []
        while text:
            name = next((name for name in NAMES if special and text.startswith(name)), "")
            tokens += [NAMES[name]] if name else text[0].encode()
            text = text[len(name) or 1 :]
        return tokens

    def piece(self, token: int) -> bytes:
        if not 0 <= token <= END:
            raise ValueError(f"there is no token {token}")
        return bytes([token]) if token < START else b""

    def add(self, request: Generate) -> None:
        self._check()
        if len(request.prompt) >= self.context:
            raise PromptTooLong(f"{len(request.prompt)} tokens")
        if len(self._waiting) >= self.queue and len(self._echoes) == self.slots:
            raise QueueFull(f"{self.slots} requests run and {self.queue} wait; try again later")
        self.asked.append(request)
        self._waiting.append(request)

    def cancel(self, id: str) -> None:
        self._check()
        self.cancelled.append(id)
        self._echoes.pop(id, None)
        self._waiting = deque(one for one in self._waiting if one.id != id)

    def make_way(self, prompt: Sequence[int], adapter: str = "") -> None:
        pass

    def step(self) -> list[Event]:
        self._check()
        self._steps = True
        if self._seconds:
            time.sleep(self._seconds)
        self._steps = False
        while self._waiting and len(self._echoes) < self.slots:
            request = self._waiting.popleft()
            self._echoes[request.id] = _Running(request, _pieces(said(request.prompt)))
        self.batches.append(list(self._echoes))
        answers = [answer for one in list(self._echoes.values()) for answer in self._advance(one)]
        for answer in answers:
            if isinstance(answer, Finished):
                del self._echoes[answer.id]
        return answers

    @property
    def usage(self) -> Usage:
        used = sum(len(one.request.prompt) + one.said for one in self._echoes.values())
        return Usage(len(self._echoes), len(self._waiting), used, self.slots * self.context)

    def close(self) -> None:
        self._echoes.clear()
        self._waiting.clear()

    def _check(self) -> None:
        if self._steps:
            raise RuntimeError("the engine was asked for something in the middle of a step")

    def _advance(self, one: _Running) -> list[Event]:
        def finish(reason: Literal["stop", "length", "error"], error: str = "") -> Finished:
            ends = reason == "stop" and one.request.sampling.logprobs is not None
            end = Token(one.request.id, END, b"", -0.125) if ends else None
            return Finished(one.request.id, reason, len(one.request.prompt), 1, one.said, error, end=end)

        if one.request.scored and not one.scored:
            one.scored = True
            prompt = [
                Token(one.request.id, token, self.piece(token), -0.25 if i else None)
                for i, token in enumerate(one.request.prompt)
            ]
            rest = self._advance(one) if one.request.max_tokens else [finish("length")]
            return [Scored(one.request.id, prompt), *rest]
        if one.said >= len(one.pieces):
            return [finish("stop")]
        piece = one.pieces[one.said]
        if piece == b"FAIL":
            return [finish("error", "the echo failed")]
        if piece == b"CRASH":
            raise RuntimeError("the echo crashed")
        if piece == b"FOREVER":
            one.pieces.insert(one.said, b"on ")
            piece = b"on "
        one.said += 1
        count = one.request.sampling.logprobs
        top = tuple((other, bytes([97 + other]), -1.0 - other) for other in range(count or 0))
        token = Token(one.request.id, piece[0], piece, None if count is None else -0.5, top, 1)
        return [token] if one.said < one.request.max_tokens else [token, finish("length")]


def said(prompt: Sequence[int]) -> str:
    """What the last turn of a conversation says, or the whole of a plain prompt."""
    turns: list[list[int]] = [[]]
    for token in prompt:
        if token == START:
            turns.append([])
        elif token != END:
            turns[-1].append(token)
    texts = [bytes(turn).decode() for turn in turns]
    return texts[0] if len(texts) == 1 else texts[-2].partition("\n")[2].removesuffix("\n")


def _pieces(text: str) -> list[bytes]:
    pieces: list[bytes] = []
    for part in re.split(rb"(FAIL|CRASH|FOREVER)", text.encode()):
        word = part in (b"FAIL", b"CRASH", b"FOREVER")
        pieces += [part] if word else [part[at : at + SIZE] for at in range(0, len(part), SIZE)]
    return pieces
