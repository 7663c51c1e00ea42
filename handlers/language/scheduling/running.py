"""A request that an engine answers: its tokens, the text that it is held to, and what chooses its next token."""

from handlers.language.generation import Drafts, Generate, Token
from handlers.language.sampling import Sampler
from handlers.language.scheduling.prompt_lookup import PromptLookup
from handlers.language.structured.grammars import HeldAnswer


class Running:
    """A request that was started; it keeps its tokens and its sampler where it must give up its slot.

    Args:
        number: of its start; those that started before have smaller ones.
        limit: most tokens of its answer.
        held: what the answer is held to.
        speculative: whether its next tokens may be drafted.

    Attributes:
        slot: its place in the decoder.
        cached: tokens of its prompt that the cache held when it started.
        tokens: of its prompt and its answer.
        scores: log-probabilities of its prompt, from the second token on.
    """

    def __init__(self, request: Generate, number: int, limit: int, held: HeldAnswer | None, speculative: bool) -> None:
        self.request = request
        self.number = number
        self.slot = -1
        self.cached = 0
        self.limit = limit
        self.held = held
        self.sampler = Sampler(request.sampling, held, request.prompt)
        self.lookup = PromptLookup(request.prompt, request.prediction) if speculative else None
        self.tokens = [*request.prompt]
        self.scores: list[Token] = []
        self.drafted = 0
        self.accepted = 0

    @property
    def generated(self) -> int:
        """Number of tokens of the answer."""
        return len(self.tokens) - len(self.request.prompt)

    @property
    def drafts(self) -> Drafts:
        """What was drafted of the answer."""
        return Drafts(self.drafted, self.accepted)

    @property
    def is_scoring(self) -> bool:
        """Whether the log-probabilities of its prompt are still wanted, so that none of it may be known."""
        return self.request.scored and not self.generated

    def is_reading(self, position: int) -> bool:
        """Tell whether a slot with so many of the tokens lacks more than the one that was generated last."""
        return not self.generated or position < len(self.tokens) - 1

    def draft(self, most: int) -> list[int]:
        """Return the tokens that probably come next, none after the answer's limit or against its constraint."""
        if not self.lookup:
            return []
        tokens = self.lookup.draft(min(most, self.limit - self.generated - 1))
        return tokens[: self.held.fitting(tokens)] if self.held and tokens else tokens

    def add(self, token: int, drafted: int) -> None:
        """Add a token to the answer; ``drafted`` is what was drafted in its place, or -1."""
        self.tokens.append(token)
        self.accepted += token == drafted
        if self.lookup:
            self.lookup.add(token)
