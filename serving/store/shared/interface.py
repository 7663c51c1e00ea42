"""The interface of a registry that several machines change, one at a time: on S3, or in PostgreSQL."""

from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol


class Snapshot(NamedTuple):
    """Content of a registry at a moment.

    Attributes:
        content: of ``registry.json``; None where nothing was registered yet.
        tag: changes with the content: an ETag of S3, or a revision.
    """

    content: bytes | None
    tag: str


class Change(Protocol):
    """A registry that nobody else changes meanwhile."""

    @property
    def content(self) -> bytes | None:
        """Content before the change, as of ``Snapshot``."""

    def write(self, content: bytes) -> None:
        """Replace the content, unless another one did although this process had the lock.

        Raises:
            ArchiveError: another one did, or the store does not answer; nothing has changed.
        """


class SharedRegistry(Protocol):
    """A registry at one place."""

    def read(self, known: str = "") -> Snapshot | None:
        """Read it; None if it still has the tag that is known.

        Raises:
            ArchiveError: the store does not answer, or refuses.
        """

    def changing(self) -> AbstractContextManager[Change]:
        """Keep others from changing it within the block. Where the holder dies, they go on after a while.

        Raises:
            ArchiveError: the store does not answer, or refuses.
        """
