"""A request for text while it is open, and its answer so far."""

from collections.abc import Mapping
from dataclasses import dataclass

from handlers.language.api.answers import Answer
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
    """

    index: int
    text: StoppedText
    prompt_tokens: int
    latest: float = 0.0
    generated: int = 0
    cached: int = 0  # tokens of the prompt
    drafts: Drafts = NO_DRAFTS
    finished: bool = False


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

    def take(self) -> Response | None:
        """Return the next part of the answer; None for nothing, not even the status."""
        if not (self.begun or self.end):
            return None
        body, self.unsent = self.unsent, b""
        if self.end:
            return self.end._replace(body=body + self.end.body, headers={NEXT: "false"} if self.begun else {})
        return Response(200, body, self.answer.content_type, {NEXT: "true"})
