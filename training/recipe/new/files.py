"""A file of rows whose form is not known: encoding, separator, decimal comma, names of the columns."""

import codecs
import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training.data import DataError
from training.recipe.rows import read_frame

if TYPE_CHECKING:
    from pandas import DataFrame

SAMPLE = 100_000  # rows that types are told from; all are read for training
LEAST = 50  # rows that can be learned from
LONGEST = 80  # characters of a column's name or a label, which stand in the recipe
SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_HEAD = 100  # lines in which the separator is looked for
_BLOCK = 1 << 20
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zX", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+|-?\d+")


def read_sample(path: Path) -> tuple["DataFrame", dict[str, object]]:
    """Read the first rows of a file.

    Returns:
        The rows, and the options of ``pandas.read_csv`` that read the file.

    Raises:
        DataError: it is no table of rows with a name for each column.
    """
    options: dict[str, object] = {}
    if not path.is_file():
        raise DataError(f"{path} is {'a folder' if path.is_dir() else 'not there'}; give a CSV file")
    if path.suffix != ".parquet":
        options = _options(path)
    frame = read_frame(path, options, SAMPLE).head(SAMPLE)
    if ";" in options.values() and (columns := _decimal_commas(frame)):
        options["decimal"] = ","
        frame = read_frame(path, options, SAMPLE)
        if not all(frame[column].dtype.kind in "fi" for column in columns):
            raise DataError(f"{path}: {columns[0]!r} has numbers with a decimal comma beside others")
    if marks := _marks_of_missing(frame):
        options["na_values"] = marks
        frame = read_frame(path, options, SAMPLE).head(SAMPLE)
    if len(frame) < LEAST:
        raise DataError(f"{path} has {len(frame)} rows; at least {LEAST} are needed")
    check_names([str(name) for name in frame.columns], path)
    return frame, options


def _options(path: Path) -> dict[str, object]:
    """Return the options of ``pandas.read_csv`` that differ from its own."""
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        raise DataError(f"{path} is empty")
    if start.startswith(b"PK") or start.startswith(b"\xd0\xcf\x11\xe0"):
        raise DataError(f"{path} is a spreadsheet or an archive: save its rows as CSV")
    if start.startswith(_COMPRESSED):
        raise DataError(f"{path} is compressed: unpack it first")
    if start == b"PAR1":
        raise DataError(f"{path} is Parquet, which is read where the name ends in .parquet")
    encoding = _encoding(path)
    with path.open(encoding=encoding, newline="") as file:
        lines = [line for line, _ in zip(file, range(_HEAD), strict=False)]
    if any("\0" in line for line in lines):
        raise DataError(f"{path} is no text: it has zero bytes")
    separator = _separator(lines, path)
    names = [name.strip() for name in next(csv.reader(lines, delimiter=separator, skipinitialspace=True))]
    if all(re.fullmatch(r"[-+]?[\d.,]+", name) for name in names):
        raise DataError(f"{path}: the first line has numbers; it must name the columns")
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise DataError(f"{path} has two columns named {twice!r}: rename one")
    options: dict[str, object] = {} if separator == "," else {"sep": separator}
    return options if encoding == "utf-8-sig" else options | {"encoding": encoding}


def _encoding(path: Path) -> str:
    """Return UTF-8 where the whole file is that, with or without a mark in front; else what Windows writes."""
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
    for encoding in ("utf-8-sig", "cp1252"):
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    decoder.decode(block)
                decoder.decode(b"", final=True)
            return encoding
        except UnicodeDecodeError:
            continue
    return "latin-1"  # which any bytes are


def _separator(lines: Sequence[str], path: Path) -> str:
    """Return the separator that splits the first lines into the most fields, the same number in each."""
    whole = lines if len(lines) < _HEAD else lines[:-1]
    widths = {}
    for separator in SEPARATORS:
        counts = {len(row) for row in csv.reader(whole, delimiter=separator) if row}
        widths[separator] = counts.pop() if len(counts) == 1 else 0
    separator = max(widths, key=lambda sign: widths[sign])
    if widths[separator] > 1:
        return separator
    fields = {sign: len(next(csv.reader(whole, delimiter=sign), [])) for sign in SEPARATORS}
    if max(fields.values()) < 2:
        raise DataError(f"{path}: the first line has one column; separators are {', '.join(SEPARATORS.values())}")
    return max(fields, key=lambda sign: fields[sign])  # the reader names the line that has another number of fields


def _decimal_commas(frame: "DataFrame") -> list[str]:
    """Return the columns of strings that all are numbers with a comma before the decimals."""
    columns = []
    for name in frame.columns:
        values = frame[name].dropna()
        is_text = values.dtype.kind not in "fiub"
        if is_text and len(values) and all(_DECIMAL_COMMA.fullmatch(str(value)) for value in values):
            columns.append(str(name))
    return columns


def _marks_of_missing(frame: "DataFrame") -> list[str]:
    """Return signs such as ``?`` that stand for a missing number."""
    import pandas

    marks = set()
    for name in frame.columns:
        values = frame[name].dropna()
        if values.dtype.kind in "fiub" or not len(values):
            continue
        others = set(values[pandas.to_numeric(values, errors="coerce").isna()].astype(str).str.strip())
        if len(others) == 1 and len(values) > 1 and not any(map(str.isalnum, "".join(others))):
            marks |= others
    return sorted(marks)


def check_names(names: Sequence[str], path: Path) -> None:
    """Check that names can stand in a recipe.

    Raises:
        DataError: one is too long, or has a character that cannot be shown.
    """
    for name in names:
        if len(name) > LONGEST or not name.isprintable():
            raise DataError(f"{path}: {name[:30]!r}… is no name of at most {LONGEST} characters that can be shown")
