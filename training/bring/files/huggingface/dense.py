"""The steps of sentence-transformers behind the pooling, Dense and Normalize: as modules of torch, and by NumPy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from handlers.contract import Array
from training.bring.files import torch_files
from training.bring.graph import BringError

LEAST = 1e-12  # length below which a vector is not divided by it
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # best first
_VECTOR = "sentence_embedding"  # sentence-transformers' name of what goes from step to step
_PREFIX = "torch.nn."
# Activation functions by the last part of their class's name, as a module and as NumPy computes them.
_ACTIVATIONS: Mapping[str, tuple[Callable[[], nn.Module], Callable[[Array], Array]]] = {
    "Identity": (nn.Identity, lambda values: values),
    "Tanh": (nn.Tanh, np.tanh),
    "ReLU": (nn.ReLU, lambda values: np.maximum(values, 0)),
    "Sigmoid": (nn.Sigmoid, lambda values: 1 / (1 + np.exp(-values))),
}


class Step(Protocol):
    """A step from a vector to a vector."""

    @property
    def label(self) -> str:
        """Words for it."""

    def width_of(self, width: int) -> int:
        """Return the width of its vectors, from that of the vectors before; raise ``BringError`` if it takes others."""

    def module(self) -> nn.Module:
        """Return the step for FP32 ``(n, width)``, to be exported."""

    def apply(self, vector: Array) -> Array:
        """Return the vector that becomes of FP32 ``(width,)``."""


class Normalize:
    """Divides a vector by its length."""

    label = "normalized"

    def width_of(self, width: int) -> int:
        """Return the same width."""
        return width

    def module(self) -> nn.Module:
        """Return the step as a module."""
        return _Normalized()

    def apply(self, vector: Array) -> Array:
        """Return the vector of length 1."""
        return np.asarray(vector / max(float(np.linalg.norm(vector)), LEAST), np.float32)


class _Normalized(nn.Module):
    def forward(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors, dim=1, eps=LEAST)


@dataclass(frozen=True)
class Dense:
    """A linear layer and an activation function.

    Attributes:
        folder: that it was read from.
        weight: FP32 ``(width after, width before)``.
        bias: FP32 ``(width after,)``; None where it has none.
        activation: a key of ``_ACTIVATIONS``.
    """

    folder: Path
    weight: Array
    bias: Array | None
    activation: str

    @property
    def label(self) -> str:
        """Words for it."""
        return f"dense to {len(self.weight)} ({self.activation})"

    def width_of(self, width: int) -> int:
        """Return the number of its rows.

        Raises:
            BringError: it takes vectors of another width.
        """
        after, before = self.weight.shape
        if before != width:
            raise BringError(f"{self.folder} takes vectors of {before} numbers, and gets {width}")
        return int(after)

    def module(self) -> nn.Module:
        """Return the step as a module."""
        after, before = self.weight.shape
        linear = nn.Linear(before, after, bias=self.bias is not None)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(self.weight))
            if self.bias is not None:
                linear.bias.copy_(torch.from_numpy(self.bias))
        return nn.Sequential(linear, _ACTIVATIONS[self.activation][0]())

    def apply(self, vector: Array) -> Array:
        """Return the layer's vector."""
        values = self.weight @ vector + (0 if self.bias is None else self.bias)
        return np.asarray(_ACTIVATIONS[self.activation][1](values), np.float32)


class DenseConfig(msgspec.Struct, frozen=True):
    """The file ``2_Dense/config.json``.

    Attributes:
        activation_function: class of it; None for none, and Tanh where the file does not say it.
        module_input_name: of what it reads, in newer files.
        module_output_name: of what it writes; None for the same.
    """

    in_features: int
    out_features: int
    bias: bool = True
    activation_function: str | None = "torch.nn.modules.activation.Tanh"
    module_input_name: str = _VECTOR
    module_output_name: str | None = None


def read_dense(folder: Path, config: DenseConfig) -> Dense:
    """Read the layer's weights.

    Raises:
        BringError: it reads something other than the vector, its activation function is not known, or its weights are
            missing, damaged or of other sizes.
    """
    names = {config.module_input_name, config.module_output_name or config.module_input_name}
    if names != {_VECTOR}:
        raise BringError(f"{folder} computes {' and '.join(sorted(names))}; a Dense of {_VECTOR} alone can be imported")
    kind = config.activation_function or f"{_PREFIX}Identity"
    activation = kind.rpartition(".")[2]
    if activation not in _ACTIVATIONS or not kind.startswith(_PREFIX):
        raise BringError(f"{folder}: the activation {kind!r} cannot be imported; {', '.join(_ACTIVATIONS)} can")
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise BringError(f"{folder} has no weights: {WEIGHTS[0]} is not there")
    weights = torch_files.read_weights(file)
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (config.out_features, config.in_features)}
    shapes |= {"linear.bias": (config.out_features,)} if config.bias else {}
    own = {name: tuple(getattr(tensor, "shape", ())) for name, tensor in weights.items()}
    if own != shapes:
        raise BringError(f"{file} holds {own or 'nothing'}; its configuration says {shapes}")
    arrays = {name: tensor.to(torch.float32).numpy() for name, tensor in weights.items()}
    return Dense(folder, arrays["linear.weight"], arrays.get("linear.bias"), activation)
