"""What may follow in an answer that is held to something, over a vocabulary of bytes and some longer pieces."""

import json
import random
import re
import sys

import pytest

from handlers.contract import Array
from handlers.language.generation import Constraint, ConstraintError, Generate, Sampling
from handlers.language.scheduling.batching import ContinuousBatching
from handlers.language.structured.grammars import KEPT, Grammars, HeldAnswer
from tests.support.handlers.generating import ToyDecoder, run

pytest.importorskip("llguidance", reason="llguidance is not installed: it comes with the extra chat")
QUOTE, OPEN, CLOSE = b'"{}'
LONGER = (b'{"', b'":', b'", "', b"true", b"\n  ", "é".encode())
OBJECT = Constraint("json_schema", '{"type": "object"}')
FAIR = Sampling(temperature=1, seed=1, constraint=OBJECT)


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
def grammars() -> Grammars:
    return Grammars(Bytes())


def follow(answer: HeldAnswer, text: bytes) -> bool:
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
def test_an_object_can_be_said_and_then_only_the_end(grammars: Grammars, text: str) -> None:
    answer = grammars.begin(OBJECT)
    assert follow(answer, text.encode())
    assert answer.allowed().tolist() == [0]


@pytest.mark.parametrize(
    "text", ["[1]", "x", '"a"', "{a", '{"a" 1', '{"a": 1,}', '{"a": 01', '{"a": "\n', '{"a": nil', "{" + " " * 17]
)
def test_what_is_no_json_object_cannot(grammars: Grammars, text: str) -> None:
    assert not follow(grammars.begin(OBJECT), text.encode())


def test_whatever_is_drawn_from_what_is_allowed_is_json(grammars: Grammars) -> None:
    drawn = random.Random(3)
    decoder, ended = Bytes(), 0
    for _ in range(20):
        answer, said = grammars.begin(OBJECT), b""
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
        Generate(f"{i}", [5 + i], 300 if i % 2 else 20, Sampling(seed=i, constraint=OBJECT if i % 2 else None))
        for i in range(8)
    ]
    answers = run(ContinuousBatching(Bytes()), *asked)
    for one in asked:
        alone = run(ContinuousBatching(Bytes()), one)[one.id]
        assert answers[one.id].numbers == alone.numbers
        if one.sampling.constraint:
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


def held(kind: str, text: object) -> Constraint:
    return Constraint(kind, text if isinstance(text, str) else json.dumps(text))  # type: ignore[arg-type]


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 3}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "additionalProperties": False}
    },
    "$ref": "#/$defs/node",
}


@pytest.mark.parametrize(
    ("constraint", "right", "wrong"),
    [
        (held("json_schema", PERSON), '{"name": "Bo", "age": 7}', '{"name": "Bo", "age": 100}'),
        (held("json_schema", PERSON), '{"name":"Bo","age":0}', '{"name": "Bobby"'),
        (held("json_schema", PERSON), '{"name":"é","age":42}', '{"name": "Bo", "age": 7, "x": 1'),
        (held("json_schema", {"enum": ["a", 1, None]}), "null", '"b"'),
        (held("json_schema", {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}), "[true, false]", "[1"),
        (held("json_schema", TREE), '{"next": {"next": {}}}', '{"next": 1'),
        (held("regex", r"\d{3}-[a-f]+"), "123-ab", "12-a"),
        (held("choice", ["yes", "no"]), "no", "maybe"),
        (held("choice", ['say "hi"', "back\\slash", "é\n"]), 'say "hi"', "say hi"),
        (held("choice", ['say "hi"', "back\\slash", "é\n"]), "back\\slash", "back/"),
        (held("choice", ['say "hi"', "back\\slash", "é\n"]), "é\n", "e"),
        (held("choice", ["a/b", "[x]+", "#1", "{"]), "[x]+", "[xx"),
    ],
)
def test_only_what_a_constraint_allows_can_be_said(
    grammars: Grammars, constraint: Constraint, right: str, wrong: str
) -> None:
    answer = grammars.begin(constraint)
    assert follow(answer, right.encode())
    assert 0 in answer.allowed()
    assert not follow(grammars.begin(constraint), wrong.encode())


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (held("json_schema", {"type": "object", "not": {}}), 'Unimplemented keys: ["not"]'),
        (held("json_schema", {"type": "string", "format": "nonsense"}), "Unknown format: nonsense"),
        (held("json_schema", {"type": "string", "pattern": "(?=a)b"}), "look-around"),
        (held("json_schema", {"$ref": "#/$defs/x"}), "Pointer '/$defs/x' does not exist"),
        (held("json_schema", {"$ref": "http://127.0.0.1:1/x"}), "does not fetch resources"),
        (held("json_schema", {"type": 5}), "type must be a string or array of strings"),
        (held("json_schema", {"oneOf": [{"type": "object"}, {"type": "object"}]}), "oneOf"),
        (held("json_schema", '{"a": '), "EOF"),
        (held("json_schema", '{"items":' * 5000 + "{}" + "}" * 5000), "recursion limit"),
        (held("regex", "("), "unclosed group"),
        (held("regex", "(?=a)b"), "look-around"),
    ],
)
def test_what_no_answer_can_be_held_to_is_refused_by_its_keyword(
    grammars: Grammars, constraint: Constraint, message: str
) -> None:
    with pytest.raises(ConstraintError, match=re.escape(message)) as caught:
        grammars.check(constraint)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "constraint",
    [
        held("regex", "(a{1,1000}){1,1000}"),
        held("regex", "(.*a){20}.{200}"),
        held("regex", "(a|aa)*(b|bb)*c{500}"),
        held("json_schema", {"enum": [f"x{i}" for i in range(5000)]}),
        held("json_schema", {"type": "string", "maxLength": 1_000_000}),
        held("json_schema", {"type": "array", "minItems": 100_000}),
        held("json_schema", {"allOf": [{"type": "object"}] * 3000}),
        held("choice", [f"word {i}" for i in range(5000)]),
    ],
    ids=lambda constraint: constraint.text[:30],
)
def test_a_constraint_that_is_hard_ends_its_own_answer_at_worst(constraint: Constraint) -> None:
    engine = ContinuousBatching(Bytes())
    try:
        engine.add(Generate("hard", [1], 8, Sampling(seed=1, constraint=constraint)))
    except ConstraintError:
        return
    answers = run(engine, Generate("free", [2], 8, Sampling(seed=1)))
    alone = run(ContinuousBatching(Bytes()), Generate("free", [2], 8, Sampling(seed=1)))
    assert answers["free"].numbers == alone["free"].numbers


def test_the_constraints_that_were_asked_last_stay_compiled(grammars: Grammars) -> None:
    for i in range(2 * KEPT):
        grammars.check(held("choice", [f"word {i}"]))
    assert len(grammars._matchers) == KEPT
