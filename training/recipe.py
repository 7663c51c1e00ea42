"""What one model is: a recipe declares its data, module, hyperparameters, contract and baselines; all else is shared.

A new model is one file in ``training/recipes/`` that ends with ``recipe = MyRecipe()``.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, get_args

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from handlers.contract import Array, Task, TensorSpec, classification_outputs
from handlers.contract.model_card import FeedbackRows
from training.statistics.criteria import Criterion
from training.statistics.decisive import Scoring

if TYPE_CHECKING:
    from optuna import Trial

Schedule = Literal["constant", "step", "cosine", "restarts", "one_cycle"]
FOUND = "found"  # the preset that a search has written


@dataclass(frozen=True)
class Hyperparameters:
    """What every recipe can set; a recipe adds its own by subclassing."""

    epochs: int
    batch_size: int  # rows a step
    lr: float  # the highest learning rate of the schedule
    optimizer: Literal["sgd", "adamw"] = "adamw"
    momentum: float = 0.0  # of SGD
    weight_decay: float = 0.0  # L2 regularisation
    l1: float = 0.0  # L1 regularisation: times the sum of the weights' sizes, added to the loss
    schedule: Schedule = "constant"
    label_smoothing: float = 0.0  # of a classification
    calibrate: bool = False  # serve a classification's logits divided by the temperature that suits the validation rows
    patience: int | None = None  # epochs without a lower validation loss, then it stops and the best weights stay
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
        time: INT64 ``(n,)`` seconds since the epoch; None where the order says nothing.
    """

    inputs: Mapping[str, Array]
    target: Array
    weight: Array | None = None
    slices: Array | None = None
    texts: Mapping[str, Array] = field(default_factory=dict)
    time: Array | None = None

    def __len__(self) -> int:
        return len(self.target)

    def row(self, inputs: Sequence[TensorSpec], index: int) -> dict[str, Any]:
        """Return one row as a client sends it: of a category its name, of tokens the text that they are of."""
        row = {}
        for spec in inputs:
            value = np.asarray(self.texts.get(spec.name, self.inputs[spec.name])[index]).tolist()
            row[spec.name] = spec.categories[value] if spec.categories else value
        return row

    def head(self, rows: int) -> "Split":
        """The first rows."""
        return self.part(slice(rows))

    def tail(self, rows: int) -> "Split":
        """The last rows."""
        return self.part(slice(len(self) - rows, None))

    def followed_by(self, later: "Split") -> "Split":
        """These rows, then later ones of the same inputs.

        A row without a weight weighs 1 where others have one. Where only the later rows have times, nothing tells the
        order of these: they are shuffled, and count as old as the oldest of the later.
        """
        if self.time is None and later.time is not None:
            shuffled = self.part(np.random.default_rng(0).permutation(len(self)))
            return replace(shuffled, time=np.full(len(self), later.time.min())).followed_by(later)
        weights = [np.ones(len(split), np.float32) if split.weight is None else split.weight for split in (self, later)]
        weighted = self.weight is not None or later.weight is not None
        return Split(
            {name: np.concatenate([values, later.inputs[name]]) for name, values in self.inputs.items()},
            np.concatenate([self.target, later.target]),
            np.concatenate(weights) if weighted else None,
            None if self.slices is None or later.slices is None else np.concatenate([self.slices, later.slices]),
            {name: np.concatenate([values, later.texts[name]]) for name, values in self.texts.items()},
            None if self.time is None or later.time is None else np.concatenate([self.time, later.time]),
        )

    def part(self, rows: slice | Array) -> "Split":
        """Some of the rows, by a slice, their indices or a mask."""

        def some(arrays: Mapping[str, Array]) -> dict[str, Array]:
            return {name: values[rows] for name, values in arrays.items()}

        others = (self.weight, self.slices, self.time)
        weight, slices, time = (None if each is None else each[rows] for each in others)
        return Split(some(self.inputs), self.target[rows], weight, slices, some(self.texts), time)


@dataclass(frozen=True)
class Data:
    """What a recipe loads.

    Attributes:
        train: is fitted.
        test: is held out, and only evaluated at the end.
        validation: is watched while fitting; may be absent.
        inputs: the contract's inputs; categories may come from the data.
        sha256: of what it was read from.
        weights: a file of pretrained weights, where the module starts from such.
        assets: files that the archive's handler needs beside the graph, by name.
        feedback: what the lineage tells of labelled rows beside the recipe's own; see ``training.feedback``.
    """

    train: Split
    test: Split
    inputs: tuple[TensorSpec, ...]
    sha256: str
    validation: Split | None = None
    weights: Path | None = None
    assets: Mapping[str, bytes] = field(default_factory=dict)
    feedback: FeedbackRows | None = None


@dataclass(frozen=True)
class Serving:
    """How TorchServe runs the model; written to the archive's ``model-config.yaml``."""

    engine: Literal["onnxruntime", "torch"] = "onnxruntime"
    workers: int = 1
    batch_size: int = 64  # requests in one batch at most
    max_batch_delay: int = 1  # ms that a batch waits for more requests; TorchServe takes 0 for 100, its default
    response_timeout: int | None = None  # s until a worker that does not answer is replaced; None: by measurement
    max_rows: int = 1024  # rows of one request at most
    threads: int | None = None  # of one operator; None: cores divided by workers


