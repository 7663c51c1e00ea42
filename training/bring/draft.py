"""The draft of an imported model's contract: what its graph, its example and its data tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from handlers.contract import Array, ModelContract, Task, TensorSpec
from handlers.contract.model_card import Imported, Lineage
from handlers.message import JSON
from serving.registry import file_sha256
from training.bring import overrides
from training.bring.feeds import Feed, feeds_of
from training.bring.graph import BringError, Brought
from training.bring.heads import Answers, answers_of, with_axes
from training.bring.hooks import check_final, hooked, with_outputs
from training.bring.rows import bare_contract, example_of, made_up, request_of
from training.bring.runner import Runner, runner_of
from training.bring.table import Table, gaps, read_table, targets_of, tensors_of, with_data
from training.packaging.registration import Promote

PACKAGES = ("onnx", "onnxruntime", "numpy")
CHECKED = 10_000  # rows of the data at most that the graphs are compared on


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What is given beside the file.

    Attributes:
        task: None to guess it.
        target: column of the data that holds the truth; of several targets a column each, with commas between.
        contract: YAML that overrides parts of the draft.
        hooks: Python file with ``preprocess``, ``postprocess`` or both; see ``handlers.engine.hooks``.
    """

    name: str
    example: Path | None = None
    labels: tuple[str, ...] = ()
    task: Task | None = None
    data: Path | None = None
    target: str = ""
    contract: Path | None = None
    hooks: Path | None = None
    promote: Promote = "auto"


@dataclass(frozen=True)
class Draft:
    """What is known of a model before it is packaged.

    Attributes:
        rows: all that were given, as the graph's tensors; the example is the first.
        guessed: parts of the contract that nobody said, and why they are so.
    """

    model: Brought
    contract: ModelContract
    description: str
    feeds: tuple[Feed, ...]
    answers: Answers
    runner: Runner
    rows: Mapping[str, Array]
    table: Table | None
    guessed: Mapping[str, str] = field(default_factory=dict)

    @property
    def engine(self) -> Literal["onnxruntime", "torch", "torchscript", "python"]:
        """The engine that a worker runs it with."""
        return self.model.served.engine if self.model.served else "onnxruntime"


