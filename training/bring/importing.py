"""From a file to a registered archive: draft a contract, check that the served graph answers as the file's does."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np

from handlers.contract import Array, ModelContract, Task, TensorSpec
from handlers.contract.model_card import Evaluation, Imported, Lineage
from handlers.features import defaults_of, filled
from handlers.message import JSON
from serving.archive import ASSETS, HOOKS, ONNX
from serving.registry import Registry, file_sha256
from training.bring import overrides
from training.bring.adapt import adapt
from training.bring.feeds import Feed, feeds_of
from training.bring.graph import BringError, Brought, Served
from training.bring.heads import Answers, answers_of
from training.bring.hooks import check_final, hooked, with_outputs
from training.bring.rows import (
    Table,
    bare_contract,
    example_of,
    gaps,
    made_up,
    native_row,
    read_table,
    request_of,
    tensors_of,
    truth_of,
    with_data,
)
from training.bring.runner import Runner, runner_of
from training.packaging.lineage import with_lineage
from training.packaging.packable import Packable
from training.packaging.parity import TOLERANCE, largest_difference
from training.packaging.reference import errors_of, summaries
from training.packaging.registration import Promote, Result, register
from training.packaging.serving_settings import serving_of
from training.recipe import Serving, Split
from training.statistics import evaluate
from training.statistics.decisive import Scoring

PACKAGES = ("onnx", "onnxruntime", "numpy")
SECONDS = 2.0  # that the largest request may take here
DEADLINE = 20  # s until a worker is replaced whose requests' sizes differ: the example's time says little of them
MOST_ROWS, MOST_BYTES = 1024, 64_000_000  # of one request
CHECKED = 10_000  # rows of the data at most that the graphs are compared on


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What is given beside the file.

    Attributes:
        task: None to guess it.
        target: column of the data that holds the truth.
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


def draft(model: Brought, options: ImportOptions) -> Draft:
    """Derive a contract from a graph and all that is given beside it.

    Raises:
        BringError: the parts do not fit together; says which.
    """
    wishes = overrides.read(options.contract) if options.contract else overrides.Overrides()
    table = read_table(options.data, options.target) if options.data else None
    if wishes.declared and not options.hooks:
        raise BringError("datatype and shape are the graph's, but for inputs that hooks take: --hooks hooks.py")
    if options.hooks and model.intake:
        raise BringError(f"hooks go around a graph of tensors; {model.file} takes what a worker makes tensors of")
    if options.hooks:
        model = hooked(model, options.hooks, wishes.declared)
    feeds = _feeds(model, table, wishes)
    specs = tuple(spec for feed in feeds for spec in feed.specs)
    rows, guessed = _rows(model, options, feeds, table)
    if options.hooks:
        first = filled({name: array[:1] for name, array in rows.items()}, defaults_of(specs))
        model = with_outputs(model, {feed.port.name: feed.raw(first) for feed in feeds})
    runner = runner_of(model, feeds, rows)
    _, results = next(iter(runner.chunks(rows)))
    named = options.labels or wishes.labels
    task = options.task or wishes.task or ("classification" if named else None)
    answers = answers_of(model.outputs, results, task, named or model.labels)
    if options.hooks:
        check_final(feeds, answers, model.outputs)
    if not (task or model.intake) or answers.heads[0].step in ("softmax", "sigmoid"):
        guessed["task"] = answers.why
    if answers.labels and not named:
        guessed["labels"] = "the file holds them"
    if table:
        guessed |= {part: why for part, why in gaps(specs, table).items() if part not in wishes.nullable}
        guessed["ranges, categories"] = f"those of {table.path.name}, numbers ten times its span further on either side"
    if not runner.together:
        guessed["rows"] = "one at a time: the graph's answers in a batch are not those of each row alone"
    contract = msgspec.structs.replace(
        bare_contract(options.name, specs),
        task=answers.task,
        outputs=wishes.outputs_of(answers.outputs),
        labels=answers.labels,
        lineage=_lineage(model, table),
    )
    description = wishes.description or f"imported from {model.file}"
    return Draft(model, contract, description, feeds, answers, runner, rows, table, guessed)


def bring(
    draft: Draft, registry: Registry, promote: Promote = "auto", step: Callable[[str], None] = lambda text: None
) -> Result:
    """Package a model and register it as a new version.

    Raises:
        BringError: the served graph answers otherwise than the file's; nothing is registered.
    """
    with tempfile.TemporaryDirectory() as folder:
        graphs = Path(folder)
        write_graph(draft, graphs)
        step("checking that the served graph answers as the file's does")
        parity = check_parity(draft, graphs)
        contract = msgspec.structs.replace(with_lineage(draft.contract, parity=parity), max_rows=_max_rows(draft))
        if draft.table is not None:
            step(f"summarizing {len(draft.table):,} rows of {draft.table.path.name}")
            contract = _with_data(draft, contract, draft.table)
        contract = with_lineage(contract, graph_sha256={ONNX: file_sha256(graphs / ONNX)})
        parts = _parts(draft)
        parts = replace(parts, serving=serving_of(parts, registry.store))
        try:
            example = parts.example(contract, native_row(contract.inputs, draft.rows), graphs)
        except RuntimeError as error:
            raise BringError(f"{error}; give another row: --example") from error
        contract = msgspec.structs.replace(contract, example=example)
        step("packaging and registering")
        return register(contract, parts.packing(graphs), registry, promote)


def write_graph(draft: Draft, folder: Path) -> None:
    """Write the served graph, adapted to the contract or with its hooks beside it, and what its worker needs beside."""
    model = draft.model
    graph = model.graph if model.hooks else adapt(model, draft.feeds, draft.answers, draft.runner.bare)
    (folder / ONNX).write_bytes(graph.SerializeToString(deterministic=True))
    if model.hooks:
        (folder / HOOKS).write_bytes(model.hooks.read_bytes())
    if model.intake:
        (folder / ASSETS).mkdir()
        for name, content in model.intake.assets.items():
            (folder / ASSETS / name).write_bytes(content)


def check_parity(draft: Draft, folder: Path) -> dict[str, int | float]:
    """Compare the served graph with the file's on all given rows.

    Args:
        folder: as ``write_graph`` leaves it.

    Returns:
        ``rows``, and the largest difference: relative for values over 1, and for a number over 1 % of the largest.

    Raises:
        BringError: a difference is over the tolerance; names the row.
    """
    served_by = Served(folder, draft.contract)
    worst, at = 0.0, 0
    for some, outputs in draft.runner.chunks(draft.rows):
        served = served_by.run(draft.model.encoded(some))
        for head in draft.answers.heads:
            expected = head.apply(outputs)
            # FP32 rounds a sum of large leaves or weights, however small the sum is.
            unit = max(1.0, float(np.abs(expected).max()) / 100) if head.step == "column" else 1.0
            for i in range(len(expected)):
                own, right = served[head.name][i : i + 1], expected[i : i + 1]
                gap = largest_difference(own, right, equal_nan=True, unit=unit)
                worst = max(worst, gap)
                if not gap <= TOLERANCE:
                    raise BringError(
                        f"{head.name} of row {at + i} differs by {gap:.3g} from the answer of {draft.model.file}, "
                        f"more than {TOLERANCE:g}; nothing is registered"
                    )
        at += len(next(iter(some.values())))
    return {"rows": at, "onnxruntime": worst}


def _parts(draft: Draft) -> Packable:
    intake = draft.model.intake
    if intake is None:
        return Packable(draft.contract.name, draft.description, "tabular", Serving())
    return Packable(draft.contract.name, draft.description, intake.entry_point, Serving(response_timeout=DEADLINE))


def _feeds(model: Brought, table: Table | None, wishes: overrides.Overrides) -> tuple[Feed, ...]:
    if model.intake:
        return wishes.feeds_of((Feed(model.inputs[0], (model.intake.spec,), True),))
    matrix = table is not None and len(model.inputs) == 1 and len(model.inputs[0].sizes) == 2
    columns = table.columns if table and matrix and not model.hooks else wishes.columns
    feeds = feeds_of(model.inputs, model.columns or columns)
    feeds = with_data(feeds, table) if table else feeds
    return wishes.feeds_of(feeds)


def _rows(
    model: Brought, options: ImportOptions, feeds: Sequence[Feed], table: Table | None
) -> tuple[Mapping[str, Array], dict[str, str]]:
    """Return the given rows, the example first, and what is guessed of them."""
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


def _with_data(draft: Draft, contract: ModelContract, table: Table) -> ModelContract:
    """Add the reference and, where the truth is known, the evaluation."""
    tensors = tensors_of(contract.inputs, table)
    output, errors = None, None
    if contract.task != "tensors":
        head = draft.answers.heads[0]
        output = np.concatenate([head.apply(outputs) for _, outputs in draft.runner.chunks(tensors)])
    if output is not None and table.target is not None:
        truth = truth_of(table, contract.labels)
        errors = errors_of(contract, output, truth)
        evaluation = _evaluation(contract, tensors, output, truth)
        contract = msgspec.structs.replace(contract, evaluation=evaluation)
    lengths = {
        spec.name: np.array([len(text) for text in tensors[spec.name]])
        for spec in contract.inputs
        if spec.datatype == "BYTES" and not spec.categories
    }
    order = np.random.default_rng(0).permutation(len(table))
    inputs = {name: array[order] for name, array in (tensors | lengths).items()}
    parts = [None if array is None else array[order] for array in (output, errors)]
    return msgspec.structs.replace(contract, reference=summaries(contract, inputs, *parts))


def _evaluation(contract: ModelContract, tensors: Mapping[str, Array], output: Array, truth: Array) -> Evaluation:
    if contract.task == "classification":
        most = np.bincount(truth, minlength=len(contract.labels)).argmax()
        simple = {"majority": np.tile(np.eye(len(contract.labels), dtype=np.float32)[most], (len(truth), 1))}
    else:
        simple = {"mean": np.full(len(truth), truth.mean(), np.float32)}
    return evaluate.evaluate(Scoring(contract.task, contract.labels), Split(tensors, truth), output, simple)


def _max_rows(draft: Draft) -> int:
    """Return the most rows of a request: as many as take no longer than ``SECONDS``, or 1 where rows run alone."""
    if not draft.runner.together:
        return 1
    one = {name: array[-1:] for name, array in draft.rows.items()}
    started = time.perf_counter()
    for _ in draft.runner.chunks(one):
        pass
    by_time = SECONDS / max(time.perf_counter() - started, 1e-6)
    size = sum(8 * int(np.prod(spec.largest)) for spec in draft.contract.inputs)
    return int(max(1, min(MOST_ROWS, by_time, MOST_BYTES // size)))


def _lineage(model: Brought, table: Table | None) -> Lineage:
    return Lineage(
        imported=Imported(model.file, model.sha256, model.kind, model.opset),
        data_sha256=file_sha256(table.path) if table else "",
        packages={name: version(name) for name in PACKAGES},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _described(spec: TensorSpec) -> str:
    return f"{spec.datatype}, {spec.describe()}" + f"; {spec.description}" * bool(spec.description)


def describe(draft: Draft) -> list[tuple[str, str, str]]:
    """Return the contract in lines: the part, its value, and why it was guessed."""
    contract = draft.contract
    lines = {"task": contract.task, "labels": ", ".join(contract.labels)}
    lines |= {f"input {spec.name}": _described(spec) for spec in contract.inputs}
    outputs = contract.outputs if contract.task != "classification" else ()
    lines |= {f"output {spec.name}": f"{spec.datatype} {list(spec.shape)}" for spec in outputs}
    lines |= {part: "" for part in draft.guessed if part not in lines}
    return [(part, text, draft.guessed.get(part, "")) for part, text in lines.items() if text or part in draft.guessed]
