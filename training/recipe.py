"""What one model is: a recipe declares its data, module, hyperparameters, contract and baselines; all else is shared.

A new model is one file in ``training/recipes/`` that ends with ``recipe = MyRecipe()``.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from handlers.contract import Task, TensorSpec, classification_outputs

Array = NDArray[Any]


@dataclass(frozen=True)
class Hyperparameters:
    """What every recipe can set; a recipe adds its own by subclassing."""

    epochs: int
    batch_size: int  # rows a step
    lr: float  # the highest learning rate of the schedule
    optimizer: Literal["sgd", "adamw"] = "adamw"
    momentum: float = 0.0  # of SGD
    weight_decay: float = 0.0  # L2 regularisation
    schedule: Literal["constant", "cosine", "one_cycle"] = "constant"
    label_smoothing: float = 0.0  # of a classification
    calibrate: bool = False  # serve a classification's logits divided by the temperature that suits the validation rows
    seed: int = 0


H = TypeVar("H", bound=Hyperparameters)


@dataclass(frozen=True)
class Split:
    """Rows of data.

    Attributes:
        inputs: what the graph takes, by name in the contract's order, the rows first.
        target: FP32 ``(n,)`` values of a regression, INT64 ``(n,)`` class indices of a classification.
        weight: FP32 ``(n,)`` importance of each row in the loss; None for all alike.
        slices: ``(n,)`` names, each row's part of the data, such as its source; each part is evaluated by itself.
        texts: of each text input by name, the ``(n,)`` strings that ``inputs`` holds as tokens.
    """

    inputs: Mapping[str, Array]
    target: Array
    weight: Array | None = None
    slices: Array | None = None
    texts: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.target)

    def head(self, rows: int) -> "Split":
        """The first rows."""

        def first(arrays: Mapping[str, Array]) -> dict[str, Array]:
            return {name: values[:rows] for name, values in arrays.items()}

        weight, slices = (None if each is None else each[:rows] for each in (self.weight, self.slices))
        return Split(first(self.inputs), self.target[:rows], weight, slices, first(self.texts))


@dataclass(frozen=True)
class Data:
    """What a recipe loads.

    Attributes:
        train: is fitted.
        test: is held out, and only evaluated at the end.
        validation: is watched while fitting; may be absent.
        inputs: the contract's inputs; categories may come from the data.
        sha256: of the files that it was read from.
        weights: a file of pretrained weights, where the module starts from such.
        assets: files that the archive's handler needs beside the graph, by name.
    """

    train: Split
    test: Split
    inputs: tuple[TensorSpec, ...]
    sha256: str
    validation: Split | None = None
    weights: Path | None = None
    assets: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Serving:
    """How TorchServe runs the model; written to the archive's ``model-config.yaml``."""

    engine: Literal["onnxruntime", "torch"] = "onnxruntime"
    workers: int = 1
    batch_size: int = 64  # requests in one batch at most
    max_batch_delay: int = 1  # ms that a batch waits for more requests; TorchServe takes 0 for 100, its default
    response_timeout: int = 30  # s until a worker that does not answer is replaced
    max_rows: int = 1024  # rows of one request at most
    threads: int | None = None  # of one operator; None: cores divided by workers


class Recipe(ABC, Generic[H]):
    """One model. Subclass it, fill in the attributes, and implement ``load``, ``module`` and ``baselines``."""

    name: ClassVar[str]
    task: ClassVar[Task]
    description: ClassVar[str]
    presets: ClassVar[Mapping[str, Any]]  # name to H; the first is the default
    outputs: ClassVar[tuple[TensorSpec, ...]] = ()  # of a regression; those of a classification follow from the labels
    labels: ClassVar[tuple[str, ...]] = ()
    entry_point: ClassVar[Literal["tabular", "image", "text"]] = "tabular"
    serving: ClassVar[Serving] = Serving()
    parity_rows: ClassVar[int] = 10_000  # held-out rows that the graphs are compared on, at most

    @abstractmethod
    def load(self, hp: H, cache: Path) -> Data:
        """Read the data, fetching it into ``cache`` where it is not there.

        Raises:
            DataError: it cannot be had, or is not what it should be; the message says how to get it.
        """

    @abstractmethod
    def module(self, hp: H, data: Data) -> nn.Module:
        """Make the network.

        Its ``forward`` takes the inputs as positional tensors in the contract's order, with whatever arithmetic turns
        raw values into features, and returns ``(n,)`` values of a regression or ``(n, classes)`` logits.
        """

    @abstractmethod
    def baselines(self, data: Data) -> Mapping[str, Array]:
        """Predictions for ``data.test`` that the model must beat, by the baseline's name.

        Values ``(n,)`` of a regression; probabilities or one-hot votes ``(n, classes)`` of a classification.
        """

    def augment(self, inputs: list[Tensor], hp: H) -> list[Tensor]:
        """Vary a training batch; by default not at all."""
        return inputs

    def loss(self, output: Tensor, target: Tensor, hp: H) -> Tensor:
        """The loss of each row, ``(n,)``: squared error, or cross-entropy."""
        if self.task == "classification":
            return nn.functional.cross_entropy(output, target, label_smoothing=hp.label_smoothing, reduction="none")
        return nn.functional.mse_loss(output, target, reduction="none")

    def batch(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Some rows of a split as the handler stacks them for the graph; by default as they are."""
        return inputs

    def metrics(self, output: Array, target: Array) -> dict[str, float]:
        """Metrics of this model's own, beside those of its task; by default none.

        Args:
            output: of the model or of a baseline: values ``(n,)``, or probabilities ``(n, classes)``.
            target: the truth, ``(n,)``.
        """
        return {}

    @property
    def all_outputs(self) -> tuple[TensorSpec, ...]:
        """The contract's outputs."""
        return classification_outputs(len(self.labels)) if self.task == "classification" else self.outputs

    def preset(self, name: str | None) -> H:
        """Hyperparameters by name, or the default.

        Raises:
            KeyError: no such preset; the message lists them.
        """
        if name is None:
            return next(iter(self.presets.values()))  # type: ignore[no-any-return]
        if name not in self.presets:
            raise KeyError(f"{self.name} has no preset {name!r}; it has {', '.join(self.presets)}")
        return self.presets[name]  # type: ignore[no-any-return]


def to_tensors(split: Split) -> list[Tensor]:
    """The inputs of a split as tensors, in order, without a copy where the array can be written."""
    return [torch.from_numpy(np.require(values, requirements="W")) for values in split.inputs.values()]


@dataclass(frozen=True)
class Trained:
    """A fitted module with all that evaluation and packaging need to know of it."""

    recipe: Recipe[Any]
    preset: str
    hp: Any
    data: Data
    module: nn.Module  # as the recipe made it: logits of a classification
    seconds: float = 0.0  # of fitting, this run's part
    history: list[dict[str, float]] = field(default_factory=list)
    temperature: float = 1.0  # that logits are divided by before they are made probabilities
