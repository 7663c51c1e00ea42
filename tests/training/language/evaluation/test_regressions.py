import json
from pathlib import Path
from typing import Any

import pytest

from handlers.contract.task_results import RegressionPrompt
from handlers.language.template import ChatTemplate
from tests.support.chat_archive import contract, echoed
from tests.support.handlers.echo_engine import SMOLLM2, EchoEngine
from training.data import DataError
from training.language.evaluation.regressions import MOST, answered, changed, read_prompts

MODEL = contract("chat", echoed("Hello"))
TALK = [{"role": "user", "content": "Who?"}]


def read_lines(tmp_path: Path, *lines: Any) -> tuple[RegressionPrompt, ...]:
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return read_prompts(file)


def asked(prompt: str, answer: str, matches: str = "") -> RegressionPrompt:
    return RegressionPrompt({"prompt": prompt, "max_tokens": 32, "temperature": 0}, matches, answer)


def test_prompts_and_conversations_are_answered_greedily(tmp_path: Path) -> None:
    prompts = read_lines(tmp_path, {"prompt": "abc", "max_tokens": 1}, "", {"messages": TALK, "matches": "^W"})
    engine = EchoEngine()
    answers = answered(prompts, MODEL, engine, ChatTemplate(SMOLLM2, engine.tokenize))
    assert [(prompt.answer, prompt.matches) for prompt in answers] == [("abc", ""), ("Who?", "^W")]
    assert {request.sampling.temperature for request in engine.asked} == {0}


def test_an_answer_that_must_stay_is_told_with_both_answers() -> None:
    assert changed([asked("1,", " 2")], [asked("1,", " 2")]) == []
    (sentence,) = changed([asked("1,", " 2")], [asked("1,", " 3")])
    assert sentence == "'1,' is answered with ' 3'; it must stay the champion's, ' 2'"


def test_an_answer_must_match_whatever_the_champion_says() -> None:
    assert changed([asked("a", "no", "yes")], [asked("a", "yes, it is", "^yes")]) == []
    (sentence,) = changed([asked("a", "yes")], [asked("a", "no", "^yes")])
    assert sentence == "'a' is answered with 'no', in which '^yes' is not found; the champion's answer is 'yes'"
    (sentence,) = changed([], [asked("a", "no", "^yes")])
    assert sentence == "'a' is answered with 'no', in which '^yes' is not found"


def test_a_prompt_that_the_champion_was_never_asked_may_be_answered_in_any_way() -> None:
    assert changed([asked("a", "x")], [asked("b", "y")]) == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("{", "truncated|malformed"),
        ({"max_tokens": 3}, "it needs `prompt` or `messages`, and not both"),
        ({"prompt": "a", "messages": TALK}, "and not both"),
        ({"prompt": "a", "matches": "("}, "`matches` is no regular expression"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "a", "answer": "b"}, "unknown field `answer`"),
    ],
)
def test_a_line_that_is_no_prompt_is_an_error_that_names_it(tmp_path: Path, line: Any, wrong: str) -> None:
    with pytest.raises(DataError, match=f"prompts.jsonl, line 2: .*({wrong})"):
        read_lines(tmp_path, {"prompt": "a"}, line)


def test_none_and_too_many_are_errors(tmp_path: Path) -> None:
    for lines in ([], [{"prompt": "a"}] * (MOST + 1)):
        with pytest.raises(DataError, match=f"has {len(lines)} prompts; it must have from 1 to {MOST}"):
            read_lines(tmp_path, *lines)


def test_a_prompt_that_the_model_refuses_is_an_error_that_names_it(tmp_path: Path) -> None:
    engine = EchoEngine(context=4)
    with pytest.raises(DataError, match="the model refuses the prompt .*maximum context length is 4"):
        answered(read_lines(tmp_path, {"prompt": "abcdef"}), MODEL, engine, ChatTemplate(SMOLLM2, engine.tokenize))
