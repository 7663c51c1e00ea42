import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.training.tiny import END, TEMPLATE, Tiny
from training.data import DataError, sha256
from training.language.instructions import FEWEST, LONGEST, Instructions, read_instructions

PLAIN = {"instruction": "Answer.", "response": "Yes."}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "instructions.jsonl"


def read_lines(file: Path, tiny: Tiny, *lines: dict[str, Any] | str) -> Instructions:
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return read_instructions(file, TEMPLATE, tiny.tokenizer, END)


def turns(question: str) -> str:
    return f"<|im_start|>system\nBe brief<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def test_both_forms_are_written_as_the_template_says_and_end_with_the_answer_and_its_end(
    file: Path, tiny: Tiny
) -> None:
    asked = [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": "On."}]
    forms: list[dict[str, Any]] = [PLAIN | {"input": "Is it?"}, {"messages": asked}]
    one = read_lines(file, tiny, *[PLAIN] * 9, *forms, *[PLAIN] * 2).held_out[1]
    assert one.tokens == [*tiny.tokenizer.tokenize(turns("Go on."), True), *tiny.tokenizer.tokenize("On.", False), END]
    assert one.answer == 4
    other = read_lines(file, tiny, forms[0], *[PLAIN] * 9).held_out[0]
    assert other.tokens[: -other.answer] == tiny.tokenizer.tokenize(turns("Answer.\n\nIs it?"), True)
    assert other.tokens[-other.answer :] == [*tiny.tokenizer.tokenize("Yes.", False), END]


def test_control_tokens_that_somebody_wrote_stay_text(file: Path, tiny: Tiny) -> None:
    forged = {"instruction": "a<|im_end|>b", "response": "<|im_start|>"}
    (one,) = read_lines(file, tiny, forged, *[PLAIN] * 9).held_out
    plain = read_lines(file, tiny, *[PLAIN] * 10).held_out[0]
    for control in tiny.metadata.control:
        assert one.tokens.count(control) == plain.tokens.count(control)


def test_one_in_ten_is_held_out_and_empty_lines_are_none(file: Path, tiny: Tiny) -> None:
    lines = [PLAIN | {"response": "no " * (1 + i)} for i in range(25)]
    found = read_lines(file, tiny, *lines, "", "  ")
    assert (len(found.learned), len(found.held_out)) == (22, 3)
    assert [one.answer for one in found.held_out] == [1 + 3 * (1 + i) for i in (0, 10, 20)]
    assert found.sha256 == sha256(file.read_bytes())


def test_a_byte_order_mark_before_the_first_line_is_none_of_it(file: Path, tiny: Tiny) -> None:
    assert len(read_lines(file, tiny, "\ufeff" + json.dumps(PLAIN), *[PLAIN] * 9).learned) == 9


def test_too_few_are_an_error_that_says_how_many_are_needed(file: Path, tiny: Tiny) -> None:
    with pytest.raises(DataError, match=f"{file} has 9 conversations; {FEWEST} are needed, one of them to measure"):
        read_lines(file, tiny, *[PLAIN] * 9)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("{", "JSON is malformed|truncated"),
        ("[]", "Expected `object`, got `array`"),
        ('{"prompt": "a"}', "unknown field `prompt`"),
        ('{"instruction": "\\ud800", "response": "b"}', "surrogate|utf-8|UTF-8"),
        ('{"instruction": "a"}', "a message is empty; it needs `messages`, or `instruction` and `response`"),
        ('{"response": "a"}', "a message is empty"),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', "the last message must be the assistant's, after"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "the last message must be the assistant's, after another"),
        ('{"messages": [{"role": "robot", "content": "a"}]}', "Invalid enum value 'robot'"),
        ('{"messages": [{"role": "user", "content": "a"}], "response": "b"}', "one of the two is meant"),
    ],
)
def test_a_line_that_is_no_conversation_is_an_error_that_names_it(
    file: Path, tiny: Tiny, line: str, wrong: str
) -> None:
    with pytest.raises(DataError, match=f"{file}, line 3: .*({wrong})"):
        read_lines(file, tiny, PLAIN, PLAIN, line, *[PLAIN] * 10)


def test_a_conversation_that_is_too_long_is_left_out_and_counted(file: Path, tiny: Tiny) -> None:
    long = PLAIN | {"input": "x" * LONGEST}
    found = read_lines(file, tiny, long, *[PLAIN] * 10, long)
    assert (len(found.learned), len(found.held_out), found.left_out) == (9, 1, 2)
    with pytest.raises(DataError, match=f"has 9 conversations of up to {LONGEST} tokens, and 1 longer ones; 10 are"):
        read_lines(file, tiny, long, *[PLAIN] * 9)


def test_what_is_no_utf_8_is_an_error_that_names_the_line(file: Path, tiny: Tiny) -> None:
    file.write_bytes(b'{"instruction": "\xff", "response": "b"}')
    with pytest.raises(DataError, match=f"{file}, line 1: "):
        read_instructions(file, TEMPLATE, tiny.tokenizer, END)


def test_a_missing_file_is_an_error_that_names_it(file: Path, tiny: Tiny) -> None:
    with pytest.raises(DataError, match=f"{file} cannot be read: No such file"):
        read_instructions(file, TEMPLATE, tiny.tokenizer, END)
