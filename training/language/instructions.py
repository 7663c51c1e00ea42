"""Conversations that a language model is to answer like, read from a file of the user.

One JSON object a line, with ``messages`` as in OpenAI's API, the last by the assistant, or with ``instruction``, maybe
``input``, and ``response``:
``{"instruction": "Answer like a pirate.", "input": "Where is the ship?", "response": "Arr, she be at sea."}``
"""

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from handlers.language.template import ChatTemplate
from handlers.message import InputError
from training.data import DataError, sha256
from training.language.tokenizer import LanguageTokenizer

LONGEST = 512  # tokens of a conversation; a longer one would need much more memory
FEWEST = 10  # conversations, one of which is held out
HOLD_OUT = 10  # of this many conversations one is held out
T = TypeVar("T")


class ConversationMessage(msgspec.Struct, forbid_unknown_fields=True):
    """A message of a conversation in a file."""

    role: Literal["system", "user", "assistant"]
    content: str


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    messages: list[ConversationMessage] = []
    instruction: str = ""
    input: str = ""
    response: str = ""


@dataclass(frozen=True)
class Conversation:
    """The tokens of a conversation, and how many of them, the last, are the answer to learn; its end is one of them."""

    tokens: list[int]
    answer: int


@dataclass(frozen=True)
class Instructions:
    """The conversations of a file, and its SHA-256.

    Attributes:
        learned: conversations that the model is fitted to.
        held_out: conversations that it is measured on.
        left_out: how many were too long.
    """

    learned: list[Conversation]
    held_out: list[Conversation]
    sha256: str
    left_out: int = 0


def json_lines(path: Path, parse: Callable[[bytes], T]) -> list[T]:
    """Parse each line of a file that has a JSON object a line; empty lines are none.

    Raises:
        DataError: the file cannot be read, or a line cannot be parsed; names it and what is wrong with it.
    """
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    parsed = []
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            try:
                parsed.append(parse(line))
            except (msgspec.MsgspecError, ValueError, InputError) as error:
                raise DataError(f"{path}, line {number}: {error}") from error
    return parsed


def read_conversations(path: Path) -> list[list[dict[str, str]]]:
    """Return ``role`` and ``content`` of each message of a file's conversations.

    Raises:
        DataError: the file cannot be read, or has too few.
    """
    conversations = json_lines(path, _messages)
    if len(conversations) < FEWEST:
        raise DataError(f"{path} has {len(conversations)} conversations; {FEWEST} are needed to tell two models apart")
    return conversations


def read_instructions(path: Path, template: str, tokenizer: LanguageTokenizer, end: int) -> Instructions:
    """Read a file's conversations; one in ten is held out. Those that are too long are left out.

    Args:
        end: the token that ends an answer.

    Raises:
        DataError: the file cannot be read; names the line and what is wrong with it.
    """
    writer = ChatTemplate(template, tokenizer.tokenize)
    lines = json_lines(path, lambda line: _conversation(_messages(line), writer, tokenizer, end))
    conversations = [conversation for conversation in lines if len(conversation.tokens) <= LONGEST]
    left_out = len(lines) - len(conversations)
    if len(conversations) < FEWEST:
        beside = f" of up to {LONGEST} tokens, and {left_out} longer ones" if left_out else ""
        found = f"{path} has {len(conversations)} conversations{beside}"
        raise DataError(f"{found}; {FEWEST} are needed, one of them to measure")
    held_out = conversations[::HOLD_OUT]
    learned = [conversation for i, conversation in enumerate(conversations) if i % HOLD_OUT]
    return Instructions(learned, held_out, sha256(path.read_bytes()), left_out)


def _messages(line: bytes) -> list[dict[str, str]]:
    record = msgspec.json.decode(line, type=_Line)
    if record.messages and (record.instruction or record.input or record.response):
        raise ValueError("it has `messages` and another form as well; one of the two is meant")
    if not record.messages:
        prompt = "\n\n".join(filter(None, (record.instruction, record.input)))
        record.messages = [ConversationMessage("user", prompt), ConversationMessage("assistant", record.response)]
    if record.messages[-1].role != "assistant" or len(record.messages) < 2:
        raise ValueError("the last message must be the assistant's, after another")
    if not all(message.content.strip() for message in record.messages):
        raise ValueError("a message is empty; it needs `messages`, or `instruction` and `response`")
    return [{"role": message.role, "content": message.content} for message in record.messages]


def _conversation(
    messages: Sequence[dict[str, str]], writer: ChatTemplate, tokenizer: LanguageTokenizer, end: int
) -> Conversation:
    prompt = writer.tokens(messages[:-1])
    answer = [*tokenizer.tokenize(messages[-1]["content"], False), end]
    return Conversation(prompt + answer, len(answer))
