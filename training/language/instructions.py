"""Conversations that a language model is to answer like, read from a file of the user.

One JSON object a line, with ``messages`` as in OpenAI's API, the last by the assistant, or with ``instruction``, maybe
``input``, and ``response``:
``{"instruction": "Answer like a pirate.", "input": "Where is the ship?", "response": "Arr, she be at sea."}``
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from handlers.language.template import ChatTemplate
from handlers.message import InputError
from training.data import DataError, sha256
from training.language.tokenizer import LanguageTokenizer

LONGEST = 512  # tokens of a conversation; a longer one would need much more memory
FEWEST = 10  # conversations, one of which is held out
HOLD_OUT = 10  # one of so many


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["system", "user", "assistant"]
    content: str


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    messages: list[_Message] = []
    instruction: str = ""
    input: str = ""
    response: str = ""


@dataclass(frozen=True)
class Conversation:
    """Tokens, of which the last ones are the answer that is learned, its end among them."""

    tokens: list[int]
    answer: int


@dataclass(frozen=True)
class Instructions:
    """What a file holds.

    Attributes:
        learned: conversations to learn.
        held_out: others, to measure.
        sha256: of the file.
    """

    learned: list[Conversation]
    held_out: list[Conversation]
    sha256: str


def read(path: Path, template: str, tokenizer: LanguageTokenizer, end: int) -> Instructions:
    """A file's conversations; one in ten is held out.

    Args:
        template: of the model, for conversations.
        end: the token that ends an answer.

    Raises:
        DataError: it cannot be read; names the line and what is wrong with it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    writer = ChatTemplate(template, tokenizer.tokenize)
    conversations = []
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            try:
                conversations.append(_conversation(_messages(line), writer, tokenizer, end))
            except (msgspec.MsgspecError, ValueError, InputError) as error:
                raise DataError(f"{path}, line {number}: {error}") from error
    if len(conversations) < FEWEST:
        raise DataError(f"{path} has {len(conversations)} conversations; {FEWEST} are needed, one of them to measure")
    held_out = conversations[::HOLD_OUT]
    return Instructions(
        [conversation for i, conversation in enumerate(conversations) if i % HOLD_OUT], held_out, sha256(content)
    )


def _messages(line: bytes) -> list[dict[str, str]]:
    read = msgspec.json.decode(line, type=_Line)
    if read.messages and (read.instruction or read.input or read.response):
        raise ValueError("it has `messages` and another form as well; one of the two is meant")
    if not read.messages:
        prompt = "\n\n".join(filter(None, (read.instruction, read.input)))
        read.messages = [_Message("user", prompt), _Message("assistant", read.response)]
    if read.messages[-1].role != "assistant" or len(read.messages) < 2:
        raise ValueError("the last message must be the assistant's, after another")
    if not all(message.content.strip() for message in read.messages):
        raise ValueError("a message is empty; it needs `messages`, or `instruction` and `response`")
    return [{"role": message.role, "content": message.content} for message in read.messages]


def _conversation(
    messages: Sequence[dict[str, str]], writer: ChatTemplate, tokenizer: LanguageTokenizer, end: int
) -> Conversation:
    prompt = writer.tokens(messages[:-1])
    answer = [*tokenizer.tokenize(messages[-1]["content"], False), end]
    if len(prompt) + len(answer) > LONGEST:
        raise ValueError(f"it has {len(prompt) + len(answer)} tokens; {LONGEST} are the most that is learned at once")
    return Conversation(prompt + answer, len(answer))
