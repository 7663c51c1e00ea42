"""JSON out: NumPy arrays and scalars straight to text, a float32 as the shortest text that reads back the same."""

from typing import Any

import orjson


def encode(value: Any) -> bytes:
    """Encode a value; arrays must be contiguous and numeric."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
