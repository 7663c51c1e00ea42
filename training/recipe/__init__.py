"""The recipe of a model declares its data, module, hyperparameters, contract and baselines; all else is shared.

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
from handlers.features import as_sent, defaults_of, filled, is_missing
from serving.archive.autoscaling import Autoscaling
from training.statistics.criteria import Criterion
from training.statistics.decisive import Scoring

if TYPE_CHECKING:
    from optuna import Trial

Schedule = Literal["constant", "step", "cosine", "restarts", "one_cycle"]
FOUND = "found"  # name of the preset that a search has written


@dataclass(frozen=True)
class Hyperparameters:
    """The hyperparameters of every recipe; a recipe adds its own by subclassing."""

    epochs: int
    batch_size: int  # rows a step
    lr: float  # the highest learning rate of the schedule
    optimizer: Literal["sgd", "adamw"] = "adamw"
    momentum: float = 0.0  # for SGD only
    weight_decay: float = 0.0  # L2 regularisation
    l1: float = 0.0  # L1 regularisation: times the sum of the weights' sizes, added to the loss
    schedule: Schedule = "constant"
    label_smoothing: float = 0.0  # for a classification only
    calibrate: bool = False  # serve a classification's logits divided by the temperature that suits the validation rows
    patience: int | None = None  # epochs without a lower validation loss until it stops; the best weights stay
    seed: int = 0


H = TypeVar("H", bound=Hyperparameters)


@dataclass(frozen=True)
class Split:
    """Rows of data.

    Attributes:
        inputs: the graph's inputs by name, in the contract's order; rows are the first axis.
        target: FP32 ``(n,)`` values of a regression, or ``(n, targets)`` in the order of several outputs; INT64
            ``(n,)`` class indices of a classification.
        weight: FP32 ``(n,)`` importance of each row in the loss; None for all alike.
        slices: ``(n,)`` names, each row's part of the data, such as its source; each part is evaluated by itself.
        texts: ``(n,)`` strings of each text input by name, which ``inputs`` holds as tokens.
        time: INT64 ``(n,)`` seconds since the epoch; None where the order says nothing.
        missing: by input, ``(n,)`` whether a row lacked the value that is now the contract's default; see ``filled``.
    """

    inputs: Mapping[str, Array]
    target: Array
    weight: Array | None = None
    slices: Array | None = None
    texts: Mapping[str, Array] = field(default_factory=dict)
    time: Array | None = None
    missing: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.target)

    @property
    def sent(self) -> dict[str, Array]:
        """The inputs as clients sent them: NaN, None of a text, or −1 of a category, where a value was missing."""
        return self._sent(self.inputs)

    @property
    def sent_texts(self) -> dict[str, Array]:
        """The texts as clients sent them: None where one was missing."""
        return self._sent(self.texts)

    def _sent(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        sent = dict(arrays)
        for name in [name for name in self.missing if name in sent and sent[name].ndim == 1]:  # tokens have no gaps
            missing: Any = {"f": np.nan, "O": None}.get(sent[name].dtype.kind, -1)
            sent[name] = np.where(self.missing[name], np.array(missing, sent[name].dtype), sent[name])
        return sent

    def filled(self, inputs: Sequence[TensorSpec]) -> "Split":
        """Put the contract's defaults where inputs are NaN, None of a text, or −1 of a category."""
        defaults = defaults_of(inputs)
        missing = {name: is_missing(self.inputs[name]) for name in defaults}
        texts = filled(self.texts, {name: defaults[name] for name in defaults.keys() & self.texts.keys()})
        return replace(self, inputs=filled(self.inputs, defaults), texts=texts, missing=missing)

    def row(self, inputs: Sequence[TensorSpec], index: int) -> dict[str, Any]:
        """Return one row as a client sends it: a category as its name, tokens as their text."""
        gone = {name for name, rows in self.missing.items() if rows[index]}
        values = {spec.name: self.texts.get(spec.name, self.inputs[spec.name])[[index]] for spec in inputs}
        return {spec.name: None if spec.name in gone else as_sent(spec, values[spec.name])[0] for spec in inputs}

    def head(self, rows: int) -> "Split":
        """Return the first rows."""
        return self.part(slice(rows))

    def tail(self, rows: int) -> "Split":
        """Return the last rows."""
        return self.part(slice(len(self) - rows, None))

    def followed_by(self, later: "Split") -> "Split":
        """Append later rows of the same inputs.

        A row without a weight weighs 1 where others have one. If only the later rows have times, the order of these is
        unknown: they are shuffled, and count as old as the oldest later row.
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
            {
                name: np.concatenate([split.missing.get(name, np.zeros(len(split), bool)) for split in (self, later)])
                for name in self.missing.keys() | later.missing.keys()
            },
        )

    def part(self, rows: slice | Array) -> "Split":
        """Return some of the rows, by a slice, their indices or a mask."""

        def some(arrays: Mapping[str, Array]) -> dict[str, Array]:
            return {name: values[rows] for name, values in arrays.items()}

        others = (self.weight, self.slices, self.time)
        weight, slices, time = (None if each is None else each[rows] for each in others)
        target, missing = self.target[rows], some(self.missing)
        return Split(some(self.inputs), target, weight, slices, some(self.texts), time, missing)


@dataclass(frozen=True)
class Data:
    """The data of a recipe.

    Attributes:
        train: rows to fit.
        test: held-out rows, only evaluated at the end.
        validation: rows to watch while fitting; may be absent.
        inputs: the contract's inputs; categories may come from the data.
        sha256: checksum of the files that it was read from.
        weights: file of pretrained weights, if the module starts from such.
        assets: files that the archive's handler needs beside the graph, by name.
        feedback: labelled rows beside the recipe's own, for the lineage; see ``training.feedback``.
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
class Serving(Autoscaling):
    """The settings of serving; written to the archive's ``model-config.yaml``. Those of replicas are the Ray host's."""

    engine: Literal["onnxruntime", "torch", "torchscript", "python"] = "onnxruntime"  # the last two: imported files
    device: str = "cpu"  # or cuda, cuda:1, of a machine that has it
    isolated: bool = False  # whether a process of its own runs the graph
    workers: int = 1
    batch_size: int = 64  # most requests in one batch
    max_batch_delay: int = 1  # ms that a batch waits for more requests; TorchServe takes 0 for 100, its default
    response_timeout: int | None = None  # s until a worker that does not answer is replaced; None: by measurement
    max_rows: int = 1024  # most rows of one request
    threads: int | None = None  # for one operator; None: cores divided by workers


