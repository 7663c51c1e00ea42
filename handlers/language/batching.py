"""Continuous batching, for any decoder: requests join and leave the running batch at each step."""

from collections import deque
from typing import Literal

from handlers.contract import Array
from handlers.language.decoders.decoder import DecodeError, Decoder, Part
from handlers.language.generation import Drafts, Finished, Generate, PromptTooLong, QueueFull, Scored, Token, Usage
from handlers.language.prefix_cache import PrefixCache
from handlers.language.prompt_lookup import PromptLookup
from handlers.language.sampling import Sampler, largest, log_softmax
from handlers.language.structured.grammars import Grammars, HeldAnswer

Event = Token | Scored | Finished
QUEUE = 256  # most waiting requests
EQUAL = 512  # position in a prompt at which a token's attention costs as much as all its other work
SHORTER = 4  # a prompt is read beside another that has at least this many times as many tokens left
PASS = 1  # tokens that cost as much as a chunk's own pass over the weights


class _Running:
    """A request that has a slot."""

    def __init__(
        self, request: Generate, slot: int, cached: int, limit: int, held: HeldAnswer | None, speculative: bool
    ) -> None:
        self.request = request
        self.slot = slot
        self.cached = cached
        self.limit = limit  # of generated tokens
        self.held = held
        self.sampler = Sampler(request.sampling, held, request.prompt)
        self.lookup = PromptLookup(request.prompt, request.prediction) if speculative else None
        self.last = -1  # the token that was generated last
        self.scores: list[Token] = []  # of the prompt from its second token on
        self.generated = 0
        self.drafted = 0
        self.accepted = 0

    def draft(self, most: int) -> list[int]:
        """Return the tokens that probably come next, none after the answer's limit or against its constraint."""
        if not self.lookup:
            return []
        tokens = self.lookup.draft(min(most, self.limit - self.generated - 1))
        return tokens[: self.held.fitting(tokens)] if self.held and tokens else tokens


