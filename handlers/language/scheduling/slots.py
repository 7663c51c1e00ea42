"""The slots of a decoder: which request has which, what each holds, and the room that they share."""

from collections.abc import Sequence

from handlers.language.decoders.decoder import Decoder
from handlers.language.scheduling.prefix_cache import PrefixCache
from handlers.language.scheduling.running import Running


class Slots:
    """Gives requests slots and room. A slot that nobody uses keeps its tokens until they are needed.

    Args:
        decoder: has the slots.
        worth_copying: tokens that take as long to compute as a slot's cache takes to copy.

    Attributes:
        running: the request of each slot that is used.
        tokens: what each slot holds.
        preemptions: times that a request had to give up its slot.
    """

    def __init__(self, decoder: Decoder, worth_copying: int) -> None:
        self.running: dict[int, Running] = {}
        self.preemptions = 0
        self._decoder = decoder
        self._is_shared = decoder.cells < decoder.slots * decoder.context
        self._cache = PrefixCache(decoder.slots, worth_copying)
        self.tokens = self._cache.tokens

    @property
    def is_full(self) -> bool:
        """Whether every slot is used."""
        return len(self.running) == self._decoder.slots

    def position(self, running: Running) -> int:
        """Return the number of a request's tokens that its slot holds."""
        return len(self.tokens[running.slot])

    def unread(self, running: Running) -> int:
        """Return the number of a request's tokens that are still to be computed."""
        return len(running.tokens) - self.position(running)

    def reading(self) -> list[Running]:
        """Return the requests whose prompt is read, or what was lost of their answer."""
        return [running for running in self.running.values() if running.is_reading(self.position(running))]

    def unknown(self, prompt: Sequence[int], adapter: str) -> int:
        """Return the number of tokens of a prompt that no slot holds."""
        return len(prompt) - self._cache.cached(prompt, adapter)

    def have_room(self, tokens: Sequence[int], anew: bool, adapter: str) -> bool:
        """Tell whether there is room for a request's tokens, and for a further block of each that runs.

        Slots that nobody uses count as empty. A beginning that another request holds needs no room, unless it is to be
        computed anew.
        """
        if not self._is_shared:
            return True
        block = self._decoder.block
        known = 0 if anew else self._cache.cached(tokens, adapter, self.running)
        needed = -(-len(tokens) // block) - known // block + len(self.running)
        return needed * block <= self._decoder.cells - self._decoder.held(self.running)

    def place(self, running: Running) -> int:
        """Give a request a slot that nobody uses; return how many of its tokens are known."""
        free = [slot for slot in range(self._decoder.slots) if slot not in self.running]
        adapter = running.request.adapter
        slot, source, shared = self._cache.place(running.tokens, free, running.is_scoring, adapter)
        if source == slot:
            self._decoder.truncate(slot, shared)
        else:
            self._decoder.copy(source, slot, shared)
        running.slot = slot
        self.running[slot] = running
        return shared

    def leave(self, running: Running) -> None:
        """Let others have a request's slot, which keeps the tokens that were computed."""
        del self.running[running.slot]
        self._decoder.truncate(running.slot, self.position(running))

    def truncate(self, slot: int, length: int) -> None:
        """Forget the tokens of a slot from a position on."""
        self._decoder.truncate(slot, length)
        del self.tokens[slot][length:]

    def make_room(self) -> list[Running]:
        """Give each request room for its tokens, to those that started first before the others.

        Returns:
            The requests that had to give up their slots, the last started first. What is lost of their tokens is to be
            computed again.
        """
        preempted = []
        for running in sorted(self.running.values(), key=_start):
            while self.running.get(running.slot) is running and not self.reserve(running, len(running.tokens)):
                if not self._evict():
                    preempted.append(last := max(self.running.values(), key=_start))
                    self.leave(last)
        self.preemptions += len(preempted)
        return preempted

    def reserve(self, running: Running, end: int) -> bool:
        """Take free room for a request's tokens up to a position, and tell whether there was so much."""
        return self._decoder.reserve(running.slot, self.position(running), end)

    def _evict(self) -> bool:
        """Empty the slot that was taken longest ago of those that nobody uses, and tell whether there was one."""
        idle = [slot for slot, tokens in enumerate(self.tokens) if tokens and slot not in self.running]
        if idle:
            self.truncate(self._cache.oldest(idle), 0)
        return bool(idle)


def _start(running: Running) -> int:
    return running.number
