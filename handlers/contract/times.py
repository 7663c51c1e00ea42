"""Times: texts of RFC 3339 as clients write them, seconds since 1970 in UTC as graphs take them."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

Moment = Annotated[datetime, msgspec.Meta(tz=True)]  # a text without a zone is refused: none can be guessed
EXAMPLE = "2013-03-01T10:00:00Z"
LIMITS = (datetime(1, 1, 1, tzinfo=UTC).timestamp(), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())


def as_seconds(value: Any) -> Any:
    """Return the seconds of a text or a moment; a number stays.

    Raises:
        ValueError: a text that is no time, or has no zone.
    """
    if isinstance(value, str):
        value = msgspec.convert(value, Moment)
    return value.timestamp() if isinstance(value, datetime) else value


def as_text(seconds: float) -> str:
    """Return the text of a time, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
