"""What may follow in an answer that is JSON, over a vocabulary of bytes and some longer pieces."""

import json
import random
import sys

import pytest

from handlers.contract import Array
from handlers.language.batching import ContinuousBatching
from handlers.language.generation import Generate, Sampling
from handlers.language.json_grammar import JsonAnswer, JsonGrammar
from tests.support.handlers.generating import ToyDecoder, run

pytest.importorskip("llguidance", reason="llguidance is not installed: it comes with the extra chat")
QUOTE, OPEN, CLOSE = b'"{}'
LONGER = (b'{"', b'":', b'", "', b"true", b"\n  ", "é".encode())
FAIR = Sampling(temperature=1, seed=1, json=True)


class Bytes(ToyDecoder):
    """All bytes, 0 for the end, and some longer pieces; random logits that like to close what is open."""

    def __init__(self) -> None:
        super().__init__(context=400, vocabulary=256 + len(LONGER))

    def piece(self, token: int) -> bytes:
        return LONGER[token - 256] if token >= 256 else bytes([token]) if token else b""

    def tokenize(self, text: str, special: bool) -> list[int]:
        return list(text.encode())

    def logits(self, tokens: list[int]) -> Array:  # type: ignore[override]
        logits = super().logits(tokens)
        logits[[QUOTE, CLOSE]] += 7
        return logits


@pytest.fixture(scope="module")
def grammar() -> JsonGrammar:
    return JsonGrammar(Bytes())


def follow(answer: JsonAnswer, text: bytes) -> bool:
    """Whether it can be said byte by byte."""
    for token in text:
        if token not in answer.allowed():
            return False
        answer.take(token)
    return True


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"a": 1}',
        '{"a":[1, -2.5e3, null, true, {"b": "\\u0007 \\n"}], "c": "é"}',
        '{\n  "a": {\n    "b": []\n  }\n}',
    ],
)
def test_an_object_can_be_said_and_then_only_the_end(grammar: JsonGrammar, text: str) -> None:
    answer = grammar.begin()
    assert follow(answer, text.encode())
    assert answer.allowed().tolist() == [0]


@pytest.mark.parametrize(
    "text", ["[1]", "x", '"a"', "{a", '{"a" 1', '{"a": 1,}', '{"a": 01', '{"a": "\n', '{"a": nil', "{" + " " * 17]
)
def test_what_is_no_json_object_cannot(grammar: JsonGrammar, text: str) -> None:
    assert not follow(grammar.begin(), text.encode())


def test_whatever_is_drawn_from_what_is_allowed_is_json(grammar: JsonGrammar) -> None:
    drawn = random.Random(3)
    decoder, ended = Bytes(), 0
    for _ in range(20):
        answer, said = grammar.begin(), b""
        while (allowed := answer.allowed().tolist()) != [0] and len(said) < 500:
            closing = [token for token in (QUOTE, CLOSE) if token in allowed]
            token = drawn.choice(closing if closing and drawn.random() < 0.3 else allowed)
            answer.take(token)
            said += decoder.piece(token)
        if allowed == [0]:
            assert isinstance(json.loads(said), dict)
            ended += 1
    assert ended > 5


def test_json_answers_beside_others_are_those_alone_and_parse() -> None:
    asked = [
        Generate(f"{i}", [5 + i], 300 if i % 2 else 20, Sampling(seed=i, json=bool(i % 2))) for i in range(8)
    ]  # fmt: skip
    answers = run(ContinuousBatching(Bytes()), *asked)
    for one in asked:
        alone = run(ContinuousBatching(Bytes()), one)[one.id]
        assert answers[one.id].numbers == alone.numbers
        if one.sampling.json:
            assert answers[one.id].end.reason == "stop"
            assert isinstance(json.loads(answers[one.id].text), dict)


def test_an_answer_that_is_cut_off_says_so() -> None:
    answer = run(ContinuousBatching(Bytes()), Generate("a", [1], 2, FAIR))["a"]
    assert answer.end.reason == "length"
    assert answer.text.lstrip().startswith("{")


def test_without_llguidance_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    engine = ContinuousBatching(Bytes())
    with pytest.raises(ValueError, match="needs the package llguidance"):
        engine.add(Generate("a", [1], 2, FAIR))
    assert run(engine, Generate("b", [1], 2))["b"].end.reason == "length"
