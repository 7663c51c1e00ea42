"""A tensor of a contract: its name, datatype and shape, and what its values may be."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray

from handlers.contract import times
from handlers.contract.pictures import BACKGROUNDS, FORMER, Picture, describe, is_background

Array = NDArray[Any]  # of any shape and datatype: a tensor's are those of its TensorSpec

# Datatypes of the Open Inference Protocol ("Tensor Data Types") and the little-endian NumPy types that hold them.
DTYPES: dict[str, str] = {
    "BOOL": "|b1",
    "UINT8": "|u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "|i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "BYTES": "|O",
    "BF16": "<f4",  # NumPy has none: half as long on the wire, see formats.tensors
}
BF16_MAX = 3.3895313892515355e38
# A named row is a JSON object beside these keys, so no tensor may be called so.
RESERVED = frozenset({"instances", "inputs", "outputs", "parameters", "id"})


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One input or output tensor.

    Attributes:
        name: an identifier.
        datatype: of the Open Inference Protocol, such as ``FP32``, ``INT64``, ``UINT8``, ``BYTES``.
        shape: −1 first, for the batch; ``[-1]`` is one scalar a row. Another −1 is a size that varies.
        unit: such as ``minutes``.
        range: smallest and largest accepted value, both included.
        categories: the accepted strings; the graph receives their index as INT64.
        background: of a picture, the colour behind the transparent parts of a file: ``black``, ``white``, ``#rrggbb``;
            ``refuse`` for an error, ``ignore`` for the colours that are hidden there.
        max_shape: of an input whose sizes vary: the largest, with −1 for the batch.
        axes: names of the sizes; those of the same name are equal in a request, also across inputs. Empty for none.
        pad: of an input whose sizes vary, what fills a row up to the longest of its batch; None: only requests of the
            same sizes share one.
        nullable: of an input, whether a row may lack its value: one number of a float datatype, one category or text.
            An empty text is a missing one.
        default: what the graph gets for a missing value. A number without one is NaN; a category and a text need one.
        timestamp: of an input, whether it is a time, which clients write as text: seconds since 1970 to the graph.
        picture: of an input, how a picture file becomes it; None for one that is stretched, or takes none.
    """

    name: str
    datatype: str
    shape: tuple[int, ...] = (-1,)
    description: str = ""
    unit: str = ""
    range: tuple[float, float] | None = None
    categories: tuple[str, ...] = ()
    background: str = FORMER[0]
    max_shape: tuple[int, ...] = ()
    axes: tuple[str, ...] = ()
    nullable: bool = False
    default: float | str | None = None
    timestamp: bool = False
    pad: float | None = None
    picture: Picture | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name in RESERVED:
            raise ValueError(f"tensor name {self.name!r} must be an identifier and none of {sorted(RESERVED)}")
        if self.datatype not in DTYPES:
            raise ValueError(f"tensor {self.name!r}: datatype {self.datatype!r} is none of {', '.join(DTYPES)}")
        if not self.shape or self.shape[0] != -1:
            raise ValueError(f"tensor {self.name!r}: shape {list(self.shape)} must start with -1, the batch")
        if self.categories and (self.datatype != "BYTES" or self.shape != (-1,)):
            raise ValueError(f"tensor {self.name!r}: categories need datatype BYTES and shape [-1]")
        if len(set(self.categories)) != len(self.categories):
            raise ValueError(f"tensor {self.name!r}: a category is named twice")
        if self.max_shape and not self._fits(self.max_shape):
            limits, shape = list(self.max_shape), list(self.shape)
            raise ValueError(f"tensor {self.name!r}: max_shape {limits} must be {shape} with a size for each inner -1")
        if self.axes and len(self.axes) != len(self.shape):
            raise ValueError(f"tensor {self.name!r}: axes {list(self.axes)} must name each of {list(self.shape)}")
        self._check_range()
        if self.nullable or self.default is not None:
            self._check_default()
        if self.pad is not None and not (self.varies and self._holds(self.pad)):
            raise ValueError(f"tensor {self.name!r}: a pad needs sizes that vary, and a number of {self.datatype}")
        if self.timestamp and not (self.is_scalar and self.datatype in ("INT64", "FP64")):
            raise ValueError(f"tensor {self.name!r}: a timestamp needs shape [-1], and INT64 or FP64")
        self._check_picture()

    def _fits(self, sizes: tuple[int, ...]) -> bool:
        pairs = list(zip(sizes[1:], self.shape[1:], strict=False))
        same = len(sizes) == len(self.shape) and sizes[0] == -1 and self.varies
        return same and all(size > 0 if own == -1 else size == own for size, own in pairs)

    def _check_range(self) -> None:
        """Raise if the range exceeds the datatype, since values that do not fit would pass."""
        if self.range is None:
            return
        if self.datatype in ("BOOL", "BYTES"):
            raise ValueError(f"tensor {self.name!r}: a range needs a numeric datatype, not {self.datatype}")
        low, high = self.range
        least, most = times.LIMITS if self.timestamp else self.number_limits
        if not least <= low <= high <= most:
            raise ValueError(f"tensor {self.name!r}: range {[low, high]} must be ascending, from {least} to {most}")
        if not self.is_float and not (float(low).is_integer() and float(high).is_integer()):
            raise ValueError(f"tensor {self.name!r}: range {[low, high]} of {self.datatype} must be whole numbers")

    def _check_default(self) -> None:
        """Raise if the graph could not get a missing value."""
        if not self.nullable:
            raise ValueError(f"tensor {self.name!r}: a default needs nullable: true")
        if not (self.is_scalar and (self.datatype == "BYTES" or self.is_float)):
            raise ValueError(f"tensor {self.name!r}: nullable needs shape [-1], and BYTES, FP16, FP32, FP64 or BF16")
        if self.categories and self.default not in self.categories:
            raise ValueError(
                f"tensor {self.name!r}: nullable categories need a default that is one of them, not {self.default!r}"
            )
        if self.is_text and not isinstance(self.default, str):
            raise ValueError(
                f"tensor {self.name!r}: a nullable text needs a default that is one, such as '', not {self.default!r}"
            )
        is_number = self.is_float and self.default is not None
        if is_number and not self._holds(self.default):
            raise ValueError(f"tensor {self.name!r}: default {self.default!r} is no number of {self.datatype}")

    def _check_picture(self) -> None:
        """Raise if no file could become the input, or not on this background."""
        if self.background == FORMER[0]:  # msgspec leaves out only the very object of a default
            msgspec.structs.force_setattr(self, "background", FORMER[0])
        if not is_background(self.background):
            raise ValueError(f"tensor {self.name!r}: background {self.background!r} must be {BACKGROUNDS}")
        if self.picture and (not self.is_picture or self.varies or self.datatype in ("BOOL", "BYTES")):
            raise ValueError(
                f"tensor {self.name!r}: a picture needs numbers of shape [-1, height, width] or [-1, height, width, 3]"
            )

    def _holds(self, value: float | str | None) -> bool:
        """Tell whether a value is a number that the datatype holds."""
        if isinstance(value, str) or value is None or self.datatype in ("BYTES", "BOOL"):
            return self.datatype == "BOOL" and value in (0, 1)
        least, most = self.number_limits
        return least <= value <= most and (self.is_float or float(value).is_integer())

    @property
    def format(self) -> int:
        """The oldest format of a contract that can say it."""
        if self.picture or self.background not in FORMER:
            return 3
        newer = self.nullable or self.timestamp or self.pad is not None or self.datatype == "BF16"
        return 2 if newer else 1

    @property
    def varies(self) -> bool:
        """Whether rows may differ in their sizes."""
        return -1 in self.shape[1:]

    @property
    def largest(self) -> tuple[int, ...]:
        """Sizes of the largest row."""
        return (self.max_shape or self.shape)[1:]

    @property
    def is_float(self) -> bool:
        """Whether its values are floating-point numbers."""
        return np.dtype(self.dtype).kind == "f"

    @property
    def number_limits(self) -> tuple[float, float]:
        """Smallest and largest number of its datatype."""
        if self.datatype == "BF16":
            return -BF16_MAX, BF16_MAX
        info: Any = np.finfo(self.dtype) if self.is_float else np.iinfo(self.dtype)
        return (float(info.min), float(info.max)) if self.is_float else (int(info.min), int(info.max))

    @property
    def is_scalar(self) -> bool:
        """Whether a row holds one value of this tensor."""
        return self.shape == (-1,)

    @property
    def is_text(self) -> bool:
        """Whether a row holds one string, and not one of some categories."""
        return self.is_scalar and self.datatype == "BYTES" and not self.categories

    @property
    def is_picture(self) -> bool:
        """Whether a row has the shape of a picture: height and width, and 3 where it has colours."""
        return len(self.shape) == 3 or (len(self.shape) == 4 and self.shape[3] == 3)

    @property
    def dtype(self) -> DTypeLike:
        """The NumPy type on the wire; strings are objects."""
        return np.dtype(DTYPES[self.datatype])

    @property
    def graph_dtype(self) -> DTypeLike:
        """The NumPy type that the graph takes: INT64 for the index of a category."""
        return np.dtype(np.int64) if self.categories else self.dtype

    def describe(self) -> str:
        """Return words for a valid value, for error messages."""
        if self.nullable:
            return f"{msgspec.structs.replace(self, nullable=False, default=None).describe()}, or null"
        if self.categories:
            return f"one of {len(self.categories)} categories"
        if self.timestamp:
            span = " from {} to {}".format(*map(times.as_text, self.range)) if self.range else ""
            return f"time with its zone, such as {times.EXAMPLE}{span}"
        kind = {"BYTES": "string", "BOOL": "boolean"}.get(self.datatype, "number" if self.is_float else "integer")
        if self.range:
            kind += " from {:g} to {:g}".format(*self.range)
        if not self.is_scalar:
            most = f" up to {list(self.largest)}" if self.max_shape else ""
            kind = f"array of shape {list(self.shape[1:])}{most}, each value: {kind}"
        if self.picture:
            return f"{kind}, or {describe(self.picture, self.shape[1:3], self.background)}"
        return f"{kind} ({self.unit})" if self.unit else kind
