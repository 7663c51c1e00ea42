"""The same thing of two versions, by name; apart from comparisons, since these load scipy."""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Pair(NamedTuple, Generic[T]):
    """A value for the version that is served, and one for the version that may take its place."""

    champion: T
    challenger: T

    def map(self, function: Callable[[T], R]) -> "Pair[R]":
        """Apply a function to both."""
        return Pair(function(self.champion), function(self.challenger))
