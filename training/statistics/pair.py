"""What there is of two versions alike, told apart by name; by itself, since what compares versions loads scipy."""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Pair(NamedTuple, Generic[T]):
    """The same of the version that is served and of the one that may take its place."""

    champion: T
    challenger: T

    def map(self, function: Callable[[T], R]) -> "Pair[R]":
        """Return what a function makes of each."""
        return Pair(function(self.champion), function(self.challenger))
