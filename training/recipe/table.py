"""A table as the data of a recipe: columns of numbers and of categories, and one that holds the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from handlers.contract import Array, TensorSpec
from serving.registry import file_sha256
from training.data import DataError
from training.recipe import Data, Split
from training.recipe.rows import column_of, input_name, names_of, read_frame, seconds, split_rows, truth
from training.statistics.labels import widened

if TYPE_CHECKING:
    from pandas import DataFrame, Series

RARE = 10  # rows of a category below which it is one of OTHER
MOST_CATEGORIES = 200  # of a column, the commonest; the rest are OTHER
OTHER, MISSING = "other", "missing"


@dataclass(frozen=True)
class Table:
    """A file of rows, a column for each input of the model.

    A column with missing values may lack one in a request, too: a number is NaN to the network then, a category
    ``missing``. A rare category is ``other``.

    Attributes:
        file: CSV, or Parquet.
        target: column of the truth; rows without one are left out.
        numbers: columns of numbers, or of true and false; None for all columns that are not named here.
        categories: columns whose values are names.
        left_out: columns that are no inputs.
        time: column by which rows are split, the newest held out; rows without one are left out. Empty: at random.
        time_format: of ``strptime``, ``ISO8601``, or ``s`` or ``ms`` since 1970.
        read: options of ``pandas.read_csv``.
    """

    file: Path
    target: str
    numbers: tuple[str, ...] | None = None
    categories: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    time: str = ""
    time_format: str = "ISO8601"
    read: Mapping[str, object] = field(default_factory=dict)

    def load(self, labels: Sequence[str] = ()) -> Data:
        """Read all rows.

        Args:
            labels: class names of a classification.

        Raises:
            DataError: the file cannot be read, or a value is not what its column should have.
        """
        return self.data(read_frame(self.file, self.read), labels, file_sha256(self.file))

    def data(self, frame: "DataFrame", labels: Sequence[str], sha256: str) -> Data:
        """Split rows that are read, and describe their columns."""
        for name in filter(None, (self.target, self.time)):
            frame = frame[names_of(column_of(frame, name, self.file)).notna()]
        frame = frame.reset_index(drop=True)
        specs, inputs = [], {}
        for column in self._numbers(frame):
            spec, values = _number(column_of(frame, column, self.file), self.file)
            specs.append(spec)
            inputs[spec.name] = values
        for column in self.categories:
            spec, values = _category(column_of(frame, column, self.file))
            specs.append(spec)
            inputs[spec.name] = values
        if len(inputs) < len(specs):
            raise DataError(f"{self.file}: two columns become the same input, of {', '.join(inputs)}: rename one")
        target = truth(frame[self.target], labels, self.file)
        time = seconds(frame[self.time], self.time_format, self.file) if self.time else None
        rows = Split(inputs, target, time=time).filled(specs)
        train, validation, test = map(rows.part, split_rows(target, len(labels), time, self.file))
        return Data(train, test, tuple(specs), sha256, validation)

    def _numbers(self, frame: "DataFrame") -> Sequence[str]:
        if self.numbers is not None:
            return self.numbers
        others = {self.target, self.time, *self.categories, *self.left_out}
        return [name for name in frame.columns if name not in others]


def _number(column: "Series", file: Path) -> tuple[TensorSpec, Array]:
    """Return an input and its values: BOOL for true and false, else FP32, NaN where one is missing."""
    import pandas

    name = input_name(str(column.name))
    if pandas.api.types.is_bool_dtype(column) and not column.isna().any():
        return TensorSpec(name, "BOOL"), column.to_numpy(np.bool_)
    numbers = pandas.to_numeric(column, errors="coerce")
    text = not pandas.api.types.is_numeric_dtype(column)
    if text and (wrong := (numbers.isna() & names_of(column).notna()).to_numpy()).any():
        row = int(wrong.argmax())
        raise DataError(f"{file}: {column.name!r} is {column.iloc[row]!r} in row {row + 1}; it must be a number")
    with np.errstate(over="ignore"):
        values = numbers.to_numpy("float64", na_value=np.nan).astype(np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        raise DataError(f"{file}: {column.name!r} has no number")
    values = np.where(finite, values, np.float32(np.nan))
    span = widened(float(values[finite].min()), float(values[finite].max()))
    return TensorSpec(name, "FP32", range=span, nullable=not finite.all()), values


def _category(column: "Series") -> tuple[TensorSpec, Array]:
    """Return an input and its values, as indices of the categories, −1 where one is missing."""
    gone = names_of(column).isna().to_numpy()
    names = names_of(column).fillna(MISSING).to_numpy(object)
    common, counts = np.unique(names.astype(str), return_counts=True)
    kept = {name for name, count in zip(common, counts, strict=True) if count >= RARE}
    kept = set(sorted(kept, key=lambda name: -counts[common == name][0])[:MOST_CATEGORIES]) | {MISSING}
    places = {name: name if name in kept else OTHER for name in common}
    categories = tuple(sorted(set(map(str, places.values()))))
    spec = TensorSpec(
        input_name(str(column.name)),
        "BYTES",
        categories=categories,
        nullable=bool(gone.any()),
        default=MISSING if gone.any() else None,
    )
    indices = {name: i for i, name in enumerate(categories)}
    return spec, np.where(gone, -1, np.array([indices[places[name]] for name in names], np.int64))
