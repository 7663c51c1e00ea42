"""The commands ``import`` and ``contract``."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from serving.command_line import STORE, Json, Store, console, fail, registry_at, sentence, telling
from serving.registry import ArchiveError
from training.packaging.commands_train import Promote

if TYPE_CHECKING:
    from training.bring.draft import Draft, ImportOptions
    from training.packaging.registration import Result

File = Annotated[
    Path,
    typer.Argument(help="ONNX, .pt2, TorchScript, weights, .skops, .joblib, boosted trees, .gguf, transformers, .mar."),
]
Module = Annotated[str, typer.Option(help="package.module:Class that a file of weights belongs to.")]
Kwargs = Annotated[str, typer.Option(help="Arguments of that class, as a JSON object.")]
Trust = Annotated[bool, typer.Option("--trust", help="Allow code in the file to run: only if you trust its author.")]
Pooling = Annotated[str, typer.Option(help="A bare text encoder's way to one vector: mean, cls or max.")]
Example = Annotated[
    Path | None, typer.Option(help="A request with its values: JSON of any format, .npy; a text, or .txt; of .mar any.")
]
Labels = Annotated[str | None, typer.Option(help="Class names, with commas between, or a file with one a line.")]
Data = Annotated[Path | None, typer.Option(help="Rows as CSV or Parquet: names, ranges, categories, drift.")]
Target = Annotated[str, typer.Option(help="Column of the data with the truth, for metrics; of several targets: a,b.")]
HooksFile = Annotated[Path | None, typer.Option("--hooks", help="Python with preprocess(rows), postprocess(outputs).")]
Overriding = Annotated[Path | None, typer.Option("--contract", help="YAML that changes parts of the contract.")]


class TaskName(StrEnum):
    """The tasks of a graph."""

    regression = "regression"
    classification = "classification"
    tensors = "tensors"


TaskOption = Annotated[TaskName | None, typer.Option(help="How its outputs are read; guessed where it is not given.")]


def import_command(
    file: File,
    name: Annotated[str, typer.Option(help="The model's name, in URLs and metrics.")],
    example: Example = None,
    labels: Labels = None,
    task: TaskOption = None,
    data: Data = None,
    target: Target = "",
    contract: Overriding = None,
    hooks: HooksFile = None,
    module: Module = "",
    kwargs: Kwargs = "{}",
    trust: Trust = False,
    pooling: Pooling = "",
    promote: Annotated[
        Promote, typer.Option(help="Make it champion: if it is the first or measured as better (auto), always, never.")
    ] = Promote.auto,
    store: Store = STORE,
    as_json: Json = False,
) -> None:
    """Bring a model that is trained already: check it, write its contract, archive and register it."""
    if file.suffix == ".gguf":
        given = {"--labels": labels, "--task": task, "--data": data, "--contract": contract, "--hooks": hooks}
        unused = [option for option, value in given.items() if value]
        _tell(_import_language(file, name, example, promote, store, unused), as_json)
        return
    if file.suffix == ".mar":
        given = {"--labels": labels, "--task": task, "--data": data, "--target": target, "--contract": contract}
        given |= {"--hooks": hooks, "--module": module, "--pooling": pooling}
        _refuse_for_foreign(file, [option for option, value in given.items() if value])
        _tell(_import_foreign(file, name, example, trust, promote, store), as_json)
        return
    from training.bring.graph import BringError
    from training.bring.importing import bring

    try:
        options = _options(name, example, labels, task, data, target)
        options = replace(options, contract=contract, hooks=hooks, promote=promote.value)
        drafted = _drafted(file, options, module, kwargs, trust, pooling)
        _print(drafted)
        result = bring(drafted, registry_at(store), options.promote, telling(name))
    except (BringError, ArchiveError, ValueError) as error:
        fail(error)
    except OSError as error:
        fail(f"{file} could not be imported: {sentence(error)}")
    evaluation = result.contract.evaluation
    if evaluation.metrics:
        known = {metric: value for metric, value in evaluation.metrics.items() if value is not None}
        figures = ", ".join(f"{metric} {value:.4f}" for metric, value in known.items())
        console.print(f"on the {evaluation.rows or 0:,} rows of {data}: {figures}", markup=False)
    _tell(result, as_json)


def _import_language(
    file: Path, name: str, example: Path | None, promote: Promote, store: str, unused: list[str]
) -> "Result":
    from training.data import DataError
    from training.language.imported import LanguageOptions, bring_language

    if unused:
        fail(f"{', '.join(unused)}: a language model has none; it takes --example and --promote")
    try:
        options = LanguageOptions(name=checked_name(name), example=example, promote=promote.value)
        result = bring_language(file, registry_at(store), options, telling(name))
    except (DataError, ArchiveError, ValueError) as error:
        fail(error)
    except OSError as error:
        fail(f"{file} could not be imported: {sentence(error)}")
    evaluation = result.contract.evaluation
    console.print(f"perplexity {evaluation.metrics['perplexity']:.2f} on a plain text", markup=False)
    return result


def _refuse_for_foreign(file: Path, unused: list[str]) -> None:
    if unused:
        fail(
            f"{', '.join(unused)}: of a graph, and {file.name} is served by its own handler, "
            "of which nobody knows what it takes. Import the model that is in it, such as its .pt, to say it"
        )


def _import_foreign(file: Path, name: str, example: Path | None, trust: bool, promote: Promote, store: str) -> "Result":
    from serving.archive.foreign import read_foreign
    from training.bring.files import foreign
    from training.bring.graph import BringError

    try:
        options = foreign.ForeignOptions(name=checked_name(name), example=example, trust=trust, promote=promote.value)
        archive = read_foreign(file)
        console.print(foreign.describe(archive), markup=False)
        result = foreign.bring_foreign(archive, registry_at(store), options, telling(name))
    except (BringError, ArchiveError, ValueError) as error:
        fail(error)
    except OSError as error:
        fail(f"{file} could not be imported: {sentence(error)}")
    rows = foreign.added(name)
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    for what, now, then in rows:
        console.print(f"  {what:{widths[0]}}  {now:{widths[1]}}  {then}", markup=False, highlight=False)
    return result


def _tell(result: "Result", as_json: bool) -> None:
    from training.packaging.registration import result_document

    console.print(f"{result.archive}: {result.state} ({result.why})", markup=False)
    if result.state == "champion":
        console.print("`make up` serves it", markup=False)
    if as_json:
        typer.echo(msgspec.json.encode(result_document(result)))


def contract_command(
    file: File,
    name: Annotated[str, typer.Option(help="The model's name.")] = "model",
    example: Example = None,
    labels: Labels = None,
    task: TaskOption = None,
    data: Data = None,
    target: Target = "",
    module: Module = "",
    kwargs: Kwargs = "{}",
    trust: Trust = False,
    pooling: Pooling = "",
) -> None:
    """Print the contract that `import` would write, as YAML to be edited and given to it with --contract."""
    if file.suffix == ".gguf":
        fail("a language model's contract has no part to edit: import it")
    if file.suffix == ".mar":
        fail(f"{file.name} has none: its own handler serves it, of which nobody knows what it takes: import it")
    from training.bring import overrides
    from training.bring.graph import BringError

    try:
        options = _options(name, example, labels, task, data, target)
        drafted = _drafted(file, options, module, kwargs, trust, pooling)
    except (BringError, ValueError) as error:
        fail(error)
    contract = drafted.contract
    for part, why in drafted.guessed.items():
        typer.echo(f"# guessed, {part}: {why}")
    parts = {"inputs": contract.inputs, "outputs": contract.outputs if contract.task != "classification" else ()}
    by_name = {kind: {spec.name: spec for spec in specs} for kind, specs in parts.items() if specs}
    typer.echo(overrides.written(contract.task, drafted.description, contract.labels, by_name), nl=False)


def _options(
    name: str, example: Path | None, labels: str | None, task: TaskName | None, data: Path | None, target: str
) -> "ImportOptions":
    from training.bring.draft import ImportOptions

    return ImportOptions(
        name=checked_name(name),
        example=example,
        labels=_labels(labels),
        task=task.value if task else None,
        data=data,
        target=target,
    )


def checked_name(name: str) -> str:
    """Return a model's name.

    Raises:
        ValueError: it cannot stand in a URL and in the name of a file.
    """
    if not name.isascii() or not name.replace("-", "_").isidentifier():
        raise ValueError(f"the name {name!r} must be letters, digits, - and _, a letter first")
    return name


def _drafted(file: Path, options: "ImportOptions", module: str, kwargs: str, trust: bool, pooling: str) -> "Draft":
    from training.bring import sources
    from training.bring.draft import draft

    try:
        arguments = msgspec.json.decode(kwargs, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ValueError(f"--kwargs must be a JSON object: {error}") from error
    reading = sources.Reading(options.example, options.data, module, arguments, trust, pooling)
    return draft(sources.read(file, reading), options)


def _print(drafted: "Draft") -> None:
    from training.bring.draft import describe

    model = drafted.model
    if model.served:
        facts = f"as it is, {model.served.path.stat().st_size:,} bytes"
    else:
        graph = model.converted
        facts = f"opset {model.opset}, {graph.ByteSize():,} bytes, {len(graph.graph.node):,} operators"
    console.print(f"{model.file}: {model.kind}, {facts}", markup=False)
    rows = describe(drafted)
    width = max(len(part) for part, _, _ in rows)
    for part, text, why in rows:
        console.print(f"  {part:{width}}  {text}{' ' * bool(text and why)}{why and f'(guessed: {why})'}", markup=False)
    for note in model.notes:
        console.print(f"  {note}", markup=False)


def _labels(text: str | None) -> tuple[str, ...]:
    if not text:
        return ()
    path = Path(text)
    try:  # an editor of Windows puts a byte order mark before the first name
        names = path.read_text("utf-8-sig").splitlines() if path.is_file() else text.split(",")
    except UnicodeDecodeError as error:
        raise ValueError(f"--labels: {path} is no text in UTF-8 with a name a line: {error}") from error
    labels = tuple(name.strip() for name in names if name.strip())
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise ValueError(f"--labels needs two names at least, each once; it has {', '.join(labels)}")
    return labels
