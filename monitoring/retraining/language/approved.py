"""The split of approved conversations, and their files, as ``train --instructions`` and ``evaluate`` read them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import orjson

from monitoring.store.records import Prediction
from monitoring.store.reviews import ReviewedConversation
from serving.documents import write_atomically

FEWEST = 10  # conversations to learn, and likewise held out: ``training.language.instructions`` needs as many


def split(
    conversations: Sequence[ReviewedConversation], share: float
) -> tuple[list[ReviewedConversation], list[ReviewedConversation]]:
    """Return the conversations to learn, and those that are held out, each oldest first.

    A conversation is on the same side in every split: what is held out was never learned by a former version either.

    Args:
        share: that is held out, about.
    """
    ordered = sorted(conversations, key=lambda one: (one.conversation.time, one.conversation.request_id))
    held_out = [is_held_out(one.conversation, share) for one in ordered]
    learned = [one for one, held in zip(ordered, held_out, strict=True) if not held]
    return learned, [one for one, held in zip(ordered, held_out, strict=True) if held]


def is_held_out(conversation: Prediction, share: float) -> bool:
    """Tell the side of a conversation by its first question, so that its later turns and its like are on it too."""
    question = next(message["content"] for message in conversation.features["messages"] if message["role"] == "user")
    digest = hashlib.sha256(question.strip().encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def write_conversations(path: Path, conversations: Sequence[ReviewedConversation]) -> None:
    """Write all conversations or none, a JSON object with ``messages`` a line, readable by the owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [orjson.dumps({"messages": one.messages}) for one in conversations]
    write_atomically(path, b"\n".join([*lines, b""]), private=True)
