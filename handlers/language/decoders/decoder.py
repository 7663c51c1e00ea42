"""What continuous batching needs of an engine: tokens in, logits out, and slots that keep what they were given."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from handlers.contract import Array
from handlers.language.structured.grammars import Vocabulary


class Part(NamedTuple):
    """The next tokens of a slot.

    Attributes:
        position: of the first of the tokens; those before it are in the slot's cache.
        tokens: at least one.
        is_last: whether the logits after the last token are needed.
        scored: whether those after each token are.
        adapter: name of the slot's; empty for none. All tokens of a slot have the same.
    """

    slot: int
    position: int
    tokens: Sequence[int]
    is_last: bool
    scored: bool = False
    adapter: str = ""

    @property
    def rows(self) -> int:
        """Number of tokens whose logits are needed."""
        return len(self.tokens) if self.scored else int(self.is_last)


class DecodeError(RuntimeError):
    """A batch could not be computed; the content of its slots is unknown."""


class Interrupted(RuntimeError):
    """A ``decode`` was interrupted; slots hold what they held before, at the positions before its tokens."""


class Decoder(Vocabulary, Protocol):
    """Computes logits for several slots, each of which caches the keys and values of its tokens.

    Attributes:
        slots: number of slots.
        context: most tokens of a slot.
        cells: tokens of the whole cache, at least those of one slot; fewer than all slots may ask for where they share
            it.
        block: tokens by which a slot takes room and gives it back.
        batch: most tokens of one ``decode``.
        adapters: names of those beside the model; each slot may have one.
    """

    slots: int
    context: int
    cells: int
    block: int
    batch: int
    adapters: Sequence[str]

    def held(self, slots: Collection[int]) -> int:
        """Return the cells that these slots hold together; one that they share counts once."""

    def reserve(self, slot: int, start: int, end: int) -> bool:
        """Make room for the tokens of a slot from one position to another.

        Returns:
            Whether there is room; if not, nothing has changed.
        """

    def decode(self, parts: Sequence[Part]) -> Array:
        """Add tokens to slots.

        Args:
            parts: at most one for a slot, by ascending number of the slot.

        Returns:
            float32 ``(rows of the parts, vocabulary)``, valid until the next call.

        Raises:
            DecodeError: the batch could not be computed, for one where there is no room for its tokens.
            Interrupted: another thread asked for that.
        """

    def interrupt(self) -> None:
        """Let the ``decode`` of another thread end without a result, at once; an engine that cannot goes on."""

    def truncate(self, slot: int, length: int) -> None:
        """Remove the tokens of a slot from a position on, and give back their room."""

    def copy(self, source: int, target: int, length: int) -> None:
        """Replace the content of a slot by the first tokens of another slot."""

    def close(self) -> None:
        """Free all memory."""
