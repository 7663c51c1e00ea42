"""Rows of a file, for the recipes that `marloop new` writes: truth, time, and the parts of the rows."""

import keyword
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from handlers.contract import RESERVED, Array
from training.data import DataError, read_parquet

if TYPE_CHECKING:
    from pandas import DataFrame, Series

VALIDATION, TEST = 0.7, 0.8  # shares of the rows at which the parts begin
UNITS = ("s", "ms")  # formats of times that are numbers


class Parts(NamedTuple):
    """Indices of the rows to fit, to watch while fitting, and to hold out."""

    train: Array
    validation: Array
    test: Array


def input_name(column: str) -> str:
    """Return a column's name as a contract accepts it."""
    text = re.sub(r"\W+", "_", column, flags=re.ASCII).strip("_") or "x"
    text = f"x{text}" if text[0].isdigit() else text
    return f"{text}_" if text in RESERVED or keyword.iskeyword(text) else text


def read_frame(file: Path, options: Mapping[str, object], rows: int | None = None) -> "DataFrame":
    """Read a CSV or Parquet file.

    Args:
        options: of ``pandas.read_csv``, such as ``sep``.
        rows: the first so many; None for all, which are held in memory.

    Raises:
        DataError: it cannot be read.
    """
    import pandas

    try:
        if file.suffix == ".parquet":
            return read_parquet(file)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)  # a row of more fields than there are names
            return pandas.read_csv(
                file, nrows=rows, index_col=False, skipinitialspace=True, low_memory=False, **dict(options)
            )
    except FileNotFoundError:
        raise DataError(f"{file} is not there: put it there, or change the path in the recipe") from None
    except (OSError, ValueError, pandas.errors.ParserWarning) as error:
        raise DataError(f"{file} is no table: {str(error).strip().splitlines()[0]}") from error


def column_of(frame: "DataFrame", name: str, file: Path) -> "Series":
    """Return a column.

    Raises:
        DataError: there is none of this name.
    """
    if name not in frame.columns:
        raise DataError(f"{file} has no column {name!r}; it has {', '.join(map(str, frame.columns[:20]))}")
    return frame[name]


def names_of(column: "Series") -> "Series":
    """Return values as strings: whole numbers without a point, without blanks at the ends; missing ones stay so."""
    import pandas

    if pandas.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    names = column.astype("string").str.strip()
    return names.mask(names == "")


def truth(column: "Series", labels: Sequence[str], file: Path) -> Array:
    """Return the truth of each row: FP32 values, or INT64 indices of labels.

    Raises:
        DataError: it is missing in a row, no number or no label.
    """
    import pandas

    if labels:
        places = {label: i for i, label in enumerate(labels)}
        values = names_of(column).map(places)
        right = f"one of {len(labels)} labels: add it to the recipe's labels, or leave the row out"
    else:
        values, right = pandas.to_numeric(column, errors="coerce").astype("float32"), "a number"
    wrong = ~np.isfinite(values.to_numpy("float64", na_value=np.nan))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"{file}: {column.name!r} is {column.iloc[row]!r} in row {row + 1}; it must be {right}")
    return np.asarray(values.to_numpy(np.int64 if labels else np.float32))


def seconds(column: "Series", time_format: str, file: Path) -> Array:
    """Return times as INT64 seconds since the epoch; those without a zone are UTC.

    Args:
        time_format: of ``strptime``, ``ISO8601``, or ``s`` or ``ms`` for numbers since the epoch.

    Raises:
        DataError: one has another format.
    """
    import pandas

    if time_format in UNITS:
        stamps = pandas.to_datetime(pandas.to_numeric(column, errors="coerce"), unit=time_format, utc=True)
    else:
        stamps = pandas.to_datetime(names_of(column), format=time_format, utc=True, errors="coerce")
    wrong = stamps.isna().to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        value = column.iloc[row]
        raise DataError(f"{file}: {column.name!r} is {value!r} in row {row + 1}, no time of the form {time_format}")
    since = stamps - pandas.Timestamp(0, tz="UTC")
    return np.asarray((since // pandas.Timedelta(seconds=1)).to_numpy(np.int64))


def split_rows(target: Array, classes: int, time: Array | None, file: Path) -> Parts:
    """Split rows by time, the newest held out, else at random, each class alike: seven, one and two tenths.

    Raises:
        DataError: a part has no rows, or the rows to fit have a single class.
    """
    order = np.random.default_rng(0).permutation(len(target)) if time is None else np.argsort(time, kind="stable")
    if time is None and classes:
        order = order[np.argsort(_evenly(target[order]), kind="stable")]
    train, validation, test = np.split(order, [int(len(order) * VALIDATION), int(len(order) * TEST)])
    if not (len(train) and len(validation) and len(test)):
        raise DataError(f"{file} has {len(target)} rows that can be learned from, which are too few")
    if classes and len(np.unique(target[train])) < 2:
        raise DataError(f"{file}: the rows to fit, seven tenths of all, have a single class")
    return Parts(train, validation, test)


def _evenly(target: Array) -> Array:
    """Return a place from 0 to 1 for each row, so that the rows of each class are spread evenly."""
    places = np.empty(len(target))
    for label in np.unique(target):
        rows = np.flatnonzero(target == label)
        places[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return places