@dataclass(frozen=True)
class _Given:
    """A model, and all that is given beside it."""

    model: Brought
    options: ImportOptions
    wishes: overrides.Overrides
    table: Table | None

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names that somebody said; empty for none."""
        return self.options.labels or self.wishes.labels

    @property
    def task(self) -> Task | None:
        """The task that somebody said, or that labels tell; None to guess it."""
        made = self.model.intake and self.model.intake.outputs
        return self.options.task or self.wishes.task or ("classification" if self.labels and not made else None)


def draft(model: Brought, options: ImportOptions) -> Draft:
    """Derive a contract from a graph and all that is given beside it.

    Raises:
        BringError: the parts do not fit together; says which.
    """
    given = _gathered(model, options)
    feeds = _feeds(given)
    rows, guessed = _rows(given, feeds)
    model = with_outputs(given.model, feeds, rows)
    given = replace(given, model=model)
    runner = runner_of(model, feeds, rows)
    _, results = next(iter(runner.chunks(rows)))
    answers = _answers(given, results)
    check_final(model, feeds, answers)
    guessed |= _guesses(given, feeds, answers, runner)
    contract = _contract(given, feeds, answers)
    description = given.wishes.description or f"imported from {model.file}"
    return Draft(model, contract, description, feeds, answers, runner, rows, given.table, guessed)


def _gathered(model: Brought, options: ImportOptions) -> _Given:
    """Read the files beside a model, and put the hooks around it."""
    wishes = overrides.read(options.contract) if options.contract else overrides.Overrides()
    table = read_table(options.data, options.target) if options.data else None
    if options.hooks:
        model = hooked(model, options.hooks, wishes.declared)
    elif wishes.declared:
        raise BringError("datatype and shape are the graph's, but for inputs that hooks take: --hooks hooks.py")
    return _Given(model, options, wishes, table)


def _answers(given: _Given, results: Sequence[Array]) -> Answers:
    """Return how the outputs for some rows are read; raise ``BringError`` unless each has a truth, or none."""
    model, table = given.model, given.table
    made = model.intake.outputs if model.intake else ()
    columns = targets_of(given.options.target) if table is None or table.truth is None else tuple(table.truth.columns)
    targets = given.wishes.targets or (columns if len(columns) > 1 else ())
    answers = answers_of(model.outputs, results, given.task, given.labels or model.labels, targets, made)
    if table and table.truth is not None and answers.task != "tensors" and len(columns) != len(_truths(answers)):
        answered = ", ".join(_truths(answers))
        raise BringError(
            f"the truth of {', '.join(columns)} is given, and the model answers {answered}: name one for each"
        )
    return answers


def _guesses(given: _Given, feeds: Sequence[Feed], answers: Answers, runner: Runner) -> dict[str, str]:
    """Return the parts of the contract that nobody said, and why they are so; of the rows `_rows` tells."""
    model, table = given.model, given.table
    guessed: dict[str, str] = {}
    if not (given.task or model.intake) or answers.heads[0].step in ("softmax", "sigmoid"):
        guessed["task"] = answers.why
    if answers.labels and not given.labels:
        guessed["labels"] = "the file holds them"
    if table:
        specs = [spec for feed in feeds for spec in feed.specs]
        guessed |= {part: why for part, why in gaps(specs, table).items() if part not in given.wishes.nullable}
        guessed["ranges, categories"] = f"those of {table.path.name}, numbers ten times its span further on either side"
    for feed in feeds:
        if feed.pixels and feed.pixels.is_guess:
            guessed[f"input {feed.specs[0].name}"] = f"the graph gets each pixel divided by {feed.pixels.scale:g}"
    if not runner.together:
        own = "its branches or loops may look at all rows of a batch"
        other = "the graph's answers in a batch are not those of each row alone"
        guessed["rows"] = f"one at a time: {own if model.branches else other}"
    return guessed


def _contract(given: _Given, feeds: Sequence[Feed], answers: Answers) -> ModelContract:
    specs = tuple(spec for feed in feeds for spec in feed.specs)
    padded = any(spec.pad is not None for spec in specs)
    outputs = with_axes(answers, given.model.outputs) if padded else answers.outputs
    return msgspec.structs.replace(
        bare_contract(given.options.name, specs),
        task=answers.task,
        outputs=given.wishes.outputs_of(outputs),
        labels=answers.labels,
        lineage=_lineage(given.model, given.table),
    )


def _truths(answers: Answers) -> list[str]:
    """Return the names of the answers that a truth is known of."""
    return ["a label"] if answers.labels else [spec.name for spec in answers.outputs]


def _feeds(given: _Given) -> tuple[Feed, ...]:
    model, table, wishes = given.model, given.table, given.wishes
    if model.intake:
        return wishes.feeds_of((Feed(model.inputs[0], (model.intake.spec,), True),))
    matrix = table is not None and len(model.inputs) == 1 and len(model.inputs[0].sizes) == 2
    columns = table.columns if table and matrix and not model.hooks else wishes.columns
    feeds = feeds_of(model.inputs, model.columns or columns)
    feeds = with_data(feeds, table) if table else feeds
    return wishes.feeds_of(feeds)


def _rows(given: _Given, feeds: Sequence[Feed]) -> tuple[Mapping[str, Array], dict[str, str]]:
    """Return the given rows, the example first, and what is guessed of them."""
    model, options, table = given.model, given.options, given.table
    guessed = {}
    parts = []
    specs = [spec for feed in feeds for spec in feed.specs]
    names = {feed.port.name: feed.specs[0].name for feed in feeds if len(feed.specs) == 1}
    names |= {alias: names[port] for alias, port in model.aliases.items()}
    names |= {column: spec.name for column, spec in zip(model.columns, specs, strict=False)}
    if options.example:
        parts.append(example_of(bare_contract(options.name, specs), options.example, names))
    elif model.example:
        place = Path(model.file, "input_example.json")
        parts.append(request_of(bare_contract(options.name, specs), model.example, JSON, names, place))
    if table:
        parts.append({name: array[:CHECKED] for name, array in tensors_of(specs, table).items()})
        if not options.example and not model.example:
            guessed["example"] = "the first row of the data"
    if not parts:
        parts += [] if model.intake else [made_up(specs)]
        guessed["example"] = "made up: give --example, since nobody knows whether this answer is right"
    if model.intake:
        parts.append({model.intake.spec.name: model.intake.samples})
    return {spec.name: np.concatenate([part[spec.name] for part in parts]) for spec in specs}, guessed


def _lineage(model: Brought, table: Table | None) -> Lineage:
    return Lineage(
        imported=Imported(model.file, model.sha256, model.kind, model.opset),
        data_sha256=file_sha256(table.path) if table else "",
        packages={name: version(name) for name in (*PACKAGES, *(model.served.packages if model.served else ()))},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def describe(draft: Draft) -> list[tuple[str, str, str]]:
    """Return the contract in lines: the part, its value, and why it was guessed."""
    contract = draft.contract
    lines = {"task": contract.task, "labels": ", ".join(contract.labels)}
    lines |= {f"input {spec.name}": _described(spec) for spec in contract.inputs}
    outputs = contract.outputs if contract.task != "classification" else ()
    lines |= {f"output {spec.name}": f"{spec.datatype} {list(spec.shape)}" for spec in outputs}
    lines |= {part: "" for part in draft.guessed if part not in lines}
    return [(part, text, draft.guessed.get(part, "")) for part, text in lines.items() if text or part in draft.guessed]


def _described(spec: TensorSpec) -> str:
    return f"{spec.datatype}, {spec.describe()}" + f"; {spec.description}" * bool(spec.description)
