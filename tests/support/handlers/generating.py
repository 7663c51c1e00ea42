"""Runs generation engines to their end, and a decoder that needs no weights."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from handlers.contract import Array
from handlers.language.decoders.decoder import DecodeError, Part
from handlers.language.decoders.pages import Pages
from handlers.language.generation import Finished, Generate, Sampling, Scored, Token
from handlers.language.scheduling.batching import ContinuousBatching

GREEDY = Sampling(temperature=0)


@dataclass
class Answer:
    """All that an engine gave out for one request, and at which of its steps each token came."""

    tokens: list[Token] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    finished: Finished | None = None
    scored: Scored | None = None  # the prompt

    @property
    def numbers(self) -> list[int]:
        return [token.token for token in self.tokens]

    @property
    def text(self) -> str:
        return b"".join(token.piece for token in self.tokens).decode()

    @property
    def end(self) -> Finished:
        assert self.finished
        return self.finished


def run(
    engine: ContinuousBatching,
    *requests: Generate,
    later: dict[int, Callable[[], Any]] | None = None,
    steps: int = 5000,
) -> dict[str, Answer]:
    """Step until nothing runs or waits.

    Args:
        engine: to run.
        requests: added before the first step.
        later: what to do before the step of this number.
        steps: more than these are a hang.
    """
    answers: dict[str, Answer] = {}
    later = dict(later or {})
    for request in requests:
        engine.add(request)
    for step in range(steps):
        later.pop(step, lambda: None)()
        for answer in engine.step():
            mine = answers.setdefault(answer.id, Answer())
            if isinstance(answer, Finished):
                assert mine.finished is None
                mine.finished = answer
            elif isinstance(answer, Scored):
                assert not mine.tokens
                mine.scored = answer
            else:
                assert mine.finished is None
                mine.tokens.append(answer)
                mine.steps.append(step)
        if not later and not (engine.usage.running or engine.usage.waiting):
            return answers
    raise AssertionError(f"not finished after {steps} steps: {engine.usage}")


class ToyDecoder:
    """Logits are random numbers seeded by all tokens of a slot: a wrong cache gives another answer.

    So does a token that was computed with another adapter. Token 0 ends the generation.
    ``fail`` makes ``decode`` fail; ``loads`` are the numbers of tokens of each call.
    """

    def __init__(self, slots: int = 4, context: int = 64, vocabulary: int = 40, batch: int = 32) -> None:
        self.slots, self.context, self.vocabulary, self.batch = slots, context, vocabulary, batch
        self.cells, self.block = slots * context, 1
        self.adapters: Sequence[str] = ("pirate", "poet")
        self.contents: list[list[int]] = [[] for _ in range(slots)]
        self.loads: list[dict[int, int]] = []
        self.copies = 0
        self.fail = False
        self.closed = False

    def tokenize(self, text: str, special: bool) -> list[int]:
        return [1 + (0 if special else ord(letter) % (self.vocabulary - 1)) for letter in text]

    def piece(self, token: int) -> bytes:
        return bytes([token])

    def ends(self, token: int) -> bool:
        return token == 0

    def held(self, slots: Collection[int]) -> int:
        return sum(len(self.contents[slot]) for slot in slots)

    def reserve(self, slot: int, start: int, end: int) -> bool:
        assert end <= self.context
        return True

    def decode(self, parts: Sequence[Part]) -> Array:
        assert [part.slot for part in parts] == sorted({part.slot for part in parts})
        self.loads.append({part.slot: len(part.tokens) for part in parts})
        assert 0 < sum(self.loads[-1].values()) <= self.batch
        if self.fail:
            raise DecodeError("no memory")
        for part in parts:
            assert part.tokens
            assert part.position == len(self.contents[part.slot])
            self.contents[part.slot].extend(self.computed(part))
            assert len(self.contents[part.slot]) <= self.context
        ends = [(part, len(self.contents[part.slot])) for part in parts]
        rows = [
            self.logits(self.contents[part.slot][: i + 1]) for part, end in ends for i in range(end - part.rows, end)
        ]
        return np.stack(rows) if rows else np.empty((0, self.vocabulary), np.float32)

    def interrupt(self) -> None:
        pass

    def computed(self, part: Part) -> list[int]:
        """What a slot holds of each token: with another adapter it is something else."""
        number = self.adapters.index(part.adapter) + 1 if part.adapter else 0
        return [token + number * self.vocabulary for token in part.tokens]

    def logits(self, tokens: Sequence[int]) -> Array:
        logits = np.random.default_rng(list(tokens)).normal(0, 2, self.vocabulary).astype(np.float32)
        logits[0] -= 1  # else most answers are short
        return logits

    def truncate(self, slot: int, length: int) -> None:
        del self.contents[slot][length:]

    def copy(self, source: int, target: int, length: int) -> None:
        self.copies += 1
        self.contents[target] = self.contents[source][:length]

    def close(self) -> None:
        self.closed = True


class PagedDecoder(ToyDecoder):
    """Its slots share a cache of ``cells`` tokens, and it computes on what the blocks hold: a wrong one is noticed."""

    def __init__(self, slots: int = 8, context: int = 64, cells: int = 128, block: int = 4, batch: int = 32) -> None:
        super().__init__(slots, context, batch=batch)
        self.cells, self.block = cells, block
        self.pages = Pages(cells // block, block, slots)
        self._memory = np.full((cells // block, block), -1)

    def held(self, slots: Collection[int]) -> int:
        return self.block * self.pages.held(slots)

    def reserve(self, slot: int, start: int, end: int) -> bool:
        assert end <= self.context
        copies = self.pages.reserve(slot, start, end)
        for source, target in copies or ():
            self._memory[target] = self._memory[source]
        return copies is not None

    def decode(self, parts: Sequence[Part]) -> Array:
        for part in parts:
            table = self.pages.table(part.slot)
            for position, token in enumerate(self.computed(part), part.position):
                self._memory[table[position // self.block], position % self.block] = token
            self.contents[part.slot] = self._memory[table].ravel()[: part.position].tolist()
        return super().decode(parts)

    def truncate(self, slot: int, length: int) -> None:
        self.pages.truncate(slot, length)

    def copy(self, source: int, target: int, length: int) -> None:
        self.copies += 1
        self.pages.share(source, target, length)


class CyclingDecoder(ToyDecoder):
    """Its answers go round, as a token follows from the one before it, but for some that follow from all."""

    def logits(self, tokens: Sequence[int]) -> Array:
        last = np.random.default_rng(tokens[-1]).normal(0, 3, self.vocabulary)
        logits = (last + super().logits(tokens) / 8).astype(np.float32)
        logits[0] -= 4
        return logits
