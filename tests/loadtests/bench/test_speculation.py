"""The comparison of an engine with drafts and without."""

from dataclasses import replace

import pytest

from handlers.language.scheduling.batching import ContinuousBatching
from loadtests.bench.language import speculation
from loadtests.bench.language.answers import Answer
from loadtests.bench.language.speculation import KINDS, WITH, WITHOUT, measure, rate, table
from tests.support.handlers.generating import CyclingDecoder


def engine(drafts: int, decoder: type[CyclingDecoder] = CyclingDecoder) -> ContinuousBatching:
    return ContinuousBatching(decoder(context=2000, vocabulary=120, batch=512), speculative_tokens=drafts)


def test_a_rate_counts_what_follows_each_answers_first_token() -> None:
    assert rate([Answer("abc", [1.0, 2.0, 3.0]), Answer("ab", [9.0, 9.5]), Answer("", [])]) == 3 / 2.5
    with pytest.raises(ValueError, match="no answer has a second token"):
        rate([Answer("a", [1.0])])


def test_each_kind_of_text_has_its_gain_over_the_rounds_and_says_whether_answers_were_equal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speculation, "NEW", 12)
    said: list[str] = []
    gains = measure({WITHOUT: engine(0), WITH: engine(7)}, 2, said.append)
    assert [gain.title for gain in gains] == [kind.title for kind in KINDS]
    assert all(gain.equal and gain.gain.low > 0 for gain in gains)
    assert said == ["warm", "round 1 of 2", "round 2 of 2"]
    lines = table([*gains, replace(gains[0], equal=False)]).splitlines()
    assert len(lines) == 2 + len(KINDS) + 1
    assert lines[-1].endswith("| **no** |")


def test_answers_that_differ_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(CyclingDecoder):
        def tokenize(self, text: str, special: bool) -> list[int]:
            return super().tokenize(text[1:], special)

    monkeypatch.setattr(speculation, "NEW", 12)
    gains = measure({WITHOUT: engine(0), WITH: engine(7, Other)}, 1, lambda text: None)
    assert not any(gain.equal for gain in gains[1:2])
