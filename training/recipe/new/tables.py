"""A recipe for a table: its columns looked at, and its text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from training.data import DataError
from training.recipe.new.columns import RANDOM, Column, Target, TaskName, leaks, look_at_columns, look_at_target
from training.recipe.new.files import SAMPLE, check_names, read_sample
from training.recipe.new.source import LONGEST, WIDTH, Method, Source, assignment, comment, quoted, tuple_of
from training.recipe.rows import input_name
from training.recipe.table import Table

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Draft:
    """A recipe that is not written yet, and what is to be said of the data."""

    source: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """What is asked for: the column to predict, the task if it is given, and the column to split by."""

    name: str
    target: str
    task: TaskName | None = None
    time: str = ""


def draft_table(path: Path, question: Question, place: Path) -> Draft:
    """Draft a recipe for a table.

    Args:
        place: folder of the recipe.

    Raises:
        DataError: nothing can be learned from the file.
    """
    path = path.resolve()
    frame, options = read_sample(path)
    target = read_target(frame, question, path)
    columns = look_at_columns(frame, question.target, question.time)
    table, columns, split = _tried(path, frame, options, question, target, columns)
    warnings = leaks(frame, columns, question.target, target.task)
    source = _source(table, question.name, target, columns, warnings, len(frame), place)
    if source.count("\n") > LONGEST and table.numbers is not None:  # all that is not named is a number
        source = _source(replace(table, numbers=None), question.name, target, columns, warnings, len(frame), place)
    if source.count("\n") > LONGEST:
        raise DataError(f"{path} has too many columns for a recipe of {LONGEST} lines: keep those that matter")
    return Draft(source, (*_notes(frame, target, columns, warnings, path), split))


def read_target(frame: "DataFrame", question: Question, path: Path) -> Target:
    """Look at the column to predict.

    Raises:
        DataError: there is none, or nothing can be learned of it.
    """
    if question.target not in frame.columns:
        raise DataError(f"{path} has no column {question.target!r}; it has {', '.join(map(str, frame.columns[:20]))}")
    target = look_at_target(frame[question.target], question.task)
    check_names(target.labels, path)
    return target


def _tried(
    path: Path,
    frame: "DataFrame",
    options: dict[str, object],
    question: Question,
    target: Target,
    columns: list[Column],
) -> tuple[Table, list[Column], str]:
    """Return the table that can be split, its columns, and how it is split; at random where time leaves one class."""
    names = {kind: tuple(c.name for c in columns if c.kind == kind) for kind in ("number", "category", "left out")}
    time = next((column for column in columns if column.kind == "time"), None)
    table = Table(path, question.target, names["number"], names["category"], names["left out"], read=options)
    if time is None:
        table.data(frame, target.labels, "")
        return table, columns, "split at random: a fifth held out, a tenth to watch while fitting"
    timed = replace(table, time=time.name, time_format=time.time_format)
    try:
        timed.data(frame, target.labels, "")
        return timed, columns, f"split by {time.name}: the newest fifth held out (--time {RANDOM} for at random)"
    except DataError:
        if question.time:
            raise
    columns = [replace(c, kind="left out", note="times; split at random") if c is time else c for c in columns]
    return _tried(path, frame, options, question, target, columns)


def _source(
    table: Table, name: str, target: Target, columns: Sequence[Column], warnings: Sequence[str], rows: int, place: Path
) -> str:
    classes = "len(self.labels)" if target.labels else ""
    baselines = "the commonest class, a linear model" if target.labels else "the mean, a linear model"
    how = "the newest fifth" if table.time else "a fifth"
    return Source(
        name=name,
        about=about(target, table.target, table.file.name),
        task=target.task,
        imports=(
            "from training.recipe.table import Table",
            "from training.recipe.table_models import TableNetwork, table_baselines",
            *imports_of(target),
        ),
        data=_statement(table, columns, warnings, place),
        labels=target.labels,
        attributes=attributes_of(target, table.target),
        preset=preset(rows),
        load=Method(
            f"Read the rows; hold out {how}, and watch a tenth.", f"TABLE.load({'self.labels' if classes else ''})"
        ),
        module=Method(
            "Build two layers; the scaling of numbers and vectors of categories are inside.",
            f"TableNetwork({', '.join(filter(None, ('data', classes)))}, hidden=(64, 64), dropout=0.1)",
        ),
        baselines=Method(
            f"Predict by {baselines} and gradient-boosted trees.",
            f"table_baselines({', '.join(filter(None, ('data', classes)))})",
        ),
    ).render()


def about(target: Target, column: str, file: str) -> str:
    """Return a line about a model."""
    return f"{target.task.capitalize()} of {column}, from {file}".replace("\\", "/").replace('"', "'")


def imports_of(target: Target) -> tuple[str, ...]:
    """Return the imports that ``attributes_of`` needs."""
    if target.task == "regression":
        return ("from handlers.contract import TensorSpec",)
    return ("from training.statistics.criteria import Criterion",) if target.imbalanced else ()


def attributes_of(target: Target, column: str) -> tuple[str, ...]:
    """Return the lines on a regression's output, or on the metric of classes of which one is rare."""
    if target.task == "regression":
        return (f'outputs = (TensorSpec({quoted(input_name(column))}, "FP32"),)',)
    if not target.imbalanced:
        return ()
    label = f", {quoted(target.rarest)}" if len(target.labels) == 2 else ""
    return (f'decides = Criterion("auc"{label})  # {target.rarest_share:.1%} are {target.rarest[:40]}',)


