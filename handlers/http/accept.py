"""Choose a response's media type by the client's ``Accept`` (RFC 9110, 12.5.1)."""

import re
from collections.abc import Sequence

# An element of the list: a media range, then parameters whose values are tokens or quoted strings.
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE = rf'(?:{_TOKEN}|"(?:[^"\\]|\\.)*")'
_RANGE = re.compile(rf"\s*({_TOKEN}/{_TOKEN})((?:\s*;\s*(?:{_TOKEN}\s*=\s*{_VALUE})?)*)\s*(?:,|$)")
_WEIGHT = re.compile(r";\s*q\s*=\s*([^;\s]*)", re.I)
_NUMBER = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")
_LONGEST = 4096  # characters; a longer header is ignored


def choose(header: str, offered: Sequence[str]) -> str:
    """Choose the media type of a response.

    A client that accepts none of them gets the first: an answer in another form says more than a 406.

    Args:
        header: ``Accept``; empty for none. A malformed element is skipped.
        offered: media types in lower case, without parameters, the default first.

    Returns:
        The type of the highest weight. Among equals a named type goes before a wildcard's, and the last before others.
    """
    ranges = _ranges(header)
    if not ranges:
        return offered[0]
    weights = [_weight(media_type, ranges) for media_type in offered]
    best = max(weights)
    if best[0] == 0:
        return offered[0]
    named = best[1] == 2
    places = [i for i, weight in enumerate(weights) if weight == best]
    return offered[places[-1] if named else places[0]]


def _ranges(header: str) -> dict[str, float]:
    """Return the media ranges of a header, in lower case, with their weights; the last of equal ranges counts."""
    ranges: dict[str, float] = {}
    if len(header) > _LONGEST:
        return ranges
    position = 0
    while position < len(header):
        element = _RANGE.match(header, position)
        if element is None:  # malformed: go on after the next comma
            comma = header.find(",", position)
            position = len(header) if comma < 0 else comma + 1
            continue
        position = element.end()
        weight = _WEIGHT.search(element[2])
        if weight is None or _NUMBER.fullmatch(weight[1]):
            ranges[element[1].lower()] = float(weight[1]) if weight else 1.0
    return ranges


def _weight(media_type: str, ranges: dict[str, float]) -> tuple[float, int]:
    """Return the weight of a media type by its most specific range, and how specific that range is."""
    family = f"{media_type.partition('/')[0]}/*"
    for specificity, name in ((2, media_type), (1, family), (0, "*/*")):
        if name in ranges:
            return ranges[name], specificity
    return 0.0, 0
