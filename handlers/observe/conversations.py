"""Conversations as events, redacted: a row for each answer, like the predictions of other models.

Of the data ``features`` is ``{"messages": [{"role": "user", "content": "Who?"}]}``, and ``output`` is
``{"content": "It is a fox.", "finish_reason": "stop"}``.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from handlers.batch import AnsweredConversation
from handlers.contract import ModelContract
from handlers.observe.events import Envelopes, EventRow
from handlers.observe.redaction import Redact

MOST_CHARACTERS = 100_000  # of a conversation with one answer; a longer one is left out


class CapturedAnswers(NamedTuple):
    """Answers of a conversation, as the worker holds them.

    Attributes:
        request_id: of the event.
        time: seconds since the epoch, when the request was received.
        rows: positions of the captured answers.
        client_time: as the client wrote it; empty for none.
    """

    request_id: str
    time: float
    rows: Sequence[int]
    conversation: AnsweredConversation
    client_time: str = ""


class ConversationEvents:
    """Makes events of the conversations of a language model."""

    def __init__(self, contract: ModelContract, redact: Redact) -> None:
        self._envelopes, self._redact = Envelopes(contract), redact

    def of(self, answers: CapturedAnswers) -> list[dict[str, Any]]:
        """Return an event for each answer.

        Raises:
            RedactionError: a text could not be redacted; none of the conversation may be kept.
        """
        return list(self._envelopes.wrap(answers.request_id, answers.time, answers.client_time, self._rows(answers)))

    def _rows(self, answers: CapturedAnswers) -> Iterator[EventRow]:
        messages = [
            {"role": message["role"], "content": self._redact(message["content"])}
            for message in answers.conversation.messages
        ]
        for row in answers.rows:
            text, reason = answers.conversation.answers[row]
            yield EventRow(row, {"messages": messages}, {"content": self._redact(text), "finish_reason": reason})


def teaches(conversation: AnsweredConversation) -> bool:
    """Tell whether a model could learn from a conversation: a user spoke last, and nobody said nothing."""
    messages = conversation.messages
    return bool(messages) and messages[-1]["role"] == "user" and all(one["content"].strip() for one in messages)


def characters(conversation: AnsweredConversation) -> int:
    """Return the number of characters of a conversation with its longest answer."""
    longest = max((len(answer.text) for answer in conversation.answers), default=0)
    return longest + sum(len(message["content"]) for message in conversation.messages)
