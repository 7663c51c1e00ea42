"""Suggestions of names for a mistaken one."""

import difflib
import heapq
import unicodedata
from collections.abc import Sequence

_LONGEST = 64  # characters of a name that are compared: the comparison is quadratic


def closest_names(name: str, names: Sequence[str], count: int = 3) -> list[str]:
    """Return the names that differ least from a mistaken one, the closest first.

    Names that differ in case alone come first, then those in whitespace as well, then those in accents as well. All
    others follow by the share of common characters.
    """
    name = name[:_LONGEST]
    spellings = [fold(name) for fold in _FOLDS]
    matcher = difflib.SequenceMatcher(b=spellings[-1])

    def likeness(other: str) -> tuple[float, ...]:
        other = other[:_LONGEST]
        matcher.set_seq1(_FOLDS[-1](other))
        alike = matcher.ratio()
        if alike < 1:  # names that differ in spelling alone have the same last fold
            return (0, 0, alike)
        same = [fold(other) == spelling for fold, spelling in zip(_FOLDS, spellings, strict=True)]
        return (1, sum(same), difflib.SequenceMatcher(None, other, name).ratio())

    return heapq.nlargest(count, names, key=likeness)


def _without_spaces(name: str) -> str:
    return "".join(name.casefold().split())


def _without_accents(name: str) -> str:
    letters = unicodedata.normalize("NFKD", _without_spaces(name))
    return _without_spaces("".join(letter for letter in letters if not unicodedata.combining(letter)))


_FOLDS = (str.casefold, _without_spaces, _without_accents)
