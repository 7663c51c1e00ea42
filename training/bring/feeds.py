"""Inputs of a contract, and the inputs of the graph that are made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from handlers.contract import Array, TensorSpec
from handlers.engine.signature import Input
from training.bring.graph import BringError, Port
from training.recipe.rows import input_name

LONGEST = 1024  # size at most of an axis that varies, where nobody says another
Layout = Literal["nchw", "nhwc", "nhw"]  # of a graph's pictures: the axes of rows, channels, height and width


@dataclass(frozen=True)
class Pixels:
    """The way from the pixels of a contract's picture to the values that a graph takes.

    Attributes:
        scale: each pixel is divided by it; then ``mean`` is taken off, and the rest is divided by ``std``.
        mean: a number for each of the graph's channels, or one for all; ``std`` likewise.
        is_bgr: whether the graph takes blue before red.
        is_guess: whether nobody said the scale.
    """

    layout: Layout = "nhwc"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    is_bgr: bool = False
    is_guess: bool = False

    @property
    def has_arithmetic(self) -> bool:
        """Whether values change."""
        return self.scale != 1 or any(self.mean) or any(number != 1 for number in self.std)

    def apply(self, rows: Array) -> Array:
        """Return the graph's values of UINT8 ``(n, height, width)`` or ``(n, height, width, 3)``."""
        values = rows[..., ::-1] if self.is_bgr else rows
        if self.has_arithmetic:
            mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
            values = (values.astype(np.float32) / np.float32(self.scale) - mean) / std
        if self.layout == "nhw":
            return values
        values = values if values.ndim == 4 else values[..., None]
        return np.moveaxis(values, 3, 1) if self.layout == "nchw" else values


@dataclass(frozen=True)
class Feed:
    """An input of the graph.

    Attributes:
        specs: the contract's inputs that it is made of: one, or a number for each column of a matrix.
        batched: whether its first axis is the batch; else a row is the whole of it.
        pixels: None where it takes the contract's values as they are.
    """

    port: Port
    specs: tuple[TensorSpec, ...]
    batched: bool
    pixels: Pixels | None = None

    @property
    def is_matrix(self) -> bool:
        """Whether it is made of columns: ``(n,)`` values each, that become ``(n, columns)``."""
        if not self.batched or self.is_text:
            return False
        return len(self.port.sizes) == 2 and all(spec.is_scalar for spec in self.specs)

    @property
    def is_text(self) -> bool:
        """Whether it holds the tokens of the contract's input, a text."""
        return self.specs[0].datatype == "BYTES" and not self.specs[0].categories and self.port.datatype != "BYTES"

    def raw(self, tensors: Mapping[str, Array]) -> Array:
        """Return the array that the file's model takes, from rows of the contract's inputs; texts as they are."""
        if self.is_text:
            return tensors[self.specs[0].name]
        if self.pixels:
            tensors = {name: self.pixels.apply(rows) for name, rows in tensors.items()}
        return self.entry.make(tensors, {spec.name: spec for spec in self.specs})

    @property
    def entry(self) -> Input:
        """The input in a signature."""
        names = tuple(spec.name for spec in self.specs)
        return Input(self.port.name, self.port.datatype, names, self.is_matrix, self.batched)


def feeds_of(ports: Sequence[Port], columns: Sequence[str] = ()) -> tuple[Feed, ...]:
    """Derive the contract's inputs.

    Args:
        columns: names of the columns of the only input, a matrix; empty where they have none.

    Raises:
        BringError: a name is given twice, or there are more or fewer columns.
    """
    taken: set[str] = set()
    if columns and len(ports) == 1 and len(ports[0].sizes) == 2:
        width = ports[0].sizes[1]
        if isinstance(width, int) and width != len(columns):
            raise BringError(f"{ports[0].name} has {width} columns, but {len(columns)} names are given for them")
        specs = tuple(TensorSpec(identifier(name, taken), ports[0].datatype) for name in columns)
        return (Feed(ports[0], specs, True),)
    return tuple(_feed(port, taken) for port in ports)


def identifier(name: str, taken: set[str]) -> str:
    """Return a name that a contract accepts, and add it to those taken.

    Raises:
        BringError: another input has it.
    """
    text = input_name(name)
    if text in taken:
        raise BringError(f"two names become {text!r}, one of them from {name!r}: rename one in the contract's file")
    taken.add(text)
    return text


def _feed(port: Port, taken: set[str]) -> Feed:
    name = identifier(port.name, taken)
    batched = bool(port.sizes) and not (isinstance(port.sizes[0], int) and port.sizes[0] != 1)
    inner = port.sizes[1:] if batched else port.sizes
    if all(size == 1 for size in inner):
        return Feed(port, (TensorSpec(name, port.datatype),), batched)
    shape = (-1, *(size if isinstance(size, int) else -1 for size in inner))
    most = (-1, *(size if size > 0 else LONGEST for size in shape[1:])) if -1 in shape[1:] else ()
    axes = tuple(size if isinstance(size, str) else f"{name}_{i}" for i, size in enumerate(("batch", *inner)))
    axes = axes if most else ()
    return Feed(port, (TensorSpec(name, port.datatype, shape, max_shape=most, axes=axes),), batched)
