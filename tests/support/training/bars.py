"""Pictures for a network that is fitted in a moment: does a bright bar lie or stand?"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from handlers.contract import Array, TensorSpec
from training.data import sha256
from training.recipe import Data, Hyperparameters, Recipe, Split

SIZE = 8  # height and width of a picture


class Net(nn.Module):
    """A small convolutional network: what it is made of, larger ones are made of too."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.classifier = nn.Linear(4, 2)

    def forward(self, picture: Tensor) -> Tensor:
        """UINT8 (n, 8, 8) -> FP32 (n, 2) logits."""
        features = self.features(picture[:, None].float() / 255)  # (n, 4, 4, 4)
        return self.classifier(features.mean((2, 3)))  # type: ignore[no-any-return]


class Bars(Recipe[Hyperparameters]):
    """Classification of pictures that are made here."""

    name = "bars"
    task = "classification"
    description = "lying and standing bars"
    labels = ("lying", "standing")
    presets: ClassVar[Mapping[str, Hyperparameters]] = {
        "default": Hyperparameters(epochs=4, batch_size=50, lr=0.05),
    }

    def load(self, hp: Hyperparameters, cache: Path) -> Data:
        """1,000 pictures to learn from, 300 to test."""
        generator = np.random.default_rng(0)
        pictures = generator.integers(0, 100, (1300, SIZE, SIZE), np.uint8)
        standing = generator.integers(0, 2, 1300)
        lines = generator.integers(0, SIZE, 1300)
        for picture, stands, line in zip(pictures, standing, lines, strict=True):
            picture[(slice(None), line) if stands else line] = 255
        train, test = (Split({"picture": pictures[rows]}, standing[rows]) for rows in (slice(1000), slice(1000, None)))
        inputs = (TensorSpec("picture", "UINT8", (-1, SIZE, SIZE)),)
        return Data(train, test, inputs, sha256(pictures.tobytes()))

    def module(self, hp: Hyperparameters, data: Data) -> nn.Module:
        """One convolution."""
        return Net()

    def baselines(self, data: Data) -> Mapping[str, Array]:
        """Always lying."""
        return {"always lying": np.eye(2, dtype=np.float32)[np.zeros(len(data.test), np.int64)]}
