import pytest

from handlers.language.generation import Generate
from handlers.language.scheduling.batching import ContinuousBatching
from tests.support.handlers.generating import ToyDecoder
from training.language.evaluation.speed import ANSWER, PROMPT, ROUNDS, speed

TEXT = [1 + i * i % 38 for i in range(200)]


class Endless(ToyDecoder):
    """Ends no answer by itself."""

    def ends(self, token: int) -> bool:
        return False


class Silent(ToyDecoder):
    """Ends each answer before its first token."""

    def ends(self, token: int) -> bool:
        return True


class Listening(ContinuousBatching):
    """Remembers what it was asked."""

    def __init__(self, decoder: ToyDecoder) -> None:
        super().__init__(decoder)
        self.asked: list[Generate] = []

    def add(self, request: Generate) -> None:
        self.asked.append(request)
        super().add(request)


def engine(kind: type[ToyDecoder], slots: int = 3) -> Listening:
    return Listening(kind(slots, context=256, batch=200))


def test_one_stream_and_all_slots_are_measured() -> None:
    found = speed(engine(Endless), TEXT, "fake")
    assert found.tokens_per_second.keys() == {"1", "3"}
    assert all(rate > 0 for rate in found.tokens_per_second.values())
    assert found.first_token_seconds > 0
    assert (found.prompt_tokens, found.generated_tokens) == (PROMPT, ANSWER)


def test_an_engine_of_one_slot_is_measured_once() -> None:
    assert speed(engine(Endless, slots=1), TEXT, "fake").tokens_per_second.keys() == {"1"}


def test_each_prompt_is_of_full_length_and_begins_otherwise_than_all_before() -> None:
    asked = engine(Endless)
    speed(asked, TEXT, "fake")
    assert len(asked.asked) == ROUNDS * (1 + 3)
    assert {len(request.prompt) for request in asked.asked} == {PROMPT}
    assert {request.max_tokens for request in asked.asked} == {ANSWER}
    assert {request.sampling.temperature for request in asked.asked} == {0}
    assert len({tuple(request.prompt) for request in asked.asked}) == len(asked.asked)


def test_it_leaves_the_engine_idle() -> None:
    one = engine(Endless)
    speed(one, TEXT, "fake")
    assert (one.usage.running, one.usage.waiting) == (0, 0)


def test_the_rate_counts_tokens_while_all_streams_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(1_000_000))
    monkeypatch.setattr("training.language.evaluation.speed.time.perf_counter", lambda: next(now))
    found = speed(engine(Endless), TEXT, "fake")
    assert found.tokens_per_second["1"] == pytest.approx(1)  # the clock is looked at once a token


def test_an_answer_that_ends_at_once_is_no_speed_and_no_fault() -> None:
    found = speed(engine(Silent), TEXT, "fake")
    assert set(found.tokens_per_second.values()) == {0}
