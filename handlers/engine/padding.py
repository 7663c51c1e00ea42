"""Padding: requests of different sizes share a batch, where the contract says what fills the shorter ones."""

from collections.abc import Mapping

import numpy as np

from handlers.contract import Array, ModelContract, TensorSpec

Sizes = Mapping[str, int]  # by the name of an axis


class Padding:
    """Pads the inputs of a model that say how, and cuts its outputs.

    Attributes:
        names: of the padded inputs.

    Raises:
        ValueError: an output varies in size by an axis that no padded input has, so that it could not be cut; or an
            input that is not padded shares an axis with one that is.
    """

    def __init__(self, contract: ModelContract) -> None:
        inputs = {spec.name: (spec, _axes(spec)) for spec in contract.inputs if spec.varies}
        self._padded = {name: own for name, own in inputs.items() if own[0].pad is not None}
        self.names = frozenset(self._padded)
        known = {axis for _, axes in self._padded.values() for axis in axes.values()}
        for name, (spec, axes) in inputs.items():
            if spec.pad is None and known & set(axes.values()):
                raise ValueError(f"input {name!r} shares an axis with a padded one: give it a pad, too")
        names = contract.graph_outputs if self._padded else ()
        outputs = [spec for spec in contract.outputs if spec.name in names and contract.task != "classification"]
        self._cut = {spec.name: _axes(spec) for spec in outputs if spec.varies}
        for name, axes in self._cut.items():
            if unknown := [axis for axis in axes.values() if axis not in known]:
                raise ValueError(f"output {name!r} varies by {unknown[0]!r}, an axis of no padded input: it has no pad")

    def sizes(self, tensors: Mapping[str, Array]) -> dict[str, int]:
        """Return the sizes of the padded inputs."""
        return {axis: tensors[name].shape[i] for name, (_, axes) in self._padded.items() for i, axis in axes.items()}

    def pad(self, tensors: Mapping[str, Array], sizes: Sizes) -> dict[str, Array]:
        """Fill the inputs at their ends, up to these sizes."""
        padded = dict(tensors)
        for name, (spec, axes) in self._padded.items():
            array = tensors[name]
            more = [(0, sizes[axes[i]] - size if i in axes else 0) for i, size in enumerate(array.shape)]
            if any(end for _, end in more):
                padded[name] = np.pad(array, more, constant_values=array.dtype.type(spec.pad))
        return padded

    def cut(self, outputs: Mapping[str, Array], sizes: Sizes) -> dict[str, Array]:
        """Cut the outputs to these sizes."""
        whole = dict(outputs)
        for name, axes in self._cut.items():
            ends = [slice(sizes[axes[i]]) if i in axes else slice(None) for i in range(outputs[name].ndim)]
            whole[name] = np.ascontiguousarray(outputs[name][tuple(ends)])
        return whole


def _axes(spec: TensorSpec) -> dict[int, str]:
    """Return the names of the axes that vary, by their places; one without a name is the tensor's own."""
    names = spec.axes or tuple(f"{spec.name}[{i}]" for i in range(len(spec.shape)))
    return {i: names[i] for i, size in enumerate(spec.shape) if i and size == -1}
