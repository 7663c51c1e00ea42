"""Columns of times: in which form they are written."""

import re
from typing import TYPE_CHECKING

from training.data import DataError
from training.recipe.rows import names_of

if TYPE_CHECKING:
    from pandas import Series

LOOKED_AT = 2_000  # values
_CLOCKS = ("", " %H:%M", " %H:%M:%S")
FORMATS = (
    "ISO8601",
    *(
        f"{day}{clock}"
        for day in ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d %b %Y", "%b %d, %Y")
        for clock in _CLOCKS
    ),
)
# Of numbers that are times: the form, and what they look like as text.
NUMBERS = {"%Y%m%d": r"(19|20)\d{6}", "%Y": r"(19|20)\d\d", "s": r"[1-4]?\d{9}", "ms": r"[1-4]?\d{12}"}


def time_format(column: "Series", *, asked: bool = False) -> str:
    """Return the form of a column's times; empty if it has none.

    Args:
        asked: whether somebody says that it is a column of times, so that numbers may be such.

    Raises:
        DataError: they are times, but of several forms, or their day and month cannot be told apart.
    """
    import pandas

    names = names_of(column).dropna()
    names = names.iloc[:: max(1, len(names) // LOOKED_AT)]
    if not len(names):
        return ""
    if pandas.api.types.is_numeric_dtype(column):
        forms = [form for form, pattern in NUMBERS.items() if all(re.fullmatch(pattern, name) for name in names)]
        return forms[0] if asked and forms else ""
    if not names.str.contains(r"\d").all():
        return ""
    fits = {form: _parsed(names, form) for form in FORMATS}
    whole = [form for form, parsed in fits.items() if parsed.all()]
    if len(whole) > 1 and "ISO8601" not in whole:
        example = names.iloc[0]
        raise DataError(f"{column.name!r} has dates such as {example}, of which day and month are unclear: write Y-M-D")
    if whole:
        return whole[0]
    together = pandas.concat(list(fits.values()), axis=1).any(axis=1)
    if together.mean() > 0.9:
        other = names[~fits[max(fits, key=lambda form: fits[form].sum())].to_numpy()].iloc[0]
        raise DataError(f"{column.name!r} has dates in several formats, such as {names.iloc[0]} and {other}")
    return ""


def _parsed(names: "Series", form: str) -> "Series":
    import pandas

    return pandas.to_datetime(names, format=form, errors="coerce", utc=True).notna()
