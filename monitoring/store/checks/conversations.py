"""Checks of captured conversations: as a worker of a language model sends them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from handlers.observe.conversations import MOST_CHARACTERS

_MOST = 2 * MOST_CHARACTERS  # a redaction may make a text longer


class CapturedMessage(msgspec.Struct, forbid_unknown_fields=True):
    """A message of a captured conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class CapturedPrompt(msgspec.Struct, forbid_unknown_fields=True):
    """What the model was asked: the features of a captured conversation."""

    messages: Annotated[list[CapturedMessage], Meta(min_length=1)]


class CapturedText(msgspec.Struct, forbid_unknown_fields=True):
    """What it answered: the output of a captured conversation."""

    content: str
    finish_reason: Literal["stop", "length"]


class ConversationCheck:
    """Checks captured conversations; no fault quotes what was said."""

    def fault(self, features: Mapping[str, Any], output: Any) -> str | None:
        """Return what is wrong with a conversation, with its place below ``data``; None if nothing is."""
        try:
            prompt = msgspec.convert(features, CapturedPrompt)
        except msgspec.ValidationError as error:
            return _placed(error, "features")
        try:
            answer = msgspec.convert(output, CapturedText)
        except msgspec.ValidationError as error:
            return _placed(error, "output")
        if prompt.messages[-1].role != "user" or not all(
            text.strip() for text in [answer.content, *(message.content for message in prompt.messages)]
        ):
            return "Expected messages that say something, the last of them the user's - at `features.messages`"
        if len(answer.content) + sum(len(message.content) for message in prompt.messages) > _MOST:
            return f"Expected at most {_MOST} characters - at `features.messages`"
        return None


def _placed(error: msgspec.ValidationError, member: str) -> str:
    """Return a fault with its place; of a wrong role or reason without the value, which may be anything."""
    what, place, path = str(error).rpartition(" - at `$")
    if not place:
        what, path = str(error), "`"
    what = "Invalid enum value" if what.startswith("Invalid enum value") else what
    return f"{what} - at `{member}{path}"
