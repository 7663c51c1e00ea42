"""A classification that is fitted in a moment: in which quadrant of the plane a point lies."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from handlers.contract import Array, Task, TensorSpec
from training.data import sha256
from training.recipe import Data, Hyperparameters, Recipe, Split


class Net(nn.Module):
    """A small perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, east: Tensor, north: Tensor) -> Tensor:
        """FP32 (n,) each -> FP32 (n, 4) logits."""
        return self.layers(torch.stack([east, north], 1))  # type: ignore[no-any-return]


class Quadrants(Recipe[Hyperparameters]):
    """Also has what linear and flights have not: a validation split and class labels."""

    name = "quadrants"
    task: ClassVar[Task] = "classification"
    description = "quadrants of the plane"
    labels: ClassVar[tuple[str, ...]] = ("NE", "NW", "SW", "SE")
    presets: ClassVar[Mapping[str, Hyperparameters]] = {
        "default": Hyperparameters(epochs=10, batch_size=50, lr=0.05),
        "lazy": Hyperparameters(epochs=1, batch_size=400, lr=1e-6),
    }

    def load(self, hp: Hyperparameters, cache: Path) -> Data:
        """400 points to learn from, 100 to watch, 200 to test."""
        points = np.random.default_rng(0).uniform(-1, 1, (700, 2)).astype(np.float32)
        inputs = (TensorSpec("east", "FP32"), TensorSpec("north", "FP32"))
        train, validation, test = (_split(part) for part in np.split(points, [400, 500]))
        return Data(train, test, inputs, sha256(points.tobytes()), validation)

    def module(self, hp: Hyperparameters, data: Data) -> nn.Module:
        """Two linear layers."""
        return Net()

    def baselines(self, data: Data) -> Mapping[str, Array]:
        """Always the first."""
        return {"always NE": np.eye(4, dtype=np.float32)[np.zeros(len(data.test), np.int64)]}


def _split(points: Array) -> Split:
    east, north = points.T
    quadrant = np.select([(east >= 0) & (north >= 0), north >= 0, east < 0], [0, 1, 2], 3).astype(np.int64)
    return Split({"east": east.copy(), "north": north.copy()}, quadrant)