def preset(rows: int) -> str:
    """Return hyperparameters for so many rows: some thousand steps, ended where watched rows get no better."""
    batch = 32 if rows < 2_000 else 128 if rows < 20_000 else 1024
    epochs = min(60, max(10, 3_000 * batch // rows))
    return f"epochs={epochs}, batch_size={batch}, lr=0.003, weight_decay=0.01, patience={max(5, epochs // 5)}"


def file_literal(path: Path, place: Path) -> str:
    """Return the expression of a path: relative to the recipe where it lies in its folder."""
    if path.is_relative_to(place.resolve()):
        return f"Path(__file__).parent / {quoted(str(path.relative_to(place.resolve())))}"
    return f"Path({quoted(str(path))})"


def _statement(table: Table, columns: Sequence[Column], warnings: Sequence[str], place: Path) -> str:
    """Return the statement that makes the table, and before it those of columns that fill several lines."""
    before, arguments = [], [f"file={file_literal(table.file, place)}", f"target={quoted(table.target)}"]
    for argument, kind in (("numbers", "number"), ("categories", "category"), ("left_out", "left out")):
        names = getattr(table, argument)
        if not names:
            continue
        if argument == "left_out" and table.numbers is not None and len(tuple_of(names)) > WIDTH - 20:
            arguments.append(f"# {len(names)} columns are left out, such as {quoted(names[0])}")
            continue
        arguments += comment(_why([column for column in columns if column.kind == kind]))
        if len(f"    {argument}={tuple_of(names)},") <= WIDTH:
            arguments.append(f"{argument}={tuple_of(names)}")
        else:
            before.append(assignment(argument.upper(), names))
            arguments.append(f"{argument}={argument.upper()}")
    if warnings:
        arguments += comment(f"tells the target alone, maybe too late: {', '.join(warnings)}")
    if table.time:
        arguments += [f"time={quoted(table.time)}"]
        arguments += [f"time_format={quoted(table.time_format)}"] if table.time_format != "ISO8601" else []
    if table.read:
        arguments.append(f"read={read_literal(table.read)}")
    inner = [f"    {line}" if line.startswith("#") else f"    {line}," for line in arguments]
    return "\n".join([*before, "TABLE = Table(", *inner, ")"])


def _why(columns: Sequence[Column]) -> str:
    """Return what a reader of the recipe should know of columns of one kind."""
    if columns[0].kind == "number":
        gaps = [column.name for column in columns if "missing" in column.note]
        return f"may be missing: {', '.join(gaps)}" if gaps else ""
    return "; ".join(f"{c.name}: {c.note}" for c in columns if c.kind == "left out" or "," in c.note)


def read_literal(options: Mapping[str, object]) -> str:
    """Return the options of ``pandas.read_csv`` as Python."""
    return f"{{{', '.join(f'{quoted(key)}: {_literal(value)}' for key, value in options.items())}}}"


def _literal(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(quoted(item) for item in value)}]"
    return '"\\t"' if value == "\t" else quoted(str(value))


def _notes(
    frame: "DataFrame", target: Target, columns: Sequence[Column], warnings: Sequence[str], path: Path
) -> tuple[str, ...]:
    """Return what is said of each column."""
    how = f"the first {SAMPLE:,} rows; all are read for training" if len(frame) == SAMPLE else f"{len(frame):,} rows"
    width = max(len(column.name) for column in columns)
    told = [f"  {c.name:{width}}  {c.kind}{c.note and f': {c.note}'}" for c in columns]
    if len(told) > 40:
        told = [*told[:40], f"  and {len(told) - 40:,} more columns"]
    alone = [f"  {name} tells the target alone: is it there before the truth is?" for name in warnings]
    return (f"{path.name}: {how}", *told, *alone, *target_notes(target))


def target_notes(target: Target) -> tuple[str, ...]:
    """Return what is said of the truth."""
    labels = ", ".join(target.labels[:10]) + (", …" if len(target.labels) > 10 else "")
    what = f"classification of {len(target.labels)} labels: {labels}" if target.labels else "regression"
    rare = f"; {target.rarest_share:.1%} are {target.rarest}, so auc decides, not accuracy" if target.imbalanced else ""
    return (f"{what}{rare}", *filter(None, (target.note,)))
