"""The hello world: one linear layer learns y = 2x from five points.

make train MODEL=linear
curl -H 'Content-Type: application/json' -d '{"x": 6}' 127.0.0.1:8080/predictions/linear
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from handlers.contract import Array, TensorSpec
from training.data import sha256
from training.recipe import Data, Hyperparameters, Recipe, Split


@dataclass(frozen=True)
class LinearHyperparameters(Hyperparameters):
    """The common hyperparameters suffice."""


class LinearRegressionModel(nn.Module):
    """The function y = wx + b."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x FP32 (n,) -> y FP32 (n,)."""
        return self.linear(x[:, None])[:, 0]  # type: ignore[no-any-return]


class Linear(Recipe[LinearHyperparameters]):
    """y = 2x."""

    name = "linear"
    task = "regression"
    description = "y = 2x, learned from x = 1…5"
    outputs = (TensorSpec("y", "FP32", range=(-1e9, 1e9), description="twice x"),)
    presets: ClassVar[Mapping[str, LinearHyperparameters]] = {
        "default": LinearHyperparameters(
            epochs=300,
            batch_size=5,  # all five points: gradient descent without noise
            lr=0.01,
            optimizer="sgd",
            momentum=0.9,  # without it the offset needs some 2,000 epochs
        ),
        # The common tutorial, word for word: it stops while the offset is still wrong.
        "tutorial": LinearHyperparameters(epochs=100, batch_size=5, lr=0.01, optimizer="sgd"),
    }

    def load(self, hp: LinearHyperparameters, cache: Path) -> Data:
        """Return five points to learn from, and a thousand between 0 and 10 to test, the first of which is 6."""
        # The tutorial's integers fail in nn.Linear and in MSELoss: they must be float32.
        x = np.arange(1, 6, dtype=np.float32)
        unseen = np.append(np.float32(6), np.linspace(0, 10, 1000, dtype=np.float32))
        inputs = (TensorSpec("x", "FP32", range=(-1e6, 1e6), description="any number"),)
        points = x.tobytes() + unseen.tobytes()
        return Data(Split({"x": x}, 2 * x), Split({"x": unseen}, 2 * unseen), inputs, sha256(points))

    def module(self, hp: LinearHyperparameters, data: Data) -> nn.Module:
        """Build one ``nn.Linear(1, 1)``."""
        return LinearRegressionModel()

    def baselines(self, data: Data) -> Mapping[str, Array]:
        """Predict the mean of y, and by ridge regression."""
        x, unseen = data.train.inputs["x"][:, None], data.test.inputs["x"][:, None]
        models = {"mean": DummyRegressor(), "ridge regression": Ridge()}
        return {name: model.fit(x, data.train.target).predict(unseen) for name, model in models.items()}


recipe = Linear()
