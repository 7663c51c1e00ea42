"""Which media type a client would rather have: ``Accept`` (RFC 9110, 12.5.1)."""

import re
from collections.abc import Sequence

# An element of the list: a media range, then parameters whose values are tokens or quoted strings.
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE = rf'(?:{_TOKEN}|"(?:[^"\\]|\\.)*")'
_RANGE = re.compile(rf"\s*({_TOKEN}/{_TOKEN})((?:\s*;\s*(?:{_TOKEN}\s*=\s*{_VALUE})?)*)\s*(?:,|$)")
_WEIGHT = re.compile(r";\s*q\s*=\s*([^;\s]*)", re.I)
_NUMBER = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")
_LONGEST = 4096  # characters that are read; a header that is longer says nothing


def choose(header: str, offered: Sequence[str]) -> str:
    """Choose what is sent.

    Where the client wants none of them, it gets the first: an answer in another form says more than a 406.

    Args:
        header: ``Accept``; empty for none. An element that is malformed says nothing.
        offered: media types in lower case, without parameters; the first is sent where the client does not care.

    Returns:
        The one of the highest weight; of several, one that is named rather than one that a wildcard lets in, of those
        the last.
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
    """The media ranges of a header, in lower case, with their weights; of two alike the last."""
    ranges: dict[str, float] = {}
    if len(header) > _LONGEST:
        return ranges
    at = 0
    while at < len(header):
        element = _RANGE.match(header, at)
        if element is None:  # it is skipped up to the next comma
            comma = header.find(",", at)
            at = len(header) if comma < 0 else comma + 1
            continue
        at = element.end()
        weight = _WEIGHT.search(element[2])
        if weight is None or _NUMBER.fullmatch(weight[1]):
            ranges[element[1].lower()] = float(weight[1]) if weight else 1.0
    return ranges


def _weight(media_type: str, ranges: dict[str, float]) -> tuple[float, int]:
    """The weight that the most specific range gives a media type, and how specific that is."""
    family = f"{media_type.partition('/')[0]}/*"
    for specific, name in ((2, media_type), (1, family), (0, "*/*")):
        if name in ranges:
            return ranges[name], specific
    return 0.0, 0
