"""Conversations, as clients send them and as a template writes them."""

from collections.abc import Sequence
from typing import Any

from handlers.language.api.forms import Message, TextPart
from handlers.language.api.neutral import MESSAGE, PART, without
from handlers.language.structured.tools import answered, said


def plain(members: dict[str, Any]) -> dict[str, Any]:
    """Return a body whose messages lack the members that answers have beside their text: clients send them back."""
    if not isinstance(members.get("messages"), list):
        return members
    return members | {"messages": [_plain(one, f"$.messages[{i}]") for i, one in enumerate(members["messages"])]}


def conversation(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Return ``role`` and ``content`` of each message, as templates take them."""
    return [_message(message) for message in messages]


def text_of(content: str | Sequence[TextPart]) -> str:
    """Return a content's text; a line for each of its parts."""
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


def with_system(messages: list[dict[str, str]], text: str) -> list[dict[str, str]]:
    """Return a conversation whose system message ends with a text."""
    first, *others = messages
    if first["role"] == "system":
        return [{"role": "system", "content": f"{first['content']}\n\n{text}"}, *others]
    return [{"role": "system", "content": text}, *messages]


def _plain(message: Any, path: str) -> Any:
    if not isinstance(message, dict):
        return message
    members = without(message, MESSAGE, path)
    if message.get("role") == "assistant" and message.get("content") is None:
        return members | {"content": ""}
    if isinstance(message.get("content"), list):
        parts = enumerate(message["content"])
        content = [without(part, PART, f"{path}.content[{i}]") if isinstance(part, dict) else part for i, part in parts]
        return members | {"content": content}
    return members


def _message(message: Message) -> dict[str, str]:
    role = "system" if message.role == "developer" else message.role  # the API's newer word for it
    text = text_of(message.content)
    if message.tool_calls:
        text = "\n".join(filter(None, [text, said(message.tool_calls)]))
    # Templates that know no tools refuse the role; those that do write the same as a user's.
    return {"role": "user", "content": answered(text)} if role == "tool" else {"role": role, "content": text}
