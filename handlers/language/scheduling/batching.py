"""Continuous batching, for any decoder: requests join and leave the running batch at each step."""

from collections import deque
from collections.abc import Sequence
from typing import Literal

from handlers.contract import Array
from handlers.language.decoders.decoder import DecodeError, Decoder, Interrupted, Part
from handlers.language.generation import Finished, Generate, PromptTooLong, QueueFull, Scored, Token, Usage
from handlers.language.sampling import largest, log_softmax
from handlers.language.scheduling.chunks import OWN_PASS, Beside, Chunks
from handlers.language.scheduling.running import Running
from handlers.language.scheduling.slots import Slots
from handlers.language.structured.grammars import Grammars

Event = Token | Scored | Finished
QUEUE = 256  # most waiting requests
SHORTER = 4  # a prompt is read beside another that has at least this many times as many tokens left


class ContinuousBatching:
    """Generates for several requests at once, on top of a decoder; they join and leave at every step. For one thread.

    Each step computes one token of every running request and a chunk of the prompt of a starting request. A much
    shorter prompt is read beside a long one: "Hi" need not wait until a book is read. Slots keep their tokens until
    they are needed, so a prompt that begins like an earlier one starts sooner.

    Where slots share one cache, a request starts once there is room for its prompt. Answers that outgrow the cache take
    the room of slots that nobody uses, then that of the request that started last, which is computed again later. So
    the one that started first always ends, and nobody overtakes one that waits for room.

    While a thread makes a step, others may only ask ``is_reading`` and call ``make_way``, ``tokenize`` and ``piece``.

    Args:
        decoder: computes the logits.
        beside: tokens of a prompt in a step with streams.
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
        is_reading: whether a step is being made that gives nobody a token, but reads a prompt.
        adapters: names of the adapters that a request may ask for.
    """

    def __init__(
        self,
        decoder: Decoder,
        queue: int = QUEUE,
        beside: Beside = OWN_PASS,
        lone_chunk: int = 64,
        backlog_chunk: int = 128,
        worth_copying: int = 16,
        speculative_tokens: int = 0,
    ) -> None:
        self.context = decoder.context
        self.slots = decoder.slots
        self.adapters = decoder.adapters
        self._decoder = decoder
        self.queue = queue
        self._chunks = Chunks(decoder.batch, beside, lone_chunk, backlog_chunk)
        self.speculative_tokens = min(speculative_tokens, decoder.batch - 1)
        self._slots = Slots(decoder, worth_copying)
        self._grammars: Grammars | None = None  # made for the first request with a constraint
        self._waiting: deque[Generate] = deque()
        self._preempted: deque[Running] = deque()  # started, without a slot now; oldest first
        self._running = self._slots.running
        self._started = 0
        self.is_reading = False
        self._unread = 0  # tokens of the one prompt that a step reads and may be interrupted at; else 0
        self._was_interrupted = False  # whether that was the last step which only read

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
            ValueError: the prompt is empty, the id is in use, or there is no such adapter.
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
        if request.adapter and request.adapter not in self.adapters:
            raise ValueError(f"there is no adapter {request.adapter!r}; there are {', '.join(self.adapters) or 'none'}")
        if any(request.id == other.id for other in self._requests()):
            raise ValueError(f"request {request.id} is there already; an id names one request")
        if len(self._requests()) >= self.slots + self.queue:
            raise QueueFull(f"{self.slots} requests run and {self.queue} wait, which is the limit; try again later")
        if constraint := request.sampling.constraint:
            self._grammars = self._grammars or Grammars(self._decoder)
            self._grammars.check(constraint)
        self._waiting.append(request)

    def cancel(self, id: str) -> None:
        """Forget a request and free its slot at once, without another answer; an unknown id is ignored."""
        self._waiting = deque(request for request in self._waiting if request.id != id)
        self._preempted = deque(running for running in self._preempted if running.request.id != id)
        for running in [running for running in self._running.values() if running.request.id == id]:
            self._slots.leave(running)

    def make_way(self, prompt: Sequence[int], adapter: str = "") -> None:
        """Interrupt the step that another thread makes, if it only reads a prompt beside which this one may be read.

        What was computed of the chunk is lost, so the next one that only reads is not interrupted.
        """
        if SHORTER * self._slots.unknown(prompt, adapter) <= self._unread:
            self._decoder.interrupt()

    def step(self) -> list[Event]:
        """Advance each running request by a token or, where drafts are accepted, by several, and prompts by a chunk.

        Returns:
            What was generated, scored and finished; nothing when idle.
        """
        self._start_next()
        self._make_room()
        parts = self._parts()
        if not parts:
            return []
        try:
            logits = self._decode(parts)
        except Interrupted:
            self._slots.truncate(parts[0].slot, parts[0].position)
            return []
        except DecodeError as error:
            return [self._lose(part.slot, str(error)) for part in parts]
        for part in parts:
            self._slots.tokens[part.slot].extend(part.tokens)
        events: list[Event] = []
        start = 0
        for part in parts:
            running, rows = self._running[part.slot], logits[start : start + part.rows]
            start += part.rows
            if not running.is_reading(part.position):
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
        waiting, held = len(self._waiting) + len(self._preempted), self._decoder.held(self._running)
        return Usage(len(self._running), waiting, held, self._decoder.cells, self._slots.preemptions)

    def close(self) -> None:
        """Free the decoder's memory; the engine is of no use after."""
        self._waiting.clear()
        self._preempted.clear()
        self._running.clear()
        self._decoder.close()

    def _requests(self) -> list[Generate]:
        return [*self._waiting, *(running.request for running in (*self._preempted, *self._running.values()))]

    def _start_next(self) -> None:
        """Start the first waiting request or, while a long prompt is read, the first with a much shorter one."""
        if self._slots.is_full or not self._first_has_room():
            return
        reading = [self._slots.unread(running) for running in self._slots.reading()]
        if not reading and self._preempted:
            self._slots.place(self._preempted.popleft())
        elif not reading:
            self._start(self._waiting.popleft())
        elif len(reading) == 1:
            fitting = (
                one for one in self._waiting if SHORTER * self._slots.unknown(one.prompt, one.adapter) <= reading[0]
            )
            short = next(fitting, None)
            if short and self._slots.have_room(short.prompt, short.scored, short.adapter):
                self._waiting.remove(short)
                self._start(short)

    def _first_has_room(self) -> bool:
        """Tell whether some request waits, and the first of them has room: else another one would take it away."""
        if self._preempted:
            first = self._preempted[0]
            return self._slots.have_room(first.tokens, first.is_scoring, first.request.adapter)
        if not self._waiting:
            return False
        request = self._waiting[0]
        return self._slots.have_room(request.prompt, request.scored, request.adapter)

    def _start(self, request: Generate) -> None:
        limit = min(request.max_tokens, self.context - len(request.prompt))
        constraint = request.sampling.constraint
        held = self._grammars.begin(constraint) if self._grammars and constraint else None
        self._started += 1
        running = Running(request, self._started, limit, held, self.speculative_tokens > 0)
        running.cached = self._slots.place(running)

    def _make_room(self) -> None:
        """Let requests wait whose slots' room those that started before them need; they start before all others."""
        for running in self._slots.make_room():
            running.scores.clear()
            self._preempted.appendleft(running)

    def _parts(self) -> list[Part]:
        """Return the parts of this step: a token of each stream with its draft, and chunks of prompts."""
        reading = self._slots.reading()
        unread = {running.slot: self._slots.unread(running) for running in reading}
        positions = {running.slot: self._slots.position(running) for running in reading}
        chunks = self._chunks.sizes(unread, positions, len(self._running) - len(reading), bool(self._waiting))
        drafts = 0 if reading else self._drafts()
        return [self._part(self._running[slot], chunks.get(slot, drafts)) for slot in sorted(self._running)]

    def _decode(self, parts: Sequence[Part]) -> Array:
        """Return the logits; meanwhile other threads see whether they are for nobody, and may then make way."""
        self.is_reading = not any(part.rows for part in parts)
        if self.is_reading and len(parts) == 1 and not (self._was_interrupted or self._slots.is_full):
            self._unread = self._slots.unread(self._running[parts[0].slot])
        try:
            logits = self._decoder.decode(parts)
            self._was_interrupted = self._was_interrupted and not self.is_reading
        except Interrupted:
            self._was_interrupted = True
            raise
        finally:
            self.is_reading, self._unread = False, 0
        return logits

    def _drafts(self) -> int:
        """Return the most drafted tokens of a stream.

        The more streams share a pass over the weights, the less of it a drafted token saves.
        """
        return max(0, (self.speculative_tokens + 1) // max(1, len(self._running)) - 1)

    def _part(self, running: Running, size: int) -> Part:
        """Return the next tokens of a request: at most ``size`` of its prompt, or its last one and as many drafted."""
        slot, tokens, position = running.slot, running.tokens, self._slots.position(running)
        adapter = running.request.adapter
        if running.is_reading(position):
            end = position + size
            return Part(slot, position, tokens[position:end], end >= len(tokens), running.is_scoring, adapter)
        draft = running.draft(size)
        if draft and not self._slots.reserve(running, len(tokens) + len(draft)):
            draft = []
        return Part(slot, position, [tokens[-1], *draft], True, bool(draft), adapter)

    def _score(self, running: Running, part: Part, rows: Array) -> list[Event]:
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

    def _verify(self, running: Running, part: Part, rows: Array) -> list[Event]:
        """Choose a stream's next token and, for as long as the choice was drafted, the one after it."""
        draft, before = part.tokens[1:], running.accepted
        running.drafted += len(draft)
        events: list[Event] = []
        for row, drafted in zip(rows, [*draft, -1], strict=True):
            events += self._choose(running, row, drafted)
            if running.tokens[-1] != drafted or part.slot not in self._running:
                break
        accepted = running.accepted - before
        if running.lookup and draft:
            running.lookup.learn(len(draft), accepted)
        if accepted < len(draft):
            self._slots.truncate(part.slot, part.position + 1 + accepted)
        return events

    def _choose(self, running: Running, logits: Array, drafted: int = -1) -> list[Event]:
        if not running.limit:
            return [self._finish(running, "length")]
        try:
            token, logprob, best = running.sampler(logits)
        except Exception as error:  # it concerns this request alone
            return [self._finish(running, "error", str(error))]
        sampling = running.request.sampling
        piece = self._decoder.piece
        top = tuple((other, piece(other), value) for other, value in best)
        if self._decoder.ends(token) and (sampling.constraint or not sampling.ignore_eos):
            end = None if logprob is None else Token(running.request.id, token, piece(token), logprob, top)
            return [self._finish(running, "stop", end=end)]
        running.add(token, drafted)
        answer = Token(running.request.id, token, piece(token), logprob, top, running.cached, running.drafts)
        return [answer] if running.generated < running.limit else [answer, self._finish(running, "length")]

    def _finish(
        self, running: Running, reason: Literal["stop", "length", "error"], error: str = "", end: Token | None = None
    ) -> Finished:
        self._slots.leave(running)
        request, generated, drafts = running.request, running.generated, running.drafts
        return Finished(request.id, reason, len(request.prompt), running.cached, generated, error, drafts, end)

    def _lose(self, slot: int, error: str) -> Finished:
        self._slots.truncate(slot, 0)
        return self._finish(self._running[slot], "error", error)
