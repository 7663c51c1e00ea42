"""A table of data that is given with a file: its columns' ranges and categories, and the truth."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from handlers.contract import Array, TensorSpec
from handlers.contract.times import as_seconds
from handlers.features import positions_of, text_or_none
from training.bring.feeds import Feed, identifier
from training.bring.graph import BringError
from training.data import DataError, read_parquet
from training.statistics.labels import widened

if TYPE_CHECKING:
    from pandas import DataFrame, Series

MOST_CATEGORIES = 200  # distinct strings of a column that are taken for a closed set
Tensors = dict[str, Array]


@dataclass(frozen=True)
class Table:
    """Rows of data.

    Attributes:
        frame: the rows without the truth, with names that a contract accepts.
        raw: the rows as the file has them.
        columns: names as a contract has them, without the truth's.
        truth: the columns of the truth, one for each target; None where none is named.
    """

    frame: "DataFrame"
    columns: tuple[str, ...]
    truth: "DataFrame | None"
    path: Path
    raw: "DataFrame"

    def __len__(self) -> int:
        return len(self.frame)


def targets_of(target: str) -> tuple[str, ...]:
    """Return the names of targets, which have commas between them."""
    return tuple(name.strip() for name in target.split(",") if name.strip())


def read_table(path: Path, target: str = "") -> Table:
    """Read a CSV or Parquet file.

    Args:
        target: column of the truth; of several targets a column each, with commas between.

    Raises:
        BringError: it cannot be read, is empty, or lacks the column of the truth.
    """
    import pandas

    try:
        frame = read_parquet(path) if path.suffix == ".parquet" else pandas.read_csv(path)
    except DataError as error:
        raise BringError(str(error)) from error
    except (OSError, ValueError) as error:
        raise BringError(f"{path} is no table: {str(error).splitlines()[0]}") from error
    if frame.empty:
        raise BringError(f"{path} has no rows")
    names = [target] if target in frame.columns else [*targets_of(target)]
    if unknown := [name for name in names if name not in frame.columns]:
        raise BringError(f"{path} has no column {unknown[0]!r}; it has {', '.join(map(str, frame.columns))}")
    truth = frame[names] if names else None
    taken: set[str] = set()
    rows = frame.drop(columns=names)
    rows.columns = pandas.Index([identifier(str(name), taken) for name in rows.columns])
    return Table(rows, tuple(rows.columns), truth, path, frame)


def with_data(feeds: Sequence[Feed], table: Table) -> tuple[Feed, ...]:
    """Add ranges and categories that the data show to scalar inputs.

    Raises:
        BringError: the data lack an input.
    """
    return tuple(replace(feed, specs=tuple(_learned(spec, table) for spec in feed.specs)) for feed in feeds)


def tensors_of(specs: Sequence[TensorSpec], table: Table) -> Tensors:
    """Return the rows of a table as the graph's tensors.

    Raises:
        BringError: an input is no scalar, or a value is missing or of another type.
    """
    return {spec.name: _values(spec, _column(spec, table), table) for spec in specs}


def gaps(specs: Sequence[TensorSpec], table: Table) -> dict[str, str]:
    """Return how many rows lack a nullable input, and what the graph gets then, by part of the draft; and times."""
    counts = {spec.name: int(table.frame[spec.name].isna().sum()) for spec in specs if spec.nullable}
    values = {spec.name: "NaN" if spec.default is None else repr(spec.default) for spec in specs}
    times = {f"input {spec.name}": f"a text in {table.path.name}" for spec in specs if spec.timestamp}
    return times | {
        f"input {name}": f"{count:,} rows of {table.path.name} lack it; the graph gets {values[name]}"
        for name, count in counts.items()
    }


def truth_of(table: Table, labels: Sequence[str]) -> Array:
    """Return the truth of each row: FP32 values, ``(n, targets)`` of several, or the INT64 indices of the labels.

    Raises:
        BringError: a row's truth is missing, no number or no label.
    """
    assert table.truth is not None
    columns = [table.truth[name] for name in table.truth.columns]
    if not labels:
        values = [_numbers(column, table.path) for column in columns]
        return np.stack(values, 1) if len(values) > 1 else values[0]
    (target,) = columns
    places: Mapping[str, int] = {label: i for i, label in enumerate(labels)}
    names = [_label(value) for value in target.tolist()]
    numbers: Mapping[str, int] = {str(i): i for i in range(len(labels))}
    if not places.keys() & set(names) and numbers.keys() >= set(names):  # their indices, as most tools write them
        places = numbers
    if unknown := next((name for name in names if name not in places), None):
        raise BringError(f"{table.path}: {unknown!r} in {target.name!r} is none of the labels {', '.join(labels)}")
    return np.array([places[name] for name in names], np.int64)


def _numbers(column: "Series", path: Path) -> Array:
    try:
        values = np.asarray(column.to_numpy(np.float32))
    except (TypeError, ValueError):
        raise BringError(f"{path}: the truth in {column.name!r} is no number in every row") from None
    if not np.isfinite(values).all():
        raise BringError(f"{path}: the truth in {column.name!r} is missing in some rows")
    return values


def _label(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _column(spec: TensorSpec, table: Table) -> "Series":
    if not spec.is_scalar:
        raise BringError(f"{spec.name} has several values a row, which no column of a table holds")
    if spec.name not in table.frame.columns:
        raise BringError(f"{table.path} has no column {spec.name!r}; it has {', '.join(table.columns)}")
    return table.frame[spec.name]


def _learned(spec: TensorSpec, table: Table) -> TensorSpec:
    values = _column(spec, table)
    gone = bool(values.isna().any())
    if spec.datatype == "BYTES":
        names = sorted({*map(str, values.dropna().unique()), *([""] if gone else [])})
        categories = tuple(names) if len(names) <= MOST_CATEGORIES else ()
        return msgspec.structs.replace(spec, categories=categories, nullable=gone, default="" if gone else None)
    if spec.datatype == "BOOL":
        return spec
    if gone and spec.is_float:
        spec = msgspec.structs.replace(spec, nullable=True)
    if _is_time(spec, values):
        return msgspec.structs.replace(spec, timestamp=True)
    numbers = _values(spec, values, table)
    numbers = numbers[np.isfinite(numbers)] if spec.nullable else numbers
    if not len(numbers):
        raise BringError(f"{table.path}, column {spec.name!r}: no row has a value")
    span = widened(float(numbers.min()), float(numbers.max()))
    if span is None:
        return spec
    if not spec.is_float:
        info = np.iinfo(numbers.dtype)
        span = float(max(info.min, round(span[0]))), float(min(info.max, round(span[1])))
    return msgspec.structs.replace(spec, range=span)


def _is_time(spec: TensorSpec, column: "Series") -> bool:
    """Tell whether numbers of a graph are times in the data."""
    first = next(iter(column.dropna()), None)
    with contextlib.suppress(ValueError):
        return spec.datatype in ("INT64", "FP64") and _seconds(first) != first
    return False


def _seconds(value: Any) -> Any:
    """Return the seconds of a text, or of a time of pandas.

    Raises:
        ValueError: it has no zone.
    """
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError("a time without a zone")
    return as_seconds(value)


def _values(spec: TensorSpec, column: "Series", table: Table) -> Array:
    place = f"{table.path}, column {spec.name!r}"
    gone = column.isna()
    if gone.any() and not spec.nullable:
        raise BringError(f"{place}: {int(gone.sum())} rows have no value, and {spec.name} ({spec.datatype}) needs one")
    if spec.categories:
        places = positions_of(spec)
        names = [None if missing else str(value) for value, missing in zip(column, gone, strict=True)]
        if (unknown := next((name for name in names if name not in places), None)) is not None:
            raise BringError(f"{place}: {unknown!r} is no category of the contract")
        return np.array([places[name] for name in names], np.int64)
    if spec.datatype == "BYTES":
        texts = [None if missing else str(value) for value, missing in zip(column, gone, strict=True)]
        return np.array([*map(text_or_none, texts)] if spec.nullable else texts, object)
    if column.dtype.kind in "mM" and not spec.timestamp:  # as numbers they would be microseconds
        raise BringError(f"{place} has times without a zone, or durations; {spec.name} takes {spec.describe()}")
    try:
        if spec.timestamp:
            column = column.map(_seconds, na_action="ignore")
            column = column.floordiv(1) if spec.datatype == "INT64" else column
        return np.asarray(column.to_numpy(spec.dtype))
    except (TypeError, ValueError):
        raise BringError(f"{place}: not every value is {spec.describe()}") from None
