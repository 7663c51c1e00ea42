"""The file's graph on rows of the contract: together where its answers are those of each row alone, else one by one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from handlers.contract import Array
from handlers.features import defaults_of, filled
from training.bring.feeds import Feed
from training.bring.graph import BringError, Brought, Original, Port, Session
from training.packaging.parity import TOLERANCE, largest_difference

CHUNK = 100  # rows at once
Tensors = Mapping[str, Array]


@dataclass(frozen=True)
class Runner:
    """Runs the file's model.

    Attributes:
        session: the model in its own framework.
        together: whether rows may run in one batch.
        bare: positions of the outputs that lack the batch's axis.
    """

    session: Original
    feeds: Sequence[Feed]
    together: bool
    bare: frozenset[int]

    def chunks(self, tensors: Tensors) -> Iterator[tuple[Tensors, list[Array]]]:
        """Yield rows, with defaults for missing values, and the graph's outputs for them, rows first."""
        size = CHUNK if self.together else 1
        for start in range(0, _rows(tensors), size):
            some = self._filled({name: array[start : start + size] for name, array in tensors.items()})
            outputs = self.session.run({feed.port.name: feed.raw(some) for feed in self.feeds})
            yield some, [array[None] if i in self.bare else array for i, array in enumerate(outputs)]

    def _filled(self, tensors: Tensors) -> Tensors:
        return filled(tensors, defaults_of(spec for feed in self.feeds for spec in feed.specs))


def runner_of(model: Brought, feeds: Sequence[Feed], tensors: Tensors) -> Runner:
    """Find out how the rows of a graph can run, by some of them.

    Raises:
        BringError: the graph cannot run, or not with these values.
    """
    session = model.session
    one = {name: array[:1] for name, array in tensors.items()}
    one = filled(one, defaults_of(spec for feed in feeds for spec in feed.specs))
    alone = session.run({feed.port.name: feed.raw(one) for feed in feeds})
    batch = next((feed.port.sizes[0] for feed in feeds if feed.batched), None)
    bare = frozenset(i for i, array in enumerate(alone) if not _has_batch(model.outputs[i], array, batch))
    # What is behind an intake answers row by row.
    if all(feed.batched for feed in feeds) and not bare and not model.branches:
        try:
            free = model.original or Session(_freed(model.converted, {feed.port.name for feed in feeds}))
            together = Runner(free, feeds, True, frozenset())
            if model.intake or _agree(together, Runner(session, feeds, False, frozenset()), _varied(tensors)):
                return together
        except BringError:  # its operators take no other batch: rows run one by one
            pass
    return Runner(session, feeds, False, bare)


def _has_batch(port: Port, array: Array, batch: int | str | None) -> bool:
    declared = port.sizes[0] if len(port.sizes) == array.ndim and port.sizes else None
    if array.ndim == 0 or array.shape[0] != 1:
        return False
    return declared is None or declared == batch or declared == 1


def _agree(together: Runner, alone: Runner, rows: Tensors) -> bool:
    ((_, outputs),) = together.chunks(rows)
    if any(not array.ndim or len(array) != _rows(rows) for array in outputs):
        return False
    for i, (_, own) in enumerate(alone.chunks(rows)):
        for array, expected in zip(outputs, own, strict=True):
            if not largest_difference(array[i : i + 1], expected, equal_nan=True) <= TOLERANCE:
                return False
    return True


def _varied(tensors: Tensors) -> Tensors:
    """Return three rows at least; where there are fewer, the first one, and others with values that differ from it."""
    if _rows(tensors) >= 3:
        return {name: array[:CHUNK] for name, array in tensors.items()}
    return {name: np.concatenate([array[:1], *_others(array[:1])]) for name, array in tensors.items()}


def _others(array: Array) -> tuple[Array, Array]:
    """Return a row with values in other places and a little smaller, and one a little larger."""
    turned = np.flip(array, tuple(range(1, array.ndim))) if array.ndim > 1 else array
    if array.dtype.kind != "f":
        return turned, array
    return np.asarray(turned * 0.9 - 0.01, array.dtype), np.asarray(array * 1.1 + 0.01, array.dtype)


def _freed(graph: onnx.ModelProto, inputs: set[str]) -> onnx.ModelProto:
    """Return a copy whose inputs have a free batch."""
    free = onnx.ModelProto()
    free.CopyFrom(graph)
    for value in free.graph.input:
        if value.name in inputs:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for value in free.graph.output:
        value.type.tensor_type.ClearField("shape")
    del free.graph.value_info[:]
    return free


def _rows(tensors: Tensors) -> int:
    return len(next(iter(tensors.values())))
