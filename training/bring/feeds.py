"""Inputs of a contract, and the inputs of the graph that are made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from handlers.contract import Array, TensorSpec
from handlers.engine.signature import Input
from training.bring.graph import BringError, Port
from training.recipe.rows import input_name

LONGEST = 1024  # size at most of an axis that varies, where nobody says another


@dataclass(frozen=True)
class Feed:
    """An input of the graph.

    Attributes:
        specs: the contract's inputs that it is made of: one, or a number for each column of a matrix.
        batched: whether its first axis is the batch; else a row is the whole of it.
    """

    port: Port
    specs: tuple[TensorSpec, ...]
    batched: bool

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