class Recipe(ABC, Generic[H]):
    """A model's recipe. Subclass it, fill in the attributes, and implement ``load``, ``module`` and ``baselines``."""

    name: ClassVar[str]
    task: ClassVar[Task]
    description: ClassVar[str]
    presets: ClassVar[Mapping[str, Any]]  # name to H; the first is the default
    found_folder: ClassVar[Path] = Path(__file__).parent.parent / "presets"  # that searches wrote, NAME.json
    starts: ClassVar[Mapping[str, str]] = {}  # presets that `ablate` starts from and what they are; else the default
    # A regression's, whose range is that of its labels, else of the known ones, widened; a classification's follow.
    # Of several, each a target, the judge looks at all; a search and the baselines go by the first.
    outputs: ClassVar[tuple[TensorSpec, ...]] = ()
    labels: ClassVar[tuple[str, ...]] = ()
    decides: ClassVar[Criterion | None] = None  # the metric that decides between versions; None: rmse or accuracy
    entry_point: ClassVar[Literal["tabular", "image", "text"]] = "tabular"
    serving: ClassVar[Serving] = Serving()
    parity_rows: ClassVar[int] = 10_000  # most held-out rows that the graphs are compared on

    @abstractmethod
    def load(self, hp: H, cache: Path) -> Data:
        """Read the data, fetched into ``cache`` where it is missing.

        Raises:
            DataError: the data cannot be had, or is not what it should be; the message says how to get it.
        """

    @abstractmethod
    def module(self, hp: H, data: Data) -> nn.Module:
        """Build the network.

        Its ``forward`` takes the inputs as positional tensors in the contract's order, and returns ``(n,)`` values of a
        regression, ``(n, targets)`` of several targets, or ``(n, classes)`` logits. The arithmetic that turns raw
        values into features is inside.
        """

    @abstractmethod
    def baselines(self, data: Data) -> Mapping[str, Array]:
        """Predict ``data.test`` by baselines that the model must beat, by name.

        Returns:
            Values ``(n,)`` or ``(n, targets)`` of a regression; probabilities or one-hot votes ``(n, classes)`` of a
            classification.
        """

    def timeline(self, data: Data) -> Split | None:
        """Return all rows with time and truth, in order of time, those after ``data`` included; by default None.

        The ageing of a version is measured on it.
        """
        return None

    def with_feedback(self, data: Data, rows: Split, held_out: Split, hp: H) -> Data:
        """Extend loaded data by labelled rows of the time since; by default they are learned like the others.

        Args:
            rows: rows to learn, in order of time, with ``time``.
            held_out: newer rows to test; none of them may be learned.
        """
        return replace(data, train=data.train.followed_by(rows), test=held_out)

    def augment(self, inputs: list[Tensor], hp: H) -> list[Tensor]:
        """Vary a training batch; by default not at all."""
        return inputs

    def loss(self, output: Tensor, target: Tensor, hp: H) -> Tensor:
        """Return the loss of each row, ``(n,)``: squared error, the mean over several targets, or cross-entropy."""
        if self.task == "classification":
            return nn.functional.cross_entropy(output, target, label_smoothing=hp.label_smoothing, reduction="none")
        losses = nn.functional.mse_loss(output, target, reduction="none")
        return losses.mean(1) if losses.ndim > 1 else losses

    def space(self, trial: "Trial", hp: H) -> H:
        """Suggest hyperparameters around ``hp`` for a trial of a search; by default those of every optimizer.

        Suggestions have the hyperparameters' names. A recipe may add its own, but none that makes a run longer: trials
        are compared in equal budgets.
        """
        return replace(
            hp,
            lr=trial.suggest_float("lr", hp.lr / 10, hp.lr * 10, log=True),
            batch_size=trial.suggest_int("batch_size", max(1, hp.batch_size // 4), hp.batch_size),
            weight_decay=trial.suggest_float("weight_decay", 0.0, 0.1),
            schedule=trial.suggest_categorical("schedule", get_args(Schedule)),
        )

    def batch(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Stack some rows of a split as the handler does for the graph; by default they stay as they are."""
        return inputs

    def smaller(self, hp: H) -> H | None:
        """Return hyperparameters of a smaller network, which learns from this one; by default None."""
        return None

    def prunable(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the layers that may lose channels; by default all linear ones and convolutions but the last."""
        return [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][:-1]

    def metrics(self, output: Array, target: Array) -> dict[str, float]:
        """Measure metrics of this model's own, beside those of its task; by default none.

        Args:
            output: the model's or a baseline's: values ``(n,)``, of several targets the first's, or probabilities
                ``(n, classes)``.
            target: the truth, ``(n,)``.
        """
        return {}

    @property
    def all_outputs(self) -> tuple[TensorSpec, ...]:
        """The contract's outputs."""
        return classification_outputs(len(self.labels)) if self.task == "classification" else self.outputs

    @property
    def scoring(self) -> Scoring:
        """Metrics of the answers."""
        several = self.task == "regression" and len(self.outputs) > 1
        targets = tuple(spec.name for spec in self.outputs) if several else ()
        return Scoring(self.task, self.labels, self.decides, self.metrics, targets)

    def preset(self, name: str | None) -> H:
        """Return hyperparameters by name, or with None the default; a search writes ``found``.

        Raises:
            KeyError: no such preset; the message lists them.
            ValueError: the file of ``found`` is damaged, or names hyperparameters that no longer exist.
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
        """File of the values of a search's best trial."""
        return self.found_folder / f"{self.name}.json"

    @property
    def preset_names(self) -> tuple[str, ...]:
        """Names of all presets, that of a search included."""
        return (*self.presets, *([FOUND] if self.found_file.exists() else []))


def _changed(hp: H, path: Path) -> H:
    """Change hyperparameters to the values of a file."""
    try:
        values = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        if unknown := values.keys() - asdict(hp).keys():
            raise TypeError(f"no {', '.join(sorted(unknown))}")
        return msgspec.convert(asdict(hp) | values, type(hp))
    except (msgspec.MsgspecError, TypeError) as error:
        raise ValueError(f"{path} holds no hyperparameters: {error}; search again, or delete it") from error


def to_tensors(split: Split) -> list[Tensor]:
    """Return the inputs of a split as tensors, in order, without a copy where the array is writable."""
    return [torch.from_numpy(np.require(values, requirements="W")) for values in split.inputs.values()]


@dataclass(frozen=True)
class Trained:
    """A fitted module with all that evaluation and packaging need."""

    recipe: Recipe[Any]
    hp: Any
    data: Data
    module: nn.Module  # as the recipe made it: logits of a classification
    seconds: float = 0.0  # duration of fitting, this run's part
    history: list[dict[str, float]] = field(default_factory=list)
    temperature: float = 1.0  # that logits are divided by before they are made probabilities
    preset: str = ""  # name of the hyperparameters, for the record
