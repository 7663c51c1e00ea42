"""A request for text while it is open, and its answer so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from handlers.batch import AnsweredConversation, AnswerText
from handlers.language.api.answers import Answer, Reason
from handlers.language.generation import NO_DRAFTS, Drafts
from handlers.language.text import StoppedText
from handlers.message import NEXT, Request, Response


@dataclass
class Text:
    """A text of an answer so far: the engine's answer to one of its requests.

    Attributes:
        index: in the answer.
        prompt_tokens: of its prompt; 0 where another text of the prompt counts them.
        latest: time of its last token.
        said: what was shown of it; filled where the conversation may be kept.
        reason: why it ended.
    """

    index: int
    text: StoppedText
    prompt_tokens: int
    latest: float = 0.0
    generated: int = 0
    cached: int = 0  # tokens of the prompt
    drafts: Drafts = NO_DRAFTS
    finished: bool = False
    said: list[str] = field(default_factory=list)
    reason: Reason = "stop"


@dataclass
class Exchange:
    """A request and its answer so far; its texts by the id that the engine has for them."""

    request: Request
    answer: Answer
    texts: Mapping[str, Text]
    received: float  # s since the epoch
    started: float  # s of the timer
    decode: float  # s that its decoding took
    generated: int = 0  # tokens of all texts
    begun: bool = False  # its status is sent
    unsent: bytes = b""
    end: Response | None = None  # its last response
    failure: Response | None = None  # the response that observers get in its place
    messages: Sequence[Mapping[str, str]] = ()  # of a conversation that may be kept

    @property
    def conversation(self) -> AnsweredConversation | None:
        """The whole conversation; None where it may not be kept, or was not answered to its end."""
        if not self.messages or self.end is None or self.failure:
            return None
        answers = [AnswerText("".join(text.said), text.reason) for text in self.texts.values()]
        return AnsweredConversation(self.messages, answers)

    def take(self) -> Response | None:
        """Return the next part of the answer; None for nothing, not even the status."""
        if not (self.begun or self.end):
            return None
        body, self.unsent = self.unsent, b""
        if self.end:
            return self.end._replace(body=body + self.end.body, headers={NEXT: "false"} if self.begun else {})
        return Response(200, body, self.answer.content_type, {NEXT: "true"})
