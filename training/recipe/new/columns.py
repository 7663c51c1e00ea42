"""What each column of a table is to a model: a number, a category, the rows' time, or nothing."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from handlers.contract import Array
from training.data import DataError
from training.recipe.new import dates
from training.recipe.rows import names_of
from training.recipe.table import MOST_CATEGORIES, OTHER, RARE

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Kind = Literal["number", "category", "time", "left out"]
TaskName = Literal["regression", "classification"]
MOST_LABELS = 100
FEW_NUMBERS = 10  # different whole numbers up to which a target is taken for classes
MOST_TRIED = 5_000  # rows on which a column is tried alone
# What one column explains of the target, from which it may be a leak: balanced accuracy, and share of the variance.
ALONE: dict[TaskName, float] = {"classification": 0.99, "regression": 0.999}
RANDOM = "-"  # instead of a column of times
# A number as people write it: in groups of three, with a comma, with a sign of money, per cent or a unit.
_WRITTEN = re.compile(r"[-+]?[$€£¥]?\s?[-+]?(?:\d{1,3}(?:[,.'\s]\d{3})+|\d+)(?:[.,]\d+)?\s?([%$€£¥]|[^\W\d_]{1,8})?")
_PLAIN = "write plain numbers, and nothing for no number"
_FEW_WORDS = 5  # different ones among the numbers of a column; tickets and the like have more


@dataclass(frozen=True)
class Column:
    """A column, what it is, and why."""

    name: str
    kind: Kind
    note: str = ""
    time_format: str = ""


@dataclass(frozen=True)
class Target:
    """The truth: its task, its class names, the rarest class and its share."""

    task: TaskName
    labels: tuple[str, ...] = ()
    rarest: str = ""
    rarest_share: float = 0.0
    note: str = ""

    @property
    def imbalanced(self) -> bool:
        """Whether accuracy says little: the rarest class has less than a quarter of its even share."""
        return bool(self.labels) and self.rarest_share < 0.4 / len(self.labels)


def look_at_target(column: "Series", task: TaskName | None) -> Target:
    """Tell regression from classification.

    Raises:
        DataError: nothing can be learned of it.
    """
    import pandas

    name = f"the target {column.name!r}"
    missing = int(names_of(column).isna().sum())
    note = f"{missing:,} rows without one are left out" if missing else ""
    known = names_of(column).dropna()
    distinct = known.unique()
    if len(distinct) < 2:
        raise DataError(f"{name} is {distinct[0] if len(distinct) else 'missing'!r} in every row: nothing to learn")
    numeric = pandas.api.types.is_numeric_dtype(column) and not pandas.api.types.is_bool_dtype(column)
    whole = numeric and all(re.fullmatch(r"-?\d+", value) for value in distinct[:1000])
    guess: TaskName = "regression" if numeric and not (whole and len(distinct) <= FEW_NUMBERS) else "classification"
    task = task or guess
    written = "" if numeric else _written_numbers(known)
    if written and (task == "regression" or len(distinct) > MOST_LABELS):
        raise DataError(f"{name} has {written}: {_PLAIN}")
    if task == "regression":
        if not numeric:
            raise DataError(
                f"{name} has names such as {distinct[0]!r}, which no regression predicts: --task classification"
            )
        return Target("regression", note=note)
    if len(distinct) > MOST_LABELS:
        raise DataError(f"{name} has {len(distinct):,} different values; a classification has at most {MOST_LABELS}")
    counts = known.value_counts()
    labels = sorted(distinct, key=lambda value: (float(value), "") if whole else (0.0, value))
    rarest = str(counts.index[-1])
    return Target(task, tuple(map(str, labels)), rarest, float(counts.iloc[-1] / len(known)), note)


def look_at_columns(frame: "DataFrame", target: str, time: str) -> list[Column]:
    """Tell what the columns but the target are.

    Args:
        time: the column that rows are split by; empty to look for one, ``RANDOM`` for none.

    Raises:
        DataError: there is no such column of times, or nothing to learn from.
    """
    if time not in ("", RANDOM, *frame.columns):
        raise DataError(f"there is no column {time!r} to split by; there are {', '.join(map(str, frame.columns))}")
    if time == target:
        raise DataError(f"{target!r} is the target: it cannot be the column that rows are split by")
    columns = [_look(frame[name], asked=name == time) for name in frame.columns if name != target]
    times = [column.name for column in columns if column.kind == "time"]
    if time not in ("", RANDOM, *times):
        raise DataError(f"{time!r} has no times: neither dates nor seconds since 1970")
    chosen = time or next(iter(times), RANDOM)
    columns = [
        Column(column.name, "left out", "times; nothing is learned of them")
        if column.kind == "time" and column.name != chosen
        else column
        for column in columns
    ]
    if not any(column.kind in ("number", "category") for column in columns):
        raise DataError("no column is left to learn from: " + "; ".join(f"{c.name} ({c.note})" for c in columns))
    return columns


def _look(column: "Series", asked: bool) -> Column:
    """Tell what a column is.

    Args:
        asked: whether it is the column to split by.
    """
    import pandas

    name, numeric = str(column.name), pandas.api.types.is_numeric_dtype(column)
    known = (column if numeric else names_of(column)).dropna()
    distinct = known.nunique()
    missing = f"{len(column) - len(known):,} missing" if len(known) < len(column) else ""
    if not distinct:
        return Column(name, "left out", "no values")
    try:
        if form := dates.time_format(column, asked=asked):
            return Column(name, "time", missing, form)
    except DataError as error:
        if asked:
            raise
        return Column(name, "left out", str(error).removeprefix(repr(column.name)).strip())
    if distinct == 1:
        return Column(name, "left out", f"always {names_of(known).iloc[0]}")
    if pandas.api.types.is_bool_dtype(column):
        return Column(name, "number", "true or false")
    if numeric:
        counts_rows = distinct == len(known) and _counts_rows(name, known)
        return Column(name, "left out", "identifies rows") if counts_rows else Column(name, "number", missing)
    written = _written_numbers(known)
    if distinct > len(known) / 2:
        note = "text; see --from-text-csv" if _is_prose(known) else "identifies rows"
        return Column(name, "left out", f"{written}: {_PLAIN}" if written else note)
    counts = known.value_counts()
    rare = int((counts < RARE).sum()) + max(0, int((counts >= RARE).sum()) - MOST_CATEGORIES)
    if rare == distinct:
        return Column(name, "left out", f"no value has {RARE} rows")
    notes = (missing, f"{distinct:,} names" + (f", {rare:,} rare ones learned as {OTHER!r}" if rare else ""), written)
    return Column(name, "category", ", ".join(filter(None, notes)))


def _counts_rows(name: str, known: "Series") -> bool:
    """Tell whether numbers, each once, count the rows, or are whole and called an id."""
    if not (known % 1 == 0).all():
        return False
    called = re.search(r"(^|[_\W])(id|uuid|key|index|nr|no)$|[a-z]I[dD]$", name)
    return bool(called) or name == "ID" or bool(known.max() - known.min() + 1 == len(known))


def _written_numbers(known: "Series") -> str:
    """Return what makes text of numbers, such as a question mark or a sign of per cent; empty where most are none."""
    import pandas

    odd = known[pandas.to_numeric(known, errors="coerce").isna()]
    if 0 < odd.nunique() <= _FEW_WORDS and len(odd) < len(known) / 2:
        return f"numbers but for {len(odd):,} such as {odd.iloc[0]!r}"
    as_people_do = odd[odd.str.fullmatch(_WRITTEN)]
    units = as_people_do.str.extract(f"^{_WRITTEN.pattern}$", expand=False)
    alike = units.nunique() <= 1 and len(as_people_do) > len(known) / 2  # 12A and 12B are seats
    return f"numbers written as {as_people_do.iloc[0]!r}" if alike else ""


def _is_prose(known: "Series") -> bool:
    return bool(known.str.count(r"\s+").mean() > 3)


def leaks(frame: "DataFrame", columns: Sequence[Column], target: str, task: TaskName) -> list[str]:
    """Return the columns each of which tells the target nearly alone."""
    some = frame[names_of(frame[target]).notna()]
    some = some.sample(min(len(some), MOST_TRIED), random_state=0)
    truth = some[target].to_numpy("float64") if task == "regression" else names_of(some[target]).factorize()[0]
    kinds = ("number", "category")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class that only one half has
        return [c.name for c in columns if c.kind in kinds and _tells(some[c.name], c.kind, truth, task)]


def _tells(column: "Series", kind: Kind, truth: Array, task: TaskName) -> bool:
    """Tell whether a column tells the target of rows that it was not tried on, by a tree, or by a line of numbers."""
    from sklearn.metrics import balanced_accuracy_score, r2_score
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    codes = column if kind == "number" else names_of(column).factorize()[0]
    values = np.nan_to_num(np.asarray(codes, np.float64), posinf=0, neginf=0)
    half = len(values) // 2
    if task == "regression" and kind == "number" and values[:half].std() > 0:
        line = np.polyval(np.polyfit(values[:half], truth[:half], 1), values[half:])
        if r2_score(truth[half:], line) > ALONE[task]:
            return True
    tree = DecisionTreeClassifier if task == "classification" else DecisionTreeRegressor
    model = tree(min_samples_leaf=3, random_state=0).fit(values[:half, None], truth[:half])
    score = balanced_accuracy_score if task == "classification" else r2_score
    return bool(score(truth[half:], model.predict(values[half:, None])) > ALONE[task])