class ContinuousBatching:
    """Generates for several requests at once, on top of a decoder; they join and leave at every step. For one thread.

    Each step computes one token of every running request and a chunk of the prompt of a starting request. A much
    shorter prompt is read beside a long one: "Hi" need not wait until a book is read. Slots keep their tokens until
    they are needed, so a prompt that begins like an earlier one starts sooner.

    Args:
        decoder: computes the logits.
        chunk: tokens of a prompt in a step for each request that runs beside it, less one. The more requests run, the
            longer a step takes anyway. The chunk shrinks late in a prompt, where a token costs more.
        lone_chunk: tokens of a prompt in a step while no other request runs.
        backlog_chunk: least tokens of a prompt in a step while others wait: then running and waiting requests share the
            delay.
        worth_copying: tokens that take as long to compute as a slot's cache takes to copy.
        speculative_tokens: most tokens that are drafted in a step, fewer of each request the more run; 0 for none.

    Attributes:
        context: tokens that a request may have, prompt and answer.
        slots: requests that run at once.
        queue: most requests that wait.
        speculative_tokens: most tokens that are drafted in a step.
    """

    def __init__(
        self,
        decoder: Decoder,
        queue: int = QUEUE,
        chunk: float = 2.5,
        lone_chunk: int = 128,
        backlog_chunk: int = 128,
        worth_copying: int = 16,
        speculative_tokens: int = 0,
    ) -> None:
        self.context = decoder.context
        self.slots = decoder.slots
        self._decoder = decoder
        self.queue = queue
        self._chunk = chunk
        self._lone_chunk = lone_chunk
        self._backlog_chunk = backlog_chunk
        self.speculative_tokens = min(speculative_tokens, decoder.batch - 1)
        self._cache = PrefixCache(decoder.slots, worth_copying)
        self._grammars: Grammars | None = None  # made for the first request with a constraint
        self._waiting: deque[Generate] = deque()
        self._running: dict[int, _Running] = {}  # by slot

    def tokenize(self, text: str, special: bool) -> list[int]:
        """Split text into tokens.

        Args:
            text: valid Unicode.
            special: whether names of control tokens in the text, such as ``<|im_start|>``, become these tokens. Only
                for a template: a user's text must not forge a turn of the conversation.
        """
        return self._decoder.tokenize(text, special)

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token; none of a control token.

        Raises:
            ValueError: the vocabulary has no such token.
        """
        if not 0 <= token < self._decoder.vocabulary:
            raise ValueError(f"there is no token {token}; the vocabulary has 0 to {self._decoder.vocabulary - 1}")
        return self._decoder.piece(token)

    def add(self, request: Generate) -> None:
        """Let a request wait for a slot; first come, first served.

        Raises:
            PromptTooLong: the prompt does not fit the context.
            QueueFull: too many requests wait.
            ConstraintError: no answer can be held to its constraint.
            ValueError: the prompt is empty, or the id is in use.
        """
        length = len(request.prompt)
        if not length:
            raise ValueError("the prompt has no tokens; it needs at least one")
        if length >= self.context:
            raise PromptTooLong(
                f"the prompt has {length} tokens; the context is {self.context}, and at least one is for the answer"
            )
        least = 0 if request.scored else 1
        if request.max_tokens < least:
            raise ValueError(f"max_tokens is {request.max_tokens}; it must be {least} or more")
        tokens, last = (*request.prompt, *request.prediction), self._decoder.vocabulary - 1
        if not 0 <= min(tokens) <= max(tokens) <= last:
            raise ValueError(f"the prompt or the prediction has tokens outside the vocabulary, 0 to {last}")
        for token, _ in request.sampling.logit_bias:
            if not 0 <= token <= last:
                raise ValueError(f"logit_bias names the token {token}; the vocabulary has 0 to {last}")
        if any(request.id == other.id for other in self._requests()):
            raise ValueError(f"request {request.id} is there already; an id names one request")
        if len(self._waiting) + len(self._running) >= self.slots + self.queue:
            raise QueueFull(f"{self.slots} requests run and {self.queue} wait, which is the limit; try again later")
        if constraint := request.sampling.constraint:
            self._grammars = self._grammars or Grammars(self._decoder)
            self._grammars.check(constraint)
        self._waiting.append(request)

    def cancel(self, id: str) -> None:
        """Forget a request and free its slot at once, without another answer; an unknown id is ignored."""
        self._waiting = deque(request for request in self._waiting if request.id != id)
        self._running = {slot: running for slot, running in self._running.items() if running.request.id != id}

    def step(self) -> list[Event]:
        """Advance each running request by a token or, where drafts are accepted, by several, and prompts by a chunk.

        Returns:
            What was generated, scored and finished; nothing when idle.
        """
        self._start_next()
        parts = self._parts()
        if not parts:
            return []
        try:
            logits = self._decoder.decode(parts)
        except DecodeError as error:
            return [self._lose(part.slot, str(error)) for part in parts]
        for part in parts:
            self._cache.tokens[part.slot].extend(part.tokens)
        events: list[Event] = []
        start = 0
        for part in parts:
            running, rows = self._running[part.slot], logits[start : start + part.rows]
            start += part.rows
            if running.generated:
                events += self._verify(running, part, rows)
                continue
            if part.scored:
                events += self._score(running, part, rows)
            if part.is_last:
                events += self._choose(running, rows[-1])
        return events

    @property
    def usage(self) -> Usage:
        """Load of the engine now."""
        used = sum(len(self._cache.tokens[slot]) for slot in self._running)
        return Usage(len(self._running), len(self._waiting), used, self.slots * self.context)

    def close(self) -> None:
        """Free the decoder's memory; the engine is of no use after."""
        self._waiting.clear()
        self._running.clear()
        self._decoder.close()

    def _requests(self) -> list[Generate]:
        return [*self._waiting, *(running.request for running in self._running.values())]

    def _start(self, request: Generate) -> None:
        free = [slot for slot in range(self.slots) if slot not in self._running]
        slot, source, shared = self._cache.place(request.prompt, free, request.scored)
        if source == slot:
            self._decoder.truncate(slot, shared)
        else:
            self._decoder.copy(source, slot, shared)
        limit = min(request.max_tokens, self.context - len(request.prompt))
        constraint = request.sampling.constraint
        held = self._grammars.begin(constraint) if self._grammars and constraint else None
        self._running[slot] = _Running(request, slot, shared, limit, held, self.speculative_tokens > 0)

    def _start_next(self) -> None:
        """Start the first waiting request or, while a long prompt is read, the first with a much shorter one."""
        if not self._waiting or len(self._running) == self.slots:
            return
        reading = [self._unread(running) for running in self._running.values() if not running.generated]
        if not reading:
            self._start(self._waiting.popleft())
        elif len(reading) == 1:
            short = next((waiting for waiting in self._waiting if SHORTER * self._unknown(waiting) <= reading[0]), None)
            if short:
                self._waiting.remove(short)
                self._start(short)

    def _unknown(self, request: Generate) -> int:
        """Return the number of tokens of a prompt that no slot holds."""
        return len(request.prompt) - self._cache.cached(request.prompt)

    def _unread(self, running: _Running) -> int:
        """Return the number of tokens of a prompt that are still to be read."""
        return len(running.request.prompt) - len(self._cache.tokens[running.slot])

    def _parts(self) -> list[Part]:
        """Return the parts of this step: a token of each stream with its draft, and chunks of prompts."""
        reading = sorted((running for running in self._running.values() if not running.generated), key=self._unread)
        chunks: dict[int, int] = {}
        if reading:
            streams = len(self._running) - len(reading)
            room = self._decoder.batch - streams
            *shorter, longest = reading
            size = min(self._size(longest, streams), room)
            if shorter:  # the long prompt goes on, with as much as one stream would bear
                share = max(1, min(size, self._size(longest, max(1, streams))) // 2)
                chunks[shorter[0].slot] = max(1, size - share)
                size = share
            chunks[longest.slot] = size
        drafts = 0 if reading else self._drafts()
        return [self._part(self._running[slot], chunks.get(slot, drafts)) for slot in sorted(self._running)]

    def _drafts(self) -> int:
        """Return the most drafted tokens of a stream.

        The more streams share a pass over the weights, the less of it a drafted token saves.
        """
        return max(0, (self.speculative_tokens + 1) // max(1, len(self._running)) - 1)

    def _size(self, running: _Running, streams: int) -> int:
        """Return the tokens of a prompt in a step beside a number of streams."""
        if not streams:
            return self._lone_chunk
        position = len(self._cache.tokens[running.slot])
        size = max(1, round(self._chunk * streams * EQUAL / (EQUAL + position)) - PASS)
        return max(size, self._backlog_chunk if self._waiting else 0)

    def _part(self, running: _Running, size: int) -> Part:
        """Return the next tokens of a request: at most ``size`` of its prompt, or its last one and as many drafted."""
        position = len(self._cache.tokens[running.slot])
        if running.generated:
            tokens = [running.last, *running.draft(size)]
            return Part(running.slot, position, tokens, is_last=True, scored=len(tokens) > 1)
        prompt, end = running.request.prompt, position + size
        return Part(running.slot, position, prompt[position:end], end >= len(prompt), running.request.scored)

    def _score(self, running: _Running, part: Part, rows: Array) -> list[Event]:
        """Take the log-probabilities of a prompt's next tokens; return all at its end."""
        request, piece = running.request, self._decoder.piece
        for token, logits in zip(request.prompt[part.position + 1 :], rows, strict=False):
            logprobs = log_softmax(logits)
            best = largest(logprobs, request.sampling.logprobs or 0).tolist()
            top = tuple((other, piece(other), float(logprobs[other])) for other in best)
            running.scores.append(Token(request.id, token, piece(token), float(logprobs[token]), top))
        if not part.is_last:
            return []
        first = Token(request.id, request.prompt[0], piece(request.prompt[0]))
        return [Scored(request.id, [first, *running.scores])]

    def _verify(self, running: _Running, part: Part, rows: Array) -> list[Event]:
        """Choose a stream's next token and, for as long as the choice was drafted, the one after it."""
        draft, before = part.tokens[1:], running.accepted
        running.drafted += len(draft)
        events: list[Event] = []
        for row, drafted in zip(rows, [*draft, -1], strict=True):
            events += self._choose(running, row, drafted)
            if running.last != drafted or part.slot not in self._running:
                break
        accepted = running.accepted - before
        if running.lookup and draft:
            running.lookup.learn(len(draft), accepted)
        if accepted < len(draft):
            length = part.position + 1 + accepted
            self._decoder.truncate(part.slot, length)
            del self._cache.tokens[part.slot][length:]
        return events

    def _choose(self, running: _Running, logits: Array, drafted: int = -1) -> list[Event]:
        if not running.limit:
            return [self._finish(running, "length")]
        try:
            token, logprob, best = running.sampler(logits)
        except Exception as error:  # it concerns this request alone
            return [self._finish(running, "error", str(error))]
        sampling = running.request.sampling
        if self._decoder.ends(token) and (sampling.constraint or not sampling.ignore_eos):
            return [self._finish(running, "stop")]
        piece = self._decoder.piece
        top = tuple((other, piece(other), value) for other, value in best)
        running.last = token
        running.generated += 1
        running.accepted += token == drafted
        if running.lookup:
            running.lookup.add(token)
        drafts = Drafts(running.drafted, running.accepted)
        answer = Token(running.request.id, token, piece(token), logprob, top, running.cached, drafts)
        return [answer] if running.generated < running.limit else [answer, self._finish(running, "length")]

    def _finish(self, running: _Running, reason: Literal["stop", "length", "error"], error: str = "") -> Finished:
        del self._running[running.slot]
        request, drafts = running.request, Drafts(running.drafted, running.accepted)
        return Finished(request.id, reason, len(request.prompt), running.cached, running.generated, error, drafts)

    def _lose(self, slot: int, error: str) -> Finished:
        self._decoder.truncate(slot, 0)
        self._cache.tokens[slot].clear()
        return self._finish(self._running[slot], "error", error)