class Recipe(ABC, Generic[H]):
    """One model. Subclass it, fill in the attributes, and implement ``load``, ``module`` and ``baselines``."""

    name: ClassVar[str]
    task: ClassVar[Task]
    description: ClassVar[str]
    presets: ClassVar[Mapping[str, Any]]  # name to H; the first is the default
    found: ClassVar[Path] = Path(__file__).parent / "presets"  # folder of what searches wrote, NAME.json
    starts: ClassVar[Mapping[str, str]] = {}  # presets that `ablate` starts from and what they are; else the default
    # Of a regression: its range is that of the labels, else the known ones', widened; a classification's follow.
    outputs: ClassVar[tuple[TensorSpec, ...]] = ()
    labels: ClassVar[tuple[str, ...]] = ()
    decides: ClassVar[Criterion | None] = None  # which of two versions is better; None: by rmse or by accuracy
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

    def timeline(self, data: Data) -> Split | None:
        """Every row that is known with its time and truth, in order of time, those after ``data`` included.

        What a version meets when it grows old is measured on it; by default there is none.
        """
        return None

    def with_feedback(self, data: Data, rows: Split, held_out: Split, hp: H) -> Data:
        """What ``load`` gave, with labelled rows of the time since; by default they are learned like the others.

        Args:
            data: as loaded.
            rows: in order of time, with ``time``, to learn.
            held_out: newer ones, to test; none of them may be learned.
        """
        return replace(data, train=data.train.followed_by(rows), test=held_out)

    def augment(self, inputs: list[Tensor], hp: H) -> list[Tensor]:
        """Vary a training batch; by default not at all."""
        return inputs

    def loss(self, output: Tensor, target: Tensor, hp: H) -> Tensor:
        """The loss of each row, ``(n,)``: squared error, or cross-entropy."""
        if self.task == "classification":
            return nn.functional.cross_entropy(output, target, label_smoothing=hp.label_smoothing, reduction="none")
        return nn.functional.mse_loss(output, target, reduction="none")

    def space(self, trial: "Trial", hp: H) -> H:
        """Hyperparameters for a trial of a search, around some; by default those of every optimizer.

        Each is suggested under its own name. A recipe may add its own, but none that makes a run longer: trials are
        compared in equal budgets.
        """
        return replace(
            hp,
            lr=trial.suggest_float("lr", hp.lr / 10, hp.lr * 10, log=True),
            batch_size=trial.suggest_int("batch_size", max(1, hp.batch_size // 4), hp.batch_size),
            weight_decay=trial.suggest_float("weight_decay", 0.0, 0.1),
            schedule=trial.suggest_categorical("schedule", get_args(Schedule)),
        )

    def batch(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Some rows of a split as the handler stacks them for the graph; by default as they are."""
        return inputs

    def smaller(self, hp: H) -> H | None:
        """Hyperparameters of a smaller network, which learns from this one; by default there is none."""
        return None

    def prunable(self, module: nn.Module) -> Sequence[nn.Module]:
        """The layers whose output may lose channels; by default all linear ones and convolutions but the last."""
        return [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][:-1]

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

    @property
    def scoring(self) -> Scoring:
        """How answers are scored."""
        return Scoring(self.task, self.labels, self.decides, self.metrics)

    def preset(self, name: str | None) -> H:
        """Hyperparameters by name, or the default; ``found`` is what a search has written.

        Raises:
            KeyError: no such preset; the message lists them.
            ValueError: the file of what was found is damaged, or names hyperparameters that are no longer there.
        """
        default: H = next(iter(self.presets.values()))
        if name is None:
            return default
        if name in self.presets:
            return self.presets[name]  # type: ignore[no-any-return]
        if name == FOUND and self.found_file.exists():
            return _changed(default, self.found_file)
        raise KeyError(f"{self.name} has no preset {name!r}; it has {', '.join(self.preset_names)}")

    @property
    def found_file(self) -> Path:
        """Where a search writes the values of its best trial."""
        return self.found / f"{self.name}.json"

    @property
    def preset_names(self) -> tuple[str, ...]:
        """Of all presets, also of one that a search has written."""
        return (*self.presets, *([FOUND] if self.found_file.exists() else []))


def _changed(hp: H, path: Path) -> H:
    """Hyperparameters with the values of a file."""
    try:
        values = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        if unknown := values.keys() - asdict(hp).keys():
            raise TypeError(f"no {', '.join(sorted(unknown))}")
        return msgspec.convert(asdict(hp) | values, type(hp))
    except (msgspec.MsgspecError, TypeError) as error:
        raise ValueError(f"{path} holds no hyperparameters: {error}; search again, or delete it") from error


def to_tensors(split: Split) -> list[Tensor]:
    """The inputs of a split as tensors, in order, without a copy where the array can be written."""
    return [torch.from_numpy(np.require(values, requirements="W")) for values in split.inputs.values()]


@dataclass(frozen=True)
class Trained:
    """A fitted module with all that evaluation and packaging need to know of it."""

    recipe: Recipe[Any]
    hp: Any
    data: Data
    module: nn.Module  # as the recipe made it: logits of a classification
    seconds: float = 0.0  # of fitting, this run's part
    history: list[dict[str, float]] = field(default_factory=list)
    temperature: float = 1.0  # that logits are divided by before they are made probabilities
    preset: str = ""  # name of the hyperparameters, for the record
