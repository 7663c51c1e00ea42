"""A safety net of prompts: each version answers them greedily, and what must stay is compared at a promotion.

A file has one JSON object a line: ``prompt`` or ``messages``, perhaps ``max_tokens``, perhaps ``matches``, a regular
expression that is found in a right answer. Without it the answer must stay the champion's:
``{"prompt": "The capital of France is", "max_tokens": 4, "matches": "^ Paris"}``
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from handlers.contract import ModelContract
from handlers.contract.task_results import RegressionPrompt
from handlers.language.handler import ChatHandler
from handlers.language.scheduling.batching import ContinuousBatching
from handlers.language.template import ChatTemplate
from training.data import DataError
from training.language.instructions import ConversationMessage, json_lines

MOST = 200  # prompts: a contract holds them, with their answers
LONGEST = 512  # tokens of an answer


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    prompt: str = ""
    messages: list[ConversationMessage] = []
    max_tokens: Annotated[int, Meta(ge=1, le=LONGEST)] = 32
    matches: str = ""


def read_prompts(path: Path) -> tuple[RegressionPrompt, ...]:
    """Read a file's prompts, without answers.

    Raises:
        DataError: the file cannot be read; names the line and what is wrong with it.
    """
    prompts = tuple(json_lines(path, _prompt))
    if not 1 <= len(prompts) <= MOST:
        raise DataError(f"{path} has {len(prompts)} prompts; it must have from 1 to {MOST}")
    return prompts


def answered(
    prompts: Sequence[RegressionPrompt], contract: ModelContract, engine: ContinuousBatching, template: ChatTemplate
) -> tuple[RegressionPrompt, ...]:
    """Return prompts with the answers of a version, which does nothing else meanwhile.

    Raises:
        DataError: it refuses one.
    """
    handler = ChatHandler(contract, engine, template)
    return tuple(msgspec.structs.replace(prompt, answer=_answer(handler, prompt.request)) for prompt in prompts)


def changed(champion: Sequence[RegressionPrompt], challenger: Sequence[RegressionPrompt]) -> list[str]:
    """Return what must stay and does not, a sentence for each prompt with both answers.

    Args:
        champion: its prompts with its answers; one that the challenger was not asked says nothing.
    """
    former = {_key(prompt): prompt.answer for prompt in champion}
    return list(_changed(former, challenger))


def lost_adapters(champion: ModelContract, challenger: ModelContract) -> list[str]:
    """Return that requests to the champion's adapters would be refused, a sentence; nothing where it has no more."""
    lost = ", ".join(name for name in champion.lineage.adapters if name not in challenger.lineage.adapters)
    way = f"`marloop adapter {champion.name} NAME SOURCE --version NUMBER` makes one of it that has them"
    return [f"it lacks the champion's adapters ({lost}): {way}"] if lost else []


def _changed(former: dict[bytes, str], challenger: Sequence[RegressionPrompt]) -> Iterator[str]:
    for prompt in challenger:
        before = former.get(_key(prompt))
        asked = prompt.request.get("prompt") or prompt.request["messages"][-1]["content"]
        told = f"{asked!r} is answered with {prompt.answer!r}"
        if prompt.matches and not re.search(prompt.matches, prompt.answer):
            other = "" if before is None else f"; the champion's answer is {before!r}"
            yield f"{told}, in which {prompt.matches!r} is not found{other}"
        elif not prompt.matches and before not in (None, prompt.answer):
            yield f"{told}; it must stay the champion's, {before!r}"


def _prompt(line: bytes) -> RegressionPrompt:
    parsed = msgspec.json.decode(line, type=_Line)
    if bool(parsed.prompt) == bool(parsed.messages):
        raise ValueError("it needs `prompt` or `messages`, and not both")
    try:
        re.compile(parsed.matches)
    except re.error as error:
        raise ValueError(f"`matches` is no regular expression: {error}") from error
    asked: dict[str, Any] = {"prompt": parsed.prompt}
    if parsed.messages:
        asked = {"messages": [msgspec.to_builtins(message) for message in parsed.messages]}
    return RegressionPrompt({**asked, "max_tokens": parsed.max_tokens, "temperature": 0}, parsed.matches)


def _answer(handler: ChatHandler, request: dict[str, Any]) -> str:
    answer, cause = handler.answer(msgspec.json.encode(request))
    if "error" in answer:
        raise DataError(f"the model refuses the prompt {request}: {answer['error']['message']}") from cause
    return str(answer["text"] if "text" in answer else answer["choices"][0]["message"]["content"])


def _key(prompt: RegressionPrompt) -> bytes:
    return msgspec.json.encode(prompt.request, order="sorted")
